"""A whole graph as one partition: its arguments in the order of the call, its results in the order of the model's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import fx

from torch_tensorrt.contracts.partition import Partition
from torch_tensorrt.partition.boundary import Range, tensor_spec
from torch_tensorrt.partition.nodes import is_write

NAME = "whole"


def tensor_results(graph: fx.Graph) -> tuple[fx.Node, ...]:
    """The results that are tensors, in the order of the model's flattened results."""
    return tuple(result for result in _results(graph) if _is_tensor(result))  # type: ignore[misc]


def tensor_arguments(graph: fx.Graph) -> tuple[fx.Node, ...]:
    """The arguments that are tensors, in the order of the model's flattened arguments."""
    return tuple(node for node in graph.find_nodes(op="placeholder") if _is_tensor(node))


def partition_refusals(graph: fx.Graph) -> Iterator[str]:
    """Why the graph can't be one engine, beside operators that the engine doesn't take: one sentence for each place."""
    for node in graph.find_nodes(op="placeholder"):
        if not _is_tensor(node) and node.users:
            yield f"its argument {node.name!r} is a number that varies, and an engine takes tensors"
    for node in graph.nodes:
        if is_write(node) and node.target._schema.is_mutable:
            yield f"it writes {node.all_input_nodes[0].name!r} ({node.target}), and an engine keeps no state"
        elif is_write(node) and any(
            map(_is_tensor, node.all_input_nodes)
        ):  # checks of sizes: what made them is refused
            yield f"it checks {node.all_input_nodes[0].name!r} at run time ({node.target})"
    for place, result in enumerate(_results(graph)):
        if not _is_tensor(result) and result is not None:
            yield f"its result {place} is {result!r:.60}, and an engine gives tensors"


def take_whole(graph_module: fx.GraphModule, backend: str, ranges: Mapping[str, Range]) -> Partition:
    """The partition of all that `graph_module` computes: inputs are called as the arguments, outputs output0, output1, ...

    Results that are None are left out. A result that is an argument, a weight or an earlier result becomes a copy of it, so that
    each output is a tensor of its own. The caller has seen that `partition_refusals` finds nothing.
    """
    graph = fx.Graph()
    values: dict[fx.Node, fx.Node] = {}
    arguments = tensor_arguments(graph_module.graph)
    for node in arguments:
        values[node] = graph.placeholder(node.name)
        values[node].meta = dict(node.meta)
    for node in graph_module.graph.nodes:
        if node.op in {"get_attr", "call_function", "call_module", "call_method"}:
            values[node] = graph.node_copy(node, values.__getitem__)
    results = tensor_results(graph_module.graph)
    graph.output(tuple(_own_results(graph, [values[node] for node in results])))
    graph.eliminate_dead_code()
    module = fx.GraphModule(graph_module, graph)
    inputs = tuple(tensor_spec(node.name, node.meta["val"], ranges) for node in arguments)
    outputs = tuple(tensor_spec(f"output{place}", node.meta["val"], ranges) for place, node in enumerate(results))
    return Partition(NAME, backend, module, inputs, outputs)


def _own_results(graph: fx.Graph, results: Sequence[fx.Node]) -> Iterator[fx.Node]:
    seen: set[fx.Node] = set()
    for result in results:
        node = result
        if node.op in {"placeholder", "get_attr"} or node in seen:
            node = graph.call_function(torch.ops.aten.clone.default, (result,))
            node.meta["val"] = result.meta["val"].clone()
        seen.add(node)
        yield node


def _results(graph: fx.Graph) -> Sequence[object]:
    results = graph.output_node().args[0]
    assert isinstance(results, (tuple, list))
    return results


def _is_tensor(value: object) -> bool:
    return isinstance(value, fx.Node) and isinstance(value.meta.get("val"), torch.Tensor)
