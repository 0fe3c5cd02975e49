"""Views of what convolutions make, whose layout torch.export predicts wrongly: see `graphs/predictions.py`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, fx
from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols

from torch_tensorrt.contracts.passes import lowering_pass
from torch_tensorrt.graphs.editing import add_call
from torch_tensorrt.lowering.layout import dense_order
from torch_tensorrt.spec.settings import CompilationSettings

aten = torch.ops.aten
_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


@lowering_pass
def pin_views(graph_module: fx.GraphModule, settings: CompilationSettings) -> bool:
    """view(x, ...)  ->  view(clone(x, contiguous), ...), where x may come channels-last and has no such view then.

    That is so behind a convolution whose input or weight isn't contiguous, up to what has fewer dimensions.
    """
    changed = False
    loose: set[fx.Node] = set()
    for node in list(graph_module.graph.nodes):
        if node.op != "call_function":
            continue
        if node.target is aten.view.default and node.args[0] in loose and _is_illegal(node):
            source = node.args[0]
            assert isinstance(source, fx.Node)
            with graph_module.graph.inserting_before(node):
                dense = add_call(
                    graph_module, aten.clone.default, (source,), {"memory_format": torch.contiguous_format}
                )
            dense.meta["stack_trace"] = node.meta.get("stack_trace")
            node.replace_input_with(source, dense)
            changed = True
        elif _may_be_last(node, loose):
            loose.add(node)
    return changed


def _may_be_last(node: fx.Node, loose: set[fx.Node]) -> bool:
    value = node.meta.get("val")
    if not isinstance(value, Tensor) or value.dim() not in _LAST or node.target is aten.clone.default:
        return False
    if node.target is aten.convolution.default:
        values = [given.meta.get("val") for given in node.all_input_nodes[:2]]
        if any(isinstance(given, Tensor) and dense_order(given) != tuple(range(given.dim())) for given in values):
            return True
    return any(given in loose for given in node.all_input_nodes)


def _is_illegal(view: fx.Node) -> bool:
    """Whether memory in channels-last order has no such view."""
    assert isinstance(view.args[0], fx.Node)
    source, result = view.args[0].meta.get("val"), view.meta["val"]
    if not isinstance(source, Tensor) or source.dim() not in _LAST:
        return False
    if free_unbacked_symbols((source, result)):
        return True
    last = torch.empty(_hints(source.shape), device="meta").to(memory_format=_LAST[source.dim()])
    try:
        last.view(_hints(result.shape))
    except (RuntimeError, ValueError):  # which of them depends on the dispatch modes that are active
        return True
    return False


def _hints(sizes: Sequence[int | torch.SymInt]) -> list[int]:
    return [int(size.node.hint) if isinstance(size, torch.SymInt) else size for size in sizes]
