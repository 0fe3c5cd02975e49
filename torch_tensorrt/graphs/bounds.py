"""The least value of a size that varies."""

from __future__ import annotations

import torch
from torch.utils._sympy.value_ranges import ValueRanges, bound_sympy

_ASSUMED = 2  # torch.export takes sizes for that at least, whatever was asked for


def least(size: int | torch.SymInt) -> float:
    """What `size` is at least, by the ranges of the sizes that it is made of; -inf where nothing is known.

    What PyTorch took for granted while it traced doesn't count.
    """
    if isinstance(size, int):
        return size
    ranges = size.node.shape_env.var_to_range
    known = {
        symbol: ValueRanges(1, bounds.upper) if bounds.lower == _ASSUMED else bounds
        for symbol, bounds in ranges.items()
        if symbol in size.node.expr.free_symbols
    }
    return float(bound_sympy(size.node.expr, known).lower)
