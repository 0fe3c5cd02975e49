"""What a compiler took for granted about sizes that vary. AOTInductor does so for the example sizes, and drops what it assumed."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence

import sympy
import torch
from torch import fx
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.utils._sympy.functions import Max, Min

_VALUES = 40  # tried for one size
_POINTS = 400  # tried for one assumption
_NO_BOUND = 2**31


class Assumptions:
    """Begins to watch when it is made, before a graph is compiled."""

    def __init__(self, graph: fx.Graph) -> None:
        self._environment = _environment(graph)
        if self._environment is not None:
            self._known: Sequence[sympy.Basic] = [guard.expr for guard in self._environment.guards]
            self._ranges = dict(self._environment.var_to_range)

    def wrong(self) -> list[str]:
        """The equations that were assumed since, and that don't hold at every size that the graph takes.

        Inequalities are left out: they choose between ways to compute the same (but see `has_extreme_size`). So are equations
        between sizes that have nothing in common, such as `s1 == s2`: an operator wants those to be equal, and PyTorch would
        raise an error otherwise.
        """
        if self._environment is None:
            return []
        new = [guard.expr for guard in self._environment.guards[len(self._known) :]]
        equations = [expr for expr in dict.fromkeys(new) if isinstance(expr, sympy.Eq) and not _joins(expr)]
        return [f"{expr.lhs} == {expr.rhs}" for expr in equations if not self._holds(expr)]

    def _holds(self, equation: sympy.Eq) -> bool:
        symbols = sorted(equation.free_symbols, key=str)
        conditions = [known for known in self._known if known.free_symbols <= set(symbols)]
        points = (dict(zip(symbols, values, strict=True)) for values in self._points(symbols))
        return all(
            equation.xreplace(point) == sympy.true
            for point in points
            if all(condition.xreplace(point) != sympy.false for condition in conditions)
        )

    def _points(self, symbols: Sequence[sympy.Symbol]) -> Iterator[tuple[sympy.Integer, ...]]:
        tried = [self._values(symbol) for symbol in symbols]
        if len(tried) == 1:
            return iter(itertools.product(*tried))
        dice = random.Random(0)
        return (tuple(dice.choice(values) for values in tried) for _ in range(_POINTS))

    def _values(self, symbol: sympy.Symbol) -> Sequence[sympy.Integer]:
        bounds = self._ranges[symbol]
        low = int(bounds.lower) if bounds.lower > 0 else 0
        high = int(bounds.upper) if bounds.upper < _NO_BOUND else low + _VALUES
        return [sympy.Integer(value) for value in (*range(low, min(high, low + _VALUES)), high)]


def varying_sizes(node: fx.Node, from_dim: int = 0) -> list[torch.SymInt]:
    """The sizes that vary of a node's results, from that dimension on."""
    value = node.meta.get("val")
    tensors = [
        part for part in (value if isinstance(value, (tuple, list)) else (value,)) if isinstance(part, torch.Tensor)
    ]
    sizes: list[object] = [size for part in tensors for size in part.shape[from_dim:]]
    return [size for size in sizes if isinstance(size, torch.SymInt)]


def has_extreme_size(node: fx.Node) -> bool:
    """Whether a size of its results is the smaller or larger of sizes that vary: Inductor decides that for the example sizes."""
    return any(size.node.expr.has(Min, Max) for size in varying_sizes(node))


def _joins(equation: sympy.Eq) -> bool:
    left, right = equation.lhs.free_symbols, equation.rhs.free_symbols
    return bool(left) and bool(right) and not left & right


def _environment(graph: fx.Graph) -> ShapeEnv | None:
    values = (node.meta.get("val") for node in graph.nodes if node.op == "placeholder")
    sizes: Iterator[object] = (size for value in values if isinstance(value, torch.Tensor) for size in value.shape)
    return next((size.node.shape_env for size in sizes if isinstance(size, torch.SymInt)), None)
