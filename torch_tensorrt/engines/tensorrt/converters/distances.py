"""Distances between points, and products of vectors in space."""

from __future__ import annotations

import math

import torch
from torch import fx

from torch_tensorrt.engines.tensorrt.converters.registry import bind, converts, is_varying
from torch_tensorrt.engines.tensorrt.net import Net
from torch_tensorrt.engines.tensorrt.sdk import ITensor
from torch_tensorrt.spec.settings import CompilationSettings

aten = torch.ops.aten


def of_no_coordinates(node: fx.Node, settings: CompilationSettings) -> str:
    """A norm of nothing."""
    points = bind(node)["x1" if node.target is aten._cdist_forward.default else "self"].meta["val"]
    if not is_varying(points.shape[-1]) and points.shape[-1] == 0:
        return "TensorRT takes no norm over points without coordinates"
    return ""


@converts(aten._cdist_forward.default, refuse=of_no_coordinates)
def cdist(net: Net, x1: ITensor, x2: ITensor, p: float, compute_mode: int | None) -> ITensor:
    """_cdist_forward(Tensor x1, Tensor x2, float p, int? compute_mode) -> Tensor: of each x1 to each x2."""
    first, second = net.same_rank([x1, x2])
    rank = net.rank(first)
    difference = net.elementwise(net.unsqueeze(first, [rank - 1]), net.unsqueeze(second, [rank - 2]), "SUB", net.result)
    return _norm(net, difference, p)


def no_fixed_points(node: fx.Node, settings: CompilationSettings) -> str:
    """The pairs are numbered when the network is built."""
    varies = is_varying(bind(node)["self"].meta["val"].shape[0])
    return "TensorRT needs a fixed number of points for pdist" if varies else of_no_coordinates(node, settings)


@converts(aten._pdist_forward.default, refuse=no_fixed_points)
def pdist(net: Net, self: ITensor, p: float) -> ITensor:
    """_pdist_forward(Tensor self, float p=2) -> Tensor: of each point to each later one."""
    count = net.shape(self)[0]
    pairs = torch.triu_indices(count, count, 1)
    first, second = (net.gather(self, net.constant(row), 0) for row in pairs)
    return _norm(net, net.elementwise(first, second, "SUB", net.result), p)


@converts(aten.linalg_cross.default)
def linalg_cross(net: Net, self: ITensor, other: ITensor, dim: int) -> ITensor:
    """linalg_cross(Tensor self, Tensor other, *, int dim=-1) -> Tensor"""
    a, b = net.operands(self, other, dtype=net.result)
    next_one, next_two = (net.constant(torch.tensor(order)) for order in ([1, 2, 0], [2, 0, 1]))

    def product(first: ITensor, second: ITensor) -> ITensor:
        turned = net.gather(a, first, dim), net.gather(b, second, dim)
        return net.elementwise(*turned, "PROD", net.result)

    return net.elementwise(product(next_one, next_two), product(next_two, next_one), "SUB", net.result)


def _norm(net: Net, difference: ITensor, p: float) -> ITensor:
    """The p-norm over the last dimension; with p=0 the number of coordinates that differ."""
    size = net.unary(difference, "ABS")
    if p == math.inf:
        return net.reduce(size, "MAX", [-1], keep=False)
    if p == 0:
        same = net.elementwise(size, 0.0, "EQUAL", net.result)
        return net.reduce(net.select(same, 0.0, 1.0, net.result), "SUM", [-1], keep=False)
    if p == 1:
        return net.reduce(size, "SUM", [-1], keep=False)
    if p == 2:
        squares = net.elementwise(difference, difference, "PROD", net.result)
        return net.unary(net.reduce(squares, "SUM", [-1], keep=False), "SQRT")
    powers = net.reduce(net.elementwise(size, p, "POW", net.result), "SUM", [-1], keep=False)
    return net.elementwise(powers, 1 / p, "POW", net.result)
