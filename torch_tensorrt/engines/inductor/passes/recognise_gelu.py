"""GELU written out by hand, as GPT-2 has it, is PyTorch's own with tanh: one operator, which a product can do as it writes."""

from __future__ import annotations

import math

import torch
from torch import fx

from torch_tensorrt.contracts.passes import lowering_pass
from torch_tensorrt.engines.inductor.passes.gate import on_gpu
from torch_tensorrt.graphs.editing import FUSED, add_call
from torch_tensorrt.spec.settings import CompilationSettings

aten = torch.ops.aten


@lowering_pass
def recognise_gelu(graph_module: fx.GraphModule, settings: CompilationSettings) -> bool:
    """y = 0.5 * x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x ** 3)))  ->  y = gelu(x, approximate="tanh").

    In half floats the operator rounds once, where the formula rounds after each step.
    """
    changed = False
    for node in reversed(list(graph_module.graph.nodes)):
        x = _gelu_of(node) if on_gpu(node) else None
        if x is not None:
            with graph_module.graph.inserting_before(node):
                whole = add_call(graph_module, aten.gelu.default, (x,), {"approximate": "tanh"})
            whole.meta["stack_trace"] = node.meta.get("stack_trace")
            whole.meta[FUSED] = 5  # at least: two products with numbers, two sums, and what is between them
            node.replace_all_uses_with(whole)
            changed = True
    if changed:
        graph_module.graph.eliminate_dead_code()
    return changed


def _gelu_of(node: fx.Node) -> fx.Node | None:
    """The x of the formula that ends in `node`, or None."""
    if node.target is not aten.mul.Tensor:
        return None
    for half, rest in (node.args[:2], node.args[1::-1]):
        x = _times(half, 0.5)
        tanh = _plus(rest, 1.0)
        if x is None or tanh is None or tanh.target is not aten.tanh.default:
            continue
        inner = _times(tanh.args[0], math.sqrt(2 / math.pi))
        if inner is not None and inner.target is aten.add.Tensor and not inner.kwargs:
            for first, second in (inner.args, inner.args[::-1]):
                cube = _times(second, 0.044715)
                if first is x and cube is not None and _is_cube(cube, x):
                    return x
    return None


def _times(node: object, factor: float) -> fx.Node | None:
    return _other(node, factor, aten.mul.Tensor)


def _plus(node: object, term: float) -> fx.Node | None:
    return _other(node, term, aten.add.Tensor)


def _other(node: object, number: float, target: object) -> fx.Node | None:
    """The tensor that `node` combines with `number`; constants of less precision are taken for it too."""
    if not isinstance(node, fx.Node) or node.target is not target or node.kwargs:
        return None
    for one, other in (node.args[:2], node.args[1::-1]):
        if isinstance(one, fx.Node) and isinstance(other, (int, float)) and math.isclose(other, number, rel_tol=1e-4):
            return one
    return None


def _is_cube(node: fx.Node, x: fx.Node) -> bool:
    if node.target is aten.pow.Tensor_Scalar:
        return list(node.args) == [x, 3]
    if node.target is not aten.mul.Tensor:
        return False
    square = next((part for part in node.args[:2] if part is not x), None)
    if not isinstance(square, fx.Node) or x not in node.args:
        return False
    return square.target is aten.mul.Tensor and list(square.args) == [x, x]
