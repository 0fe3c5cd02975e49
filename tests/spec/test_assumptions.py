"""What a compiler assumes about sizes that vary is noticed where it isn't true of all of them."""

from __future__ import annotations

import pytest
import sympy
import torch
from torch import Tensor, fx, nn
from torch.utils._sympy.functions import FloorDiv, Mod

from torch_tensorrt.spec.assumptions import Assumptions, has_extreme_size


class Rows(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x.sum() + y


def graph() -> tuple[fx.Graph, sympy.Symbol, sympy.Symbol]:
    """A graph whose inputs have the sizes a (3 to 12) and b (4 or more)."""
    sizes = ({0: torch.export.Dim("a", min=3, max=12)}, {0: torch.export.Dim("b", min=4)})
    program = torch.export.export(Rows(), (torch.ones(6), torch.ones(8)), dynamic_shapes=sizes)
    a, b = (node.meta["val"].shape[0].node.expr for node in program.graph.nodes if node.op == "placeholder")
    return program.graph, a, b


EQUATIONS = {
    "one size": (lambda a, b: sympy.Eq(a, 6), True),
    "its remainder": (lambda a, b: sympy.Eq(Mod(a, 2), 0), True),
    "a rounded half": (lambda a, b: sympy.Eq(FloorDiv(a, 2), FloorDiv(a + 1, 2)), True),
    "the greatest size only": (lambda a, b: sympy.Eq(FloorDiv(a, 12), 0), True),
    "a size without bound": (lambda a, b: sympy.Eq(FloorDiv(b, 40), 0), True),
    "two sizes, mixed": (lambda a, b: sympy.Eq(Mod(a + b, 2), 0), True),
    "what is always so": (lambda a, b: sympy.Eq(FloorDiv(a + 20, 40), 0), False),
    "what is so in the range": (lambda a, b: sympy.Eq(FloorDiv(a, 13), 0), False),
    "that two inputs agree": (lambda a, b: sympy.Eq(a, b), False),
    "an inequality": (lambda a, b: sympy.Le(a, 8), False),
}


@pytest.mark.parametrize("name", EQUATIONS)
def test_an_equation_that_is_not_true_of_all_sizes_is_told(name: str) -> None:
    make, wrong = EQUATIONS[name]
    traced, a, b = graph()
    watched = Assumptions(traced)
    environment = next(iter(traced.nodes)).meta["val"].shape[0].node.shape_env
    environment.guards.append(type("Guard", (), {"expr": make(a, b)})())
    assert bool(watched.wrong()) is wrong


def test_what_the_model_itself_needs_is_no_assumption() -> None:
    traced, a, _ = graph()
    environment = next(iter(traced.nodes)).meta["val"].shape[0].node.shape_env
    environment.guards.append(type("Guard", (), {"expr": sympy.Eq(Mod(a, 2), 0)})())
    watched = Assumptions(traced)
    environment.guards.append(type("Guard", (), {"expr": sympy.Eq(2 * FloorDiv(a, 2), a)})())
    assert watched.wrong() == []


def test_sizes_that_do_not_vary_have_no_assumptions() -> None:
    assert Assumptions(torch.export.export(Rows(), (torch.ones(6), torch.ones(8))).graph).wrong() == []


@pytest.mark.parametrize(
    ("function", "extreme"),
    [(lambda x: x.diagonal(), True), (lambda x: x[1:], False), (lambda x: x.split(1, 1)[0] + 1, False)],
)
def test_the_smaller_of_two_sizes_is_seen(function: object, extreme: bool) -> None:
    class Model(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return function(x)

    any_size = torch.export.Dim.DYNAMIC
    given = {0: any_size} if "split" in str(function.__code__.co_names) else {0: any_size, 1: any_size}
    program = torch.export.export(Model(), (torch.ones(4, 6),), dynamic_shapes=(given,))
    assert any(has_extreme_size(node) for node in program.graph.nodes) is extreme
