"""Operators that move elements and compute nothing: view, permute, cat, slice and their kin."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import cast

import torch

from torch_tensorrt.engines.tensorrt.converters.registry import bind, converts
from torch_tensorrt.engines.tensorrt.net import Net
from torch_tensorrt.engines.tensorrt.network import Scalar, Size
from torch_tensorrt.engines.tensorrt.sdk import ITensor

aten = torch.ops.aten
_END = sys.maxsize  # what PyTorch writes for "to the end"


@converts(aten.view.default, aten._unsafe_view.default, aten._reshape_copy.default, aten.view_copy.default)
def view(net: Net, self: ITensor, size: Sequence[Size]) -> ITensor:
    """view(Tensor self, SymInt[] size) -> Tensor"""
    return net.reshape(self, size)


@converts(aten.reshape.default)
def reshape(net: Net, self: ITensor, shape: Sequence[Size]) -> ITensor:
    """reshape(Tensor self, SymInt[] shape) -> Tensor"""
    return net.reshape(self, shape)


@converts(aten.permute.default, aten.permute_copy.default)
def permute(net: Net, self: ITensor, dims: Sequence[int]) -> ITensor:
    """permute(Tensor self, int[] dims) -> Tensor"""
    return net.permute(self, dims)


@converts(aten.transpose.int)
def transpose(net: Net, self: ITensor, dim0: int, dim1: int) -> ITensor:
    """transpose.int(Tensor self, int dim0, int dim1) -> Tensor"""
    order = list(range(net.rank(self)))
    if order:  # a scalar may be transposed in dimensions 0 and -1
        order[dim0], order[dim1] = order[dim1], order[dim0]
    return net.permute(self, order)


@converts(aten.t.default)
def t(net: Net, self: ITensor) -> ITensor:
    """t(Tensor self) -> Tensor"""
    return net.permute(self, range(net.rank(self))[::-1])


@converts(aten.unsqueeze.default, aten.unsqueeze_copy.default)
def unsqueeze(net: Net, self: ITensor, dim: int) -> ITensor:
    """unsqueeze(Tensor self, int dim) -> Tensor"""
    return net.unsqueeze(self, [dim % (net.rank(self) + 1)])


@converts(aten.squeeze.dims, aten.squeeze.dim, aten.squeeze_copy.dims)
def squeeze(net: Net, self: ITensor, dim: Sequence[int] | int) -> ITensor:
    """squeeze.dims(Tensor self, int[] dim) -> Tensor: only sizes of 1 go."""
    assert net.node is not None
    rank, shape = net.rank(self), bind(net.node)["self"].meta["val"].shape
    axes = [axis % rank for axis in ([dim] if isinstance(dim, int) else dim)] if rank else []
    return net.squeeze(self, [axis for axis in axes if isinstance(shape[axis], int) and shape[axis] == 1])


@converts(aten.expand.default, aten.expand_copy.default)
def expand(net: Net, self: ITensor, size: Sequence[Size], implicit: bool) -> ITensor:
    """expand(Tensor self, SymInt[] size, *, bool implicit=False) -> Tensor"""
    return net.expand(self, size)


@converts(aten.cat.default)
def cat(net: Net, tensors: Sequence[ITensor], dim: int) -> ITensor:
    """cat(Tensor[] tensors, int dim=0) -> Tensor; empty ones of one dimension may stand beside others of any rank."""
    rank = max(net.rank(tensor) for tensor in tensors)
    return net.concatenate([net.cast(tensor, net.result) for tensor in tensors if net.rank(tensor) == rank], dim)


@converts(aten.slice.Tensor, aten.slice_copy.Tensor)
def slice_tensor(net: Net, self: ITensor, dim: int, start: Size | None, end: Size | None, step: int) -> ITensor:
    """slice.Tensor(Tensor self, int dim=0, SymInt? start=None, SymInt? end=None, SymInt step=1) -> Tensor"""
    axis = dim % net.rank(self)
    begin, known = 0 if start is None else start, net.known_size(axis)
    if step == 1 and known and isinstance(begin, int) and begin >= 0:  # PyTorch knows that it is all within
        return cut(net, self, axis, begin, known)
    extent = net.size(self, axis)
    first = place_within(net, begin, extent)
    last = extent if end is None or end == _END else place_within(net, end, extent)
    length = net.compute_size(net.compute_size(last, first, "SUB"), 0, "MAX")
    if step != 1:
        length = net.compute_size(net.compute_size(length, step - 1, "SUM"), step, "FLOOR_DIV")
    return cut(net, self, axis, first, length, step)


@converts(aten.select.int, aten.select_copy.int)
def select(net: Net, self: ITensor, dim: int, index: Size) -> ITensor:
    """select.int(Tensor self, int dim, SymInt index) -> Tensor"""
    place = net.tensor(index, torch.int64)
    return net.gather(self, net.reshape(place, ()), dim)


@converts(aten.split_with_sizes.default, aten.split_with_sizes_copy.default)
def split_with_sizes(net: Net, self: ITensor, split_sizes: Sequence[Size], dim: int) -> Sequence[ITensor]:
    """split_with_sizes(Tensor self, SymInt[] split_sizes, int dim=0) -> Tensor[]"""
    axis, start = dim % net.rank(self), cast(Size, 0)
    parts: list[ITensor] = []
    for length in split_sizes:
        parts.append(cut(net, self, axis, start, length))
        start = net.compute_size(start, length, "SUM")
    return parts


@converts(aten.split.sizes)
def split_by_sizes(net: Net, self: ITensor, split_size: Sequence[Size], dim: int) -> Sequence[ITensor]:
    """split.sizes(Tensor(a) self, SymInt[] split_size, int dim=0) -> Tensor(a)[]"""
    return split_with_sizes(net, self, split_size, dim)


@converts(aten.split.Tensor)
def split(net: Net, self: ITensor, split_size: Size, dim: int) -> Sequence[ITensor]:
    """split.Tensor(Tensor(a) self, SymInt split_size, int dim=0) -> Tensor(a)[]; PyTorch has counted the parts."""
    assert net.node is not None
    others = [split_size] * (len(net.node.meta["val"]) - 1)
    before = net.compute_size(len(others), split_size, "PROD")
    return split_with_sizes(net, self, [*others, net.compute_size(net.size(self, dim), before, "SUB")], dim)


def cut(net: Net, value: ITensor, axis: int, first: Size, length: Size, step: int = 1) -> ITensor:
    """`length` places along `axis`, from `first` on, `step` apart; all of the other dimensions."""
    starts: list[Size] = [0] * net.rank(value)
    sizes, strides = net.sizes(value), [1] * net.rank(value)
    starts[axis], sizes[axis], strides[axis] = first, length, step
    return net.slice(value, starts, sizes, strides)


def place_within(net: Net, place: Size, extent: Size) -> Size:
    """A start or end as a count from the front, within the tensor."""
    if isinstance(place, Scalar):  # may be negative: only a run knows
        zero = net.compute_size(place, 0, "MIN")
        negative = net.compute_size(zero, -1, "MAX")  # -1 if negative, else 0
        place = net.compute_size(place, net.compute_size(negative, extent, "PROD"), "SUB")
    elif place < 0:
        place = net.compute_size(extent, place, "SUM")
    elif place == 0:
        return 0
    return net.compute_size(net.compute_size(place, 0, "MAX"), extent, "MIN")
