"""Memory layouts as orders of dimensions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols

# A node whose meta has this key stays in PyTorch; the value is the reason. It is not counted as an operation.
KEEP_IN_TORCH = "torch_tensorrt_keep_in_torch"


def dense_order(value: torch.Tensor) -> tuple[int, ...] | None:
    """The dimensions of `value` from outermost to innermost in memory; None when the memory has gaps or overlaps.

    Dimensions of size 1 keep their place among the others, since their stride says nothing.
    """
    if free_unbacked_symbols(value):
        return None
    sizes, strides = list(value.shape), list(value.stride())
    if any(isinstance(size, torch.SymInt) and size.node.hint is None for size in (*sizes, *strides)):
        return None
    real = [dim for dim, size in enumerate(sizes) if not (isinstance(size, int) and size == 1)]
    if any(isinstance(sizes[dim], int) and sizes[dim] == 0 for dim in real):
        return tuple(range(len(sizes)))
    by_stride = sorted(real, key=lambda dim: (-_hint(strides[dim]), dim))
    expected: int | torch.SymInt = 1
    for dim in reversed(by_stride):
        if str(strides[dim]) != str(expected) and _hint(strides[dim]) != _hint(expected):
            return None
        expected = expected * sizes[dim]
    if by_stride == real:
        return tuple(range(len(sizes)))
    order = iter(by_stride)
    return tuple(next(order) if dim in real else dim for dim in range(len(sizes)))


def invert(order: Sequence[int]) -> tuple[int, ...]:
    """The permutation that undoes `order`."""
    return tuple(order.index(dim) for dim in range(len(order)))


def _hint(size: int | torch.SymInt) -> int:
    return size if isinstance(size, int) else int(size.node.hint)
