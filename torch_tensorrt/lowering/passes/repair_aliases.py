"""Outputs that other passes turned into the module's own constants."""

from __future__ import annotations

import torch
from torch import fx

from torch_tensorrt.contracts.passes import lowering_pass
from torch_tensorrt.graphs.editing import CONSTANT_PREFIX, add_call
from torch_tensorrt.spec.settings import CompilationSettings


@lowering_pass
def repair_aliases(graph_module: fx.GraphModule, settings: CompilationSettings) -> bool:
    """return constant  ->  return clone(constant), so that a caller who writes to a result doesn't change the next one."""
    output = graph_module.graph.output_node()
    changed = False
    for node in output.all_input_nodes:
        if node.op == "get_attr" and str(node.target).startswith(CONSTANT_PREFIX):
            with graph_module.graph.inserting_before(output):
                copy = add_call(graph_module, torch.ops.aten.clone.default, (node,))
            output.replace_input_with(node, copy)
            changed = True
    return changed
