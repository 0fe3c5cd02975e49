"""Operators that give a part of a tensor in another form: diagonals, triangles, windows, pixels among channels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import fx

from torch_tensorrt.engines.tensorrt.converters.constructors import count_up
from torch_tensorrt.engines.tensorrt.converters.registry import bind, converts, is_varying
from torch_tensorrt.engines.tensorrt.net import Net
from torch_tensorrt.engines.tensorrt.network import Size
from torch_tensorrt.engines.tensorrt.sdk import ITensor
from torch_tensorrt.spec.settings import CompilationSettings

aten, prims = torch.ops.aten, torch.ops.prims
_MOST_PLACES = 2**24  # that an as_strided becomes a constant of


@converts(aten.diagonal.default, aten.diagonal_copy.default)
def diagonal(net: Net, self: ITensor, offset: int, dim1: int, dim2: int) -> ITensor:
    """diagonal(Tensor(a) self, int offset=0, int dim1=0, int dim2=1) -> Tensor(a); it becomes the last dimension."""
    rank = net.rank(self)
    first, second = dim1 % rank, dim2 % rank
    others = [axis for axis in range(rank) if axis not in (first, second)]
    rows, columns = net.size(self, first), net.size(self, second)
    high = net.compute_size(rows, min(offset, 0), "SUM")
    wide = net.compute_size(columns, -max(offset, 0), "SUM")
    length = net.compute_size(net.compute_size(high, wide, "MIN"), 0, "MAX")
    start = offset if offset >= 0 else net.compute_size(columns, -offset, "PROD")
    place = count_up(net, length, start, net.compute_size(columns, 1, "SUM"))
    flat = [*(net.size(self, axis) for axis in others), net.compute_size(rows, columns, "PROD")]
    return net.gather(net.reshape(net.permute(self, [*others, first, second]), flat), place, -1)


@converts(aten.tril.default, aten.triu.default, whole=True)
def triangle(net: Net, self: ITensor, diagonal: Size) -> ITensor:
    """tril(Tensor self, SymInt diagonal=0) -> Tensor; of the last two dimensions, zeros elsewhere."""
    assert net.node is not None
    rows, columns, lower = net.size(self, -2), net.size(self, -1), net.node.target is aten.tril.default
    if isinstance(rows, int) and isinstance(columns, int) and isinstance(diagonal, int):
        every = torch.ones(rows, columns, dtype=torch.bool)
        kept = net.constant(every.tril(diagonal) if lower else every.triu(diagonal))
    else:
        down = net.unsqueeze(count_up(net, rows), [1])
        edge = net.elementwise(down, diagonal, "SUM", torch.int64)
        right = net.unsqueeze(count_up(net, columns), [0])
        outside = net.elementwise(right, edge, "GREATER" if lower else "LESS", torch.int64)
        kept = net.unary(outside, "NOT")
    if net.result is torch.bool:
        return net.elementwise(self, kept, "AND", torch.bool)
    return net.select(kept, self, 0, net.result)


def scalar_window(node: fx.Node, settings: CompilationSettings) -> str:
    """A window over no dimension is a dimension all the same."""
    return "unfold of a scalar is not converted" if bind(node)["self"].meta["val"].dim() == 0 else ""


@converts(aten.unfold.default, aten.unfold_copy.default, refuse=scalar_window)
def unfold(net: Net, self: ITensor, dimension: int, size: int, step: int) -> ITensor:
    """unfold(Tensor(a) self, int dimension, int size, int step) -> Tensor(a): windows, each along a new last dimension."""
    rank = net.rank(self)
    axis = dimension % rank
    room = net.compute_size(net.size(self, axis), -size, "SUM")
    count = net.compute_size(net.compute_size(room, step, "FLOOR_DIV"), 1, "SUM")
    if isinstance(count, int):
        place = net.constant(torch.arange(count)[:, None] * step + torch.arange(size))
    else:
        starts = net.unsqueeze(count_up(net, count, 0, step), [1])
        place = net.elementwise(starts, torch.arange(size)[None], "SUM", torch.int64)
    order = [other for other in range(rank + 1) if other != axis + 1]
    return net.permute(net.gather(self, place, axis), [*order, axis + 1])


def strides_unknown(node: fx.Node, settings: CompilationSettings) -> str:
    """Memory is what PyTorch's metadata says: of a tensor in order, it is its elements."""
    bound = bind(node)
    self, result = bound["self"].meta["val"], node.meta["val"]
    if is_varying(self) or is_varying(result):
        return "as_strided of sizes that vary names memory, which TensorRT has not"
    offset = self.storage_offset() if bound["storage_offset"] is None else bound["storage_offset"]
    reach = offset + sum((size - 1) * stride for size, stride in zip(result.shape, result.stride(), strict=True))
    if not self.is_contiguous() or self.storage_offset() != 0 or (result.numel() and reach >= self.numel()):
        return "as_strided reads memory that is not its tensor's elements in order, and TensorRT has no memory to name"
    return f"as_strided of more than {_MOST_PLACES} elements is not converted" if result.numel() > _MOST_PLACES else ""


@converts(aten.as_strided.default, aten.as_strided_copy.default, refuse=strides_unknown)
def as_strided(
    net: Net, self: ITensor, size: Sequence[int], stride: Sequence[int], storage_offset: int | None
) -> ITensor:
    """as_strided(Tensor(a) self, SymInt[] size, SymInt[] stride, SymInt? storage_offset=None) -> Tensor(a)"""
    flat = net.reshape(self, [-1])
    (count,) = net.shape(flat)
    place = torch.arange(count).as_strided(tuple(size), tuple(stride), storage_offset or 0).contiguous()
    return net.gather(flat, net.constant(place), 0)


@converts(aten.pixel_shuffle.default, whole=True)
def pixel_shuffle(net: Net, self: ITensor, upscale_factor: int) -> ITensor:
    """pixel_shuffle(Tensor self, int upscale_factor) -> Tensor: (*, C r r, H, W) to (*, C, H r, W r)."""
    *lead, channels, height, width = net.sizes(self)
    times = upscale_factor
    fewer = net.compute_size(channels, times * times, "FLOOR_DIV")
    apart = net.reshape(self, [net.product(lead), fewer, times, times, height, width])
    mixed = net.permute(apart, (0, 1, 4, 2, 5, 3))
    return net.reshape(mixed, [*lead, fewer, *(net.compute_size(size, times, "PROD") for size in (height, width))])


@converts(aten.pixel_unshuffle.default, whole=True)
def pixel_unshuffle(net: Net, self: ITensor, downscale_factor: int) -> ITensor:
    """pixel_unshuffle(Tensor self, int downscale_factor) -> Tensor: (*, C, H r, W r) to (*, C r r, H, W)."""
    *lead, channels, height, width = net.sizes(self)
    times = downscale_factor
    lower, narrower = (net.compute_size(size, times, "FLOOR_DIV") for size in (height, width))
    apart = net.reshape(self, [net.product(lead), channels, lower, times, narrower, times])
    mixed = net.permute(apart, (0, 1, 3, 5, 2, 4))
    return net.reshape(mixed, [*lead, net.compute_size(channels, times * times, "PROD"), lower, narrower])


@converts(prims.broadcast_in_dim.default)
def broadcast_in_dim(net: Net, a: ITensor, shape: Sequence[Size], broadcast_dimensions: Sequence[int]) -> ITensor:
    """prims.broadcast_in_dim(Tensor(a) a, SymInt[] shape, int[] broadcast_dimensions) -> Tensor(a)"""
    new = [axis for axis in range(len(shape)) if axis not in broadcast_dimensions]
    return net.expand(net.unsqueeze(a, new) if new else a, shape)
