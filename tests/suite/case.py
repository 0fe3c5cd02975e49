"""A row of the operator suite."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_random = torch.Generator().manual_seed(0)


@dataclass(frozen=True)
class Case:
    """`function(*inputs)` through an engine must agree with PyTorch.

    With `again` the sizes that differ from those of `inputs` are dynamic, and the one engine must agree on both.
    """

    name: str
    function: Callable[..., object]
    inputs: Sequence[Tensor]
    again: Sequence[Tensor] | None = None
    tolerance: float = 1e-5  # of ||out - ref|| / ||ref||

    @property
    def dynamic(self) -> dict[int, list[int]] | None:
        """Input position -> varying dimensions."""
        if self.again is None:
            return None
        pairs = enumerate(zip(self.inputs, self.again, strict=True))
        return {place: [dim for dim in range(a.dim()) if a.shape[dim] != b.shape[dim]] for place, (a, b) in pairs}


def f32(*shape: int) -> Tensor:
    """Normal floats."""
    return torch.randn(shape, generator=_random)


def pos(*shape: int) -> Tensor:
    """Floats from 0.1 to 2."""
    return torch.rand(shape, generator=_random) * 1.9 + 0.1


def unit(*shape: int) -> Tensor:
    """Floats within -0.95 to 0.95."""
    return (torch.rand(shape, generator=_random) * 2 - 1) * 0.95


def i64(*shape: int, low: int = -9, high: int = 10) -> Tensor:
    """Whole numbers."""
    return torch.randint(low, high, shape, generator=_random)


def nonzero_i64(*shape: int) -> Tensor:
    """Whole numbers but 0."""
    value = i64(*shape)
    return torch.where(value == 0, 3, value)


def boolean(*shape: int) -> Tensor:
    """True and false."""
    return torch.rand(shape, generator=_random) > 0.5


def special() -> Tensor:
    """NaN, both infinities, both zeros and plain numbers."""
    return torch.tensor([float("nan"), float("inf"), -float("inf"), 0.0, -0.0, 1.5, -2.5, 3.5e38])
