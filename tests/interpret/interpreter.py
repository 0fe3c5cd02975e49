"""Evaluates a network on demand, tensor by tensor, and holds every value against what TensorRT itself inferred."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

# Importing a family registers its layers.
from interpret import (  # noqa: F401
    convolution,
    movement,
    pointwise,
    quantisation,
    reduction,
    resampling,
    selection,
    transformers,
)
from interpret.control_flow import DRIVEN, Scope
from interpret.reading import HELD_AS, Layer, read_layers
from interpret.semantics import RUNS, NotInterpretedError

# Layers that only move values: they run in the dtype they are given. All others compute half and bfloat16 in float32.
_MOVES = frozenset(
    ["CAST", "SHUFFLE", "CONCATENATION", "GATHER", "SLICE", "SELECT", "SCATTER", "SQUEEZE", "UNSQUEEZE", "IDENTITY"]
)
_LOW = (torch.float16, torch.bfloat16)


@contextmanager
def _deep() -> Iterator[None]:
    """Graphs are deeper than Python's stack. Other tests keep the usual limit, which protects more than Python's own functions."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(before, 100_000))
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


class Interpreter:
    """`Interpreter(network).run({"x": tensor})` gives {output name: tensor}."""

    def __init__(self, network: Any, seed: int = 0) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.layers = read_layers(network)
        self.tensors: dict[str, Any] = {}
        self.producer: dict[str, Layer] = {}
        for layer in self.layers:
            for place, name in enumerate(layer.outputs):
                assert name not in self.producer, f"two tensors are called {name}"
                self.producer[name] = layer
                self.tensors[name] = layer.native.get_output(place)
        self.inputs = [network.get_input(place) for place in range(network.num_inputs)]
        self.outputs = [network.get_output(place) for place in range(network.num_outputs)]
        self.top = Scope()
        self._loops_of: dict[str, frozenset[str]] = {}

    def run(self, feeds: Mapping[str, Tensor], want: Sequence[str] | None = None) -> dict[str, Tensor]:
        """The outputs, or the tensors `want`, by name."""
        self.top = Scope()
        for tensor in self.inputs:
            self._compare(tensor, feeds[tensor.name], "network input")
            self.top.values[tensor.name] = feeds[tensor.name]
        with _deep():
            for layer in self.layers:
                if layer.kind == "ASSERTION" and not self.loops_of(str(layer.inputs[0])):
                    holds = bool(self.value(str(layer.inputs[0]), self.top).all())
                    assert holds, f"{layer.name}: {layer.native.message}"
            return {name: self.value(name, self.top) for name in want or [tensor.name for tensor in self.outputs]}

    def run_all(self, *inputs: Tensor) -> list[Tensor]:
        """All outputs, in order, for inputs in order."""
        results = self.run(dict(zip([tensor.name for tensor in self.inputs], inputs, strict=True)))
        return [results[tensor.name] for tensor in self.outputs]

    def loops_of(self, name: str) -> frozenset[str]:
        """The loops inside whose body a tensor is computed."""
        if name not in self._loops_of:
            found: frozenset[str] = frozenset()
            if name in self.producer:
                layer = self.producer[name]
                if layer.kind in {"RECURRENCE", "ITERATOR"}:
                    found = frozenset({str(layer.loop)}) | self.loops_of(str(layer.inputs[0]))
                else:
                    found = found.union(*(self.loops_of(given) for given in layer.inputs if given))
                    if layer.kind == "LOOP_OUTPUT":
                        found -= {str(layer.loop)}
            self._loops_of[name] = found
        return self._loops_of[name]

    def value(self, name: str, scope: Scope) -> Tensor:
        """A tensor's value in `scope`."""
        home = scope  # the innermost scope whose loop the tensor depends on
        needed = self.loops_of(name)
        while home.parent is not None and home.loop not in needed:
            home = home.parent
        if name not in home.values:
            layer = self.producer[name]
            results = self._evaluate(layer, home)
            for output, result in zip(
                layer.outputs, results if isinstance(results, tuple) else (results,), strict=True
            ):
                declared = HELD_AS[self.tensors[output].dtype]
                rounded = result.to(declared) if declared in _LOW else result
                self._compare(self.tensors[output], rounded, f"{layer.kind} {layer.name}")
                home.values[output] = rounded
        return home.values[name]

    def _evaluate(self, layer: Layer, scope: Scope) -> Tensor | tuple[Tensor, ...]:
        if layer.kind in DRIVEN:
            return DRIVEN[layer.kind](self, layer, scope)
        if layer.kind not in RUNS:
            raise NotInterpretedError(f"{layer.kind} ({layer.name})")
        given = [None if name is None else self.value(name, scope) for name in layer.inputs]
        if layer.kind not in _MOVES:
            given = [value.float() if value is not None and value.dtype in _LOW else value for value in given]
        return RUNS[layer.kind](layer, *given)

    def _compare(self, tensor: Any, value: Tensor, where: str) -> None:
        wanted, shape = HELD_AS[tensor.dtype], tuple(tensor.shape)
        assert value.dtype == wanted, f"{where}: {tensor.name} is {value.dtype}, TensorRT says {tensor.dtype}"
        same = len(shape) == value.dim() and all(a in (-1, b) for a, b in zip(shape, value.shape, strict=True))
        assert same, f"{where}: {tensor.name} has shape {tuple(value.shape)}, TensorRT says {shape}"
