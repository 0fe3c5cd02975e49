"""Operators that look values up in sorted ones, and that reduce bags of embeddings."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence

import torch
from torch import fx

from torch_tensorrt.engines.tensorrt.converters.constructors import count_up
from torch_tensorrt.engines.tensorrt.converters.movement import cut
from torch_tensorrt.engines.tensorrt.converters.registry import bind, converts, is_varying
from torch_tensorrt.engines.tensorrt.converters.scattering import too_many_pairs, usual_count
from torch_tensorrt.engines.tensorrt.net import Net
from torch_tensorrt.engines.tensorrt.sdk import ITensor
from torch_tensorrt.spec.settings import CompilationSettings

aten = torch.ops.aten
_SUM, _MEAN, _MAX = range(3)  # the numbers that PyTorch gives the modes of a bag
_NO_PADDING = -1


def sorted_elsewhere(node: fx.Node, settings: CompilationSettings) -> str:
    """Each value is compared with all of the sorted ones."""
    bound = bind(node)
    edges = bound["boundaries" if "boundaries" in bound else "sorted_sequence"].meta["val"]
    values = bound["self"].meta["val"]
    if bound.get("sorter") is not None:
        return "searchsorted with a sorter is not converted"
    return too_many_pairs(node, usual_count(values) * usual_count(edges.shape[-1:]), values.dim())


@converts(aten.bucketize.Tensor, refuse=sorted_elsewhere)
def bucketize(net: Net, self: ITensor, boundaries: ITensor, out_int32: bool, right: bool) -> ITensor:
    """bucketize.Tensor(Tensor self, Tensor boundaries, *, bool out_int32=False, bool right=False) -> Tensor"""
    return _count_below(net, self, boundaries, right)


@converts(aten.searchsorted.Tensor, refuse=sorted_elsewhere)
def searchsorted(
    net: Net, sorted_sequence: ITensor, self: ITensor, out_int32: bool, right: bool, side: str | None, sorter: None
) -> ITensor:
    """searchsorted.Tensor(Tensor sorted_sequence, Tensor self, *, ..., str? side=None, Tensor? sorter=None) -> Tensor"""
    edges = (
        sorted_sequence
        if net.rank(sorted_sequence) == 1
        else net.unsqueeze(sorted_sequence, [net.rank(sorted_sequence) - 1])
    )
    return _count_below(net, self, edges, right or side == "right")


def _count_below(net: Net, values: ITensor, edges: ITensor, right: bool) -> ITensor:
    """How many of the `edges`, along their last dimension, are below a value (right: not above it); all are below NaN."""
    value = net.unsqueeze(values, [net.rank(values)])
    dtype = torch.promote_types(net.dtype(values), net.dtype(edges))
    beyond = net.elementwise(edges, value, "GREATER", dtype)
    if not right:
        beyond = net.elementwise(beyond, net.elementwise(edges, value, "EQUAL", dtype), "OR", torch.bool)
    below = net.cast(net.unary(beyond, "NOT"), torch.int32)
    return net.cast(net.reduce(below, "SUM", [-1], False), net.result)


def bags_of_more(node: fx.Node, settings: CompilationSettings) -> str:
    """The first result is the bags; the others are for gradients."""
    if any(user.target is not operator.getitem or user.args[1] != 0 for user in node.users):
        return "only the bags themselves are converted, not what embedding_bag keeps for gradients"
    bound = bind(node)
    weight, indices, offsets = (bound[name].meta["val"] for name in ("weight", "indices", "offsets"))
    if indices.dim() != 1:
        return "embedding_bag of indices in more than one dimension is not converted"
    if (
        node.target is aten.embedding_bag.padding_idx
        and (bound["padding_idx"] or 0) < 0
        and is_varying(weight.shape[0])
    ):
        return (
            "embedding_bag with an index of padding counted from the end of a varying number of rows is not converted"
        )
    return too_many_pairs(node, usual_count(offsets) * usual_count(indices) * usual_count(weight.shape[-1:]), 2)


@converts(aten._embedding_bag.default, aten._embedding_bag_forward_only.default, refuse=bags_of_more)
def embedding_bag(
    net: Net,
    weight: ITensor,
    indices: ITensor,
    offsets: ITensor,
    scale_grad_by_freq: bool,
    mode: int,
    sparse: bool,
    per_sample_weights: ITensor | None,
    include_last_offset: bool,
    padding_idx: int,
) -> Sequence[ITensor | None]:
    """_embedding_bag(Tensor weight, Tensor indices, Tensor offsets, ...) -> (Tensor, Tensor, Tensor, Tensor)"""
    rows = net.gather(weight, indices, 0)
    if per_sample_weights is not None:
        rows = net.elementwise(rows, net.unsqueeze(per_sample_weights, [1]), "PROD", net.result)
    inside = _in_bags(net, indices, offsets, include_last_offset)
    if padding_idx >= 0:
        padding = net.elementwise(indices, padding_idx, "EQUAL", torch.int64)
        inside = net.elementwise(inside, net.unary(padding, "NOT"), "AND", torch.bool)
    neutral = -math.inf if mode == _MAX else 0
    picked = net.select(net.unsqueeze(inside, [2]), net.unsqueeze(rows, [0]), neutral, net.result)
    bags = net.reduce(picked, "MAX" if mode == _MAX else "SUM", [1], False)
    count = net.reduce(net.cast(inside, torch.int32), "SUM", [1], True)
    if mode == _MEAN:
        bags = net.elementwise(bags, net.elementwise(count, 1, "MAX", torch.int32), "DIV", net.result)
    if mode == _MAX:
        bags = net.select(net.elementwise(count, 0, "GREATER", torch.int32), bags, 0, net.result)
    return bags, None, None, None


@converts(aten.embedding_bag.default, refuse=bags_of_more)
def embedding_bag_of_all(
    net: Net,
    weight: ITensor,
    indices: ITensor,
    offsets: ITensor,
    scale_grad_by_freq: bool,
    mode: int,
    sparse: bool,
    per_sample_weights: ITensor | None,
    include_last_offset: bool,
) -> Sequence[ITensor | None]:
    """embedding_bag(Tensor weight, Tensor indices, Tensor offsets, ...) -> (Tensor, Tensor, Tensor, Tensor)"""
    more = (per_sample_weights, include_last_offset, _NO_PADDING)
    return embedding_bag(net, weight, indices, offsets, scale_grad_by_freq, mode, sparse, *more)


@converts(aten.embedding_bag.padding_idx, refuse=bags_of_more)
def embedding_bag_but_padding(
    net: Net,
    weight: ITensor,
    indices: ITensor,
    offsets: ITensor,
    scale_grad_by_freq: bool,
    mode: int,
    sparse: bool,
    per_sample_weights: ITensor | None,
    include_last_offset: bool,
    padding_idx: int | None,
) -> Sequence[ITensor | None]:
    """embedding_bag.padding_idx(Tensor weight, Tensor indices, ..., int? padding_idx) -> (Tensor, Tensor, Tensor, Tensor)"""
    rows = net.shape(weight)[0]
    padding = _NO_PADDING if padding_idx is None else padding_idx if padding_idx >= 0 else padding_idx + rows
    more = (per_sample_weights, include_last_offset, padding)
    return embedding_bag(net, weight, indices, offsets, scale_grad_by_freq, mode, sparse, *more)


def _in_bags(net: Net, indices: ITensor, offsets: ITensor, with_last: bool) -> ITensor:
    """(bag, index): whether it is in it. A bag ends where the next begins."""
    starts = net.cast(offsets, torch.int64)
    fewer = net.compute_size(net.size(starts, 0), -1, "SUM")
    ends = cut(net, starts, 0, 1, fewer)
    if with_last:
        starts = cut(net, starts, 0, 0, fewer)
    else:
        ends = net.concatenate([ends, net.size_tensor([net.size(indices, 0)])], 0)
    place = net.unsqueeze(count_up(net, net.size(indices, 0)), [0])
    early = net.elementwise(place, net.unsqueeze(starts, [1]), "LESS", torch.int64)
    within = net.elementwise(place, net.unsqueeze(ends, [1]), "LESS", torch.int64)
    return net.elementwise(within, net.unary(early, "NOT"), "AND", torch.bool)
