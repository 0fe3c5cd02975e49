"""What proves that a mutant is equivalent: values between bounds, and elements that are computed alike."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("tensorrt_rtx")

from interpret.mutation import SAME_NUMBERS, Finding, Mutants
from interpret.networks import Subject

X, Y = torch.tensor([[0.5, -1.5, 2.0], [1.0, -0.25, 3.0]]), torch.tensor([[1.5, 0.5, -2.0], [4.0, 0.25, 1.0]])
WHOLE = torch.tensor([[3, -2, 0], [7, 1, -5]])
PLACE = torch.tensor([0, 2])


def judged(function: object, inputs: list[torch.Tensor], what: str) -> list[Finding]:
    mutants = Mutants(Subject("small", function, inputs))
    return [mutants.judge(m) for m in mutants.mutations if f"{m.kind}.{m.property}" == what]


def _seven_times_nothing(x: torch.Tensor) -> torch.Tensor:
    y = x.float()
    return torch.where(y.abs() > 0.5, y, y * 7)


def _sum_where_none_is_small(x: torch.Tensor) -> torch.Tensor:
    return torch.where(x.float().abs() > 0.5, 0.0, (x.float() + 1).sum(1, keepdim=True))


ALIKE = (
    ("a sum in another order", lambda x, y: x + y, [X, Y], "ELEMENTWISE.inputs"),
    ("sizes that are named anyway", lambda x: x.reshape(3, 2) + 1, [X], "SHUFFLE.zero_is_placeholder"),
    ("whether any is there", lambda x: (x > 0).sum(1) > 0, [WHOLE], "REDUCE.op"),
    ("a branch of zeros alone", _seven_times_nothing, [WHOLE], "CONSTANT.weights"),
    ("a fraction that no whole number is", lambda x: x == 1.5, [WHOLE], "CONSTANT.weights"),
    ("bounds with nothing between", lambda x: x.clamp(1.0, -1.0), [X], "CONSTANT.weights"),
    ("a comparison that bounds decide", lambda x: x.float().abs() < -1, [WHOLE], "UNARY.op"),
    ("places that are known", lambda x: x[[0, 1], [1, 2]], [X], "GATHER.mode"),
    ("a number that no index is below", lambda x, i: x.index_copy(1, i, x[:, :2]), [X, PLACE], "CONSTANT.weights"),
)


@pytest.mark.parametrize(("function", "inputs", "what"), [row[1:] for row in ALIKE], ids=[row[0] for row in ALIKE])
def test_what_is_computed_alike_is_proved(function: object, inputs: list[torch.Tensor], what: str) -> None:
    silent = [finding for finding in judged(function, inputs, what) if finding.verdict == "silent"]
    assert silent
    assert {finding.reason for finding in silent} == {SAME_NUMBERS}


OTHERWISE = (
    ("a difference in another order", lambda x, y: x - y, [X, Y], "ELEMENTWISE.inputs"),
    ("a quotient in another order", lambda x, y: x / y, [X, Y], "ELEMENTWISE.inputs"),
    ("another bound", lambda x: x.clamp(-1, 1), [X * 0.1], "CONSTANT.weights"),
    ("another branch of a Select", lambda x: torch.where(x.isnan(), 7.0, x), [X], "CONSTANT.weights"),
    ("a tie", lambda x: x.gt(0.123), [X], "ELEMENTWISE.op"),
    ("a branch that looks at other elements", _sum_where_none_is_small, [WHOLE], "CONSTANT.weights"),
    ("a zero's sign", torch.atan2, [X, Y], "UNARY.op"),
)


@pytest.mark.parametrize(
    ("function", "inputs", "what"), [row[1:] for row in OTHERWISE], ids=[row[0] for row in OTHERWISE]
)
def test_what_only_other_values_tell_is_noticed(function: object, inputs: list[torch.Tensor], what: str) -> None:
    found = judged(function, inputs, what)
    assert found
    assert [str(finding.mutation) for finding in found if finding.verdict == "silent"] == []


RANGES = (
    ("of floats", lambda x: (x.abs().sqrt() * -2).clamp(-3, 5).exp() - x.sign(), [X]),
    ("of whole numbers", lambda x: (x // 3).clamp(-2, 2) * x.abs(), [WHOLE]),
    ("of indices", lambda x, i: x.index_select(1, i), [X, PLACE]),
    ("of branches", lambda x: torch.where(x > 0, x.floor(), x * 0).amax(1), [X]),
)


@pytest.mark.parametrize(("function", "inputs"), [row[1:] for row in RANGES], ids=[row[0] for row in RANGES])
def test_no_value_lies_outside_of_its_range(function: object, inputs: list[torch.Tensor]) -> None:
    assert Mutants(Subject("small", function, inputs)).outside_their_ranges() == []
