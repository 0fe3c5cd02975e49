"""A TorchScript method as an nn.Module: its graph is run node by node, so that torch.export can trace it.

Sizes that vary stay symbols, `if` on attributes and loops of a known length are followed, and lists, tuples and dicts are Python's own.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from torch_tensorrt.spec.errors import InputError, UnsupportedError
from torch_tensorrt.ts.named_tuples import as_tuple
from torch_tensorrt.ts.operations import DTYPES, FORMATS, GENERAL, PLAIN

Script: TypeAlias = "torch.jit.ScriptModule | torch.jit.ScriptFunction"  # type: ignore[type-arg]
_CONTROL = {"prim::If", "prim::Loop", "prim::GetAttr", "prim::SetAttr", "prim::Constant"}
_UNPACKED = {"prim::TupleUnpack", "prim::ListUnpack"}


class _Mirror(nn.Module):
    """The tensors of a ScriptModule under their own names. Tensors that are plain attributes are buffers here."""

    def __init__(self, script: torch.jit.ScriptModule) -> None:
        super().__init__()
        object.__setattr__(self, "_script", script)
        for name, parameter in script.named_parameters(recurse=False, remove_duplicate=False):
            if isinstance(parameter, nn.Parameter):
                self.register_parameter(name, parameter)
            else:  # a loaded file's: plain tensors
                self.register_buffer(name, parameter)
        for name, buffer in script.named_buffers(recurse=False, remove_duplicate=False):
            self.register_buffer(name, buffer.detach().clone())  # state of its own
        declared: Any = torch._C.ConcreteModuleType.from_jit_type(script._c._type())
        for name in declared.get_attributes():
            value = script._c.getattr(name) if name not in {*self._parameters, *self._buffers} else None
            if isinstance(value, Tensor):
                self.register_buffer(name, value.detach().clone(), persistent=False)
        self.training = getattr(script, "training", False)  # a frozen module has no mode
        for name, child in script.named_children():
            self.add_module(name, _Mirror(child))  # type: ignore[arg-type]

    def attribute(self, name: str) -> object:
        """What the ScriptModule has under this name. It is compiled as in eval()."""
        if name == "training":
            return False
        for place in (self._parameters, self._buffers, self._modules):
            if name in place:
                return place[name]
        return self._script._c.getattr(name)  # type: ignore[operator,union-attr]


class _Stop:
    """Where the last call ended; torch.export puts plain attributes back as they were."""

    line: str | None = None


class GraphModule(nn.Module):
    """`method` of a ScriptModule, or a ScriptFunction; called like it."""

    def __init__(self, script: Script, method: str = "forward") -> None:
        super().__init__()
        self._stop = _Stop()
        self._numbers: dict[str, float] = {}
        self._constants: dict[str, str] = {}
        source: Any = script
        if isinstance(script, torch.jit.ScriptModule):
            if method not in script._c._method_names():
                known = ", ".join(sorted(script._c._method_names()))
                raise InputError(f"{script.original_name} has no TorchScript method {method!r}; it has {known}.")
            source = script._c._get_method(method)
        self.root = _Mirror(script) if isinstance(script, torch.jit.ScriptModule) else None
        self._graph: Any = source.inlined_graph
        self._keep_constants(self._graph)
        self.signature = _signature(source.schema, self.root is not None)
        self.training = self.root is not None and self.root.training

    @property
    def stopped_at(self) -> str | None:
        """The line of the model's code, with its neighbours, that could not be run in the last call; None when all could."""
        return self._stop.line

    def forward(self, *args: object, **kwargs: object) -> object:
        """What the method gives. Raises UnsupportedError for what can't be run outside TorchScript."""
        given = self.signature.bind(*args, **kwargs)
        given.apply_defaults()
        values = [*([self.root] if self.root is not None else []), *given.arguments.values()]
        env = {place.debugName(): value for place, value in zip(self._graph.inputs(), values, strict=True)}
        self._stop.line = None
        results = self._run(self._graph, env)
        return results[0] if len(results) == 1 else tuple(results)

    def _keep_constants(self, block: torch._C.Graph | torch._C.Block) -> None:
        for node in block.nodes():
            for inner in node.blocks():
                self._keep_constants(inner)
            name = node.output().debugName() if node.kind() == "prim::Constant" else ""
            value = node.output().toIValue() if name else None
            if isinstance(value, Tensor):
                if value.dim() == 0:
                    self._numbers[name] = value.item()
                self._constants[name] = f"constant_{len(self._constants)}"
                self.register_buffer(self._constants[name], value, persistent=False)

    def _run(self, block: torch._C.Graph | torch._C.Block, env: dict[str, object]) -> list[object]:
        for node in block.nodes():
            try:
                results = self._execute(node, env)
            except Exception:
                self._stop.line = self._stop.line or _line(node)
                raise
            env.update({value.debugName(): result for value, result in zip(node.outputs(), results, strict=True)})
        return [env[value.debugName()] for value in block.outputs()]

    def _execute(self, node: torch._C.Node, env: dict[str, object]) -> list[object]:
        kind, count = node.kind(), node.outputsSize()
        args = [env[value.debugName()] for value in node.inputs()]
        if kind in _CONTROL:
            return self._control(node, args, env)
        if kind in _UNPACKED:
            return list(args[0])  # type: ignore[call-overload,no-any-return]
        if kind == "prim::TupleConstruct":
            return [as_tuple(node.output().type(), args)]
        result = self._call(node, args)
        return [] if count == 0 else [result] if count == 1 else list(result)  # type: ignore[call-overload]

    def _control(self, node: torch._C.Node, args: list[object], env: dict[str, object]) -> list[object]:
        kind = node.kind()
        if kind == "prim::Constant":
            name = node.output().debugName()
            return [getattr(self, self._constants[name]) if name in self._constants else node.output().toIValue()]
        if kind == "prim::If":
            yes, no = node.blocks()
            return self._run(yes if args[0] else no, env)
        if kind == "prim::Loop":
            return self._loop(node, args, env)
        owner = args[0]
        if not isinstance(owner, _Mirror):
            raise UnsupportedError(f"{kind} of an object that is no module can't be compiled.")
        if kind == "prim::GetAttr":
            return [owner.attribute(node.s("name"))]
        _assign(owner, node.s("name"), args[1])
        return []

    def _loop(self, node: torch._C.Node, args: list[object], env: dict[str, object]) -> list[object]:
        (body,) = node.blocks()
        names = [value.debugName() for value in body.inputs()]
        times, go_on, *carried = args
        turn = 0
        while turn < times and go_on:  # type: ignore[operator]
            env.update(zip(names, [turn, *carried], strict=True))
            go_on, *carried = self._run(body, env)
            turn += 1
        return carried

    def _call(self, node: torch._C.Node, args: list[object]) -> object:
        kind = node.kind()
        schema = _schema(node.schema()) if node.schema() != "(no schema)" else None
        if kind in GENERAL:
            return GENERAL[kind](*args)
        if kind == "aten::to" and schema is not None and schema.overload_name.startswith("prim"):
            return GENERAL["aten::to.prim"](*args)
        values = list(node.inputs())
        numbers = [value.type().kind() == "TensorType" for value in values]  # traced sizes: tensors of one number
        if any(wanted and isinstance(arg, _NUMBER) for wanted, arg in zip(numbers, args, strict=True)):
            args = [self._numbers.get(value.debugName(), arg) for value, arg in zip(values, args, strict=True)]
        name = kind.removeprefix("aten::")
        if name in PLAIN and (name == "len" or not any(isinstance(arg, Tensor) for arg in args[:2])):
            return PLAIN[name](*args[:2] if name in {"add", "sub"} else args)
        if name in {"append", "__getitem__", "_set_item", "insert", "get", "__contains__"}:
            return PLAIN[name](*args)  # of tensors
        operator = _operator(schema) if schema is not None else None
        if schema is None or operator is None:
            raise UnsupportedError(f"The TorchScript operation {kind} can't be compiled.")
        return _apply(operator, schema, args)


_NUMBER = (int, float, torch.SymInt, torch.SymFloat)


def runs(script: Script, method: str = "forward") -> list[str]:
    """The operations of the method that can't be compiled, whatever the inputs; empty when there are none."""
    missing: set[str] = set()

    def visit(block: torch._C.Graph | torch._C.Block) -> None:
        for node in block.nodes():
            kind, schema = node.kind(), node.schema()
            known = kind in _CONTROL or kind in _UNPACKED or kind in GENERAL or kind.removeprefix("aten::") in PLAIN
            if not known and (schema == "(no schema)" or _operator(_schema(schema)) is None):
                missing.add(kind)
            for inner in node.blocks():
                visit(inner)

    visit(GraphModule(script, method)._graph)
    return sorted(missing)


def _line(node: torch._C.Node) -> str:
    """Where the node comes from; one without a place of its own (writing an attribute) is placed by what it takes."""
    makers = [value.node() for value in node.inputs()][::-1]
    places = [str(one.sourceRange()).rstrip() for one in (node, *makers)]
    return next((place for place in places if place), f"  the operation {node.kind()}")


def _assign(owner: _Mirror, name: str, value: object) -> None:
    """State is written in place: that is what a program can hold."""
    known = owner._buffers.get(name)
    if known is None or not isinstance(value, Tensor) or (known.shape, known.dtype) != (value.shape, value.dtype):
        raise UnsupportedError(
            f"The attribute {name!r} gets another value, and only a tensor attribute that keeps its sizes and dtype can."
        )
    known.copy_(value)


@cache
def _schema(text: str) -> torch._C.FunctionSchema:
    return torch._C.parse_schema(text)


def _operator(schema: torch._C.FunctionSchema) -> Callable[..., object] | None:
    namespace, name = schema.name.split("::")
    packet = getattr(getattr(torch.ops, namespace), name, None)
    return getattr(packet, schema.overload_name or "default", None)


def _apply(operator: Callable[..., object], schema: torch._C.FunctionSchema, args: list[object]) -> object:
    plain: list[object] = []
    named: dict[str, object] = {}
    for argument, value in zip(schema.arguments, args, strict=True):
        kind = str(argument.real_type)
        if isinstance(value, int) and "ScalarType" in kind:
            value = DTYPES[value]
        elif isinstance(value, int) and "MemoryFormat" in kind:
            value = FORMATS[value]
        elif isinstance(value, int) and "Layout" in kind:
            value = torch.strided
        elif kind == "Tensor" and isinstance(value, _NUMBER):
            number = isinstance(value, (int, torch.SymInt)) and not isinstance(value, bool)
            value = torch.scalar_tensor(value, dtype=torch.int64 if number else None)  # type: ignore[arg-type]
        if argument.kwarg_only:
            named[argument.name] = value
        else:
            plain.append(value)
    return operator(*plain, **named)


def _signature(schema: torch._C.FunctionSchema, is_module: bool) -> inspect.Signature:
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    return inspect.Signature(
        [
            inspect.Parameter(
                one.name, kind, default=one.default_value if one.has_default_value() else inspect.Parameter.empty
            )
            for one in schema.arguments[is_module:]
        ]
    )


def module_of(script: Script, method: str = "forward") -> GraphModule:
    """A GraphModule whose class and parameters are named as the script's."""
    runner = GraphModule(script, method)
    name = getattr(script, "original_name", None) or getattr(script, "name", "function")

    def forward(self: GraphModule, *args: object, **kwargs: object) -> object:
        return GraphModule.forward(self, *args, **kwargs)

    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    forward.__signature__ = runner.signature.replace(  # type: ignore[attr-defined]
        parameters=[own, *runner.signature.parameters.values()]
    )
    runner.__class__ = type(str(name), (GraphModule,), {"forward": forward})
    return runner
