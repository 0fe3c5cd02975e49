"""A ScriptModule from an exported program: its graph as TorchScript source, with engines called through our operator.

The source is written from the graph instead of tracing a call, because a trace keeps the sizes of its example wherever PyTorch
computes with them, and a file that ran at one batch size would be silently wrong at others.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from torch import fx, nn
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from torch_tensorrt.package.describing import input_specs
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
    lines = [*body.lines(), f"result = {_result(program, body)}"]
    source = [f"def forward({', '.join(['self', *door.parameters])}):", *(f"    {line}" for line in door.lines())]
    source += ["    with torch.no_grad():", *(f"        {line}" for line in lines), "    return result"]
    holder: nn.Module = type("CompiledModule", (nn.Module,), {})()  # TorchScript gives each class one forward
    for name, value in body.attributes.items():
        holder.register_buffer(name, value.detach())
    scripted = torch.jit.script(holder.eval())
    try:
        scripted.define("\n".join(source) + "\n")
    except Exception as error:  # the compiler's own errors have no common class
        raise UnsupportedError(
            f"TorchScript can't express this model: {error}\nUse output_format='exported_program', which holds every model."
        ) from error
    return scripted


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


def _result(program: ExportedProgram, body: Body) -> str:
    leaves = iter(body.results)

    def form(tree: pytree.TreeSpec, where: str) -> tuple[str, str]:
        """Source and type of the part."""
        if tree.is_leaf():
            return body.result(next(leaves), where)
        keys = tree.context if tree.type is dict else range(tree.num_children)
        if tree.type not in {tuple, list, dict} or (
            tree.type is dict and not all(isinstance(key, str) for key in keys)
        ):
            raise UnsupportedError(
                f"{where} is a {tree.type.__name__}, which TorchScript can't give back; tuples, lists, and dicts with names as keys "
                "it can. Use output_format='exported_program'."
            )
        inner = [form(child, f"{where}[{key!r}]") for key, child in zip(keys, tree.children(), strict=True)]
        if tree.type is tuple:
            return f"({', '.join(text for text, _ in inner)}{',' if len(inner) == 1 else ''})", "tuple"
        _check_one_type([kind for _, kind in inner], tree, where)
        if tree.type is list:
            return f"[{', '.join(text for text, _ in inner)}]", "list"
        return "{" + ", ".join(f"{key!r}: {text}" for key, (text, _) in zip(keys, inner, strict=True)) + "}", "dict"

    return form(program.call_spec.out_spec, "The result")[0]


def _check_one_type(kinds: Sequence[str], tree: pytree.TreeSpec, where: str) -> None:
    if len(set(kinds)) > 1:
        raise UnsupportedError(
            f"{where} is a {tree.type.__name__} of {', '.join(kinds)}, but TorchScript's lists and dicts hold one type. Use "
            "output_format='exported_program', or let the model return a tuple."
        )
