"""Engines write contiguous tensors; PyTorch's results may have another layout (channels last, permuted)."""

from __future__ import annotations

import torch
from torch import fx

from torch_tensorrt.contracts.passes import lowering_pass
from torch_tensorrt.graphs.editing import add_call
from torch_tensorrt.lowering.layout import KEEP_IN_TORCH, dense_order, invert
from torch_tensorrt.spec.settings import CompilationSettings

aten = torch.ops.aten


@lowering_pass
def restore_strides(graph_module: fx.GraphModule, settings: CompilationSettings) -> bool:
    """return y (layout NHWC)  ->  return permute(permute(y, NHWC), NCHW), the second one a view left to PyTorch.

    The engine then writes the memory in the order that PyTorch's result has, without a copy afterwards.
    """
    output = graph_module.graph.output_node()
    changed = False
    for node in output.all_input_nodes:
        value = node.meta.get("val")
        if node.op != "call_function" or not isinstance(value, torch.Tensor) or KEEP_IN_TORCH in node.meta:
            continue
        order = dense_order(value)
        if order is None or list(order) == sorted(order):
            continue
        with graph_module.graph.inserting_before(output):
            inner = add_call(graph_module, aten.permute.default, (node, list(order)))
            view = add_call(graph_module, aten.permute.default, (inner, list(invert(order))))
        inner.meta["stack_trace"] = view.meta["stack_trace"] = node.meta.get("stack_trace")
        view.meta[KEEP_IN_TORCH] = "gives the result PyTorch's strides (a view)"
        output.replace_input_with(node, view)
        changed = True
    return changed
