"""What torch.export took for granted about sizes that vary. It says nothing of it; the program is right only where it holds."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import sympy
import torch
from torch._guards import ShapeGuard
from torch.export import ExportedProgram

from torch_tensorrt.observe.log import logger
from torch_tensorrt.spec.errors import InputError
from torch_tensorrt.trace.call_inputs import CallInputs
from torch_tensorrt.trace.dynamic_shapes import ranges_of
from torch_tensorrt.trace.symbols import tensor_inputs, tensor_leaves

_MOST_SYMBOLS = 4  # whose least, typical and greatest sizes are all tried together
_MOST_VALUES = 10_000
_EXACT = 1e-9
_log = logger("trace")


def check_guards(program: ExportedProgram, call: CallInputs) -> None:
    """Raises InputError when a size of a result, or another number that is computed of sizes, was taken for a constant, or a fraction
    made of sizes for larger than another one, which doesn't hold at all sizes that the Inputs allow: the least, typical and greatest
    ones are tried, and all where a fraction is made of one size.

    Where one size was taken to be larger than another one, and isn't always, a warning says so. Other assumptions are about
    memory layouts, or are conditions that PyTorch has as well (a size that is a multiple of 8).
    """
    points = _points(program, call)
    for told in _guards(program):
        guard = told.expr
        if not guard.free_symbols or not guard.free_symbols <= points.keys() or len(guard.free_symbols) > _MOST_SYMBOLS:
            continue
        fractional = isinstance(guard, sympy.core.relational.Relational) and not all(
            side.is_integer for side in guard.args
        )
        wrong = next(_counterexamples(guard, _all_values(guard, points) if fractional else points), None)
        if wrong is None:
            continue
        sizes = ", ".join(f"{symbol} = {value}" for symbol, value in wrong.items())
        if isinstance(guard, sympy.Eq) and any(side.is_number for side in guard.args) and not guard.has(sympy.Mod):
            raise InputError(
                f"torch.export took {guard.lhs} for {guard.rhs}, which it is at the typical sizes only (not at {sizes}), so that the "
                f"program would be wrong at others. Asked for by {told.sloc}: a condition of the model's, or an operator that takes this "
                "number as a constant. Give the Input another opt_shape, multiply a tensor by the number instead, or compile for fixed "
                "sizes."
            )
        if fractional and isinstance(guard, sympy.Eq):  # what the model asserts, PyTorch asserts too
            _log.warning("The model was traced for sizes where %s, not for others (%s): %s.", guard, sizes, told.sloc)
        elif fractional:
            raise InputError(
                f"The model was traced for sizes where {guard}, and the program would be wrong where it doesn't hold ({sizes}). Asked for "
                f"by {told.sloc}: a condition of the model's, or max() or min(). Give Inputs whose ranges lie on one side of it."
            )
        if isinstance(guard, (sympy.Lt, sympy.Gt, sympy.Le, sympy.Ge)) and _joins_symbols(guard):
            _log.warning(
                "The model was traced for sizes where %s. At others (%s) the results may have another shape than PyTorch's; give Inputs "
                "whose ranges lie on one side.",
                guard, sizes,
            )  # fmt: skip


def warn_of_narrowed_ranges(program: ExportedProgram, call: CallInputs) -> None:
    """Tells of each size that may vary less than its Input says, and of the conditions in the model that are why, as far as is known."""
    for node, leaf in zip(tensor_inputs(program), tensor_leaves(call), strict=False):
        for dim, (low, _, high) in ranges_of(leaf).items():
            size = node.meta["val"].shape[dim]
            symbol = size.node.expr if isinstance(size, torch.SymInt) and size.node.expr.is_symbol else None
            bounds = program.range_constraints.get(symbol)
            if bounds is None or (bounds.lower <= low and bounds.upper >= high):
                continue
            reasons = [
                f"{guard.expr} ({guard.sloc})"
                for guard in size.node.shape_env.guards
                if guard.expr.free_symbols == {symbol}
                and any(guard.expr.xreplace({symbol: sympy.Integer(end)}) == sympy.false for end in (low, high))
            ]
            _log.warning(
                "Input %r asks for sizes from %d to %d in dimension %d; the model as traced takes %s to %s%s. A call with another size is "
                "an InputError.",
                node.name, low, high, dim, bounds.lower, bounds.upper, f", because of {'; '.join(reasons[:3])}" if reasons else "",
            )  # fmt: skip


def _guards(program: ExportedProgram) -> list[ShapeGuard]:
    for node in tensor_inputs(program):
        for size in node.meta["val"].shape:
            if isinstance(size, torch.SymInt):
                return list(size.node.shape_env.guards)
    return []


def _points(program: ExportedProgram, call: CallInputs) -> dict[sympy.Basic, tuple[int, ...]]:
    """Symbol -> its least, typical and greatest value."""
    found: dict[sympy.Basic, tuple[int, ...]] = {}
    for node, leaf in zip(tensor_inputs(program), tensor_leaves(call), strict=False):
        for dim, points in ranges_of(leaf).items():
            size = node.meta["val"].shape[dim]
            if isinstance(size, torch.SymInt) and size.node.expr.is_symbol:
                found.setdefault(size.node.expr, points)
    return found


def _all_values(guard: sympy.Basic, points: dict[sympy.Basic, tuple[int, ...]]) -> dict[sympy.Basic, tuple[int, ...]]:
    """All that the one symbol of `guard` may be, unless they are too many; else the points."""
    (symbol, *others) = guard.free_symbols
    low, *_, high = points[symbol]
    return points if others or high - low > _MOST_VALUES else {symbol: tuple(range(low, high + 1))}


def _counterexamples(
    guard: sympy.Basic, points: dict[sympy.Basic, tuple[int, ...]]
) -> Iterator[dict[sympy.Basic, int]]:
    symbols = sorted(guard.free_symbols, key=str)
    for values in itertools.product(*(points[symbol] for symbol in symbols)):
        chosen = dict(zip(symbols, values, strict=True))
        if _fails(guard, {symbol: sympy.Integer(value) for symbol, value in chosen.items()}):
            yield chosen


def _fails(guard: sympy.Basic, values: dict[sympy.Basic, sympy.Integer]) -> bool:
    if isinstance(guard, sympy.Eq):
        left, right = (side.xreplace(values) for side in guard.args)
        if left.is_number and right.is_number:  # numbers that are computed differ in their last digits
            return not math.isclose(float(left), float(right), rel_tol=_EXACT)
    return bool(guard.xreplace(values) == sympy.false)


def _joins_symbols(guard: sympy.Basic) -> bool:
    """Whether one side is told from the other by different symbols."""
    left, right = guard.args
    return bool(left.free_symbols) and bool(right.free_symbols) and left.free_symbols != right.free_symbols
