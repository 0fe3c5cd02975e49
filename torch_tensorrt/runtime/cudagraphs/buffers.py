"""The tensors of a captured call: fixed inputs that each call is copied to, and results that are given out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

Key = tuple[object, ...]
T = TypeVar("T")
# From how many tensors on it is faster to copy them together, measured on an H200: one launch for all takes the CPU as long as
# one for each, and the GPU as long as four of these. The GPU waits for the copies of inputs to be launched; results it works at already.
_MANY_INPUTS, _MANY_RESULTS = 2, 4


def key_of(flat: Sequence[object]) -> Key:
    """What a graph is captured for: sizes, strides, dtype and device of each tensor, and the other values themselves."""
    return tuple(
        [
            (x.shape, x.stride(), x.dtype, x.device) if isinstance(x, Tensor) else (type(x), x)
            for x in flat
        ]
    )  # fmt: skip


class Inputs:
    """Tensors at addresses of their own for the inputs of one graph."""

    def __init__(self, flat: Sequence[object], kept: Sequence[int]) -> None:
        """kept: places whose values are the graph's own (tensors that it read when it was captured)."""
        self.fixed = [_like(x) if isinstance(x, Tensor) and at not in kept else x for at, x in enumerate(flat)]
        self._places = [at for at, x in enumerate(self.fixed) if isinstance(x, Tensor) and at not in kept]
        self._tensors = [x for at, x in enumerate(self.fixed) if isinstance(x, Tensor) and at not in kept]
        self.shown = [  # those that a view of is the same view of the caller's tensor
            x if isinstance(x, Tensor) and isinstance(given := flat[at], Tensor) and x.stride() == given.stride() else None
            for at, x in enumerate(self.fixed)
        ]  # fmt: skip
        self.written: list[int] = []
        self._alike = _grouped(
            ((x.dtype, x.device, self.shown[at] is None), (at, x, x.data_ptr()))
            for at, x in zip(self._places, self._tensors, strict=True)
        )

    def fill(self, flat: Sequence[object]) -> None:
        """Copies a call's inputs, but for those that are these very tensors."""
        for together in self._alike:
            moved = [
                (tensor, given)
                for at, tensor, address in together
                if isinstance(given := flat[at], Tensor) and given.data_ptr() != address
            ]
            if len(moved) < _MANY_INPUTS:
                for tensor, given in moved:
                    tensor.copy_(given)
            else:
                torch._foreach_copy_([pair[0] for pair in moved], [pair[1] for pair in moved])

    def versions(self) -> list[int]:
        """A number per tensor that grows when it is written."""
        return [tensor._version for tensor in self._tensors]

    def note_writes(self, before: Sequence[int]) -> None:
        """Remembers what was written since `before`: those inputs the model changes in place."""
        now = self.versions()
        self.written = [at for at, old, new in zip(self._places, before, now, strict=True) if old != new]

    def hand_back(self, flat: Sequence[object]) -> None:
        """Gives the caller's own tensors what the model wrote to its inputs."""
        for at in self.written:
            given, fixed = flat[at], self.fixed[at]
            assert isinstance(given, Tensor)
            assert isinstance(fixed, Tensor)
            if given.data_ptr() != fixed.data_ptr():
                given.copy_(fixed)


def _grouped(pairs: Iterable[tuple[object, T]]) -> list[list[T]]:
    """The values that have one key, in lists.

    PyTorch copies tensors together that have one dtype, and the strides of what they are copied to; if one of them hasn't, it copies
    all one by one (24 of a cache and a token took 0.3 ms on an H200).
    """
    found: dict[object, list[T]] = {}
    for key, value in pairs:
        found.setdefault(key, []).append(value)
    return [*found.values()]


def _like(tensor: Tensor) -> Tensor:
    """Memory for tensors of the same layout; contiguous where that has gaps, or elements that share a place."""
    return torch.empty_like(tensor, memory_format=torch.preserve_format, requires_grad=False)


@dataclass(frozen=True)
class _View:
    """A result that shows an input."""

    at: int
    size: torch.Size
    stride: tuple[int, ...]
    offset: int  # from the input's own

    def of(self, flat: Sequence[object]) -> Tensor:
        given = flat[self.at]
        assert isinstance(given, Tensor)
        return given.as_strided(self.size, self.stride, given.storage_offset() + self.offset)


@dataclass(frozen=True)
class _Copy:
    """A result that the graph writes: the n-th of those."""

    number: int


class Results:
    """What a call gives, from what the graph wrote."""

    def __init__(self, captured: Sequence[object], before: Sequence[object], inputs: Inputs) -> None:
        """before: results of runs before the capture that are the same object in each, and live as long as the model; None else."""
        self.written: list[Tensor] = []
        self._rules: list[object] = []
        numbers: dict[int, _Copy] = {}
        for result, earlier in zip(captured, before, strict=True):
            self._rules.append(self._rule(result, earlier, inputs, numbers))
        self._plain = self._rules == [_Copy(at) for at in range(len(self.written))]

    def give(self, flat: Sequence[object], *, own: bool) -> list[object]:
        """The results of the last replay. own: in memory of the caller's; otherwise the next replay writes over them."""
        copies = _copies(self.written) if own else self.written
        if self._plain:
            return [*copies]
        return [self._give(rule, flat, copies) for rule in self._rules]

    @staticmethod
    def _give(rule: object, flat: Sequence[object], copies: Sequence[Tensor]) -> object:
        if isinstance(rule, _Copy):
            return copies[rule.number]
        return rule.of(flat) if isinstance(rule, _View) else _same(rule, flat)

    def _rule(self, result: object, earlier: object, inputs: Inputs, numbers: dict[int, _Copy]) -> object:
        for at, fixed in enumerate(inputs.fixed):
            if isinstance(fixed, Tensor) and result is fixed:
                return _Input(at)
        if not isinstance(result, Tensor) or result is earlier:
            return _Fixed(result)
        if id(result) in numbers:
            return numbers[id(result)]
        shown = _shown(result, inputs.shown)
        if shown is not None:
            return shown
        self.written.append(result)
        return numbers.setdefault(id(result), _Copy(len(self.written) - 1))


@dataclass(frozen=True)
class _Input:
    """A result that is an input: the caller's own tensor."""

    at: int


@dataclass(frozen=True, eq=False)
class _Fixed:
    """A result that is the same at every call: a number, or a tensor of the model's own."""

    value: object


def _same(rule: object, flat: Sequence[object]) -> object:
    if isinstance(rule, _Input):
        return flat[rule.at]
    assert isinstance(rule, _Fixed)
    return rule.value


def _shown(result: Tensor, shown: Sequence[Tensor | None]) -> _View | None:
    if result.is_neg() or result.is_conj():
        return None
    for at, given in enumerate(shown):
        if given is not None and given.dtype == result.dtype and _shares(given, result):
            return _View(at, result.size(), result.stride(), int(result.storage_offset()) - int(given.storage_offset()))
    return None


def _shares(one: Tensor, other: Tensor) -> bool:
    address = one.untyped_storage().data_ptr()
    return address != 0 and address == other.untyped_storage().data_ptr()


def _copies(tensors: list[Tensor]) -> list[Tensor]:
    made = [torch.empty_like(tensor) for tensor in tensors]
    pairs = zip(made, tensors, strict=True)
    for together in _grouped(((old.dtype, new.stride() == old.stride()), (new, old)) for new, old in pairs):
        if len(together) < _MANY_RESULTS:
            for new, old in together:
                new.copy_(old)
        else:
            torch._foreach_copy_([pair[0] for pair in together], [pair[1] for pair in together])
    return made
