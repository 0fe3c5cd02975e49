"""Operators that put values into a tensor: at places that an index names, or in place of a part of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, fx

from torch_tensorrt.engines.tensorrt.converters.constructors import count_up
from torch_tensorrt.engines.tensorrt.converters.movement import cut, place_within
from torch_tensorrt.engines.tensorrt.converters.registry import bind, converts
from torch_tensorrt.engines.tensorrt.net import Net
from torch_tensorrt.engines.tensorrt.network import Operand, Scalar, Size
from torch_tensorrt.engines.tensorrt.promotion import result_dtype
from torch_tensorrt.engines.tensorrt.sdk import ITensor
from torch_tensorrt.spec.settings import CompilationSettings

aten = torch.ops.aten
_REDUCTIONS: Mapping[str, str] = {"sum": "SUM", "mean": "SUM", "prod": "PROD", "amax": "MAX", "amin": "MIN"}
_NAMES: Mapping[str, str] = {"add": "sum", "multiply": "prod"}  # of scatter.reduce -> of scatter_reduce
_MOST_PAIRS = 2**26  # of a place in the result and a value that might go there: that many are compared
_MOST_DIMENSIONS = 8


def usual_count(value: Tensor | Sequence[int | torch.SymInt]) -> int:
    """How many elements a fake tensor (or one of a shape) has, sizes that vary at the value they were traced with."""
    shape = value.shape if isinstance(value, Tensor) else value
    return math.prod(size if isinstance(size, int) else int(size.node.hint or 1) for size in shape)


def too_many_pairs(node: fx.Node, pairs: int, rank: int) -> str:
    """TensorRT's scatter has no reduction: each place of the result looks at each value, in a dimension more."""
    if rank >= _MOST_DIMENSIONS:
        return f"{node.target} needs a dimension more, and TensorRT has at most {_MOST_DIMENSIONS}"
    if pairs > _MOST_PAIRS:
        return f"TensorRT's scatter adds nothing up, and comparing each place with each value ({pairs} pairs) takes too much"
    return ""


def bool_to_reduce(node: fx.Node) -> str:
    """Reductions give numbers."""
    return "TensorRT reduces numbers, not bool" if result_dtype(node) is torch.bool else ""


def unreducible(node: fx.Node, settings: CompilationSettings) -> str:
    """Whether values that meet can be reduced."""
    bound = bind(node)
    self, index = bound["self"].meta["val"], bound["index"].meta["val"]
    extent = usual_count(self.shape[bound["dim"] : bound["dim"] + 1 or None]) if self.dim() else 1
    return bool_to_reduce(node) or too_many_pairs(node, extent * usual_count(index), self.dim())


@converts(aten.scatter.src)
def scatter(net: Net, self: ITensor, dim: int, index: ITensor, src: ITensor) -> ITensor:
    """scatter.src(Tensor self, int dim, Tensor index, Tensor src) -> Tensor; of src counts what is as large as index."""
    return _scatter(net, self, dim, index, src)


@converts(aten.scatter.value)
def scatter_value(net: Net, self: ITensor, dim: int, index: ITensor, value: float | Scalar) -> ITensor:
    """scatter.value(Tensor self, int dim, Tensor index, Scalar value) -> Tensor"""
    return _scatter(net, self, dim, index, _spread(net, value, index))


@converts(aten.scatter_add.default, refuse=unreducible)
def scatter_add(net: Net, self: ITensor, dim: int, index: ITensor, src: ITensor) -> ITensor:
    """scatter_add(Tensor self, int dim, Tensor index, Tensor src) -> Tensor"""
    return _scatter_reduced(net, self, dim, index, src, "sum")


@converts(aten.scatter.reduce, refuse=unreducible)
def scatter_reduce_src(net: Net, self: ITensor, dim: int, index: ITensor, src: ITensor, reduce: str) -> ITensor:
    """scatter.reduce(Tensor self, int dim, Tensor index, Tensor src, *, str reduce) -> Tensor"""
    return _scatter_reduced(net, self, dim, index, src, _NAMES[reduce])


@converts(aten.scatter.value_reduce, refuse=unreducible)
def scatter_reduce_value(
    net: Net, self: ITensor, dim: int, index: ITensor, value: float | Scalar, reduce: str
) -> ITensor:
    """scatter.value_reduce(Tensor self, int dim, Tensor index, Scalar value, *, str reduce) -> Tensor"""
    return _scatter_reduced(net, self, dim, index, _spread(net, value, index), _NAMES[reduce])


@converts(aten.scatter_reduce.two, refuse=unreducible)
def scatter_reduce(
    net: Net, self: ITensor, dim: int, index: ITensor, src: ITensor, reduce: str, include_self: bool
) -> ITensor:
    """scatter_reduce.two(Tensor self, int dim, Tensor index, Tensor src, str reduce, *, bool include_self=True) -> Tensor"""
    return _scatter_reduced(net, self, dim, index, src, reduce if include_self else f"{reduce} alone")


@converts(aten.slice_scatter.default)
def slice_scatter(
    net: Net, self: ITensor, src: ITensor, dim: int, start: Size | None, end: Size | None, step: int
) -> ITensor:
    """slice_scatter(Tensor self, Tensor src, int dim=0, SymInt? start=None, SymInt? end=None, SymInt step=1) -> Tensor"""
    axis = dim % net.rank(self)
    first = place_within(net, 0 if start is None else start, net.size(self, axis))
    part = net.cast(src, net.result)
    if step == 1:
        return _replace_part(net, self, axis, first, part)
    return put_along(net, self, axis, count_up(net, net.size(part, axis), first, step), part)


@converts(aten.select_scatter.default, whole=True)
def select_scatter(net: Net, self: ITensor, src: ITensor, dim: int, index: Size) -> ITensor:
    """select_scatter(Tensor self, Tensor src, int dim, SymInt index) -> Tensor"""
    axis = dim % net.rank(self)
    part = net.unsqueeze(net.cast(src, net.result), [axis])
    return _replace_part(net, self, axis, place_within(net, index, net.size(self, axis)), part)


@converts(aten.masked_scatter.default, dynamic=False)
def masked_scatter(net: Net, self: ITensor, mask: ITensor, source: ITensor) -> ITensor:
    """masked_scatter(Tensor self, Tensor mask, Tensor source) -> Tensor: the values of source in turn, where mask holds."""
    assert net.node is not None
    sizes = list(net.node.meta["val"].shape)
    chosen = net.expand(mask, sizes)
    counted = net.cast(net.reshape(chosen, [-1]), torch.int64)
    axis = net.constant(torch.tensor(0))
    total = net.layer("cumulative", counted, axis, net.member("CumulativeOperation", "SUM"), False, False)
    place = net.elementwise(net.elementwise(total, 1, "SUB", torch.int64), 0, "MAX", torch.int64)
    taken = net.gather(net.reshape(source, [-1]), net.reshape(place, sizes), 0)
    return net.select(chosen, taken, self, net.result)


def put_along(net: Net, value: ITensor, axis: int, index: ITensor, rows: ITensor) -> ITensor:
    """`value` with `rows` along `axis` at the places `index` (one dimension, none negative)."""
    if 0 in net.shape(index):
        return value
    order = [axis, *(other for other in range(net.rank(value)) if other != axis)]
    back = sorted(range(len(order)), key=order.__getitem__)
    data, updates = net.permute(value, order), net.permute(net.cast(rows, net.dtype(value)), order)
    made = net.layer("scatter", data, net.unsqueeze(index, [1]), updates, net.member("ScatterMode", "ND"))
    return net.permute(made, back)


def reduce_into(net: Net, value: ITensor, axis: int, index: ITensor, src: ITensor, how: str) -> ITensor:
    """Each element of `src` reduced into `value` along `axis`, at the place that `index` (broadcast) names.

    how: sum, prod, mean, amax or amin, with " alone" after it where elements that something comes to do not take part.
    In other dimensions src may be smaller than value: what lies outside stays.
    """
    dtype, (name, _, alone) = net.dtype(value), how.partition(" ")
    rank, op = net.rank(value), _REDUCTIONS[name]
    places = count_up(net, net.size(value, axis))
    shape: list[Size] = [1] * (rank + 1)
    shape[axis] = net.size(value, axis)
    hits = net.elementwise(net.unsqueeze(index, [axis]), net.reshape(places, shape), "EQUAL", torch.int64)
    neutral = _neutral(op, dtype)
    picked = net.reduce(net.select(hits, net.unsqueeze(src, [axis]), neutral, dtype), op, [axis + 1], False)
    counted = net.reduce(net.cast(hits, torch.int32), "SUM", [axis + 1], False)
    total = _enlarge(net, picked, value, neutral)
    count = _enlarge(net, counted, value, 0)
    result = total if alone else net.elementwise(value, total, op, dtype)
    if name == "mean":
        divisor = net.elementwise(count, 1, "MAX" if alone else "SUM", torch.int32)
        result = net.elementwise(result, divisor, "DIV" if dtype.is_floating_point else "FLOOR_DIV", dtype)
    return net.select(net.elementwise(count, 0, "GREATER", torch.int32), result, value, dtype) if alone else result


def _neutral(op: str, dtype: torch.dtype) -> float:
    if op in ("SUM", "PROD"):
        return 0 if op == "SUM" else 1
    if dtype.is_floating_point:
        return -math.inf if op == "MAX" else math.inf
    return torch.iinfo(dtype).min if op == "MAX" else torch.iinfo(dtype).max


def _enlarge(net: Net, value: ITensor, wanted: ITensor, fill: Operand) -> ITensor:
    if net.shape(value) == net.shape(wanted) and -1 not in net.shape(value):
        return value
    rank, sizes = net.rank(wanted), net.sizes(wanted)
    # A size of 1 that is to be broadcast stays: it holds for all places.
    kept = [1 if own == 1 else size for own, size in zip(net.shape(value), sizes, strict=True)]
    return net.slice(value, [0] * rank, kept, [1] * rank, "FILL", net.tensor(fill, net.dtype(value)))


def _scatter(net: Net, self: ITensor, dim: int, index: ITensor, src: ITensor) -> ITensor:
    if 0 in net.shape(index):
        return self
    data, places, values = (at_least_one_dimension(net, given) for given in (self, index, src))
    made = net.layer(
        "scatter",
        data,
        places,
        _as_large(net, net.cast(values, net.result), places),
        net.member("ScatterMode", "ELEMENT"),
        axis=dim % net.rank(data),
    )
    return net.reshape(made, net.sizes(self))


def _scatter_reduced(net: Net, self: ITensor, dim: int, index: ITensor, src: ITensor, how: str) -> ITensor:
    if 0 in net.shape(index):
        return self
    data, places, values = (at_least_one_dimension(net, given) for given in (self, index, src))
    axis = dim % net.rank(data)
    return net.reshape(reduce_into(net, data, axis, places, _as_large(net, values, places), how), net.sizes(self))


def at_least_one_dimension(net: Net, tensor: ITensor) -> ITensor:
    """`tensor`, a scalar as one element in a row."""
    return tensor if net.rank(tensor) else net.reshape(tensor, (1,))


def _as_large(net: Net, value: ITensor, other: ITensor) -> ITensor:
    """The part of `value` that is as large as `other`."""
    if net.shape(value) == net.shape(other) and -1 not in net.shape(value):
        return value
    rank = net.rank(value)
    return net.slice(value, [0] * rank, net.sizes(other), [1] * rank)


def _spread(net: Net, value: float | Scalar, index: ITensor) -> ITensor:
    return net.expand(net.tensor(value, net.result, net.rank(index)), net.sizes(index))


def _replace_part(net: Net, self: ITensor, axis: int, first: Size, part: ITensor) -> ITensor:
    extent, length = net.size(self, axis), net.size(part, axis)
    after = net.compute_size(first, length, "SUM")
    parts: list[ITensor] = []
    if first != 0:
        parts.append(cut(net, self, axis, 0, first))
    parts.append(part)
    if after != extent:
        parts.append(cut(net, self, axis, after, net.compute_size(extent, after, "SUB")))
    return net.concatenate(parts, axis)
