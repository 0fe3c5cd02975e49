"""A lowered graph in words, for telling whether another one is the same but for the values of its weights."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, fx
from torch.fx.graph import _PyTreeCodeGen

from torch_tensorrt.contracts.origin import Origin
from torch_tensorrt.spec.errors import InputError
from torch_tensorrt.spec.tensor_spec import Json, dtype_name

_SYMBOL = re.compile(r"\b[a-z]+\d+\b")
_PLACE = re.compile(r"%(\d+)")
_CONSTANT = "constant "


def describe(graph_module: fx.GraphModule, options: Mapping[str, Json]) -> Origin:
    """The origin of what is compiled of `graph_module`, a lowered graph, with `options`."""
    words = _Words()
    words.add("calling convention", _convention(graph_module))
    words.read(graph_module, "")
    return Origin(dict(options), tuple(words.names), tuple(words.texts), tuple(words.constants))


def match_constants(origin: Origin, graph_module: fx.GraphModule) -> dict[str, Tensor]:
    """Constant's name at compile time -> its tensor in `graph_module`, which must be the same graph.

    Raises InputError naming the first difference: the node, what it was, and what it is.
    """
    found = describe(graph_module, {})
    for place, (was, now) in enumerate(zip(origin.texts, found.texts, strict=False)):
        if was != now:
            raise InputError(_difference(origin, found, place))
    if len(origin.texts) != len(found.texts):
        raise InputError(
            f"The new program has {len(found.texts)} nodes after lowering; the compiled one has {len(origin.texts)}. Compile it."
        )
    sources: dict[str, str] = {}
    for name, source in zip(origin.constants, found.constants, strict=True):
        if sources.setdefault(name, source) != source:
            raise InputError(
                f"Constant {name!r} of the compiled model stands in several places; in the new program these have different "
                f"weights, {sources[name]!r} and {source!r} (weights that were tied no longer are). Compile the new program."
            )
    return {name: fx.graph_module._get_attr(graph_module, source) for name, source in sources.items()}


def _difference(origin: Origin, found: Origin, place: int) -> str:
    both = origin.texts[place], found.texts[place]
    if origin.names[place] == found.names[place] and all(text.startswith(_CONSTANT) for text in both):
        return (
            f"Weight {found.names[place]!r} of the new program is {both[1].removeprefix(_CONSTANT)}, but was compiled as "
            f"{both[0].removeprefix(_CONSTANT)}. Refitting changes values only; compile the new program."
        )
    return (
        f"The new program is not the compiled one with other weights. The first difference: it was {_readable(origin, place)}; it is "
        f"{_readable(found, place)}. Refitting changes values only; compile the new program."
    )


def _readable(origin: Origin, place: int) -> str:
    """The node at `place`, or the one that uses it if that is a constant."""
    while origin.texts[place].startswith(_CONSTANT):
        place += 1
    text = _PLACE.sub(lambda found: origin.names[int(found.group(1))], origin.texts[place])
    name = origin.names[place]
    return f"{name!r} = {text}" if len(text) < 500 else f"{name!r} = {text[:500]}..."


def _convention(graph_module: fx.GraphModule) -> str:
    codegen = graph_module.graph._codegen
    if not isinstance(codegen, _PyTreeCodeGen):
        return ""
    return f"{codegen.pytree_info.in_spec} -> {codegen.pytree_info.out_spec}"


@dataclass
class _Words:
    names: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    constants: list[str] = field(default_factory=list)
    places: dict[fx.Node, int] = field(default_factory=dict)
    symbols: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, text: str) -> None:
        self.names.append(name)
        self.texts.append(text)

    def read(self, graph_module: fx.GraphModule, prefix: str) -> None:
        """Attributes come where they are first used: the order in which a model declares them means nothing."""
        for node in graph_module.graph.nodes:
            if node.op == "get_attr":
                continue
            for needed in node.all_input_nodes:
                if needed.op == "get_attr" and needed not in self.places:
                    self.places[needed] = len(self.names)
                    self._attribute(graph_module, needed, prefix)
            self.places[node] = len(self.names)
            self.add(prefix + node.name, self._node(node))

    def _attribute(self, graph_module: fx.GraphModule, node: fx.Node, prefix: str) -> None:
        value = fx.graph_module._get_attr(graph_module, str(node.target))
        if isinstance(value, fx.GraphModule):
            self.add(prefix + node.name, "module:")
            self.read(value, f"{prefix}{node.name}.")
        elif not isinstance(value, Tensor):
            self.add(prefix + node.name, f"{type(value).__name__}")
        elif prefix:  # inside a branch, where refitting doesn't reach: part of the graph, with its values
            self.add(prefix + str(node.target), f"fixed {_tensor(value)} {_hash(value)}")
        else:
            self.add(str(node.target), f"{_CONSTANT}{_tensor(value)}")
            self.constants.append(str(node.target))

    def _node(self, node: fx.Node) -> str:
        if node.op == "placeholder":
            return f"input {self._value(node.meta.get('val'))}"
        arguments = [self._argument(value) for value in node.args]
        arguments += [f"{name}={self._argument(value)}" for name, value in node.kwargs.items()]
        if node.op == "output":
            return f"return {', '.join(arguments)}"
        return f"{_target(node)}({', '.join(arguments)}) -> {self._value(node.meta.get('val'))}"

    def _argument(self, value: object) -> str:
        if isinstance(value, fx.Node):
            return f"%{self.places[value]}"
        if isinstance(value, (list, tuple)):
            return f"[{', '.join([self._argument(part) for part in value])}]"
        if isinstance(value, slice):
            return f"slice{self._argument((value.start, value.stop, value.step))}"
        return repr(value)

    def _value(self, value: object) -> str:
        if isinstance(value, Tensor):
            sizes = ", ".join([str(size) if isinstance(size, int) else self._size(size) for size in value.shape])
            device = "" if value.device.type == "cpu" else f" on {value.device.type}"
            return f"{dtype_name(value.dtype)}[{sizes}]{device}"
        if isinstance(value, (list, tuple)):
            return f"({', '.join([self._value(part) for part in value])})"
        if isinstance(value, (torch.SymInt, torch.SymFloat, torch.SymBool)):
            return self._size(value)
        return repr(value) if isinstance(value, (bool, int, float, str, type(None))) else type(value).__name__

    def _size(self, size: object) -> str:
        """The expression with its symbols renamed in order of appearance: torch.export numbers them differently each time."""
        return _SYMBOL.sub(lambda found: self.symbols.setdefault(found.group(), f"n{len(self.symbols)}"), str(size))


def _target(node: fx.Node) -> str:
    if isinstance(node.target, (str, torch._ops.OpOverload)):
        return str(node.target)
    return str(getattr(node.target, "__name__", type(node.target).__name__))


def _tensor(value: Tensor) -> str:
    order = "" if value.is_contiguous() else f" with strides {list(value.stride())}"
    return f"{dtype_name(value.dtype)}{list(value.shape)}{order}"


def _hash(value: Tensor) -> str:
    plain: Sequence[int] = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()  # type: ignore[assignment]
    return hashlib.sha256(memoryview(plain)).hexdigest()[:16]  # type: ignore[arg-type]
