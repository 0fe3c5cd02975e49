"""What a graph says about masks: numbers that are linear in their place, and truths that are comparisons of such numbers.

`arange(n)[:, None] >= arange(n)[None, :]` is the truth `i0 - i1 >= 0`. Sizes may vary: they stand in the expressions as symbols.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import sympy
import torch
from torch import Tensor
from torch.utils._sympy.value_ranges import ValueRanges, bound_sympy

Sizes: TypeAlias = "tuple[sympy.Expr, ...]"
_MOST_FITTED = 2**24  # elements of a constant that are looked at


@dataclass(frozen=True)
class Linear:
    """`start + steps[0] * i0 + steps[1] * i1 + ...`, an integer, or any number when all steps are 0."""

    start: sympy.Expr
    steps: Sizes

    @property
    def constant(self) -> sympy.Expr | None:
        """The number, where it is the same everywhere."""
        return None if any(self.steps) else self.start

    def plus(self, other: Linear, times: sympy.Expr) -> Linear:
        """`self + times * other`, of equal rank."""
        steps = tuple(a + times * b for a, b in zip(self.steps, other.steps, strict=True))
        return Linear(sympy.expand(self.start + times * other.start), steps)

    def least(self, sizes: Sizes) -> sympy.Expr | None:
        """The smallest value for places within `sizes`; None where the sign of a step isn't known."""
        found = self.start
        for step, size in zip(self.steps, sizes, strict=True):
            if not step.is_Integer:
                return None
            found += min(step, sympy.S.Zero) * (size - 1)
        return sympy.expand(found)


@dataclass(frozen=True)
class Truth:
    """True where all of the conditions are at least 0. As a number: 1 there, else 0."""

    conditions: frozenset[Linear]


@dataclass(frozen=True)
class Hidden:
    """0 where `shown` is true, elsewhere a number so low that softmax gives 0 for it."""

    shown: Truth


Form: TypeAlias = "Linear | Truth | Hidden"
Ranges: TypeAlias = "Mapping[sympy.Symbol, ValueRanges[sympy.Expr]]"


def exact(number: sympy.Expr | float) -> sympy.Expr:
    """A number as an expression; whole ones are integers, whatever type they came in."""
    if isinstance(number, (bool, int)) or (isinstance(number, float) and number.is_integer()):
        return sympy.Integer(int(number))
    return sympy.sympify(number)


def everywhere(number: sympy.Expr | float, rank: int) -> Linear:
    """The same number at every place."""
    return Linear(exact(number), (sympy.S.Zero,) * rank)


def never(rank: int) -> Truth:
    """The truth that holds nowhere."""
    return Truth(frozenset({everywhere(-1, rank)}))


def is_never(truth: Truth) -> bool:
    """Whether a condition fails whatever the place."""
    return any(each.constant is not None and each.constant.is_negative for each in truth.conditions)


def is_same_everywhere(form: Form) -> bool:
    """Whether no place differs from another."""
    if isinstance(form, Linear):
        return form.constant is not None
    truth = form.shown if isinstance(form, Hidden) else form
    return all(condition.constant is not None for condition in truth.conditions)


def each_linear(form: Form, change: Callable[[Linear], Linear]) -> Form:
    """`form` with `change` made to every linear number in it."""
    if isinstance(form, Linear):
        return change(form)
    if isinstance(form, Hidden):
        return Hidden(_each_condition(form.shown, change))
    return _each_condition(form, change)


def _each_condition(truth: Truth, change: Callable[[Linear], Linear]) -> Truth:
    return Truth(frozenset(change(condition) for condition in truth.conditions))


def is_at_least_zero(number: sympy.Expr | None, ranges: Ranges) -> bool:
    """Whether `number` is proven to be 0 or more, its symbols being within `ranges`."""
    if number is None:
        return False
    if number.is_number:
        return bool(number >= 0)
    if not number.free_symbols <= set(ranges):
        return False
    return bool(bound_sympy(number, dict(ranges)).lower >= 0)


def holds_everywhere(condition: Linear, sizes: Sizes, ranges: Ranges) -> bool:
    """Whether `condition >= 0` at all places within `sizes`."""
    return is_at_least_zero(condition.least(sizes), ranges)


def simplify(truth: Truth, sizes: Sizes, ranges: Ranges) -> Truth:
    """`truth` for places within `sizes`, without the conditions that hold at all of them; `never` where one holds at none."""
    kept = [each for each in truth.conditions if not holds_everywhere(each, sizes, ranges)]
    less = everywhere(-1, len(sizes))
    if any(holds_everywhere(less.plus(each, sympy.S.NegativeOne), sizes, ranges) for each in kept):
        return never(len(sizes))
    return Truth(frozenset(kept))


def is_causal(condition: Linear) -> bool:
    """Whether `condition >= 0` just where the second last index is at least the last one."""
    if len(condition.steps) < 2:
        return False
    *others, step, negative = condition.steps
    if any(others) or not step.is_Integer or step <= 0 or negative != -step:
        return False
    return bool(condition.start.is_number and 0 <= condition.start < step)


def hides(number: float, dtype: torch.dtype) -> bool:
    """Whether softmax gives 0 for a score plus `number`, where another score of the row is shown."""
    return dtype.is_floating_point and number <= torch.finfo(dtype).min / 2


def read_constant(tensor: Tensor) -> Form | None:
    """The form of a constant's values; None where they have none of those known here."""
    if tensor.numel() == 0 or tensor.numel() > _MOST_FITTED or tensor.is_complex():
        return None
    if tensor.dtype is torch.bool:
        return _read_truth(tensor)
    first = tensor.flatten()[0]
    if bool((tensor == first).all()):
        return everywhere(first.item(), tensor.dim()) if bool(first < float("inf")) else None
    if tensor.dtype.is_floating_point:
        return _read_hidden(tensor)
    return _read_linear(tensor) if tensor.dtype in (torch.int64, torch.int32) else None


def _read_truth(tensor: Tensor) -> Truth | None:
    rank = tensor.dim()
    if bool(tensor.all()):
        return Truth(frozenset())
    if not bool(tensor.any()):
        return never(rank)
    if rank < 2:
        return None
    rows, columns = (torch.arange(size, device=tensor.device) for size in tensor.shape[-2:])
    offset = int(tensor[(0,) * (rank - 1)].sum()) - 1
    if not bool((tensor == (rows[:, None] + offset >= columns[None, :])).all()):
        return None
    steps = (*[0] * (rank - 2), int(len(rows) > 1), -int(len(columns) > 1))
    return Truth(frozenset({Linear(sympy.Integer(offset), _integers(steps))}))


def _read_hidden(tensor: Tensor) -> Hidden | None:
    shown = tensor == 0
    if not bool((shown | (tensor <= torch.finfo(tensor.dtype).min / 2)).all()):
        return None
    truth = _read_truth(shown)
    return None if truth is None else Hidden(truth)


def _read_linear(tensor: Tensor) -> Linear | None:
    start = tensor[(0,) * tensor.dim()]
    fitted, steps = start, []
    for at, size in enumerate(tensor.shape):
        place = tuple(int(dim == at and size > 1) for dim in range(tensor.dim()))
        step = tensor[place] - start
        count = torch.arange(size, device=tensor.device, dtype=tensor.dtype)
        fitted = fitted + step * count.view([-1 if dim == at else 1 for dim in range(tensor.dim())])
        steps.append(int(step))
    return Linear(sympy.Integer(int(start)), _integers(steps)) if bool((fitted == tensor).all()) else None


def _integers(numbers: Sequence[int]) -> Sizes:
    return tuple(sympy.Integer(number) for number in numbers)
