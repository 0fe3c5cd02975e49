"""Strides after a change: every later node's metadata is computed again, and what can't bear the new strides gets a copy."""

from __future__ import annotations

import torch
from torch import Tensor, fx

from torch_tensorrt.graphs.editing import add_call, fake_mode_of, infer

aten = torch.ops.aten
# Read memory by its layout: they keep the layout that they were traced with.
_BY_LAYOUT = frozenset({aten.as_strided.default, aten.view.dtype})


def can_propagate(graph_module: fx.GraphModule) -> bool:
    """Whether metadata can be computed again node by node: not in graphs with graphs inside."""
    return all(isinstance(node.meta.get("val"), Tensor) for node in graph_module.graph.find_nodes(op="get_attr"))


class Propagation:
    """Follows changed strides through a graph, from its start to its end.

    `changed(node, before)` is told of a node whose result has, or may have, other strides than `before`; `visit(node)` is called for
    each node in order, and brings its metadata up to date. (Folding batch norm leaves strides that were never true.)
    """

    def __init__(self, graph_module: fx.GraphModule) -> None:
        self.graph_module = graph_module
        self.mode = fake_mode_of(graph_module)
        self._before: dict[fx.Node, object] = {}

    def changed(self, node: fx.Node, before: object) -> None:
        """`node` had the value `before`, until now or in the model: those that read it are looked at."""
        self._before[node] = before

    def visit(self, node: fx.Node) -> None:
        """Brings `node` up to date with its arguments, or its arguments back to what they were."""
        concerned = [argument for argument in node.all_input_nodes if argument in self._before]
        if not concerned:
            return
        if node.op == "output" or node.target in _BY_LAYOUT:
            self._restore(node, concerned)
        elif node.op == "call_function":
            before = node.meta.get("val")
            try:
                node.meta["val"] = infer(node, self.mode)
            except (RuntimeError, ValueError):  # a view that the new strides don't allow
                self._restore(node, concerned)
                node.meta["val"] = infer(node, self.mode)
            if _strides(before) != _strides(node.meta["val"]):
                self.changed(node, before)

    def _restore(self, node: fx.Node, concerned: list[fx.Node]) -> None:
        """f(x)  ->  f(clone(x)), the copy with the strides that x had before."""
        for argument in concerned:
            before = self._before[argument]
            if not isinstance(before, Tensor) or _strides(before) == _strides(argument.meta["val"]):
                continue
            last = not before.is_contiguous() and before.dim() == 4
            wanted = torch.channels_last if last else torch.contiguous_format
            with self.graph_module.graph.inserting_before(node):
                copy = add_call(self.graph_module, aten.clone.default, (argument,), {"memory_format": wanted})
            copy.meta["stack_trace"] = argument.meta.get("stack_trace")
            node.replace_input_with(argument, copy)


def _strides(value: object) -> object:
    if isinstance(value, Tensor):
        return tuple(map(str, value.stride())) if value.layout is torch.strided else None
    return tuple(map(_strides, value)) if isinstance(value, (tuple, list)) else None
