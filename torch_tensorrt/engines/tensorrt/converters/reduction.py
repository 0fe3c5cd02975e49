"""Sums, means, extremes, norms and variances over dimensions, and softmax."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import fx
from torch._ops import OpOverload

from torch_tensorrt.engines.tensorrt.converters.registry import bind, converts
from torch_tensorrt.engines.tensorrt.net import Net
from torch_tensorrt.engines.tensorrt.network import Operand, Scalar
from torch_tensorrt.engines.tensorrt.promotion import result_dtype
from torch_tensorrt.engines.tensorrt.sdk import ITensor
from torch_tensorrt.spec.settings import CompilationSettings

aten, prims = torch.ops.aten, torch.ops.prims

OF_EVERYTHING: Mapping[OpOverload, str] = {
    aten.max.default: "MAX",
    aten.mean.default: "AVG",
    aten.min.default: "MIN",
    aten.prod.default: "PROD",
    aten.sum.default: "SUM",
}


def of_numbers(node: fx.Node, settings: CompilationSettings) -> str:
    """Sums, means and products are numbers."""
    return "TensorRT reduces numbers, not bool" if result_dtype(node) is torch.bool else ""


@converts(*OF_EVERYTHING)
def reduce_everything(net: Net, self: ITensor) -> ITensor:
    """f(Tensor self) -> Tensor, a scalar."""
    assert net.node is not None
    return _over(net, OF_EVERYTHING[net.node.target], self, (), False)  # type: ignore[index]


@converts(aten.mean.dim)
def mean(net: Net, self: ITensor, dim: Sequence[int] | None, keepdim: bool) -> ITensor:
    """mean.dim(Tensor self, int[1]? dim, bool keepdim=False, *, ScalarType? dtype=None) -> Tensor"""
    return _over(net, "AVG", self, dim or (), keepdim)


@converts(aten.sum.dim_IntList, refuse=of_numbers)
def sum_over(net: Net, self: ITensor, dim: Sequence[int] | None, keepdim: bool) -> ITensor:
    """sum.dim_IntList(Tensor self, int[1]? dim, bool keepdim=False, *, ScalarType? dtype=None) -> Tensor"""
    return _over(net, "SUM", self, dim or (), keepdim)


def over_no_dims(node: fx.Node, settings: CompilationSettings) -> str:
    """Here no dims are no reduction, and not all of them."""
    bound = bind(node)
    none = bound.get("dims", bound.get("dim")) == []
    return f"{node.target} over an empty list of dimensions is not converted" if none else of_numbers(node, settings)


@converts(prims.sum.default, refuse=over_no_dims)
def prims_sum(net: Net, inp: ITensor, dims: Sequence[int] | None, output_dtype: object) -> ITensor:
    """prims.sum(Tensor inp, int[]? dims, *, ScalarType? output_dtype=None) -> Tensor"""
    return _over(net, "SUM", inp, dims or (), False)


@converts(aten.prod.dim_int, refuse=of_numbers)
def prod(net: Net, self: ITensor, dim: int, keepdim: bool) -> ITensor:
    """prod.dim_int(Tensor self, int dim, bool keepdim=False, *, ScalarType? dtype=None) -> Tensor"""
    return _over(net, "PROD", self, (dim,), keepdim)


@converts(aten.amax.default, aten.amin.default)
def extreme(net: Net, self: ITensor, dim: Sequence[int], keepdim: bool) -> ITensor:
    """amax(Tensor self, int[1] dim=[], bool keepdim=False) -> Tensor"""
    assert net.node is not None
    return _over(net, "MAX" if net.node.target is aten.amax.default else "MIN", self, dim, keepdim)


@converts(aten.any.default)
def any_of_all(net: Net, self: ITensor) -> ITensor:
    """any(Tensor self) -> Tensor"""
    return _any(net, net.cast(self, torch.bool), (), False)


def over_no_bools(node: fx.Node, settings: CompilationSettings) -> str:
    """any and all over no dims are conversions."""
    return f"{node.target} over an empty list of dimensions is not converted" if bind(node)["dim"] == [] else ""


@converts(aten.any.dim, aten.any.dims, refuse=over_no_bools)
def any_over(net: Net, self: ITensor, dim: int | Sequence[int] | None, keepdim: bool) -> ITensor:
    """any.dims(Tensor self, int[]? dim=None, bool keepdim=False) -> Tensor"""
    return _any(net, net.cast(self, torch.bool), _axes(dim), keepdim)


@converts(aten.all.default, whole=True)
def all_of_all(net: Net, self: ITensor) -> ITensor:
    """all(Tensor self) -> Tensor"""
    return _all(net, net.cast(self, torch.bool), (), False)


@converts(aten.all.dim, aten.all.dims, refuse=over_no_bools, whole=True)
def all_over(net: Net, self: ITensor, dim: int | Sequence[int] | None, keepdim: bool) -> ITensor:
    """all.dims(Tensor self, int[]? dim=None, bool keepdim=False) -> Tensor"""
    return _all(net, net.cast(self, torch.bool), _axes(dim), keepdim)


@converts(aten.var.correction)
def var(net: Net, self: ITensor, dim: Sequence[int] | None, correction: float | None, keepdim: bool) -> ITensor:
    """var.correction(Tensor self, int[1]? dim=None, *, Scalar? correction=None, bool keepdim=False) -> Tensor"""
    return net.cast(_variance(net, self, dim or (), correction, keepdim), net.result)


@converts(aten.std.correction, whole=True)
def std(net: Net, self: ITensor, dim: Sequence[int] | None, correction: float | None, keepdim: bool) -> ITensor:
    """std.correction(Tensor self, int[1]? dim=None, *, Scalar? correction=None, bool keepdim=False) -> Tensor"""
    return net.cast(net.unary(_variance(net, self, dim or (), correction, keepdim), "SQRT"), net.result)


@converts(aten.var_mean.correction)
def var_mean(
    net: Net, self: ITensor, dim: Sequence[int] | None, correction: float | None, keepdim: bool
) -> tuple[ITensor, ITensor]:
    """var_mean.correction(Tensor self, int[1]? dim=None, *, Scalar? correction=None, bool keepdim=False) -> two Tensors"""
    return var(net, self, dim, correction, keepdim), mean(net, self, dim, keepdim)


@converts(aten.linalg_vector_norm.default)
def vector_norm(net: Net, self: ITensor, ord: float, dim: Sequence[int] | None, keepdim: bool) -> ITensor:
    """linalg_vector_norm(Tensor self, Scalar ord=2, int[1]? dim=None, bool keepdim=False, *, dtype=None) -> Tensor"""
    size, axes, f32 = net.unary(net.cast(self, torch.float32), "ABS"), dim or (), torch.float32
    if math.isinf(ord):
        result = reduce_over(net, "MAX" if ord > 0 else "MIN", size, axes, keepdim)
    elif ord == 0:
        result = reduce_over(net, "SUM", net.cast(net.cast(size, torch.bool), f32), axes, keepdim)
    elif ord == 1:
        result = reduce_over(net, "SUM", size, axes, keepdim)
    elif ord == 2:
        result = net.unary(reduce_over(net, "SUM", net.elementwise(size, size, "PROD", f32), axes, keepdim), "SQRT")
    else:
        total = reduce_over(net, "SUM", net.elementwise(size, float(ord), "POW", f32), axes, keepdim)
        result = net.elementwise(total, 1 / ord, "POW", f32)
    return net.cast(result, net.result)


@converts(aten._softmax.default)
def softmax(net: Net, self: ITensor, dim: int, half_to_float: bool) -> ITensor:
    """_softmax(Tensor self, int dim, bool half_to_float) -> Tensor"""
    missing = max(2 - net.rank(self), 0)  # the layer wants two dimensions or more
    value = net.unsqueeze(net.cast(self, net.result), range(missing)) if missing else net.cast(self, net.result)
    axis = dim % net.rank(self) + missing if net.rank(self) else 0
    result = net.layer("softmax", value, axes=1 << axis)
    return net.squeeze(result, range(missing)) if missing else result


@converts(aten._log_softmax.default)
def log_softmax(net: Net, self: ITensor, dim: int, half_to_float: bool) -> ITensor:
    """_log_softmax(Tensor self, int dim, bool half_to_float) -> Tensor, in float32: x - max - log(sum(exp(x - max)))."""
    x, f32 = net.cast(self, torch.float32), torch.float32
    moved = net.elementwise(x, reduce_over(net, "MAX", x, (dim,), True), "SUB", f32)
    total = reduce_over(net, "SUM", net.unary(moved, "EXP"), (dim,), True)
    return net.cast(net.elementwise(moved, net.unary(total, "LOG"), "SUB", f32), net.result)


def reduce_over(net: Net, op: str, value: ITensor, axes: Sequence[int], keep: bool) -> ITensor:
    """A ReduceOperation over `axes` of `value`, over all if there are none; a scalar is its own sum, mean and extreme."""
    return value if net.rank(value) == 0 else net.reduce(value, op, axes, keep)


def _over(net: Net, op: str, value: ITensor, axes: Sequence[int], keep: bool) -> ITensor:
    tensor = net.as_integer(net.cast(value, net.result))
    return net.cast(reduce_over(net, op, tensor, axes, keep), net.result)


def _axes(dim: int | Sequence[int] | None) -> Sequence[int]:
    return (dim,) if isinstance(dim, int) else dim or ()


def _any(net: Net, value: ITensor, axes: Sequence[int], keep: bool) -> ITensor:
    """Sums, since the sum of nothing is 0 and its maximum is anything."""
    return net.cast(reduce_over(net, "SUM", net.cast(value, torch.int32), axes, keep), torch.bool)


def _all(net: Net, value: ITensor, axes: Sequence[int], keep: bool) -> ITensor:
    return net.unary(_any(net, net.unary(value, "NOT"), axes, keep), "NOT")


def _variance(net: Net, value: ITensor, axes: Sequence[int], correction: float | None, keep: bool) -> ITensor:
    """In float32, whatever the dtype: squares leave the range of float16."""
    x, f32, less = net.cast(value, torch.float32), torch.float32, 1 if correction is None else correction
    spread = net.elementwise(x, reduce_over(net, "AVG", x, axes, True), "SUB", f32)
    total = reduce_over(net, "SUM", net.elementwise(spread, spread, "PROD", f32), axes, keep)
    count = net.product([net.size(x, axis) for axis in (axes or range(net.rank(x)))]) if net.rank(x) else 1
    divisor: Operand
    if isinstance(count, int):
        divisor = max(float(count - less), 0.0)
    else:
        divisor = Scalar(net.elementwise(net.elementwise(count, float(less), "SUB", f32), 0.0, "MAX", f32))
    return net.elementwise(total, divisor, "DIV", f32)
