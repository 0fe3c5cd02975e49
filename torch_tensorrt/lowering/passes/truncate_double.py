"""Engines that don't compute in float64 can compute in float32 when the caller allows it."""

from __future__ import annotations

import torch
from torch import fx

from torch_tensorrt.contracts.passes import lowering_pass
from torch_tensorrt.graphs.editing import (
    add_call,
    add_constant,
    fake_mode_of,
    infer_again,
    tensor_of,
    written_attributes,
)
from torch_tensorrt.spec.settings import CompilationSettings

aten = torch.ops.aten


@lowering_pass
def truncate_double(graph_module: fx.GraphModule, settings: CompilationSettings) -> bool:
    """y = f(x: float64)  ->  y = to_float64(f(to_float32(x))), with float32 weights, when `truncate_double` is set.

    Inputs and outputs keep their dtype.
    """
    if not settings.truncate_double or not any(_is_double(node) for node in graph_module.graph.nodes):
        return False
    output = graph_module.graph.output_node()
    double_results = {at for at, node in enumerate(output.all_input_nodes) if _is_double(node)}
    nodes = list(graph_module.graph.nodes)
    written = written_attributes(graph_module)
    for node in nodes:
        if _is_double(node) and node.op in {"placeholder", "get_attr"}:
            _narrow_source(graph_module, node, written)
    mode = fake_mode_of(graph_module)
    for node in nodes:
        if (
            node.op == "call_function"
            and isinstance(node.target, torch._ops.OpOverload)
            and not node.target._schema.is_mutable
        ):
            node.args = tuple(_narrow(argument) for argument in node.args)
            node.kwargs = {name: _narrow(argument) for name, argument in node.kwargs.items()}
            if isinstance(node.meta.get("val"), (torch.Tensor, tuple, list)):
                node.meta["val"] = infer_again(node, mode)
        elif node.op == "call_function" and isinstance(node.meta.get("val"), torch.Tensor):
            node.meta["val"] = infer_again(node, mode)  # getitem
    _widen_results(graph_module, output, double_results)
    return True


def _is_double(node: fx.Node) -> bool:
    value = node.meta.get("val")
    return isinstance(value, torch.Tensor) and value.dtype == torch.float64


def _narrow(argument: object) -> object:
    return torch.float32 if argument is torch.float64 else argument


def _narrow_source(graph_module: fx.GraphModule, node: fx.Node, written: set[str]) -> None:
    tensor = tensor_of(graph_module, node)
    users = list(node.users)
    with graph_module.graph.inserting_after(node):
        if tensor is not None and str(node.target) not in written:
            narrow = add_constant(graph_module, tensor.to(torch.float32))
        else:
            narrow = add_call(graph_module, aten._to_copy.default, (node,), {"dtype": torch.float32})
    for user in users:
        if user.op != "output" and not _writes(user):
            user.replace_input_with(node, narrow)


def _writes(node: fx.Node) -> bool:
    return isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable


def _widen_results(graph_module: fx.GraphModule, output: fx.Node, double_results: set[int]) -> None:
    for at, node in enumerate(list(output.all_input_nodes)):
        if at in double_results and not _is_double(node):
            with graph_module.graph.inserting_before(output):
                wide = add_call(graph_module, aten._to_copy.default, (node,), {"dtype": torch.float64})
            output.replace_input_with(node, wide)
