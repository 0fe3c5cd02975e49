"""Operators that read memory in its layout, not by index."""

from __future__ import annotations

import torch
from torch import fx

from torch_tensorrt.contracts.passes import lowering_pass
from torch_tensorrt.graphs.editing import add_call
from torch_tensorrt.lowering.layout import dense_order, invert
from torch_tensorrt.spec.errors import UnsupportedError
from torch_tensorrt.spec.settings import CompilationSettings

aten = torch.ops.aten


@lowering_pass
def pin_layouts(graph_module: fx.GraphModule, settings: CompilationSettings) -> bool:
    """y = as_strided(x, ...)  ->  y = as_strided(permute(contiguous copy of permute(x, order), inverse), ...).

    An engine may hand on x contiguous where PyTorch had another layout; the copy has the layout that as_strided was traced
    with.
    """
    changed = False
    for node in list(graph_module.graph.nodes):
        if node.op != "call_function" or node.target is not aten.as_strided.default:
            continue
        source = node.args[0]
        assert isinstance(source, fx.Node)
        if source.op != "call_function":
            continue
        order = dense_order(source.meta["val"])
        if order is None:
            raise UnsupportedError(
                f"{node.name!r} (aten.as_strided) reads the memory of {source.name!r}, whose layout has gaps or overlaps; "
                "rewrite that line of the model with indexing or unfold."
            )
        with graph_module.graph.inserting_before(node):
            permuted = add_call(graph_module, aten.permute.default, (source, list(order)))
            dense = add_call(graph_module, aten.clone.default, (permuted,), {"memory_format": torch.contiguous_format})
            pinned = add_call(graph_module, aten.permute.default, (dense, list(invert(order))))
        node.replace_input_with(source, pinned)
        changed = True
    return changed
