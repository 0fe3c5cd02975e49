"""What an engine is made from, as text: equal texts, interchangeable engines.

The text holds everything that a build reads: each operation with its arguments, dtypes, sizes, strides and the ranges of sizes
that vary, the weights by their hashes, the options that change an engine, the backend with its SDK, target and own source, and
the versions of this package and of PyTorch. Names of nodes, inputs and partitions are not in it: nodes are numbered. What can't be
described for certain makes the partition undescribable, and its engine is built every time.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import re
import struct
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from torch import Tensor, fx, nn
from torch._ops import HigherOrderOperator, OpOverload

from torch_tensorrt.contracts.backend import EngineBackend
from torch_tensorrt.contracts.partition import Partition
from torch_tensorrt.graphs import editing
from torch_tensorrt.spec.settings import CompilationSettings
from torch_tensorrt.spec.shape_expr import symbols_in
from torch_tensorrt.spec.tensor_spec import Dim, Json, TensorSpec, dtype_name

# Ledger: 1, 2026-11: first.
DESCRIPTION_VERSION = 1
_DISTRIBUTION = "torch-tensorrt-anywhere"
# Operators whose meaning belongs to the version of PyTorch. Others can be defined anew under the same name.
_OPERATORS = frozenset({"aten", "prims"})
_FUNCTIONS = frozenset({"_operator", "math", "torch"})
_WORD = re.compile(r"[A-Za-z_]\w*")


class UndescribableError(Exception):
    """Something in a partition whose effect on the engine can't be told from the outside."""


@dataclass(frozen=True)
class Key:
    """The description, and its SHA-256 in hexadecimal: the name of a cache entry."""

    description: bytes
    hash: str


def key_of(partition: Partition, backend: EngineBackend, settings: CompilationSettings) -> Key:
    """The key of the engine that `backend` would build. Raises UndescribableError naming what is in the way."""
    fingerprint = backend.fingerprint(partition, settings)
    if fingerprint is None:
        raise UndescribableError(f"the {backend.name!r} backend doesn't say what its engines depend on")
    graph = GraphDescription(partition.module, names=not settings.immutable_weights)
    record: dict[str, Json] = {
        "description_version": DESCRIPTION_VERSION,
        "backend": backend.name,
        "format_version": backend.format_version,
        "fingerprint": dict(fingerprint),
        "source": [source_digest(type(backend).__module__), source_digest(editing.__name__)],
        "versions": {"torch": torch.__version__, "torch_tensorrt": own_version()},
        "options": dict(settings.shaping_options()),
        "inputs": [graph.boundary(spec) for spec in partition.inputs],
        "outputs": [graph.boundary(spec) for spec in partition.outputs],
        **graph.record(),
    }
    text = json.dumps(record, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
    return Key(text, hashlib.sha256(text).hexdigest())


class GraphDescription:
    """Describes a graph. `names`: with those of its constants, by which an engine is refitted.

    Nodes, constants and symbols are numbered in the order in which they come up.
    """

    def __init__(self, module: fx.GraphModule, *, names: bool) -> None:
        self.module = module
        self.names = names
        self.numbers: dict[fx.Node, int] = {}
        self.constants: dict[str, Tensor] = {}
        self.symbols: dict[str, str] = {}
        self.ranges: dict[str, Json] = {}

    def boundary(self, spec: TensorSpec) -> Json:
        """An input or output without its name."""
        shape: list[Json] = [
            [self._expression(size.expr, symbols_in(size.expr)), size.min, size.opt, size.max, *_ranges(size.profiles)]
            if isinstance(size, Dim)
            else size
            for size in spec.shape
        ]
        return [dtype_name(spec.dtype), shape, spec.device]

    def record(self) -> dict[str, Json]:
        """The graph, its constants and the ranges of its symbols."""
        nodes: list[Json] = []
        for node in self.module.graph.nodes:
            nodes.append(self._node(node))
            self.numbers[node] = len(self.numbers)
        kinds = [
            kind_of(tensor) for tensor in self.constants.values()
        ]  # first: what has no kind can't be hashed either
        digests = digests_of(list(self.constants.values()))
        constants: list[Json] = [
            [kind, digest, *([name] if self.names else [])]
            for name, kind, digest in zip(self.constants, kinds, digests, strict=True)
        ]
        return {"nodes": nodes, "constants": constants, "ranges": self.ranges}

    def _node(self, node: fx.Node) -> Json:
        own: dict[str, Json] = {
            key: self._argument(value)
            for key, value in node.meta.items()
            if isinstance(key, str) and key.startswith("torch_tensorrt")
        }
        target = self._target(node)
        kwargs: list[Json] = [[name, self._argument(value)] for name, value in sorted(node.kwargs.items())]
        args: list[Json] = [self._argument(value) for value in node.args]
        return [node.op, target, args, kwargs, self._value(node.meta.get("val")), own]

    def _target(self, node: fx.Node) -> Json:
        if node.op in {"placeholder", "output"}:
            return None
        if node.op == "get_attr":
            return self._place(str(node.target))
        if node.op == "call_function" and isinstance(node.target, OpOverload):
            if node.target.namespace not in _OPERATORS:
                raise UndescribableError(f"{node.target} is an operator from outside PyTorch, whose code may change")
            return ["operator", str(node.target)]
        if isinstance(node.target, HigherOrderOperator) and type(node.target).__module__.startswith("torch."):
            return ["higher order", node.target.name()]
        if node.op == "call_function" and callable(node.target):
            return ["function", _function(node.target)]
        raise UndescribableError(f"node {node.name!r} is a {node.op} of {node.target}")

    def _place(self, target: str) -> Json:
        found: object = self.module
        for part in target.split("."):
            found = getattr(found, part, None)
        if isinstance(found, fx.GraphModule):
            return ["graph", self._nested(found)]
        if type(found) not in (Tensor, nn.Parameter):
            raise UndescribableError(f"constant {target!r} is a {type(found).__name__}")
        assert isinstance(found, Tensor)
        self.constants.setdefault(target, found)
        return ["constant", list(self.constants).index(target)]

    def _nested(self, module: fx.GraphModule) -> Json:
        """The branch of a condition, a region with its own modes: its symbols are those of the graph around it."""
        inner = GraphDescription(module, names=self.names)
        inner.symbols, inner.ranges = self.symbols, self.ranges
        return inner.record()

    def _argument(self, value: object) -> Json:  # one line per type; bool before int
        if isinstance(value, fx.Node):
            return ["node", self.numbers[value]]
        if value is None or isinstance(value, bool) or type(value) is int:
            return value
        if type(value) in _SCALARS:
            return [type(value).__name__, _SCALARS[type(value)](value)]
        if isinstance(value, (list, tuple)):
            kind = "list" if isinstance(value, list) else "tuple"
            return [kind, *(self._argument(part) for part in value)]
        if isinstance(value, slice):
            return ["slice", *(self._argument(part) for part in (value.start, value.stop, value.step))]
        if isinstance(value, Mapping):
            return ["dict", *([self._argument(key), self._argument(part)] for key, part in value.items())]
        raise UndescribableError(f"an argument is a {type(value).__name__}: {value!r:.100}")

    def _value(self, value: object) -> Json:
        """What is known of a node's result."""
        if isinstance(value, Tensor):
            return self._tensor(value)
        if isinstance(value, (list, tuple)):
            return ["several", *(self._value(part) for part in value)]
        if isinstance(value, (torch.SymInt, torch.SymFloat, torch.SymBool)):
            return self._size(value)
        return self._argument(value)

    def _tensor(self, value: Tensor) -> Json:
        record = _kind(value)
        record += [[self._size(size) for size in value.shape], [self._size(step) for step in value.stride()]]
        return ["tensor", *record, self._size(value.storage_offset())]

    def _size(self, size: int | torch.SymInt | torch.SymFloat | torch.SymBool) -> Json:
        if isinstance(size, int):
            return int(size)
        expr = size.node.expr
        symbols = {str(symbol): symbol for symbol in expr.free_symbols}
        text = self._expression(str(expr), symbols)
        for name, symbol in symbols.items():
            self.ranges.setdefault(self.symbols[name], str(size.node.shape_env.var_to_range.get(symbol)))
        return [type(size).__name__, text]

    def _expression(self, text: str, symbols: Collection[str]) -> str:
        """`text` with d0, d1, ... for its symbols: torch.export derives their names from those of the inputs."""

        def number(word: re.Match[str]) -> str:
            name = word[0]
            return self.symbols.setdefault(name, f"d{len(self.symbols)}") if name in symbols else name

        return _WORD.sub(number, text)


def _ranges(profiles: Sequence[Sequence[int]]) -> list[Json]:
    return [[*points] for points in profiles]


def _double(value: float) -> str:
    return struct.pack(">d", value).hex()  # tells 0.0 from -0.0 and one NaN from another


_SCALARS: Mapping[type, Callable[..., str]] = {
    float: _double,
    complex: lambda value: _double(value.real) + _double(value.imag),
    str: str,
    torch.dtype: str,
    torch.device: str,
    torch.layout: str,
    torch.memory_format: str,
    type(Ellipsis): str,
}


def _function(target: Callable[..., object]) -> str:
    module, name = getattr(target, "__module__", None), getattr(target, "__name__", "")
    if module not in _FUNCTIONS or getattr(importlib.import_module(module), name, None) is not target:
        raise UndescribableError(f"{target!r:.100} is a function from outside PyTorch, whose code may change")
    return f"{module}.{name}"


def _kind(tensor: Tensor) -> list[Json]:
    if tensor.layout is not torch.strided or tensor.is_quantized:
        raise UndescribableError(f"a tensor has layout {tensor.layout} and dtype {tensor.dtype}")
    return [dtype_name(tensor.dtype), str(tensor.device), tensor.is_conj(), tensor.is_neg()]


def kind_of(tensor: Tensor) -> Json:
    """Dtype, device, sizes and strides. Raises UndescribableError for a tensor that isn't plain."""
    return [*_kind(tensor), list(tensor.shape), list(tensor.stride())]


def digests_of(tensors: Sequence[Tensor]) -> list[str]:
    """The SHA-256 of the elements of each tensor, in order of its dimensions. hashlib leaves other threads the interpreter."""
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        return list(pool.map(_digest, tensors))


def _digest(tensor: Tensor) -> str:
    plain = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous()
    return hashlib.sha256(memoryview(plain.reshape(-1).view(torch.uint8).numpy())).hexdigest()  # type: ignore[arg-type]


@cache
def own_version() -> str:
    """Of this package."""
    try:
        return version(_DISTRIBUTION)
    except PackageNotFoundError:  # used from its source, not installed
        return ""


@cache
def source_digest(module: str) -> str:
    """A hash of the Python files beside `module`: an engine built by other code of ours is another engine."""
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None:
        raise UndescribableError(f"the backend in {module!r} has no source file")
    digest = hashlib.sha256()
    place = Path(file)
    for path in sorted(place.parent.rglob("*.py")) if "." in module else [place]:
        digest.update(f"{path.relative_to(place.parent)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()
