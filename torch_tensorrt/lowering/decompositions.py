"""Which operators are taken apart: PyTorch's core ATen table, minus what the backend wants whole."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch._ops import OpOverload, OpOverloadPacket


def decomposition_table(keep_whole: frozenset[OpOverload]) -> dict[OpOverload, Callable[..., object]]:
    """The table for `ExportedProgram.run_decompositions`."""
    table = torch.export.default_decompositions()
    for operator in keep_whole:
        table.pop(operator, None)
    return table  # type: ignore[return-value]


def operators_named(names: Iterable[str]) -> frozenset[OpOverload]:
    """The overloads that names such as `aten.relu` (all of its overloads) and `aten.relu.default` stand for."""
    found: set[OpOverload] = set()
    for name in names:
        operator: object = torch.ops
        for part in name.split("."):
            operator = getattr(operator, part)
        if isinstance(operator, OpOverloadPacket):
            found.update(getattr(operator, overload) for overload in operator.overloads())
        elif isinstance(operator, OpOverload):
            found.add(operator)
    return frozenset(found)
