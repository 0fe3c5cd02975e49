"""Which operators are taken apart: PyTorch's core ATen table, minus what the backend wants whole."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch._ops import OpOverload


def decomposition_table(keep_whole: frozenset[OpOverload]) -> dict[OpOverload, Callable[..., object]]:
    """The table for `ExportedProgram.run_decompositions`."""
    table = torch.export.default_decompositions()
    for operator in keep_whole:
        table.pop(operator, None)
    return table  # type: ignore[return-value]
