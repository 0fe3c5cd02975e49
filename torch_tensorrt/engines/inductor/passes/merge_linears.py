"""Linear layers that read one input, as queries, keys and values do: one wide product uses a GPU better than three."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import torch
from torch import fx

from torch_tensorrt.contracts.passes import lowering_pass
from torch_tensorrt.engines.inductor.passes.linears import Linear, identity, linear_of
from torch_tensorrt.engines.inductor.passes.propagating import Propagation, can_propagate
from torch_tensorrt.graphs.editing import add_call, add_constant, written_attributes
from torch_tensorrt.spec.settings import CompilationSettings

aten = torch.ops.aten


@lowering_pass
def merge_linears(graph_module: fx.GraphModule, settings: CompilationSettings) -> bool:
    """q = addmm(b, x, v); k = addmm(c, x, w)  ->  y = addmm(cat(b, c), x, cat(v, w)); q = y[:, :m]; k = y[:, m:].

    The concatenations are constants; a layer without bias gets zeros where another has one. q and k are views with the strides of
    y, and what can't be a view of them copies.
    """
    if not can_propagate(graph_module):
        return False
    groups = [group for group in _groups(graph_module) if len(group) > 1]
    propagation = Propagation(graph_module)
    for group in groups:
        _merge(graph_module, group, propagation)
    if groups:
        for node in list(graph_module.graph.nodes):
            propagation.visit(node)
    return bool(groups)


def _groups(graph_module: fx.GraphModule) -> list[list[Linear]]:
    written = written_attributes(graph_module)
    found: dict[Hashable, list[Linear]] = {}
    for node in graph_module.graph.nodes:
        linear = linear_of(graph_module, node, written)
        if linear is not None:
            key = (identity(linear.x), linear.weight.dtype, linear.weight.device, linear.weight.shape[0])
            found.setdefault(key, []).append(linear)
    return list(found.values())


def _merge(graph_module: fx.GraphModule, group: Sequence[Linear], propagation: Propagation) -> None:
    first = group[0]
    widths = [linear.weight.shape[1] for linear in group]
    with graph_module.graph.inserting_before(first.node):
        weight = add_constant(graph_module, torch.cat([linear.weight for linear in group], 1))
        if any(linear.bias is not None for linear in group):
            bias = add_constant(graph_module, torch.cat([_bias(linear) for linear in group]))
            merged = add_call(graph_module, aten.addmm.default, (bias, first.x, weight))
        else:
            merged = add_call(graph_module, aten.mm.default, (first.x, weight))
        merged.meta["stack_trace"] = first.node.meta.get("stack_trace")
        start = 0
        for linear, width in zip(group, widths, strict=True):
            part = add_call(graph_module, aten.slice.Tensor, (merged, 1, start, start + width))
            part.meta["stack_trace"] = linear.node.meta.get("stack_trace")
            propagation.changed(part, linear.node.meta["val"])
            linear.node.replace_all_uses_with(part)
            start += width
    for linear in group:
        graph_module.graph.erase_node(linear.node)


def _bias(linear: Linear) -> torch.Tensor:
    return linear.bias if linear.bias is not None else linear.weight.new_zeros(linear.weight.shape[1])
