"""Carries out a Plan: the groups become modules of their own, and the graph calls them through `execute_engine`."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import fx

from torch_tensorrt.contracts.partition import Partition, Plan
from torch_tensorrt.partition.boundary import Range, tensor_spec
from torch_tensorrt.partition.nodes import is_size, is_write
from torch_tensorrt.partition.subgraph import Subgraph, extract


@dataclass(frozen=True)
class Call:
    """A partition and the node that calls it; the node's constant and spec are filled in once the engine is built."""

    partition: Partition
    node: fx.Node

    @property
    def attribute(self) -> str:
        """The name of the engine's constant in the outer graph."""
        return f"engine_{self.partition.name}"


@dataclass(frozen=True)
class Cut:
    """The outer graph with its engine calls. `outer` has no engines yet: see `install`."""

    outer: fx.GraphModule
    calls: tuple[Call, ...]

    def partitions(self) -> Mapping[str, Partition]:
        """Name of the engine's constant -> what the engine is built from."""
        return {call.attribute: call.partition for call in self.calls}

    def install(self, call: Call, constant: torch.Tensor, spec: str) -> None:
        """Puts a built engine into the outer graph."""
        self.outer.register_buffer(call.attribute, constant)
        with self.outer.graph.inserting_before(call.node):
            holder = self.outer.graph.get_attr(call.attribute)
        holder.meta["val"] = _fake_constant(call.node, constant)
        call.node.args = (call.node.args[0], holder, spec)


def cut(graph_module: fx.GraphModule, plan: Plan, ranges: Mapping[str, Range]) -> Cut:
    """The outer graph, in which each group of `plan` is one call, and the partitions to build.

    Nodes left to PyTorch keep their names and metadata; the calling convention stays the model's.
    """
    groups = [extract(graph_module, group) for group in plan.groups]
    outer = _Outer(graph_module, {node: sub for sub in groups for node in sub.nodes})
    calls = outer.build()
    partitions = [_partition(sub, ranges) for sub in groups]
    module = fx.GraphModule(graph_module, outer.graph, "CompiledGraph")
    return Cut(module, tuple(Call(part, calls[part.name]) for part in partitions))


def _partition(sub: Subgraph, ranges: Mapping[str, Range]) -> Partition:
    inputs = tuple(tensor_spec(node.name, node.meta["val"], ranges) for node in sub.inputs)
    outputs = tuple(tensor_spec(node.name, node.meta["val"], ranges) for node in sub.outputs)
    return Partition(sub.group.name, sub.group.backend, sub.module, inputs, outputs)


class _Outer:
    """Copies the graph in an order in which each group is one step: depth first from the results, writes last."""

    def __init__(self, source: fx.GraphModule, group_of: Mapping[fx.Node, Subgraph]) -> None:
        self.source = source
        self.group_of = group_of
        self.graph = fx.Graph()
        self.graph.set_codegen(source.graph._codegen)
        self.values: dict[fx.Node, fx.Node] = {}
        self.calls: dict[str, fx.Node] = {}

    def build(self) -> Mapping[str, fx.Node]:
        nodes = list(self.source.graph.nodes)
        for node in nodes:
            if node.op == "placeholder":
                self._copy(node)
        for node in nodes:  # whatever reads a buffer or an input must run before that is written
            if node.op != "output" and not is_write(node) and not is_size(node):  # a size may be of what is inside only
                self._emit(node)
        for node in nodes:
            if is_write(node):
                self._emit(node)
        output = self.source.graph.output_node()
        for node in output.all_input_nodes:
            self._emit(node)
        self.graph.output(fx.map_arg(output.args[0], lambda old: self.values[old]))
        self.graph.output_node().meta.update(output.meta)
        for node in reversed(list(self.graph.nodes)):  # attributes and sizes that only engines needed
            if not node.users and (node.op == "get_attr" or is_size(node)):
                self.graph.erase_node(node)
        return self.calls

    def _emit(self, node: fx.Node) -> None:
        """Emits what `node` depends on, then `node`. Iterative: graphs are deeper than Python's stack."""
        waiting = [node]
        while waiting:
            current = waiting[-1]
            if current in self.values or self._called(current):
                waiting.pop()
                continue
            missing = [needed for needed in self._needs(current) if needed not in self.values]
            if missing:
                waiting.extend(missing)
                continue
            waiting.pop()
            if current in self.group_of:
                self._call(self.group_of[current])
            else:
                self._copy(current)

    def _needs(self, node: fx.Node) -> Sequence[fx.Node]:
        sub = self.group_of.get(node)
        return node.all_input_nodes if sub is None else sub.inputs

    def _called(self, node: fx.Node) -> bool:
        sub = self.group_of.get(node)
        return sub is not None and sub.group.name in self.calls

    def _copy(self, node: fx.Node) -> None:
        self.values[node] = self.graph.node_copy(node, lambda old: self.values[old])

    def _call(self, sub: Subgraph) -> None:
        inputs = [self.values[node] for node in sub.inputs]
        call = self.graph.call_function(
            torch.ops.tensorrt.execute_engine.default, (inputs, None, ""), name=sub.group.name
        )
        results = [_contiguous_like(node.meta["val"]) for node in sub.outputs]
        call.meta["val"] = results
        call.meta["stack_trace"] = sub.outputs[0].meta.get("stack_trace")
        self.calls[sub.group.name] = call
        for at, (node, value) in enumerate(zip(sub.outputs, results, strict=True)):
            picked = self.graph.call_function(operator.getitem, (call, at), name=node.name)
            picked.meta = {**node.meta, "val": value}
            self.values[node] = picked


def _contiguous_like(value: torch.Tensor) -> torch.Tensor:
    with value.fake_mode:  # type: ignore[attr-defined]
        return torch.empty(value.shape, dtype=value.dtype, device=value.device)


def _fake_constant(node: fx.Node, constant: torch.Tensor) -> torch.Tensor:
    value = node.meta["val"][0]
    assert isinstance(value, torch.Tensor)
    return value.fake_mode.from_tensor(constant, static_shapes=True)  # type: ignore[attr-defined, no-any-return]
