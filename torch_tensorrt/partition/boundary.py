"""TensorSpecs from metadata: the sizes of a partition's inputs and outputs at the three points of the symbols' ranges."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

import torch
from torch import fx

from torch_tensorrt.spec.errors import FileFormatError, InternalError
from torch_tensorrt.spec.shape_expr import Evaluate, Size, parse, symbols_in, text_of
from torch_tensorrt.spec.tensor_spec import Dim, TensorSpec


class Range(Protocol):
    """Least, typical and greatest value of a symbol."""

    @property
    def min(self) -> int: ...
    @property
    def opt(self) -> int: ...
    @property
    def max(self) -> int | None: ...
    @property
    def profiles(self) -> tuple[tuple[int, int, int], ...]: ...


def tensor_spec(name: str, value: torch.Tensor, ranges: Mapping[str, Range]) -> TensorSpec:
    """The spec of a fake tensor; sizes that are symbols become Dims."""
    return TensorSpec(name, value.dtype, tuple(_size(size, ranges) for size in value.shape), value.device.type)


def input_specs(graph_module: fx.GraphModule, ranges: Mapping[str, Range]) -> tuple[TensorSpec | None, ...]:
    """The spec of each placeholder; None for one that is no tensor."""
    values = [(node.name, node.meta.get("val")) for node in graph_module.graph.nodes if node.op == "placeholder"]
    return tuple(
        tensor_spec(name, value, ranges) if isinstance(value, torch.Tensor) else None for name, value in values
    )


def _size(size: int | torch.SymInt, ranges: Mapping[str, Range]) -> int | Dim:
    if isinstance(size, int):
        return size
    expr = text_of(size.node.expr)
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
    profiles = tuple(_in_profile(evaluate, names, ranges, place) for place in range(_profile_count(names, ranges)))
    return Dim(expr, min(low, opt), opt, None if high is None else max(low, opt, high), profiles)


def _profile_count(names: Collection[str], ranges: Mapping[str, Range]) -> int:
    return max((len(ranges[name].profiles) for name in names), default=0)


def _in_profile(
    evaluate: Evaluate, names: Collection[str], ranges: Mapping[str, Range], place: int
) -> tuple[int, int, int]:
    """The values of an expression at the three points of one of several ranges."""
    points = []
    for at in range(3):
        values: dict[str, Size] = {}
        for name in names:
            known = ranges[name]
            whole = (known.min, known.opt, known.opt if known.max is None else known.max)
            values[name] = (known.profiles[place] if known.profiles else whole)[at]
        points.append(int(evaluate(values)))
    low, opt, high = points
    return min(low, opt), opt, max(low, opt, high)
