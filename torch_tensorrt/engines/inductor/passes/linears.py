"""A linear layer as lowering leaves it, and whether two of them read the same input."""

from __future__ import annotations

import operator
from collections.abc import Hashable
from dataclasses import dataclass

import torch
from torch import Tensor, fx
from torch._ops import OpOverload

from torch_tensorrt.engines.inductor.passes.gate import on_gpu
from torch_tensorrt.graphs.editing import tensor_of

aten = torch.ops.aten
# What gives equal results for equal arguments and is often written several times: sizes, and views of one tensor.
_REPEATED = frozenset(
    {aten.view.default, aten.reshape.default, aten.sym_size.int, operator.mul, operator.add, operator.floordiv}
)


@dataclass(frozen=True)
class Linear:
    """y = mm(x, weight) or addmm(bias, x, weight) with constants: weight (in, out), bias (out,) or None."""

    node: fx.Node
    x: fx.Node
    weight: Tensor
    bias: Tensor | None


def linear_of(graph_module: fx.GraphModule, node: fx.Node, written: set[str]) -> Linear | None:
    """`node` as a Linear on a GPU, or None."""
    if node.op != "call_function" or node.target not in {aten.mm.default, aten.addmm.default} or not on_gpu(node):
        return None
    if node.kwargs:  # a factor
        return None
    *biases, x, weight = node.args
    constants = [_constant(graph_module, given, written) for given in (*biases, weight)]
    if not isinstance(x, fx.Node) or any(held is None for held in constants):
        return None
    weights, bias = constants[-1], constants[0] if biases else None
    assert weights is not None
    if bias is not None and bias.shape != weights.shape[1:]:
        return None
    return Linear(node, x, weights, bias)


def _constant(graph_module: fx.GraphModule, given: object, written: set[str]) -> Tensor | None:
    if not isinstance(given, fx.Node) or str(given.target) in written:
        return None
    return tensor_of(graph_module, given)


def identity(value: object) -> Hashable:
    """Equal for nodes that compute the same, however often that is written."""
    if isinstance(value, (tuple, list)):
        return tuple(map(identity, value))
    if not isinstance(value, fx.Node) or value.op != "call_function" or value.target not in _REPEATED:
        return value if isinstance(value, Hashable) else repr(value)
    target = str(value.target) if isinstance(value.target, OpOverload) else value.target
    return (target, identity(value.args), identity(tuple(value.kwargs.items())))
