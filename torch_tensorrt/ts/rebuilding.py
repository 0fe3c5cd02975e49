"""ScriptModules made again with other submodules, or another forward."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

_ORIGINAL = "_torchscript_forward"


@dataclass(frozen=True)
class Forward:
    """Another forward: `body` is TorchScript that may call `self._torchscript_forward` with the arguments, and uses `attributes`."""

    body: Sequence[str]
    attributes: Mapping[str, tuple[torch._C.JitType, object]] = field(default_factory=dict)


def rebuild(
    module: torch.jit.ScriptModule, children: Mapping[str, torch.jit.ScriptModule], forward: Forward | None = None
) -> torch.jit.ScriptModule:
    """`module` with the same attributes (parameters are shared) and methods, but `children` in place of those of these names."""
    old: Any = module._c
    new = _with_attributes(module, children, forward.attributes if forward is not None else {})
    held = [  # the graphs point to these functions without keeping them, until they are inlined
        _copy_method(old, new, name, _ORIGINAL if forward is not None and name == "forward" else name)
        for name in old._method_names()
    ]
    if forward is not None:
        _define(new, old._get_method("forward").schema, "forward", forward.body)
    for name in new._method_names():
        torch._C._jit_pass_inline(new._get_method(name).graph)
    held.clear()
    rebuilt: torch.jit.ScriptModule = torch.jit._recursive.wrap_cpp_module(new)
    return rebuilt


def _with_attributes(
    module: torch.jit.ScriptModule,
    children: Mapping[str, torch.jit.ScriptModule],
    more: Mapping[str, tuple[torch._C.JitType, object]],
) -> torch._C.ScriptModule:
    """A module of a new class, without methods."""
    old: Any = module._c
    modules = dict(torch._C.ModuleDict(old).items()) | {name: child._c for name, child in children.items()}
    modules |= {name: value for name, (_, value) in more.items() if isinstance(value, torch._C.ScriptModule)}
    kept: Any = torch._C.BufferDict(old)
    buffers = {name for name, _ in kept.items()}
    builder: Any = torch._C.ConcreteModuleTypeBuilder(type(f"{module.original_name}WithEngines", (nn.Module,), {}))
    values = dict(more)
    declared: Any = torch._C.ConcreteModuleType.from_jit_type(old._type())
    for name, (kind, is_parameter) in declared.get_attributes().items():
        if name not in modules:
            builder.add_attribute(name, kind, is_parameter, name in buffers)
            value = old.getattr(name)
            own = isinstance(value, Tensor) and not is_parameter  # state of its own
            values[name] = (kind, value.detach().clone() if own else value)
    for name, (kind, _) in more.items():
        if name not in modules:
            builder.add_attribute(name, kind, False, False)
    for name, child in modules.items():
        builder.add_module(name, torch._C.ConcreteModuleType.from_jit_type(child._type()))
        values[name] = (child._type(), child)
    builder.set_poisoned()  # the class is shared with no other module
    new: Any = torch._C._create_module_with_type(builder.build().jit_type)
    for name, (_, value) in values.items():
        new.setattr(name, value)
    return new  # type: ignore[no-any-return]


def arguments(module: torch.jit.ScriptModule) -> list[torch._C.Argument]:
    """What forward takes."""
    return list(module._c._get_method("forward").schema.arguments[1:])


def _copy_method(old: torch._C.ScriptModule, new: torch._C.ScriptModule, name: str, new_name: str) -> object:
    """The function that the new method calls."""
    graph = old._get_method(name).graph.copy()
    own = next(iter(graph.inputs()))
    own.setType(new._type())
    _set_types(graph, {own.debugName(): new})
    function = torch._C._create_function_from_graph(f"method_{new_name}", graph)
    schema = old._get_method(name).schema
    given = ", ".join(["self", *(argument.name for argument in schema.arguments[1:])])
    _define(new, schema, new_name, [f"return method({given})"], {"method": function})
    return function


def _set_types(block: torch._C.Graph | torch._C.Block, modules: dict[str, torch._C.ScriptModule]) -> None:
    """What is read from `modules` has the types that they have now."""
    for node in block.nodes():
        owner: Any = modules.get(node.inputsAt(0).debugName()) if node.kind() == "prim::GetAttr" else None
        value = owner.getattr(node.s("name")) if owner is not None else None
        if isinstance(value, torch._C.ScriptModule):
            node.output().setType(value._type())
            modules[node.output().debugName()] = value
        for inner in node.blocks():
            _set_types(inner, modules)


def _define(
    new: torch._C.ScriptModule,
    schema: torch._C.FunctionSchema,
    name: str,
    body: Sequence[str],
    names: Mapping[str, object] | None = None,
) -> None:
    parameters = ["self"]
    for one in schema.arguments[1:]:
        default = f" = {one.default_value!r}" if _has_plain_default(one) else ""
        parameters.append(f"{one.name}: {one.type.annotation_str}{default}")
    given = schema.returns[0].type.annotation_str
    source = "\n".join([f"def {name}({', '.join(parameters)}) -> {given}:", *(f"    {line}" for line in body)])
    known = {"Tensor": Tensor, "torch": torch, **(names or {})}
    concrete = torch._C.ConcreteModuleType.from_jit_type(new._type())
    module: Any = new
    module._define(concrete, source + "\n", known.get)


def _has_plain_default(one: torch._C.Argument) -> bool:
    return one.has_default_value() and isinstance(one.default_value, (int, float, str, bool, type(None)))
