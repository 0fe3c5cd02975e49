"""The least value of a size that varies."""

from __future__ import annotations

from collections.abc import Mapping
from weakref import WeakKeyDictionary

import sympy
import torch
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.utils._sympy.value_ranges import ValueRanges, bound_sympy

_lowest: WeakKeyDictionary[ShapeEnv, dict[sympy.Symbol, int]] = WeakKeyDictionary()


def allow_from(environment: ShapeEnv, lowest: Mapping[sympy.Symbol, int]) -> None:
    """Says from which values on symbols may be given at run time, where torch.export takes them for 2 at least."""
    _lowest.setdefault(environment, {}).update(lowest)


def least(size: int | torch.SymInt) -> float:
    """What `size` is at least, by the ranges of the sizes that it is made of; -inf where nothing is known.

    Ranges are those that calls are checked against: what `allow_from` was told, or else PyTorch's own.
    """
    if isinstance(size, int):
        return size
    environment = size.node.shape_env
    told = _lowest.get(environment, {})
    known = {
        symbol: ValueRanges(told.get(symbol, bounds.lower), bounds.upper)
        for symbol, bounds in environment.var_to_range.items()
        if symbol in size.node.expr.free_symbols
    }
    return float(bound_sympy(size.node.expr, known).lower)
