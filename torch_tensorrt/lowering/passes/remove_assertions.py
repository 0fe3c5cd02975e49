"""Checks that torch.export left in the graph."""

from __future__ import annotations

import torch
from torch import fx
from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols

from torch_tensorrt.contracts.passes import lowering_pass
from torch_tensorrt.spec.settings import CompilationSettings

aten = torch.ops.aten
_ASSERTIONS = {
    aten._assert_async.default,
    aten._assert_async.msg,
    aten._assert_scalar.default,
    aten._assert_tensor_metadata.default,
    aten.sym_constrain_range.default,
    aten.sym_constrain_range_for_size.default,
}


@lowering_pass
def remove_assertions(graph_module: fx.GraphModule, settings: CompilationSettings) -> bool:
    """_assert_tensor_metadata(x, ...); f(x)  ->  f(x).

    Sizes and dtypes of inputs are checked at the compiled module's door. Assertions about sizes that are known only at run
    time (nonzero, item) stay: a later torch.export needs what they promise.
    """
    doomed = [node for node in graph_module.graph.nodes if _is_removable(node)]
    for node in reversed(doomed):
        graph_module.graph.erase_node(node)
    if doomed:
        graph_module.graph.eliminate_dead_code()
    return bool(doomed)


def _is_removable(node: fx.Node) -> bool:
    if node.op == "call_module" and str(node.target) == "_guards_fn":
        return not node.users
    if node.op != "call_function" or node.target not in _ASSERTIONS or node.users:
        return False
    return not any(_is_unbacked(argument.meta.get("val")) for argument in node.all_input_nodes)


def _is_unbacked(value: object) -> bool:
    if isinstance(value, (torch.SymInt, torch.SymBool, torch.SymFloat, torch.Tensor)):
        return bool(free_unbacked_symbols(value))
    return False
