"""What is known of a network's values for all inputs: between which bounds each element lies.

Bounds are float64. They hold for whatever the inputs are, so a comparison that they decide is decided: a proof, and no sample.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from interpret.reading import TORCH_DTYPE, Layer
from interpret.semantics import RUNS

_EXACT = 2.0**53  # up to here float64 holds whole numbers
_LEAST_OF = {"ABS": 0.0, "EXP": 0.0, "SQRT": 0.0, "SIGN": -1.0, "SIN": -1.0, "COS": -1.0, "TANH": -1.0, "ERF": -1.0}
_MOST_OF = {"SIGN": 1.0, "SIN": 1.0, "COS": 1.0, "TANH": 1.0, "ERF": 1.0}
_RISES = frozenset(["SQRT", "CEIL", "FLOOR", "ROUND", "SIGN"])  # in order, and exactly: bounds become bounds
_TELLS = frozenset(["ISNAN", "ISINF"])
_NARROW = 2.0**26  # up to here no quotient of whole numbers is rounded to another
_FILL_OF_SLICE = 3  # among its inputs but the first
ONE_BY_ONE = frozenset(["ELEMENTWISE", "UNARY", "CAST", "SELECT", "ACTIVATION", "IDENTITY"])
_MOVES = frozenset(["SHUFFLE", "SQUEEZE", "UNSQUEEZE", "IDENTITY", "SLICE", "GATHER"])


@dataclass(frozen=True)
class Range:
    """Each element lies within `low` and `high`, or is NaN where it may be. `whole`: all are whole numbers."""

    low: Tensor
    high: Tensor
    nan: Tensor
    whole: bool = False

    @property
    def known(self) -> Tensor:
        """Where there is one possible value."""
        return (self.low == self.high) & ~self.nan


def exactly(value: Tensor) -> Range:
    """A value that no input changes. NaN is a value too: it has no other bounds."""
    wide = value.double()
    if not value.is_floating_point() and value.numel() and float(wide.abs().max()) > _EXACT:
        return anything(value)
    return Range(wide, wide, wide.isnan(), whole=not value.is_floating_point())


def anything(like: Tensor) -> Range:
    """All values of a dtype."""
    floats = like.is_floating_point()
    if floats:
        low, high = -math.inf, math.inf
    elif like.dtype == torch.bool:
        low, high = 0.0, 1.0
    else:
        low, high = float(torch.iinfo(like.dtype).min), float(torch.iinfo(like.dtype).max)
    shape = like.shape
    wide = torch.full(shape, low, dtype=torch.float64), torch.full(shape, high, dtype=torch.float64)
    return Range(*wide, torch.full(shape, floats), whole=not floats)


def find_ranges(
    layers: Sequence[Layer],
    values: Mapping[str, Tensor],
    least: Mapping[str, int | None],
    told: tuple[Mapping[str, Range], Mapping[str, Range]] | None = None,
) -> dict[str, Range]:
    """Of every tensor, by name. values: one run of the network, for the shapes, dtypes and all that is constant.

    least: of a network input, the least whole number that it may hold. told: what else is known of each element of some tensors
    where a condition holds for it, and the ranges without that: it says nothing of layers that look at several elements.
    """
    found: dict[str, Range] = {}
    more, before = told or ({}, {})
    narrowed = set(more)
    for name, bound in least.items():
        found[name] = anything(values[name])
        if bound is not None:
            found[name] = replace(found[name], low=torch.full_like(found[name].low, float(bound)))
        found[name] = more.get(name, found[name])
    fixed: set[str] = set()
    for layer in layers:
        given = [name for name in layer.inputs if name]
        constant = layer.kind == "CONSTANT" or (bool(given) and all(name in fixed for name in given))
        if layer.kind == "SHAPE" or constant:
            fixed.update(layer.outputs)
            found |= {name: exactly(values[name]) for name in layer.outputs}
            continue
        for name in given:
            found.setdefault(name, anything(values[name]))
        for name in layer.outputs:
            found[name] = anything(values[name])
        if len(layer.outputs) == 1 and layer.loop is None and layer.conditional is None:
            made = _of_layer(layer, [found[name] if name else None for name in layer.inputs], values)
            found[layer.outputs[0]] = _meet(made, found[layer.outputs[0]], values[layer.outputs[0]])
        if narrowed & set(given):
            if layer.kind in ONE_BY_ONE:
                narrowed.update(layer.outputs)
            else:
                found |= {name: before[name] for name in layer.outputs}
        found |= {name: more[name] for name in layer.outputs if name in more}
    return found


def narrow(layers: Sequence[Layer], condition: str, truth: bool, found: Mapping[str, Range]) -> dict[str, Range]:
    """What is known besides, of whole numbers, where a condition is true (or false): it compares them with a constant."""
    by_output = {name: layer for layer in layers for name in layer.outputs}
    compare = by_output.get(condition)
    if compare is None or compare.kind != "ELEMENTWISE":
        return {}
    (name, other), op = (str(given) for given in compare.inputs), compare.native.op.name
    if op == "EQUAL" and bool(found[name].known.all()):
        name, other = other, name
    if not bool(found[other].known.all()):
        return {}
    bound = found[other].low
    above = {("GREATER", True): (bound.floor() + 1, None), ("GREATER", False): (None, bound)}
    below = {("LESS", True): (None, bound.ceil() - 1), ("LESS", False): (bound, None)}
    limits = above | below | {("EQUAL", True): (bound, bound)}
    low, high = limits.get((op, truth), (None, None))
    source = by_output.get(name)
    if source is not None and source.kind == "UNARY" and source.native.op.name == "ABS":
        name, low = str(source.inputs[0]), None if high is None else -high
        high = high if low is not None else None
    elif source is not None and source.kind == "ELEMENTWISE" and source.native.op.name == "FLOOR_DIV":
        divisor = found[str(source.inputs[1])]
        if not (bool((bound == 0).all()) and bool((divisor.low > 0).all()) and low is not None):
            return {}
        name, high = str(source.inputs[0]), None  # a quotient of whole numbers, not below 0
    given = found[name]
    if not given.whole or bool(given.nan.any()):
        return {}
    least = given.low if low is None else torch.maximum(given.low, low.ceil())
    most = given.high if high is None else torch.minimum(given.high, high.floor())
    return {name: replace(given, low=least, high=most)}


def _meet(made: Range | None, widest: Range, value: Tensor) -> Range:
    """What a rule says, if it stays within the dtype: whole numbers that don't wrap around."""
    if made is None or made.low.shape != value.shape:
        return widest
    if value.is_floating_point():
        low, high = made.low.to(value.dtype).double(), made.high.to(value.dtype).double()
        unsure = low.isnan() | high.isnan()
        return Range(
            torch.where(unsure, -math.inf, low), torch.where(unsure, math.inf, high), made.nan | unsure, made.whole
        )
    limit = _EXACT if value.dtype == torch.int64 else widest.high
    wraps = (made.low < -_EXACT) | (made.high > limit) | (made.low < widest.low) | made.nan
    return Range(
        torch.where(wraps, widest.low, made.low), torch.where(wraps, widest.high, made.high), widest.nan & False, True
    )


def _of_layer(layer: Layer, given: Sequence[Range | None], values: Mapping[str, Tensor]) -> Range | None:
    present = [part for part in given if part is not None]
    if layer.kind == "ELEMENTWISE":
        return _of_two(layer.native.op.name, present[0], present[1])
    if layer.kind == "UNARY":
        return _of_one(layer.native.op.name, present[0])
    if layer.kind == "CAST":
        return _cast(TORCH_DTYPE[layer.native.to_type], present[0])
    if layer.kind == "SELECT":
        return _selected(*present)
    if layer.kind == "CONCATENATION":
        parts = [[getattr(part, name) for part in present] for name in ("low", "high", "nan")]
        return Range(*(torch.cat(part, layer.native.axis) for part in parts))
    if layer.kind == "REDUCE" and layer.native.op.name in {"SUM", "MAX", "MIN"}:
        return _by_parts(lambda part: RUNS["REDUCE"](layer, part), present[0])
    others = layer.inputs[1:]
    if layer.kind in _MOVES and all(part is None or bool(part.known.all()) for part in given[1:]):
        told = [values[name] if name else None for name in others]
        made = _by_parts(lambda part: RUNS[layer.kind](layer, part, *told), present[0])
        if layer.kind == "SLICE" and len(told) > _FILL_OF_SLICE:  # what it is filled with isn't NaN
            told[_FILL_OF_SLICE] = None
        return replace(made, nan=RUNS[layer.kind](layer, present[0].nan.double(), *told) > 0)
    return None


def _by_parts(function: Callable[[Tensor], Tensor], given: Range) -> Range:
    """Of something that keeps the order of values."""
    low, high = function(given.low), function(given.high)
    unsure = (low == -math.inf) & (high == math.inf)  # a sum of both
    return Range(low, high, (function(given.nan.double()) > 0) | unsure, given.whole)


def _cast(to: torch.dtype, given: Range) -> Range | None:
    if to == torch.bool:
        zero = (given.low == 0) & (given.high == 0)
        other = (given.low > 0) | (given.high < 0)
        return Range(other.double(), 1.0 - (zero & ~given.nan).double(), given.nan & False)
    if to.is_floating_point:
        return given
    return Range(given.low.trunc(), given.high.trunc(), given.nan)


def _of_one(op: str, given: Range) -> Range | None:
    low, high, nan = given.low, given.high, given.nan
    if op == "NOT":
        return Range(1 - high, 1 - low, nan & False)
    if op in _TELLS:
        may = nan if op == "ISNAN" else low.isinf() | high.isinf()
        return Range(torch.zeros_like(low), may.double(), nan & False)
    if op == "NEG":
        return Range(-high, -low, nan)
    if op == "ABS":
        within = (low <= 0) & (high >= 0)
        return Range(
            torch.where(within, 0.0, torch.minimum(low.abs(), high.abs())), torch.maximum(low.abs(), high.abs()), nan
        )
    least = torch.full_like(low, _LEAST_OF.get(op, -math.inf))
    most = torch.full_like(high, _MOST_OF.get(op, math.inf))
    if op == "SQRT":
        low, nan = low.clamp(min=0), nan | (low < 0)
    if op == "RECIP" and given.whole:
        return Range(torch.where(low >= 0, 0.0, -1.0), most, nan)
    if op in {"SIN", "COS"}:
        return Range(least, most, nan | low.isinf() | high.isinf())
    if op not in _RISES:
        return _exact_where_known(op, given, Range(least, most, nan | (op not in _LEAST_OF)))
    function = getattr(torch, op.lower())
    return Range(torch.maximum(function(low), least), torch.minimum(function(high), most), nan)


def _exact_where_known(op: str, given: Range, otherwise: Range) -> Range:
    function = {"RECIP": torch.reciprocal}.get(op) or getattr(torch, op.lower())
    value = function(given.low.float()).double()
    known = given.known & value.isfinite()
    return Range(
        torch.where(known, value, otherwise.low),
        torch.where(known, value, otherwise.high),
        torch.where(known, False, otherwise.nan),
    )


def _of_two(op: str, first: Range, second: Range) -> Range | None:
    nan = first.nan | second.nan
    a, b = (first.low, first.high), (second.low, second.high)
    if op in {"LESS", "GREATER"}:
        less, more = ((a, b), (b, a))[op == "GREATER"]
        return Range(((less[1] < more[0]) & ~nan).double(), (less[0] < more[1]).double(), nan & False)
    if op == "EQUAL":
        same = (a[0] == a[1]) & (b[0] == b[1]) & (a[0] == b[0]) & ~nan
        never = [x.whole & y.known & (y.low != y.low.round()) for x, y in ((first, second), (second, first))]
        may = (a[0] <= b[1]) & (b[0] <= a[1]) & ~never[0] & ~never[1]  # no whole number is a fraction
        return Range(same.double(), may.double(), nan & False)
    if op in {"MAX", "MIN", "AND", "OR"}:
        function = torch.maximum if op in {"MAX", "OR"} else torch.minimum
        return Range(function(a[0], b[0]), function(a[1], b[1]), nan)
    if op in {"SUM", "SUB"}:
        low, high = (a[0] + b[0], a[1] + b[1]) if op == "SUM" else (a[0] - b[1], a[1] - b[0])
        infinite = (a[0].isinf() | a[1].isinf()) & (b[0].isinf() | b[1].isinf())
        return Range(low, high, nan | infinite)
    if op == "PROD":
        corners = torch.stack([(x * y).nan_to_num(0, math.inf, -math.inf) for x in a for y in b])
        zero = [(part.low <= 0) & (part.high >= 0) for part in (first, second)]
        infinite = [part.low.isinf() | part.high.isinf() for part in (first, second)]
        unsure = (zero[0] & infinite[1]) | (zero[1] & infinite[0])
        return Range(corners.amin(0), corners.amax(0), nan | unsure)
    if op == "DIV" and bool((second.low == second.high).all() and (second.low != 0).all() and not second.nan.any()):
        corners = torch.stack([x / second.low for x in a])
        whole = first.whole and second.whole  # cut off or not, as the dtype is
        return None if whole else Range(corners.amin(0), corners.amax(0), nan | second.low.isinf())
    if op == "FLOOR_DIV" and bool((second.low > 0).all()) and bool(second.high.isfinite().all()):
        corners = torch.stack([(x / y).floor() for x in a for y in b])
        exact = first.whole and second.whole and bool((corners.abs() < _NARROW).all())
        return Range(corners.amin(0), corners.amax(0) + (not exact), nan)  # a quotient may have been rounded up
    return None


def _selected(condition: Range, x: Range, y: Range) -> Range:
    always, never = condition.low == 1, condition.high == 0
    low = torch.where(always, x.low, torch.where(never, y.low, torch.minimum(x.low, y.low)))
    high = torch.where(always, x.high, torch.where(never, y.high, torch.maximum(x.high, y.high)))
    return Range(low, high, torch.where(always, x.nan, torch.where(never, y.nan, x.nan | y.nan)))
