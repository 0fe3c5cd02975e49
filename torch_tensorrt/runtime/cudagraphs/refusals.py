"""What a graph of operations means for its capture: what can't be captured, with the reason, and what runs change."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, fx
from torch._ops import HigherOrderOperator, OpOverload
from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols

from torch_tensorrt.contracts.engine import EngineSpec
from torch_tensorrt.runtime.cudagraphs.contents import Contents, contents_of_engine
from torch_tensorrt.runtime.direct import EXECUTE

_CPU = "all of it runs on the CPU"


def contents_of_graph(module: fx.GraphModule) -> Contents:
    """Of a whole compiled model."""
    nodes = list(module.graph.nodes)
    on_gpu = any(tensor.is_cuda for node in nodes for tensor in _tensors(node)) or any(
        _spec(node).on_gpu for node in nodes if node.target is EXECUTE
    )
    refusal = next((reason for node in nodes if (reason := _refusal(node))), "") if on_gpu else _CPU
    random = any(
        isinstance(node.target, OpOverload) and torch.Tag.nondeterministic_seeded in node.target.tags for node in nodes
    )
    names = list(dict.fromkeys(_written(nodes)))
    return Contents(refusal, on_gpu, random, lambda: [fx.graph_module._get_attr(module, name) for name in names])


def _refusal(node: fx.Node) -> str:
    which = f"{node.name!r} ({node.target})"
    if node.op == "placeholder":
        big = [tensor for tensor in _tensors(node) if tensor.is_cpu and tensor.dim() > 0]
        return f"input {node.name!r} is on the CPU; move it to the GPU" if big else ""
    if node.op != "call_function":
        return ""
    if node.target is EXECUTE:
        reason = _spec(node).refusal
        return f"engine {node.name!r} is in it, and {reason}" if reason else ""
    if isinstance(node.target, HigherOrderOperator):
        return f"{which} decides on the CPU what runs next"
    if isinstance(node.target, OpOverload) and torch.Tag.data_dependent_output in node.target.tags:
        return f"{which} waits for data from the GPU"
    if free_unbacked_symbols(node.meta.get("val")):
        return f"the size of {which} depends on the data"
    if any(tensor.is_cpu for tensor in _tensors(node)):
        return f"{which} is computed on the CPU"
    return ""


def _spec(node: fx.Node) -> Contents:
    return contents_of_engine(EngineSpec.from_json(str(node.args[2])))


def _tensors(node: fx.Node) -> Iterator[Tensor]:
    value = node.meta.get("val")
    for part in value if isinstance(value, (tuple, list)) else (value,):
        if isinstance(part, Tensor):
            yield part


def _written(nodes: Sequence[fx.Node]) -> Iterator[str]:
    """Attributes that are arguments of operators that write to them."""
    for node in nodes:
        if not isinstance(node.target, OpOverload) or not node.target._schema.is_mutable:
            continue
        for declared, given in zip(node.target._schema.arguments, node.args, strict=False):
            written = declared.alias_info is not None and declared.alias_info.is_write
            if written and isinstance(given, fx.Node) and given.op == "get_attr":
                yield str(given.target)
