"""A ScriptModule that can't be compiled as a whole: the submodules that it calls run in engines, the rest stays in TorchScript."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import Tensor

from torch_tensorrt.observe.log import logger
from torch_tensorrt.spec.errors import InputError, UnsupportedError
from torch_tensorrt.trace.call_inputs import CallInputs
from torch_tensorrt.trace.dynamic_shapes import example_tensor
from torch_tensorrt.ts.graph_module import GraphModule, module_of
from torch_tensorrt.ts.rebuilding import Forward, arguments, rebuild

_log = logger("ts")
_VARIANTS, _TURNS = 4, 2  # a module that keeps state is called otherwise from its second call on
_KINDS = ("Tensor", "Optional[Tensor]", "int", "float", "bool", "str")
Compile: TypeAlias = Callable[[GraphModule, CallInputs], "torch.jit.ScriptModule | None"]


@dataclass(frozen=True)
class Split:
    """The module with engines inside, and the paths of the submodules that are compiled."""

    module: torch.jit.ScriptModule
    compiled: list[str]


def split(module: torch.jit.ScriptModule, call: CallInputs, compile_part: Compile) -> Split | None:
    """`module` with the largest of its submodules in engines that can be; None when none can."""
    if getattr(module, "training", False):  # compiled as in eval(), and the mode of what was given stays as it is
        module = copy.deepcopy(module).eval()
    calls = _record(module, call)
    work = _Work(calls, compile_part)
    changed = work.children(module, "")
    return Split(changed, work.compiled) if work.compiled else None


@dataclass
class _Work:
    calls: dict[str, list[tuple[object, ...]]]
    compile_part: Compile
    compiled: list[str] = field(default_factory=list)

    def children(self, module: torch.jit.ScriptModule, path: str) -> torch.jit.ScriptModule:
        """`module` with engines in its submodules; itself when none can be compiled."""
        changed = {}
        for name, child in module.named_children():
            assert isinstance(child, torch.jit.ScriptModule)
            new = self._part(child, f"{path}.{name}".removeprefix("."))
            if new is not child:
                changed[name] = new
        return rebuild(module, changed) if changed else module

    def _part(self, module: torch.jit.ScriptModule, path: str) -> torch.jit.ScriptModule:
        variants: dict[str, torch.jit.ScriptModule] = {}
        for args in self.calls.get(path, ()):
            condition = " and ".join(_fits(one.name, arg) for one, arg in zip(arguments(module), args, strict=True))
            if condition in variants or len(variants) == _VARIANTS or _writes(module):
                continue
            try:
                compiled = self.compile_part(module_of(module), CallInputs(args, {}))
            except (UnsupportedError, InputError) as error:
                _log.info("%s stays in TorchScript: %s", path, error)
                compiled = None
            if compiled is None:
                variants = {}
                break
            variants[condition] = compiled
        if not variants:
            return self.children(module, path)
        self.compiled.append(path)
        return rebuild(module, {}, _dispatch(module, variants))


def _dispatch(module: torch.jit.ScriptModule, variants: dict[str, torch.jit.ScriptModule]) -> Forward:
    given = ", ".join(one.name for one in arguments(module))
    body, attributes = [], {}
    for index, (condition, compiled) in enumerate(variants.items()):
        attributes[f"_compiled_{index}"] = (compiled._c._type(), compiled._c)
        body += [f"if {condition or 'True'}:", f"    return self._compiled_{index}({given})"]
    return Forward([*body, f"return self._torchscript_forward({given})"], attributes)


def _fits(name: str, value: object) -> str:
    """The condition for an argument to be one like `value`."""
    if isinstance(value, Tensor):
        sizes = [f"{name}.size({dim}) == {size}" for dim, size in enumerate(value.shape)]
        wanted = [f"{name} is not None", f"{name}.dim() == {value.dim()}", f"{name}.dtype == {value.dtype}"]
        return " and ".join([*wanted, f"{name}.device.type == {value.device.type!r}", *sizes])
    return f"{name} is None" if value is None else f"{name} == {value!r}"


def _writes(module: torch.jit.ScriptModule) -> bool:
    """Whether forward sets attributes, which each of its compiled forms would keep for itself."""
    return "prim::SetAttr" in str(module._c._get_method("forward").inlined_graph)


def _record(module: torch.jit.ScriptModule, call: CallInputs) -> dict[str, list[tuple[object, ...]]]:
    """The arguments of every call of a submodule, by its path, in calls with the given inputs."""
    found: list[tuple[str, Any]] = []
    recording = _recorder(copy.deepcopy(module), "", found)
    device = next((tensor.device for tensor in (*module.parameters(), *module.buffers())), torch.device("cpu"))
    examples = call.map(lambda leaf: example_tensor(leaf, device))
    with torch.no_grad():
        for _ in range(_TURNS):
            recording(*examples.args)
    return {path: list(one.getattr("_calls")) for path, one in found}


def _recorder(module: torch.jit.ScriptModule, path: str, found: list[tuple[str, Any]]) -> torch.jit.ScriptModule:
    children = {
        name: _recorder(child, f"{path}.{name}".removeprefix("."), found)  # type: ignore[arg-type]
        for name, child in module.named_children()
    }
    has_forward = "forward" in module._c._method_names()
    if not path or not has_forward or not arguments(module):
        return rebuild(module, children)
    if any(one.type.annotation_str not in _KINDS for one in arguments(module)):
        return rebuild(module, children)
    names = ", ".join(one.name for one in arguments(module))
    kind = torch._C.ListType(torch._C.TupleType([one.type for one in arguments(module)]))
    body = [f"self._calls.append(({names},))", f"return self._torchscript_forward({names})"]
    rebuilt = rebuild(module, children, Forward(body, {"_calls": (kind, [])}))
    found.append((path, rebuilt._c))
    return rebuilt
