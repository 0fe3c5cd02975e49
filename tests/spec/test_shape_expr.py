"""Sizes as text: what PyTorch prints is read back exactly, fractions in float64 as in Python, and nothing else is."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from torch_tensorrt.spec.errors import FileFormatError, InputError
from torch_tensorrt.spec.shape_expr import factors_in, parse, solve, symbols_in, text_of

SIZES: dict[str, Callable[[int], int]] = {
    "truncated": lambda n: torch.sym_int(torch.sym_float(n) * 0.7),
    "a third": lambda n: torch.sym_int(torch.sym_float(n) * (1 / 3)) + 2,
    "rounded down": lambda n: math.floor(n * 1.3),
    "rounded up": lambda n: math.ceil(n / 4),
    "to the nearest": lambda n: round(n / 3),
    "a quotient": lambda n: torch.sym_int(n / 4) + 2,
    "a square": lambda n: n**2 - n,
    "more than a fraction": lambda n: math.floor(torch.sym_float(n) * 1e-05) + n,
    "less a fraction": lambda n: math.floor(2000 - n * 0.3),
    "whole": lambda n: (2 * n + 3) // 5 % 7 + 8,
}


def expression(size: Callable[[int], int]) -> str:
    class Made(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.new_zeros(size(x.shape[0]))

    shapes = {"x": {0: torch.export.Dim("n", min=5, max=4096)}}
    program = torch.export.export(Made(), (torch.ones(16),), dynamic_shapes=shapes)
    return text_of(program.graph.output_node().args[0][0].meta["val"].shape[0].node.expr)


@pytest.mark.parametrize("name", SIZES)
def test_what_pytorch_prints_has_pythons_value(name: str) -> None:
    text = expression(SIZES[name])
    (symbol,) = symbols_in(text)
    evaluate = parse(text)
    for n in range(5, 500):
        assert evaluate({symbol: n}) == SIZES[name](n), (text, n)


@given(st.floats(0.01, 100), st.integers(0, 10**6))
def test_all_digits_of_a_factor_count(factor: float, n: int) -> None:
    import sympy
    from torch.utils._sympy.functions import ToFloat, TruncToInt

    s0 = sympy.Symbol("s0", integer=True, positive=True)
    text = text_of(TruncToInt(sympy.Float(factor) * ToFloat(s0)))
    assert parse(text)({"s0": n}) == int(factor * n)


@pytest.mark.parametrize(
    "text",
    [
        "1.5",
        "ToFloat(s0)",
        "s0*1.5",
        "-IntTrueDiv(s0, 2)",
        "IntTrueDiv(s0, 2)//1",
        "Max(s0, 1.5)",
        "TruncToInt(s0, 2)",
        "TruncToInt()",
        "IntTrueDiv(s0)",
        "1j",
        "TruncToInt(1j)",
        "TruncToInt(True)",
        "eval(s0)",
        "TruncToInt(2.0**s0)",
        "s0.real",
    ],
)
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(FileFormatError):
        parse(text)


@pytest.mark.parametrize(
    "text", ["7//s0", "TruncToInt(1e308*ToFloat(s0 - 9)*1e308)", "TruncToInt(IntTrueDiv(1, s0))", "Mod(1, s0)",
             "TruncToInt(OpaqueUnaryFn_sqrt(s0 - 1))"]
)  # fmt: skip
def test_a_size_without_a_value_is_told_with_the_values(text: str) -> None:
    with pytest.raises(InputError, match=r"'s0': 0"):
        parse(text)({"s0": 0})


@pytest.mark.parametrize(
    "text", ["TruncToInt(1.1*ToFloat(s0))", "Mod(s0, 3)", "s0 + s0//100", "s0*s0", "Max(s0, 0)", "0*s0", "s0 - s0"]
)
def test_a_size_that_is_no_line_is_not_solved(text: str) -> None:
    """At 0, 1 and 2 most of these look as if they were."""
    with pytest.raises(InputError, match="can't be computed"):
        solve([((text,), (1,))])


@pytest.mark.parametrize(
    ("text", "value"), [("2*s0 + 1", 9), ("s1*(s0 - 3)", 6), ("5 - s0", 1), ("-s0 + s1//4 + 8", 5)]
)
def test_a_line_is(text: str, value: int) -> None:
    assert solve([(("s1", text), (6, value))])["s0"] == 4


@pytest.mark.parametrize(("text", "symbols"), [("s9", {"s0": 1}), ("2**s0", {"s0": 5000}), ("s0**-1", {"s0": 3})])
def test_what_only_a_damaged_file_says_is_its_mistake(text: str, symbols: dict[str, int]) -> None:
    with pytest.raises(FileFormatError):
        parse(text)(symbols)


@pytest.mark.parametrize(
    ("text", "factors"),
    [
        ("s0 + 2", set()),
        ("TruncToInt(0.7*ToFloat(s0)) + 1", {0.7}),
        ("TruncToInt(1.3*ToFloat(TruncToInt(0.7*ToFloat(s0))))", {0.7, 1.3}),
        ("CeilToInt(IntTrueDiv(s0, 4))", set()),
        ("TruncToInt(0.3*ToFloat(s0)*ToFloat(s1))", None),
        ("TruncToInt(0.3*ToFloat(s0) + 0.5)", None),
        ("TruncToInt(FloatTrueDiv(ToFloat(s0), 0.7))", None),
    ],
)
def test_factors_are_told_where_there_is_but_one_at_a_time(text: str, factors: set[float] | None) -> None:
    assert factors_in(text) == factors
