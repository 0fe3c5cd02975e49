"""A ScriptModule from an exported program: its graph as TorchScript source, with engines called through our operator.

The source is written from the graph instead of tracing a call, because a trace keeps the sizes of its example wherever PyTorch
computes with them, and a file that ran at one batch size would be silently wrong at others.
"""

from __future__ import annotations

import collections
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import fx, nn
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from torch_tensorrt.package.describing import input_specs
from torch_tensorrt.package.result_types import collection_type, leaf_type, named_tuple_type
from torch_tensorrt.package.script_source import Body
from torch_tensorrt.spec.errors import UnsupportedError
from torch_tensorrt.spec.tensor_spec import Dim, TensorSpec

_ARITHMETIC = re.compile(r"[\w\s+*()-]+", re.ASCII)


def script(program: ExportedProgram) -> torch.jit.ScriptModule:
    """The ScriptModule of `program`, which takes its arguments and gives its results, in its form.

    Sizes, dtypes and devices are checked at its door. Raises UnsupportedError, naming the argument, result or operation,
    for what TorchScript can't express.
    """
    module = program.module(check_guards=False)
    assert isinstance(module, fx.GraphModule)
    body = Body(module)
    door = _Door(program, body)
    lines = body.lines()
    result = _Result(program, body)
    lines.append(f"result = {result.source}")
    source = [f"def forward({', '.join(['self', *door.parameters])}):", *(f"    {line}" for line in door.lines())]
    source += ["    with torch.no_grad():", *(f"        {line}" for line in lines), "    return result"]
    holder: nn.Module = type("CompiledModule", (nn.Module,), {})()  # TorchScript gives each class one forward
    for name, value in body.attributes.items():
        holder.register_buffer(name, value.detach())
    scripted = torch.jit.script(holder.eval())
    try:
        _define(scripted, "\n".join(source) + "\n", result.classes)
    except Exception as error:  # the compiler's own errors have no common class
        raise UnsupportedError(
            f"TorchScript can't express this model: {error}\nUse output_format='exported_program', which holds every model."
        ) from error
    return scripted


def _define(scripted: torch.jit.ScriptModule, source: str, classes: Mapping[str, type]) -> None:
    """As ScriptModule.define does, with `classes` among what the source may name."""
    around = torch._jit_internal.createResolutionCallbackFromFrame()
    inside: Any = scripted
    inside._c._define(inside._concrete_type, source, lambda name: classes.get(name) or around(name))


class _Door:
    """The parameters of forward, with the checks of what is given."""

    def __init__(self, program: ExportedProgram, body: Body) -> None:
        self.body = body
        self.parameters: list[str] = []
        self._lines: list[str] = []
        self._places = iter([node for node in body.module.graph.nodes if node.op == "placeholder"])
        self._specs = {spec.name: spec for spec in input_specs(program)}
        self._symbols: dict[str, str] = {}
        positional, keyword = program.call_spec.in_spec.children()
        call = program.module_call_graph[0].signature
        names = list((call.forward_arg_names if call is not None else None) or [])[: positional.num_children]
        trees = zip([*names, *(keyword.context or [])], [*positional.children(), *keyword.children()], strict=True)
        declared = [(name, *self._declare(tree, name, name)) for name, tree in trees]
        optional = True
        for name, kind, default in reversed(declared):
            optional = optional and default is not None
            self.parameters.insert(0, f"{name}: {kind}" + (f" = {default}" if optional else ""))

    def lines(self) -> list[str]:
        """The checks, and the inputs under the names of their nodes."""
        return [*self._lines, *self._shared_sizes()]

    def _declare(self, tree: pytree.TreeSpec, place: str, argument: str) -> tuple[str, str | None]:
        """(type, default) of the tree that stands at `place`; names its leaves."""
        if tree.is_leaf():
            return self._leaf(next(self._places), place)
        keys = tree.context if tree.type is dict else range(tree.num_children)
        if tree.type not in {tuple, list, dict} or not all(isinstance(key, (str, int)) for key in keys):
            raise UnsupportedError(
                f"Argument {argument!r} holds a {tree.type.__name__}, which TorchScript can't take; tuples, lists, and dicts with "
                "names as keys it can. Use output_format='exported_program'."
            )
        if tree.type is not tuple:
            self._lines.append(
                f"assert len({place}) == {tree.num_children}, {f'{place} needs {tree.num_children} entries'!r}"
            )
        inner = [
            self._declare(child, f"{place}[{key!r}]", argument)[0]
            for key, child in zip(keys, tree.children(), strict=True)
        ]
        if tree.type is tuple:
            return f"Tuple[{', '.join(inner) or '()'}]", None
        if len(set(inner)) > 1:
            raise UnsupportedError(
                f"Argument {argument!r} holds a {tree.type.__name__} of {' and '.join(sorted(set(inner)))}, but TorchScript's lists "
                "and dicts hold one type. Use output_format='exported_program'."
            )
        kind = inner[0] if inner else "Tensor"
        return (f"List[{kind}]" if tree.type is list else f"Dict[str, {kind}]"), None

    def _leaf(self, node: fx.Node, place: str) -> tuple[str, str | None]:
        value = node.meta.get("val")
        name = self.body.name(node)
        if isinstance(value, torch.Tensor):
            spec = self._specs[node.name]
            self._lines += [f"{name} = {place}", _check(name, spec, place)]
            return "Tensor", None
        if isinstance(value, torch.SymInt):
            self._lines.append(f"{name} = {place}")
            return "int", None
        if value is None:
            self._lines.append(f"assert {place} is None, {f'{place} must be None, as when the model was compiled'!r}")
            return "Optional[Tensor]", "None"
        if not isinstance(value, (bool, int, float, str)):
            raise UnsupportedError(
                f"Argument {place} is the {type(value).__name__} {value!r}, which TorchScript can't take. Use "
                "output_format='exported_program'."
            )
        text = self.body.literal(value)
        self._lines.append(
            f"assert {place} == {text}, {f'{place} must be {value!r}, as when the model was compiled'!r}"
        )
        return type(value).__name__, text

    def _shared_sizes(self) -> list[str]:
        """The model needs sizes of one symbol to be equal, and others to be computed from them."""
        lines: list[str] = []
        known: dict[str, str] = {}
        dims = [(spec, at, size) for spec in self._specs.values() for at, size in enumerate(spec.shape)]
        varying = [(self._size(spec, at), size.expr) for spec, at, size in dims if isinstance(size, Dim)]
        for place, expr in varying:
            if expr.isidentifier() and expr not in known:
                known[expr] = place
        for place, expr in varying:
            symbols = set(re.findall(r"[A-Za-z_]\w*", expr))
            if known.get(expr) != place and _ARITHMETIC.fullmatch(expr) and symbols <= set(known):
                wanted = re.sub(r"[A-Za-z_]\w*", lambda found: known[found[0]], expr)
                lines.append(f"assert {place} == {wanted}, {f'the sizes of the inputs must agree: {expr}'!r}")
        return lines

    def _size(self, spec: TensorSpec, dim: int) -> str:
        return f"{self.body.prefix}{spec.name}.size({dim})"


def _check(name: str, spec: TensorSpec, place: str) -> str:
    wanted = [
        f"{name}.dim() == {len(spec.shape)}",
        f"{name}.dtype == {spec.dtype}",
        f"{name}.device.type == '{spec.device}'",
    ]
    shown = []
    for dim, size in enumerate(spec.shape):
        if isinstance(size, Dim):
            wanted.append(f"{name}.size({dim}) >= {size.min}")
            wanted += [] if size.max is None else [f"{name}.size({dim}) <= {size.max}"]
            shown.append(f"{size.min}..{'' if size.max is None else size.max}")
        else:
            wanted.append(f"{name}.size({dim}) == {size}")
            shown.append(str(size))
    text = f"InputError: input {place!r} must be {str(spec.dtype).removeprefix('torch.')} of ({', '.join(shown)}) on {spec.device}; not of "
    return f"assert {' and '.join(wanted)}, {text!r} + str({name}.size()) + ' on ' + {name}.device.type"


class _Result:
    """What forward returns: `source`, which uses `classes`, the named tuples by the names that it gives them."""

    def __init__(self, program: ExportedProgram, body: Body) -> None:
        self.classes: dict[str, type] = {}
        self._body, self._leaves = body, iter(body.results)
        self.source = self._form(program.call_spec.out_spec, "The result")[0]

    def _form(self, tree: pytree.TreeSpec, where: str) -> tuple[str, object]:
        """Source and type of the part."""
        if tree.is_leaf():
            text, leaf = self._body.result(next(self._leaves), where)
            return text, leaf_type(leaf)
        named = tree.type is collections.namedtuple  # noqa: PYI024 - what PyTorch calls all of them
        keys = tree.context if tree.type is dict else range(tree.num_children)
        if not (named or tree.type in {tuple, list, dict}) or (
            tree.type is dict and not all(isinstance(key, str) for key in keys)
        ):
            raise UnsupportedError(
                f"{where} is a {tree.type.__name__}, which TorchScript can't give back; tuples, named tuples, lists, and dicts with "
                "names as keys it can. Use output_format='exported_program'."
            )
        inner = [self._form(child, f"{where}[{key!r}]") for key, child in zip(keys, tree.children(), strict=True)]
        texts, types = [text for text, _ in inner], [kind for _, kind in inner]
        if named:
            made = named_tuple_type(tree.context.__name__, tree.context._fields, tuple(types))
            return f"{self._name(made)}({', '.join(texts)})", made
        kind = collection_type(tree.type, types, where)
        if tree.type is tuple:
            return f"({', '.join(texts)}{',' if len(inner) == 1 else ''})", kind
        if tree.type is list:
            return f"[{', '.join(texts)}]", kind
        return "{" + ", ".join(f"{key!r}: {text}" for key, text in zip(keys, texts, strict=True)) + "}", kind

    def _name(self, made: type) -> str:
        known = {kind: name for name, kind in self.classes.items()}
        name = known.get(made, f"NamedTuple{len(self.classes)}")
        self.classes[name] = made
        return name
