"""Depthwise convolutions get their weights as the Triton kernel wants them that takes their place in the compiled code."""

from __future__ import annotations

import torch
from torch import Tensor, fx

from torch_tensorrt.contracts.passes import lowering_pass
from torch_tensorrt.engines.inductor.passes.gate import is_half, on_gpu
from torch_tensorrt.graphs.editing import add_call, add_constant, tensor_of, written_attributes
from torch_tensorrt.spec.settings import CompilationSettings

aten = torch.ops.aten
_LARGEST = 7  # of a kernel's sides: each of its elements is some lines of machine code


@lowering_pass
def arrange_depthwise(graph_module: fx.GraphModule, settings: CompilationSettings) -> bool:
    """y = convolution(x, w, groups=channels)  ->  y = convolution(x, to_half(w'), zeros, groups=channels).

    w' is w in float32, its channels innermost in memory. Only channels-last half floats of rank 4 with constant weights, one filter
    per channel. `placing.py` puts the kernel there when the engine is compiled; the program stays one that PyTorch can run.
    """
    written = written_attributes(graph_module)
    changed = False
    for node in list(graph_module.graph.nodes):
        if node.op == "call_function" and node.target is aten.convolution.default and on_gpu(node) and is_half(node):
            weight = node.args[1]
            held = tensor_of(graph_module, weight) if str(weight.target) not in written else None
            if held is not None and _is_depthwise(node, held):
                _arrange(graph_module, node, held.detach())
                changed = True
    return changed


def _is_depthwise(node: fx.Node, weight: Tensor) -> bool:
    x, _, _, _, _, dilation, transposed, _, groups = node.args
    assert isinstance(x, fx.Node)
    value = x.meta["val"]
    sizes = [*value.shape[1:], *node.meta["val"].shape[1:]]
    if transposed or any(step != 1 for step in dilation) or not all(isinstance(size, int) for size in sizes):  # type: ignore[union-attr]
        return False
    filters = weight.dim() == 4 and weight.shape[1] == 1 and groups == weight.shape[0] > 1
    small = max(weight.shape[2:]) <= _LARGEST and weight.shape[2] * weight.shape[3] > 1
    return bool(filters and small and value.is_contiguous(memory_format=torch.channels_last))


def _arrange(graph_module: fx.GraphModule, node: fx.Node, weight: Tensor) -> None:
    half = node.meta["val"].dtype
    with graph_module.graph.inserting_before(node):
        arranged = add_constant(graph_module, weight.float().permute(2, 3, 1, 0).contiguous().permute(3, 2, 0, 1))
        node.update_arg(1, add_call(graph_module, aten._to_copy.default, (arranged,), {"dtype": half}))
        if node.args[2] is None:
            node.update_arg(2, add_constant(graph_module, weight.new_zeros(weight.shape[0], dtype=half)))
