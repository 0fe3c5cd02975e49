"""Products with a weight, written out as GPT-2's layers are, become linear layers, which are what the tools look for."""

from __future__ import annotations

import torch
from torch import fx

from torch_tensorrt.graphs.editing import add_constant, tensor_of, written_attributes

aten = torch.ops.aten


def name_linears(module: fx.GraphModule) -> None:
    """addmm(b, x, w) -> linear(x, w.t(), b), and mm(x, w) -> linear(x, w.t()), in place, for weights of the model's own."""
    turned: dict[str, fx.Node] = {}
    written = written_attributes(module)
    for node in list(module.graph.nodes):
        parts = _parts(module, node)
        if parts is None or str(parts[1].target) in written:
            continue
        x, weight, bias = parts
        target = str(weight.target)
        with module.graph.inserting_before(node):
            if target not in turned:
                held = tensor_of(module, weight)
                assert held is not None
                turned[target] = add_constant(module, held.detach().t().contiguous())
            given = (x, turned[target]) if bias is None else (x, turned[target], bias)
            linear = module.graph.call_function(aten.linear.default, given)
        linear.meta = dict(node.meta)
        node.replace_all_uses_with(linear)
        module.graph.erase_node(node)
    if turned:
        module.graph.eliminate_dead_code()
        module.delete_all_unused_submodules()
        module.recompile()


def _parts(module: fx.GraphModule, node: fx.Node) -> tuple[fx.Node, fx.Node, fx.Node | None] | None:
    """x, w and b, where w is a matrix that the model has and b a row that it has, or there is none."""
    if node.op != "call_function" or node.kwargs or node.target not in {aten.addmm.default, aten.mm.default}:
        return None
    *added, x, weight = node.args
    if not isinstance(x, fx.Node) or not isinstance(weight, fx.Node):
        return None
    held = tensor_of(module, weight)
    if held is None or not held.dtype.is_floating_point:
        return None
    if not added:
        return x, weight, None
    bias = added[0]
    row = tensor_of(module, bias) if isinstance(bias, fx.Node) else None
    return (x, weight, bias) if isinstance(bias, fx.Node) and row is not None and row.shape == held.shape[1:] else None
