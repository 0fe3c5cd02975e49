"""TensorSpecs from metadata: the sizes of a partition's inputs and outputs at the three points of the symbols' ranges."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch

from torch_tensorrt.spec.errors import FileFormatError, InternalError
from torch_tensorrt.spec.shape_expr import parse, symbols_in
from torch_tensorrt.spec.tensor_spec import Dim, TensorSpec


class Range(Protocol):
    """Least, typical and greatest value of a symbol."""

    @property
    def min(self) -> int: ...
    @property
    def opt(self) -> int: ...
    @property
    def max(self) -> int | None: ...


def tensor_spec(name: str, value: torch.Tensor, ranges: Mapping[str, Range]) -> TensorSpec:
    """The spec of a fake tensor; sizes that are symbols become Dims."""
    return TensorSpec(name, value.dtype, tuple(_size(size, ranges) for size in value.shape), value.device.type)


def _size(size: int | torch.SymInt, ranges: Mapping[str, Range]) -> int | Dim:
    if isinstance(size, int):
        return size
    expr = str(size.node.expr)
    if expr.isdigit():
        return int(expr)
    try:
        evaluate, names = parse(expr), symbols_in(expr)
    except FileFormatError as error:
        raise InternalError(
            f"The size {expr!r} has a form that engines can't be told about yet: {error}. Please report this."
        ) from error
    if not all(name in ranges for name in names):  # made at run time (nonzero): nothing bounds it
        return Dim(expr, 0, 1, None)
    opt = int(evaluate({name: ranges[name].opt for name in names}))
    low = int(evaluate({name: ranges[name].min for name in names}))
    highest = {name: ranges[name].max for name in names}
    high = (
        None
        if None in highest.values()
        else int(evaluate({name: top for name, top in highest.items() if top is not None}))
    )
    return Dim(expr, min(low, opt), opt, None if high is None else max(low, opt, high))
