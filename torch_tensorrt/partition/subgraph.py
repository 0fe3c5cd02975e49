"""A group of nodes as a module of its own: tensors in, tensors out, sizes computed inside."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import fx

from torch_tensorrt.contracts.partition import Group
from torch_tensorrt.partition.nodes import is_size, is_write


@dataclass(frozen=True)
class Subgraph:
    """`nodes`, `inputs` and `outputs` are nodes of the original graph, in the order of the module's arguments and results."""

    group: Group
    nodes: tuple[fx.Node, ...]
    module: fx.GraphModule
    inputs: tuple[fx.Node, ...]
    outputs: tuple[fx.Node, ...]


def extract(graph_module: fx.GraphModule, group: Group) -> Subgraph:
    """The module of `group`. Weights become its constants; attributes that the graph writes to become inputs."""
    return _Extraction(graph_module, group).run()


class _Extraction:
    def __init__(self, source: fx.GraphModule, group: Group) -> None:
        self.source = source
        self.group = group
        named = frozenset(group.nodes)
        self.nodes = tuple(node for node in source.graph.nodes if node.name in named)
        self.members = frozenset(self.nodes)
        self.written = {
            str(given.target)
            for node in source.graph.nodes
            if is_write(node)
            for given in node.all_input_nodes
            if given.op == "get_attr"
        }
        self.graph = fx.Graph()
        self.values: dict[fx.Node, fx.Node] = {}
        self.inputs: list[fx.Node] = []

    def run(self) -> Subgraph:
        for node in self.nodes:
            for needed in node.all_input_nodes:
                if not is_size(needed) and needed not in self.members and not self._is_constant(needed):
                    self._add_input(needed)
        for node in self.nodes:
            self._copy(node)
        outputs = tuple(node for node in self.nodes if self._is_used_outside(node))
        self.graph.output(tuple(self.values[node] for node in outputs))
        return Subgraph(self.group, self.nodes, fx.GraphModule(self.source, self.graph), tuple(self.inputs), outputs)

    def _is_constant(self, node: fx.Node) -> bool:
        return node.op == "get_attr" and str(node.target) not in self.written

    def _is_used_outside(self, node: fx.Node) -> bool:
        if not isinstance(node.meta.get("val"), torch.Tensor):
            return False
        return any(user not in self.members and not (is_size(user) and self._only_inside(user)) for user in node.users)

    def _only_inside(self, size: fx.Node) -> bool:
        return all(user in self.members or (is_size(user) and self._only_inside(user)) for user in size.users)

    def _add_input(self, node: fx.Node) -> None:
        if node in self.values:
            return
        last = self.values[self.inputs[-1]] if self.inputs else None
        where = (
            self.graph.inserting_after(last) if last is not None else self.graph.inserting_before(_first(self.graph))
        )
        with where:
            placeholder = self.graph.placeholder(node.name)
        placeholder.meta["val"] = node.meta["val"]
        self.values[node] = placeholder
        self.inputs.append(node)

    def _value(self, node: fx.Node) -> fx.Node:
        if node not in self.values:
            if is_size(node):
                self._copy_size(node)
            elif self._is_constant(node):
                self.values[node] = self.graph.node_copy(node)
            else:
                self._add_input(node)
        return self.values[node]

    def _copy(self, node: fx.Node) -> None:
        for needed in node.all_input_nodes:  # before node_copy, so that they stand before it
            self._value(needed)
        self.values[node] = self.graph.node_copy(node, self._value)

    def _copy_size(self, node: fx.Node) -> None:
        """Computes a size again inside, from a tensor that is already an input where one has that size."""
        known = self._known_size(node)
        if known is None:
            self._copy(node)
            return
        tensor, dim = known
        inside = self.graph.call_function(torch.ops.aten.sym_size.int, (self.values[tensor], dim))
        inside.meta["val"] = node.meta["val"]
        self.values[node] = inside

    def _known_size(self, node: fx.Node) -> tuple[fx.Node, int] | None:
        wanted = node.meta["val"]
        if not isinstance(wanted, torch.SymInt):
            return None
        for tensor in self.inputs:
            for dim, size in enumerate(tensor.meta["val"].shape):
                if isinstance(size, torch.SymInt) and size.node.expr == wanted.node.expr:
                    return tensor, dim
        return None


def _first(graph: fx.Graph) -> fx.Node:
    first: fx.Node = next(iter(graph.nodes), graph._root)
    return first
