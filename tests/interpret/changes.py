"""One-property changes of a network: which there are, and making them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorrt_rtx as trt

from interpret.reading import Layer

# What a layer is called, and what no network depends on.
_NO_MEANING = frozenset(["name", "metadata", "num_ranks", "precision", "decomposable", "message"])
_MOST_OTHERS = 4  # members of an enum that are tried beside the right one


@dataclass(frozen=True)
class Mutation:
    """`property` of layer `place` becomes `new`. property "inputs": the first two change places."""

    place: int
    kind: str
    property: str
    new: object

    def __str__(self) -> str:
        new = f"weights {np.shape(self.new)}" if isinstance(self.new, np.ndarray) else str(self.new)
        return f"layer {self.place} {self.kind}.{self.property} = {new}"


def change(layer: Layer, mutation: Mutation) -> bool:
    """Whether the setter took the new value; a refusal is often only logged, and the old value stays."""
    native = layer.native
    try:
        if mutation.property == "inputs":
            first, second = native.get_input(0), native.get_input(1)
            native.set_input(0, second)
            native.set_input(1, first)
            return True
        target = layer.attention if mutation.kind == "ATTENTION_INPUT" else native
        setattr(target, mutation.property, mutation.new)
        return _same(getattr(target, mutation.property), mutation.new)
    except (RuntimeError, TypeError, ValueError):
        return False


def _same(a: object, b: object) -> bool:
    if isinstance(b, np.ndarray):
        return isinstance(a, np.ndarray) and np.array_equal(a, b.flatten())
    if isinstance(b, float):
        return isinstance(a, float) and abs(a - b) <= 1e-6 * max(1.0, abs(b))
    if isinstance(b, tuple):
        return tuple(a)[: len(b)] == b if isinstance(a, (tuple, list, trt.Dims, trt.Permutation)) else False
    return a == b


def find_mutations(layers: Sequence[Layer]) -> Iterator[Mutation]:
    """All changes of one property."""
    for place, layer in enumerate(layers):
        target = layer.attention if layer.kind == "ATTENTION_INPUT" else layer.native
        for name in _properties(target):
            try:
                old = getattr(target, name)
            except RuntimeError:  # unset, and there is no value for that
                continue
            for new in _others(name, old, layer):
                if not _ends_the_process(layer, new):
                    yield Mutation(place, layer.kind, name, new)
        if len(layer.inputs) >= 2 and None not in layer.inputs[:2] and layer.inputs[0] != layer.inputs[1]:
            yield Mutation(place, layer.kind, "inputs", "(1, 0)")


def _ends_the_process(layer: Layer, new: object) -> bool:
    """TensorRT-RTX 1.7.1 reads a null pointer when it infers the shape of an ND gather by an index without dimensions."""
    return layer.kind == "GATHER" and new == trt.GatherMode.ND and len(layer.native.get_input(1).shape) == 0


def _properties(native: Any) -> list[str]:
    kind = type(native)
    found = [name for name in dir(kind) if isinstance(getattr(kind, name), property) and getattr(kind, name).fset]
    return [name for name in found if name not in _NO_MEANING]


def _others(name: str, old: Any, layer: Layer) -> Iterator[object]:
    """Other values of one property."""
    if isinstance(old, bool):
        yield not old
    elif isinstance(old, int):
        yield from (old + 1, old - 1)
        if name == "axes":
            yield old << 1
    elif isinstance(old, float):
        yield old + 0.5
    elif hasattr(type(old), "__members__"):
        members = [member for member in type(old).__members__.values() if member != old]
        yield from members[:_MOST_OTHERS]
    elif isinstance(old, trt.Permutation):
        rank = len(layer.native.get_output(0).shape)
        yield from _swapped(tuple(old)[:rank])
    elif isinstance(old, (tuple, trt.Dims)):
        yield from _nudged(tuple(old))
    elif isinstance(old, np.ndarray) and old.size:
        yield _perturbed(old)
    elif isinstance(old, str):
        yield from ()


def _swapped(order: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    for place in range(len(order) - 1):
        yield (*order[:place], order[place + 1], order[place], *order[place + 2 :])


def _nudged(sizes: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    for place, size in enumerate(sizes):
        yield (*sizes[:place], size + 1, *sizes[place + 1 :])
    if len(sizes) > 1 and len(set(sizes)) > 1:
        yield (*sizes[1:], sizes[0])


def _perturbed(weights: Any) -> Any:
    """The values one place on; where that changes nothing, other values."""
    moved = np.roll(weights, 1)
    if not np.array_equal(moved, weights):
        return moved
    if weights.dtype == bool:
        return ~weights
    more = weights + np.ones((), weights.dtype)
    return more if not np.array_equal(more, weights) else np.zeros_like(weights)  # infinities stay what they are


def describe(layer: Layer) -> str:
    """A layer's parameters."""
    target = layer.attention if layer.attention is not None else layer.native
    told = []
    for name in _properties(target):
        try:
            value = getattr(target, name)
        except RuntimeError:  # unset
            value = None
        if not isinstance(value, trt.ITensor):  # an input, and looked at as one
            told.append(f"{name}={value.tobytes() if isinstance(value, np.ndarray) else value}")
    return " ".join(told)
