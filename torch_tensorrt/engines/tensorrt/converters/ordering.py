"""Operators that rank values: the place of the largest, the k largest, sorting; and sums that run along a dimension."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import fx
from torch._ops import OpOverload

from torch_tensorrt.engines.tensorrt.converters.constructors import count_up
from torch_tensorrt.engines.tensorrt.converters.reduction import reduce_over
from torch_tensorrt.engines.tensorrt.converters.registry import bind, converts, is_varying
from torch_tensorrt.engines.tensorrt.net import Net
from torch_tensorrt.engines.tensorrt.sdk import ITensor
from torch_tensorrt.spec.settings import CompilationSettings

aten = torch.ops.aten
_MOST_RANKED = 3840  # the SDK's own limit of its TopK layer
_RANKED_DIMENSIONS = 4  # which ranks along one of the last four dimensions

PLACES: Mapping[OpOverload, str] = {aten.argmax.default: "MAX", aten.argmin.default: "MIN"}
EXTREMES: Mapping[OpOverload, str] = {aten.max.dim: "MAX", aten.min.dim: "MIN"}


@converts(*PLACES)
def place_of_extreme(net: Net, self: ITensor, dim: int | None, keepdim: bool) -> ITensor:
    """argmax(Tensor self, int? dim=None, bool keepdim=False) -> Tensor: of equal values the first."""
    assert net.node is not None
    rank, op = net.rank(self), PLACES[net.node.target]  # type: ignore[index]
    value = net.reshape(self, (-1,)) if dim is None or rank == 0 else self
    _, place = _first(net, value, op, 0 if value is not self else dim or 0, keepdim and value is self)
    if value is self:
        return place
    return net.reshape(place, (1,) * rank if keepdim else ())


@converts(*EXTREMES)
def extreme_and_place(net: Net, self: ITensor, dim: int, keepdim: bool) -> tuple[ITensor, ITensor]:
    """max.dim(Tensor self, int dim, bool keepdim=False) -> (Tensor values, Tensor indices): of equal values the first."""
    assert net.node is not None
    op = EXTREMES[net.node.target]  # type: ignore[index]
    if net.rank(self) == 0:
        return self, net.constant(torch.tensor(0))
    value, place = _first(net, self, op, dim, keepdim)
    return net.cast(value, net.result), place


def too_many(node: fx.Node, settings: CompilationSettings) -> str:
    """The SDK ranks up to a fixed number of values."""
    bound = bind(node)
    shape = bound["self"].meta["val"].shape
    count = bound["k"] if "k" in bound else shape[bound["dim"]] if len(shape) else 1
    if isinstance(count, fx.Node) or is_varying(count):
        return "TensorRT ranks a fixed number of values, and here it varies"
    return "" if count <= _MOST_RANKED else f"TensorRT ranks up to {_MOST_RANKED} values; here it would be {count}"


@converts(aten.topk.default, refuse=too_many)
def topk(net: Net, self: ITensor, k: int, dim: int, largest: bool, sorted: bool) -> tuple[ITensor, ITensor]:
    """topk(Tensor self, SymInt k, int dim=-1, bool largest=True, bool sorted=True) -> (Tensor values, Tensor indices)"""
    return _rank(net, self, k, dim, largest)


@converts(aten.sort.default, refuse=too_many)
def sort(net: Net, self: ITensor, dim: int, descending: bool) -> tuple[ITensor, ITensor]:
    """sort(Tensor self, int dim=-1, bool descending=False) -> (Tensor values, Tensor indices)"""
    return _rank(net, self, _known(net, self, dim), dim, descending)


@converts(aten.sort.stable, refuse=too_many)
def sort_stable(net: Net, self: ITensor, stable: bool | None, dim: int, descending: bool) -> tuple[ITensor, ITensor]:
    """sort.stable(Tensor self, *, bool? stable, int dim=-1, bool descending=False) -> (Tensor values, Tensor indices)"""
    values, places = sort(net, self, dim, descending)
    return values, _stabilised(net, values, places, dim) if stable and net.rank(self) else places


@converts(aten.argsort.default, refuse=too_many)
def argsort(net: Net, self: ITensor, dim: int, descending: bool) -> ITensor:
    """argsort(Tensor self, int dim=-1, bool descending=False) -> Tensor"""
    return sort(net, self, dim, descending)[1]


@converts(aten.kthvalue.default, refuse=too_many)
def kthvalue(net: Net, self: ITensor, k: int, dim: int, keepdim: bool) -> tuple[ITensor, ITensor]:
    """kthvalue(Tensor self, SymInt k, int dim=-1, bool keepdim=False) -> (Tensor values, Tensor indices)"""
    ranked = _rank(net, self, k, dim, largest=False)
    if net.rank(self) == 0:
        return ranked
    axis = dim % net.rank(self)
    last = [net.gather(output, net.constant(torch.tensor([k - 1])), axis) for output in ranked]
    values, places = last if keepdim else [net.squeeze(output, (axis,)) for output in last]
    return values, places


@converts(aten.cumsum.default)
def cumsum(net: Net, self: ITensor, dim: int) -> ITensor:
    """cumsum(Tensor self, int dim, *, ScalarType? dtype=None) -> Tensor"""
    value, rank = net.cast(self, net.result), net.rank(self)
    return value if rank == 0 else _running_sum(net, value, dim % rank)


def varying_extent(node: fx.Node, settings: CompilationSettings) -> str:
    """Only sums run along a dimension by themselves."""
    bound = bind(node)
    shape = bound["self"].meta["val"].shape
    varies = len(shape) > 0 and is_varying(shape[bound["dim"]])
    return "TensorRT has no running product, and one is made for a fixed size only" if varies else ""


@converts(aten.cumprod.default, refuse=varying_extent)
def cumprod(net: Net, self: ITensor, dim: int) -> ITensor:
    """cumprod(Tensor self, int dim, *, ScalarType? dtype=None) -> Tensor: products of 2, 4, 8, ... neighbours."""
    result, distance = net.cast(self, net.result), 1
    extent = _known(net, result, dim)
    while distance < extent:
        first = net.constant(torch.ones((1,) * net.rank(result), dtype=net.result))
        sizes, start = net.sizes(result), [0] * net.rank(result)
        edge, rest = list(sizes), list(sizes)
        edge[dim], rest[dim] = distance, extent - distance
        earlier = net.slice(result, start, rest, [1] * len(start))
        moved = net.concatenate([net.expand(first, edge), earlier], dim)
        result, distance = net.elementwise(result, moved, "PROD", net.result), 2 * distance
    return result


def _first(net: Net, value: ITensor, op: str, dim: int, keep: bool) -> tuple[ITensor, ITensor]:
    """The extreme along a dimension and its first place, NaN being beyond all: by comparing, for TopK promises no order."""
    number, axis = net.as_integer(value), dim % net.rank(value)
    dtype = net.dtype(number)
    best = reduce_over(net, op, number, (axis,), True)
    here = net.elementwise(number, best, "EQUAL", dtype)
    if dtype.is_floating_point:
        here = net.elementwise(here, net.unary(number, "ISNAN"), "OR", torch.bool)
    extent = net.size(number, axis)
    places = net.reshape(count_up(net, extent), [extent if place == axis else 1 for place in range(net.rank(number))])
    place = reduce_over(net, "MIN", net.select(here, places, extent, torch.int64), (axis,), keep)
    return best if keep else net.squeeze(best, (axis,)), place


def _rank(net: Net, value: ITensor, count: int, dim: int, largest: bool) -> tuple[ITensor, ITensor]:
    """The first `count` values and int64 places. The layer wants two dimensions or more."""
    rank, number = net.rank(value), net.as_integer(value)
    axis = dim % rank + max(0, 2 - rank) if rank else 1
    tensor = net.unsqueeze(number, range(2 - rank)) if rank < 2 else number
    order = list(range(net.rank(tensor)))
    if len(order) - axis > _RANKED_DIMENSIONS:
        order[axis], order[-1] = order[-1], order[axis]
    kind = net.member("TopKOperation", "MAX" if largest else "MIN")
    outputs = net.layers("topk", net.permute(tensor, order), kind, count, 1 << order[axis])
    back = [net.permute(output, order) for output in outputs]
    shaped = [net.reshape(output, (count,) * rank) if rank < 2 else output for output in back]
    return net.cast(shaped[0], net.dtype(value)), net.cast(shaped[1], torch.int64)


def _stabilised(net: Net, values: ITensor, places: ITensor, dim: int) -> ITensor:
    """`places`, those of equal values in order: sorted by which run of equal values they are in, then by themselves."""
    axis, number = dim % net.rank(values), net.as_integer(values)
    extent = _known(net, values, dim)
    if extent < 2:
        return places
    sizes, start, step = net.sizes(values), [0] * net.rank(values), [1] * net.rank(values)
    sizes[axis], later = extent - 1, list(start)
    later[axis] = 1
    before, after = net.slice(number, start, sizes, step), net.slice(number, later, sizes, step)
    new = net.unary(net.elementwise(before, after, "EQUAL", net.dtype(number)), "NOT")
    sizes[axis] = 1
    zero = net.expand(net.constant(torch.zeros((1,) * len(step), dtype=torch.int64)), sizes)
    run = _running_sum(net, net.concatenate([zero, net.cast(new, torch.int64)], axis), axis)
    key = net.elementwise(net.elementwise(run, extent, "PROD", torch.int64), places, "SUM", torch.int64)
    ordered, _ = _rank(net, key, extent, axis, largest=False)
    return net.elementwise(ordered, net.elementwise(run, extent, "PROD", torch.int64), "SUB", torch.int64)


def _running_sum(net: Net, value: ITensor, axis: int) -> ITensor:
    kind = net.member("CumulativeOperation", "SUM")
    return net.layer("cumulative", value, net.constant(torch.tensor(axis)), kind, False, False)


def _known(net: Net, value: ITensor, dim: int) -> int:
    """A size that the converter's refusal made sure to be fixed."""
    size = net.known_size(dim) if net.rank(value) else 1
    assert size is not None
    return size
