"""Reasons why a node stays in PyTorch that hold for every engine. The engine's own reasons come from its backend."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import fx
from torch._ops import OpOverload
from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols

from torch_tensorrt.partition.nodes import is_size, reads_data, size_is_replayable
from torch_tensorrt.spec.settings import CompilationSettings

# Set by lowering on nodes that must stay in PyTorch; the value is the reason.
KEEP_IN_TORCH = "torch_tensorrt_keep_in_torch"


def common_refusal(node: fx.Node, settings: CompilationSettings, device: torch.device) -> str:
    """Why `node` can't or shall not go into an engine, or "" when nothing speaks against it."""
    if KEEP_IN_TORCH in node.meta:
        return str(node.meta[KEEP_IN_TORCH])
    return _forced(node, settings) or _control_flow(node) or _data_dependent(node) or _values(node, device)


def forced_names(node: fx.Node, settings: CompilationSettings) -> set[str]:
    """Which names in torch_executed_ops and torch_executed_modules stand for `node`."""
    found: set[str] = set()
    if isinstance(node.target, OpOverload):
        found |= {str(node.target), str(node.target.overloadpacket)} & settings.torch_executed_ops
    if settings.torch_executed_modules:
        for _, names in _modules_of(node):
            found |= names & settings.torch_executed_modules
    return found


def _modules_of(node: fx.Node) -> Iterator[tuple[str, set[str]]]:
    """The path of each module that the node belongs to, and what it may be called: path, class, name of the class."""
    for path, module_type in (node.meta.get("nn_module_stack") or {}).values():
        name = module_type if isinstance(module_type, str) else f"{module_type.__module__}.{module_type.__qualname__}"
        yield path, {path, name, name.rpartition(".")[2]}


def _forced(node: fx.Node, settings: CompilationSettings) -> str:
    if isinstance(node.target, OpOverload) and forced_names(node, settings) & settings.torch_executed_ops:
        return f"{node.target} is listed in torch_executed_ops"
    for path, names in _modules_of(node):
        found = names & settings.torch_executed_modules
        if found:
            return f"it belongs to module {path or '(root)'!r}, listed in torch_executed_modules as {found.pop()!r}"
    return ""


def _control_flow(node: fx.Node) -> str:
    if node.op != "call_function":
        return f"it is a {node.op} of {node.target!r}, not an operator"
    if isinstance(node.target, torch._ops.HigherOrderOperator):
        return f"{node.target} is control flow, which stays in PyTorch"
    if not isinstance(node.target, OpOverload):
        return f"{node.target} is a Python function, not an ATen operator"
    return ""


def _data_dependent(node: fx.Node) -> str:
    if reads_data(node):
        return "it reads a tensor's value into Python (item)"
    for argument in node.all_input_nodes:
        if _is_number_input(argument):
            return f"it needs {argument.name!r}, a number that is an argument and varies"
        if reads_data(argument) or (is_size(argument) and not size_is_replayable(argument)):
            return f"it needs {argument.name!r}, a number that is known only at run time"
    given = set[object]()
    for argument in node.all_input_nodes:
        given |= set(_unbacked(argument.meta.get("val")))
    if set(_unbacked(node.meta.get("val"))) - given:
        return "the size of its result depends on the data"
    return ""


def _is_number_input(node: fx.Node) -> bool:
    """A number that is an argument of the graph itself, and varies: torch.compile makes these."""
    return node.op == "placeholder" and isinstance(node.meta.get("val"), (torch.SymInt, torch.SymFloat, torch.SymBool))


def _unbacked(value: object) -> set[object]:
    if isinstance(value, (torch.Tensor, torch.SymInt, torch.SymFloat, torch.SymBool)):
        return set(free_unbacked_symbols(value))
    if isinstance(value, (tuple, list)):
        return set().union(*(_unbacked(part) for part in value)) if value else set()
    return set()


def _values(node: fx.Node, device: torch.device) -> str:
    for owner in (node, *node.all_input_nodes):
        value = owner.meta.get("val")
        for part in value if isinstance(value, (tuple, list)) else (value,):
            reason = _tensor_refusal(part, device)
            if reason:
                return f"{'its result' if owner is node else repr(owner.name)} {reason}"
    if not _has_tensor(node.meta.get("val")):
        return "its result is not a tensor"
    return ""


def _tensor_refusal(value: object, device: torch.device) -> str:
    if not isinstance(value, torch.Tensor):
        return ""
    if value.dtype.is_complex:
        return f"is complex ({value.dtype})"
    if value.is_quantized or value.layout is not torch.strided:
        return f"is not a plain dense tensor ({value.dtype}, {value.layout})"
    if value.device.type != device.type and value.dim() > 0:
        return f"is on {value.device}, the engine is for {device}"
    return ""


def _has_tensor(value: object) -> bool:
    if isinstance(value, (tuple, list)):
        return any(isinstance(part, torch.Tensor) for part in value)
    return isinstance(value, torch.Tensor)
