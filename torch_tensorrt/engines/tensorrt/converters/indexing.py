"""Operators that take or put values at places that tensors name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import fx

from torch_tensorrt.engines.tensorrt.converters.registry import bind, converts
from torch_tensorrt.engines.tensorrt.converters.scattering import (
    at_least_one_dimension,
    bool_to_reduce,
    put_along,
    reduce_into,
    too_many_pairs,
    usual_count,
)
from torch_tensorrt.engines.tensorrt.net import Net
from torch_tensorrt.engines.tensorrt.network import Operand, Size
from torch_tensorrt.engines.tensorrt.sdk import ITensor
from torch_tensorrt.spec.settings import CompilationSettings

aten = torch.ops.aten
Indices: TypeAlias = "Sequence[ITensor | None]"
_MASKS = frozenset({torch.bool, torch.uint8})


def index_of_mask(node: fx.Node, settings: CompilationSettings) -> str:
    """How many elements a mask picks is known only when its values are."""
    picks = any(given is not None and given.meta["val"].dtype in _MASKS for given in bind(node)["indices"])
    return "the size of what a mask picks depends on its values, which TensorRT-RTX can't build" if picks else ""


@converts(aten.index.Tensor, aten._unsafe_index.Tensor, refuse=index_of_mask)
def index(net: Net, self: ITensor, indices: Indices) -> ITensor:
    """index.Tensor(Tensor self, Tensor?[] indices) -> Tensor; indices are broadcast, negative ones count from the end."""
    axes = [axis for axis, given in enumerate(indices) if given is not None]
    if len(axes) == 1:
        return net.gather(self, _given(indices)[0], axes[0])
    merged, place = _merge(net, self, indices, axes)
    taken = net.gather(merged, place, 0)
    return net.permute(taken, _inverse(_broadcast_first(net.rank(place), net.rank(taken), axes)))


@converts(aten.index_select.default)
def index_select(net: Net, self: ITensor, dim: int, index: ITensor) -> ITensor:
    """index_select(Tensor self, int dim, Tensor index) -> Tensor; a scalar for an index is one of size 1."""
    if net.rank(self) == 0:
        return self
    return net.gather(self, at_least_one_dimension(net, index), dim)


@converts(aten.gather.default)
def gather(net: Net, self: ITensor, dim: int, index: ITensor, sparse_grad: bool) -> ITensor:
    """gather(Tensor self, int dim, Tensor index, *, bool sparse_grad=False) -> Tensor; index may be smaller than self."""
    if net.rank(self) == 0:
        return self if net.rank(index) == 0 else net.expand(self, net.sizes(index))
    result = net.layer(
        "gather_v2",
        self,
        at_least_one_dimension(net, index),
        net.member("GatherMode", "ELEMENT"),
        axis=dim % net.rank(self),
    )
    return result if net.rank(index) else net.reshape(result, ())


@converts(aten.embedding.default)
def embedding(
    net: Net, weight: ITensor, indices: ITensor, padding_idx: int, scale_grad_by_freq: bool, sparse: bool
) -> ITensor:
    """embedding(Tensor weight, Tensor indices, SymInt padding_idx=-1, ...) -> Tensor; padding matters to gradients only."""
    return net.gather(weight, indices, 0)


@converts(aten.take.default, whole=True)
def take(net: Net, self: ITensor, index: ITensor) -> ITensor:
    """take(Tensor self, Tensor index) -> Tensor: of all elements in a row."""
    return net.gather(net.reshape(self, [-1]), index, 0)


def unlike_where(node: fx.Node, settings: CompilationSettings) -> str:
    """A mask is a choice between values where they fit as they are; indices may meet, and are then added up one by one."""
    bound = bind(node)
    values, self = bound["values"].meta["val"], bound["self"].meta["val"]
    given = [index.meta["val"] for index in bound["indices"] if index is not None]
    masks = [index for index in given if index.dtype in _MASKS]
    if masks:
        after = len(bound["indices"]) - 1
        fits = len(given) == 1 and (usual_count(values) == 1 or values.dim() <= self.dim() - masks[0].dim() - after)
        return "" if fits else "which of the values a mask takes depends on the mask, which TensorRT-RTX can't build"
    if not bound["accumulate"]:
        return ""
    put = torch.broadcast_shapes(*(index.shape for index in given))
    indexed = [self.shape[axis] for axis, index in enumerate(bound["indices"]) if index is not None]
    pairs = usual_count(self.shape) * usual_count(put)
    return bool_to_reduce(node) or too_many_pairs(node, pairs, self.dim() - len(indexed) + 1)


@converts(aten.index_put.default, aten._unsafe_index_put.default, refuse=unlike_where)
def index_put(net: Net, self: ITensor, indices: Indices, values: ITensor, accumulate: bool) -> ITensor:
    """index_put(Tensor self, Tensor?[] indices, Tensor values, bool accumulate=False) -> Tensor"""
    axes = [axis for axis, given in enumerate(indices) if given is not None]
    if net.dtype(_given(indices)[0]) is torch.bool:
        return _put_by_mask(net, self, _given(indices)[0], axes[0], values, accumulate)
    merged, place = _merge(net, self, indices, axes)
    if 0 in net.shape(place):
        return self
    rest = [net.size(merged, axis) for axis in range(1, net.rank(merged))]
    order = _broadcast_first(net.rank(place), net.rank(place) + len(rest), axes)
    wanted = [[*net.sizes(place), *rest][axis] for axis in _inverse(order)]
    count = net.product(net.sizes(place))
    rows = net.reshape(net.permute(net.expand(net.cast(values, net.result), wanted), order), [count, *rest])
    flat = net.reshape(place, [count])
    if accumulate:
        flat = net.reshape(flat, [count, *[1] * len(rest)])
        put = reduce_into(net, merged, 0, flat, rows, "sum")
    else:
        put = put_along(net, merged, 0, flat, rows)
    moved = net.permute(self, _indexed_first(net, self, axes))
    return net.permute(net.reshape(put, net.sizes(moved)), _inverse(_indexed_first(net, self, axes)))


@converts(aten.index_copy.default, whole=True)
def index_copy(net: Net, self: ITensor, dim: int, index: ITensor, source: ITensor) -> ITensor:
    """index_copy(Tensor self, int dim, Tensor index, Tensor source) -> Tensor"""
    if net.rank(self) == 0:
        return net.reshape(source, ())
    axis, places = dim % net.rank(self), at_least_one_dimension(net, index)
    rows = net.unsqueeze(source, [axis]) if net.rank(source) < net.rank(self) else source
    return put_along(net, self, axis, wrap_negative(net, places, net.size(self, axis)), rows)


def wrap_negative(net: Net, index: ITensor, extent: Size) -> ITensor:
    """`index` as int64, with negative places counted from the end."""
    places = net.cast(index, torch.int64)
    moved = net.elementwise(places, extent, "SUM", torch.int64)
    return net.select(net.elementwise(places, 0, "LESS", torch.int64), moved, places, torch.int64)


def _given(indices: Indices) -> list[ITensor]:
    return [given for given in indices if given is not None]


def _indexed_first(net: Net, value: ITensor, axes: Sequence[int]) -> list[int]:
    return [*axes, *(axis for axis in range(net.rank(value)) if axis not in axes)]


def _merge(net: Net, value: ITensor, indices: Indices, axes: Sequence[int]) -> tuple[ITensor, ITensor]:
    """`value` with its indexed dimensions as one, in front, and the places in that one, broadcast."""
    extents = [net.size(value, axis) for axis in axes]
    place: Operand | None = None
    for extent, given in zip(extents, _given(indices), strict=True):
        here = wrap_negative(net, given, extent)
        if place is not None:
            here = net.elementwise(net.elementwise(place, extent, "PROD", torch.int64), here, "SUM", torch.int64)
        place = here
    moved = net.permute(value, _indexed_first(net, value, axes))
    rest = [net.size(moved, axis) for axis in range(len(axes), net.rank(moved))]
    assert place is not None
    return net.reshape(moved, [net.product(extents), *rest]), place  # type: ignore[return-value]


def _broadcast_first(places: int, rank: int, axes: Sequence[int]) -> list[int]:
    """The order that brings the `places` dimensions of the indices to the front of `self[indices]`, of `rank` dimensions.

    They stand where the first index is if no dimension lies between those that have one; in front otherwise.
    """
    together = axes[-1] - axes[0] == len(axes) - 1
    start = axes[0] if together else 0
    return [*range(start, start + places), *range(start), *range(start + places, rank)]


def _inverse(order: Sequence[int]) -> list[int]:
    return sorted(range(len(order)), key=order.__getitem__)


def _put_by_mask(net: Net, self: ITensor, mask: ITensor, axis: int, values: ITensor, add: bool) -> ITensor:
    after = net.rank(self) - axis - net.rank(mask)
    chosen = net.reshape(mask, [*net.sizes(mask), *[1] * after])
    single = all(size == 1 for size in net.shape(values))
    new: Operand = net.reshape(values, ()) if single else values
    if add:
        new = net.elementwise(self, new, "OR" if net.result is torch.bool else "SUM", net.result)
    return net.select(chosen, new, self, net.result)


# NonZero is the one layer that counts.
converts.refuse(
    "the size of its result depends on values, and TensorRT-RTX has no kernel that counts them",
    "aten.nonzero.default",
    "aten.masked_select.default",
    "aten.repeat_interleave.Tensor",
)
