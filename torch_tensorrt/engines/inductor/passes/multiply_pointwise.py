"""Convolutions of single pixels, as squeeze-and-excitation has them, are linear layers, and cuBLAS is faster at those."""

from __future__ import annotations

import torch
from torch import fx

from torch_tensorrt.contracts.passes import lowering_pass
from torch_tensorrt.engines.inductor.passes.gate import is_half, on_gpu
from torch_tensorrt.graphs.editing import add_call, add_constant, tensor_of, written_attributes
from torch_tensorrt.spec.settings import CompilationSettings

aten = torch.ops.aten


@lowering_pass
def multiply_pointwise(graph_module: fx.GraphModule, settings: CompilationSettings) -> bool:
    """y = convolution(x, w, b)  ->  y = view(addmm(b, view(x), w.t())), where x is (n, channels, 1, 1) and w (m, channels, 1, 1).

    Half floats with constant weights, one group, no padding.
    """
    written = written_attributes(graph_module)
    changed = False
    for node in list(graph_module.graph.nodes):
        if node.op == "call_function" and node.target is aten.convolution.default and on_gpu(node) and is_half(node):
            changed |= _replace(graph_module, node, written)
    return changed


def _replace(graph_module: fx.GraphModule, node: fx.Node, written: set[str]) -> bool:
    x, weight, bias, _, padding, _, transposed, _, groups = node.args
    assert isinstance(x, fx.Node)
    assert isinstance(weight, fx.Node)
    held = tensor_of(graph_module, weight)
    sizes = [*x.meta["val"].shape[2:], *weight.meta["val"].shape[2:]]
    if held is None or str(weight.target) in written or transposed or groups != 1:
        return False
    if x.meta["val"].dim() != 4 or any(size != 1 for size in sizes) or any(size != 0 for size in padding):  # type: ignore[union-attr]
        return False
    with graph_module.graph.inserting_before(node):
        flat = add_call(graph_module, aten.view.default, (x, [-1, held.shape[1]]))
        matrix = add_constant(graph_module, held.detach().view(held.shape[:2]).t().contiguous())
        if bias is None:
            product = add_call(graph_module, aten.mm.default, (flat, matrix))
        else:
            product = add_call(graph_module, aten.addmm.default, (bias, flat, matrix))
        result = add_call(graph_module, aten.view.default, (product, [-1, held.shape[0], 1, 1]))
    for added in (flat, product, result):
        added.meta["stack_trace"] = node.meta.get("stack_trace")
    node.replace_all_uses_with(result)
    graph_module.graph.erase_node(node)
    return True
