"""Value numbering: two networks whose results have the same numbers compute the same, whatever their inputs are.

Every element of every tensor gets a number that says how it is computed: of which elements, by which operation. Layers that move
values move the numbers; an operation that commutes mixes them so that their order doesn't matter; what no input changes is
numbered by its value. The sign of a zero is no part of it.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from interpret.ranges import ONE_BY_ONE, Range, find_ranges, narrow
from interpret.reading import Layer, axes_of
from interpret.semantics import RUNS

_COMMUTES = frozenset(["SUM", "PROD", "MAX", "MIN", "AND", "OR", "XOR", "EQUAL"])
_IDEMPOTENT = frozenset(["MAX", "MIN", "AND", "OR"])
_MOVES = frozenset(["SHUFFLE", "SQUEEZE", "UNSQUEEZE", "IDENTITY", "SLICE", "GATHER", "SCATTER", "RESIZE"])
_LARGEST = 2**20  # products that are numbered one by one
_FIRST, _SECOND = -0x61C8864680B583EB, -0x4B47D0C7E7D7B5A9  # odd: multiplying by them loses nothing


@dataclass(frozen=True)
class Facts:
    """describe: a layer's parameters in words. least: of an input, by name, the least whole number that it may hold."""

    describe: Callable[[Layer], str]
    least: Mapping[str, int | None]


def number_results(
    layers: Sequence[Layer], values: Mapping[str, Tensor], results: Iterable[str], facts: Facts
) -> list[Tensor] | None:
    """The numbers of a network's results; None when it has loops or conditionals.

    values: one run of the network, for shapes and constants: all that the results depend on.
    """
    if any(layer.loop or layer.conditional for layer in layers):
        return None
    used = [layer for layer in layers if all(name in values for name in layer.outputs)]
    numbering = _Numbering(used, values, facts)
    for layer in used:
        numbering.number(layer)
    return [numbering.of(name) for name in results]


class _Numbering:
    def __init__(self, layers: Sequence[Layer], values: Mapping[str, Tensor], facts: Facts) -> None:
        self.layers, self.values, self.least = layers, values, facts.least
        self.ranges = find_ranges(layers, values, facts.least)
        self.describe = facts.describe
        self.fixed: set[str] = set()
        self.narrowed: set[str] = set()  # what is known more of, under a condition
        self.numbers: dict[str, Tensor] = {}
        self.nans: dict[str, Tensor] = {}  # the numbers of what is NaN in the same places
        self.others: dict[str, Tensor] = {}  # of whole numbers not below 0: whether each is another than 0

    def of(self, name: str) -> Tensor:
        """A tensor's numbers; of an input, its name and the places in it."""
        if name not in self.numbers:
            self.numbers[name] = _mix(_places(self.values[name]) + _seed(name))
        return self.numbers[name]

    def number(self, layer: Layer) -> None:
        given = [name for name in layer.inputs if name]
        constant = layer.kind == "CONSTANT" or (bool(given) and all(name in self.fixed for name in given))
        for place, name in enumerate(layer.outputs):
            if constant or layer.kind == "SHAPE":
                self.fixed.add(name)
                self.numbers[name] = _of_value(self.values[name])
                continue
            made = _with_known(self._of_layer(layer, place), self.ranges[name], self.values[name])
            if layer.kind == "ELEMENTWISE" and layer.native.op.name in {"MAX", "MIN"}:
                made = self._bounded(layer, made)
            self.numbers[name] = made
            if (other := self._is_other(layer)) is not None:
                self.others[name] = _with_known(other, self.ranges[name], self.values[name])

    def _of_layer(self, layer: Layer, place: int) -> Tensor:
        made = None
        if layer.kind == "ELEMENTWISE":
            made = self._of_two(layer)
        elif layer.kind == "SELECT":
            made = self._selected(layer)
        elif layer.kind == "CONCATENATION":
            made = torch.cat([self.of(str(name)) for name in layer.inputs], layer.native.axis)
        elif layer.kind in {"UNARY", "CAST", "ACTIVATION"}:
            made = _mix(self.of(str(layer.inputs[0])) + _seed(self._words(layer)))
        elif layer.kind == "REDUCE":
            made = self._reduced(layer)
        elif layer.kind == "MATRIX_MULTIPLY":
            made = self._multiplied(layer)
        elif layer.kind in _MOVES:
            made = self._moved(layer)
        shape = self.values[layer.outputs[place]].shape
        return made if made is not None and made.shape == shape else self._unknown(layer, place)

    def _words(self, layer: Layer) -> str:
        types = [str(self.values[str(name)].dtype) for name in layer.inputs if name]
        return f"{layer.kind} {self.describe(layer)} {types}"

    def _unknown(self, layer: Layer, place: int) -> Tensor:
        """Of a layer that isn't looked into: all of its parameters and inputs."""
        words = [self._words(layer), str(place)]
        given = [self.of(name) if name else None for name in layer.inputs]
        if (
            layer.kind == "ATTENTION_INPUT" and len(given) > 3 and given[3] is not None
        ):  # a mask goes for all batches and heads
            query, key = (self.values[str(name)].shape for name in layer.inputs[:2])
            given[3] = given[3].expand((*query[:-1], key[-2]))
        words += ["" if numbers is None else f"{tuple(numbers.shape)} {_digest(numbers)}" for numbers in given]
        return _mix(_places(self.values[layer.outputs[place]]) + _seed(" ".join(words)))

    def _of_two(self, layer: Layer) -> Tensor:
        names, op = [str(name) for name in layer.inputs], layer.native.op.name
        if op == "LESS":
            names, op = names[::-1], "GREATER"
        numbers = [self.of(name) for name in names]
        if op == "GREATER":
            numbers = [self._signed(name, other) for name, other in (names, names[::-1])]
        first, second = torch.broadcast_tensors(*numbers)
        seed = _seed(f"{op} {self.values[names[0]].dtype}")
        if op not in _COMMUTES:
            made = _mix(first * _FIRST + _mix(second) + seed)
            return made if op == "GREATER" else self._one_of_two(op, names, made)
        made = _mix(_mix(first) + _mix(second) + seed)
        if op not in _IDEMPOTENT:
            return made if op == "EQUAL" else self._one_of_two(op, names, made)
        made = torch.where(first == second, first, made)
        nothing = {"OR": False, "AND": True}.get(op)
        if nothing is None:
            return self._one_of_two(op, names, made)
        idle = _of_value(torch.tensor(nothing))
        return torch.where(first == idle, second, torch.where(second == idle, first, made))

    def _one_of_two(self, op: str, names: Sequence[str], made: Tensor) -> Tensor:
        """Where bounds say that an operation gives one of its operands: x + 0, x * 1, the larger of x and what is smaller."""
        one, other = (self.ranges[name] for name in names)
        first, second = (self.of(name) for name in names)
        idle = {"SUM": 0.0, "SUB": 0.0, "PROD": 1.0, "DIV": 1.0, "POW": 1.0}.get(op)
        if idle is not None:
            made = torch.where(other.known & (other.low == idle), first, made)
            return torch.where(one.known & (one.low == idle), second, made) if op in _COMMUTES else made
        if op not in {"MAX", "MIN"}:
            return made
        more, less = (one, other) if op == "MAX" else (other, one)
        made = torch.where((more.low >= less.high) & ~other.nan, first, made)
        return torch.where((less.low >= more.high) & ~one.nan, second, made)

    def _bounded(self, layer: Layer, made: Tensor) -> Tensor:
        """Of the larger or smaller of a value and a bound: where nothing lies between the bounds, it is that one, or NaN."""
        (value, bound), name = (str(given) for given in layer.inputs), layer.outputs[0]
        if bool(self.ranges[bound].nan.any()):
            value, bound = bound, value
        if bool(self.ranges[bound].nan.any()):
            return made
        told, source = self.ranges[name], self.nans.get(value, self.of(value))
        self.nans[name] = source
        either = _of_value(told.low.to(self.values[name].dtype)) + _mix(source) * _FIRST
        return torch.where((told.low == told.high) & told.nan, _mix(either), made)

    def _signed(self, name: str, other: str) -> Tensor:
        """Of 1 / x beside 0, with a whole number x: x, which has the same sign (and isn't -0). Of what is summed up or the largest
        of numbers not below 0: whether there is any other than 0.
        """
        source = next((layer for layer in self.layers if name in layer.outputs), None)
        against = self.ranges[other]
        if source is None or not bool((against.known & (against.low == 0)).all()):
            return self.of(name)
        given = str(source.inputs[0]) if source.inputs else ""
        if source.kind == "UNARY" and source.native.op.name == "RECIP" and self.ranges[given].whole:
            return self.of(given)
        return self.others.get(name, self.of(name))

    def _is_other(self, layer: Layer) -> Tensor | None:
        """Of a sum or the largest of whole numbers not below 0, and of what is moved of them: whether any is another than 0."""
        given = str(layer.inputs[0]) if layer.inputs else ""
        if layer.kind in _MOVES and given in self.others:
            return self._moved(layer, self.others[given])
        told = self.ranges.get(given)
        if layer.kind != "REDUCE" or layer.native.op.name not in {"SUM", "MAX"} or told is None or not told.whole:
            return None
        return self._reduced(layer, "ANY") if bool((told.low >= 0).all()) else None

    def _selected(self, layer: Layer) -> Tensor:
        numbers = [self.of(str(layer.inputs[0])), self._branch(layer, 1), self._branch(layer, 2)]
        condition, first, second = torch.broadcast_tensors(*numbers)
        either = _mix(condition * _FIRST + _mix(first) * _SECOND + _mix(second + 1))
        told = self.ranges[str(layer.inputs[0])]
        either = torch.where(first == second, first, either)
        return torch.where(told.low == 1, first, torch.where(told.high == 0, second, either))

    def _branch(self, layer: Layer, place: int) -> Tensor:
        """A Select's branch, with what is known besides where it is taken."""
        name = str(layer.inputs[place])
        told = narrow(self.layers, str(layer.inputs[0]), place == 1, self.ranges)
        if not told or name in self.fixed or self.narrowed:
            return self.of(name)
        there = copy.copy(self)
        there.ranges = find_ranges(self.layers, self.values, self.least, (told, self.ranges))
        there.narrowed, there.numbers = set(told), dict(self.numbers)
        there.nans, there.others = dict(self.nans), dict(self.others)
        for other in self.layers[: self.layers.index(layer)]:
            if there.narrowed & {str(given) for given in other.inputs} and other.kind in ONE_BY_ONE:
                there.narrowed.update(other.outputs)
                there.number(other)
        given = there.of(name)
        return _with_known(given, there.ranges[name], self.values[name])

    def _multiplied(self, layer: Layer) -> Tensor | None:
        """A sum of products, in any order."""
        first, second = (self.of(str(name)) for name in layer.inputs)
        ways = layer.native.op0.name, layer.native.op1.name
        first = first.mT if ways[0] == "TRANSPOSE" else first.unsqueeze(-2) if ways[0] == "VECTOR" else first
        second = second.mT if ways[1] == "TRANSPOSE" else second.unsqueeze(-1) if ways[1] == "VECTOR" else second
        if first.numel() * second.shape[-1] > _LARGEST:
            return None
        pairs = _mix(_mix(first).unsqueeze(-1) + _mix(second).unsqueeze(-3))
        made = _mix(pairs.sum(-2) + _seed(f"products {first.shape[-1]}"))
        made = made.squeeze(-1) if ways[1] == "VECTOR" else made
        return made.squeeze(-1 if ways[1] == "VECTOR" else -2) if ways[0] == "VECTOR" else made

    def _reduced(self, layer: Layer, called: str = "") -> Tensor:
        """Of as many values as there are, in any order. One value is what it was."""
        numbers, op = self.of(str(layer.inputs[0])), called or layer.native.op.name
        told = self.ranges[str(layer.inputs[0])]
        if told.whole and op in {"MIN", "PROD", "AVG"} and bool(((told.low >= 0) & (told.high <= 1)).all()):
            op = "ALL"  # of 0 and 1: the least, the product, and the average cut off
        axes = axes_of(layer.native.axes, numbers.dim())
        counts = [numbers.shape[axis] for axis in axes if numbers.shape[axis] != 1]
        if not counts:
            return numbers.sum(axes, keepdim=layer.native.keep_dims) if axes else numbers
        mixed = _mix(numbers).sum(axes, keepdim=layer.native.keep_dims)
        return _mix(mixed + _seed(f"REDUCE {op} {counts} {self.values[str(layer.inputs[0])].dtype}"))

    def _moved(self, layer: Layer, first: Tensor | None = None) -> Tensor | None:
        """Where each element comes from, when the indices are known, or are those of a vector."""
        if layer.kind == "GATHER" and layer.native.mode.name != "ND":
            data, index = (self.of(str(name)) for name in layer.inputs)
            if data.dim() == 1 and layer.inputs[1] not in self.fixed:
                return _mix(index * _FIRST + _seed(_digest(data)))
        data = 1 if layer.kind != "SCATTER" else 2
        numbers = [0, 2][:data]
        fill = 4 if layer.kind == "SLICE" else -1
        given: list[Tensor | None] = []
        for place, name in enumerate(layer.inputs):
            if name is None:
                given.append(None)
            elif place in numbers or place == fill:
                given.append(first if first is not None and place == 0 else self.of(name))
            elif name in self.fixed:
                given.append(self.values[name])
            else:
                return None
        if layer.kind == "RESIZE" and layer.native.resize_mode.name != "NEAREST":
            return None
        made: Tensor = RUNS[layer.kind](layer, *given)
        if layer.kind == "SLICE" and layer.native.mode.name == "FILL" and (len(given) < 5 or given[4] is None):
            given[0] = torch.ones_like(self.of(str(layer.inputs[0])))
            outside = RUNS["SLICE"](layer, *given) == 0
            zero = torch.zeros((), dtype=self.values[layer.outputs[0]].dtype)
            made = torch.where(outside, _of_value(zero), made)
        return made


def _with_known(numbers: Tensor, told: Range, value: Tensor) -> Tensor:
    """Elements of which there is one possible value are numbered by it."""
    if value.shape != told.low.shape or not bool(told.known.any()):
        return numbers
    return torch.where(told.known, _of_value(told.low.to(value.dtype)), numbers)


def _of_value(value: Tensor) -> Tensor:
    """By the value: all zeros are one, and all NaNs."""
    if value.is_floating_point():
        wide = torch.where(value == 0, 0.0, value.double())
        return _mix(torch.where(wide.isnan(), torch.nan, wide).contiguous().view(torch.int64))
    return _mix(value.to(torch.int64) + _SECOND)


def _places(value: Tensor) -> Tensor:
    return _mix(torch.arange(value.numel()).reshape(value.shape))


def _seed(words: str) -> int:
    return int.from_bytes(hashlib.blake2b(words.encode(), digest_size=8).digest(), "little", signed=True)


def _digest(numbers: Tensor) -> str:
    return hashlib.blake2b(numbers.contiguous().numpy().tobytes(), digest_size=16).hexdigest()


def _mix(numbers: Tensor) -> Tensor:
    numbers = (numbers ^ (numbers >> 30)) * _FIRST
    numbers = (numbers ^ (numbers >> 27)) * _SECOND
    return numbers ^ (numbers >> 31)
