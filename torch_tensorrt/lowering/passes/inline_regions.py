"""Regions that torch.export wraps in higher-order operators but that compute nothing themselves."""

from __future__ import annotations

import torch
from torch import fx

from torch_tensorrt.contracts.passes import lowering_pass
from torch_tensorrt.spec.settings import CompilationSettings


@lowering_pass
def inline_regions(graph_module: fx.GraphModule, settings: CompilationSettings) -> bool:
    """y = wrap_with_set_grad_enabled(False, body, x)  ->  y = body(x), node by node. Inference records no gradients."""
    regions = [node for node in graph_module.graph.nodes if _is_grad_region(node)]
    for node in regions:
        _inline(graph_module, node)
    return bool(regions)


def _is_grad_region(node: fx.Node) -> bool:
    return node.op == "call_function" and node.target is torch.ops.higher_order.wrap_with_set_grad_enabled


def _inline(graph_module: fx.GraphModule, node: fx.Node) -> None:
    body_attribute = node.args[1]
    assert isinstance(body_attribute, fx.Node)
    body = graph_module.get_submodule(str(body_attribute.target))
    assert isinstance(body, fx.GraphModule)
    values: dict[fx.Node, fx.Node] = {}
    arguments = iter(node.args[2:])
    for inner in body.graph.nodes:
        if inner.op == "placeholder":
            outer = next(arguments)
            assert isinstance(outer, fx.Node)
            values[inner] = outer
    with graph_module.graph.inserting_before(node):
        for inner in body.graph.nodes:
            if inner.op not in {"placeholder", "output"}:
                values[inner] = graph_module.graph.node_copy(inner, lambda old: values[old])
    results = body.graph.output_node().args[0]
    assert isinstance(results, (tuple, list))
    for user in list(node.users):  # the region's value is a tuple: its users are getitem nodes
        index = user.args[1]
        assert isinstance(index, int)
        result = results[index]
        assert isinstance(result, fx.Node)
        user.replace_all_uses_with(values[result])
        graph_module.graph.erase_node(user)
    graph_module.graph.erase_node(node)
    if not body_attribute.users:
        graph_module.graph.erase_node(body_attribute)
