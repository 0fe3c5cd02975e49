"""GELU in fewer instructions: on an H200, the error function of CUDA's library takes longer than reading and writing half floats."""

from __future__ import annotations

import math

import torch
from torch import fx

from torch_tensorrt.contracts.passes import lowering_pass
from torch_tensorrt.engines.inductor.passes.gate import is_half, on_gpu
from torch_tensorrt.graphs.editing import add_call
from torch_tensorrt.spec.settings import CompilationSettings

aten = torch.ops.aten
# Abramowitz and Stegun, 7.1.26: erfc(z) = (a1 t + ... + a5 t^5) exp(-z^2), t = 1 / (1 + p z), to 1.5e-7 for z >= 0.
_P = 0.3275911
_A = (0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429)


@lowering_pass
def expand_gelu(graph_module: fx.GraphModule, settings: CompilationSettings) -> bool:
    """gelu(x)  ->  x * where(x >= 0, 1 - h, h), h = erfc(|x| / sqrt(2)) / 2 as a polynomial times exp(-x * x / 2).

    For half floats, whose rounding is a thousand times the polynomial's error; all of it is computed in float32. GELU with tanh stays.
    """
    changed = False
    for node in graph_module.graph.find_nodes(op="call_function", target=aten.gelu.default):
        if on_gpu(node) and is_half(node) and node.kwargs.get("approximate", "none") == "none":
            _expand(graph_module, node)
            changed = True
    return changed


def _expand(graph_module: fx.GraphModule, node: fx.Node) -> None:
    def call(target: torch._ops.OpOverload, *args: fx.node.Argument) -> fx.Node:
        return add_call(graph_module, target, args)

    with graph_module.graph.inserting_before(node):
        x = add_call(graph_module, aten._to_copy.default, (node.args[0],), {"dtype": torch.float32})
        distance = call(aten.abs.default, x)
        t = call(
            aten.reciprocal.default, call(aten.add.Tensor, call(aten.mul.Tensor, distance, _P / math.sqrt(2)), 1.0)
        )
        sum_ = call(aten.mul.Tensor, t, _A[-1] / 2)
        for factor in _A[-2::-1]:
            sum_ = call(aten.mul.Tensor, call(aten.add.Tensor, sum_, factor / 2), t)
        tail = call(aten.exp.default, call(aten.mul.Tensor, call(aten.mul.Tensor, x, x), -0.5))
        half = call(aten.mul.Tensor, sum_, tail)
        positive = call(aten.ge.Scalar, x, 0.0)
        share = call(aten.where.self, positive, call(aten.add.Tensor, call(aten.neg.default, half), 1.0), half)
        product = call(aten.mul.Tensor, x, share)
        result = add_call(graph_module, aten._to_copy.default, (product,), {"dtype": node.meta["val"].dtype})
    for new in (product, result):
        new.meta["stack_trace"] = node.meta.get("stack_trace")
    node.replace_all_uses_with(result)
    graph_module.graph.erase_node(node)
