"""cuDNN's kernels for half floats want four channels at least; with three, as images have, it pads them in each call."""

from __future__ import annotations

import torch
from torch import fx

from torch_tensorrt.contracts.passes import lowering_pass
from torch_tensorrt.engines.inductor.passes.gate import is_half, on_gpu
from torch_tensorrt.graphs.editing import add_call, add_constant, tensor_of, written_attributes
from torch_tensorrt.spec.settings import CompilationSettings

aten = torch.ops.aten
_WIDTH = 4


@lowering_pass
def widen_inputs(graph_module: fx.GraphModule, settings: CompilationSettings) -> bool:
    """y = convolution(x, w)  ->  y = convolution(pad(x, 4 channels), pad(w, 4 channels)), where x has three.

    The pad becomes part of the conversion to channels-last, which writes x anyway. Half floats of rank 4, constant weights.
    """
    written = written_attributes(graph_module)
    changed = False
    for node in list(graph_module.graph.nodes):
        if node.op == "call_function" and node.target is aten.convolution.default and on_gpu(node) and is_half(node):
            changed |= _widen(graph_module, node, written)
    return changed


def _widen(graph_module: fx.GraphModule, node: fx.Node, written: set[str]) -> bool:
    x, weight = node.args[:2]
    assert isinstance(x, fx.Node)
    assert isinstance(weight, fx.Node)
    held = tensor_of(graph_module, weight)
    if held is None or str(weight.target) in written or node.args[6] or node.args[8] != 1:
        return False
    missing = _WIDTH - held.shape[1]
    if held.dim() != 4 or missing != 1:
        return False
    pad = [0, 0, 0, 0, 0, missing]
    with graph_module.graph.inserting_before(node):
        node.update_arg(0, add_call(graph_module, aten.constant_pad_nd.default, (x, pad, 0.0)))
        node.update_arg(1, add_constant(graph_module, torch.nn.functional.pad(held.detach(), pad)))
    return True
