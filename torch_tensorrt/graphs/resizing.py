"""Upsampling and downsampling, where OpenVINO 2026.4 and ONNX Runtime 1.27 take other neighbours than PyTorch.

Where a pixel lies between two, rounding decides: they divide by out/in in float32, PyTorch multiplies by in/out. Images that shrink to
one row or column are wrong in OpenVINO without align_corners, and NaN in ONNX Runtime's cubic rule with them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TypeAlias

import torch
from torch import fx
from torch._ops import OpOverload
from torch.fx.experimental.symbolic_shapes import statically_known_true

from torch_tensorrt.graphs.bounds import least

aten = torch.ops.aten
_Size: TypeAlias = "int | torch.SymInt"
_EXACT = 2**20  # below it, what lies between two is told from what doesn't in float32
_LONG = 4096  # output pixels for which a whole factor is tried


def _dims(node: fx.Node) -> Iterator[tuple[int, _Size, _Size, float | None]]:
    """(dimension, size before, size after, the factor where PyTorch goes by one) of each that is resized."""
    source = node.args[0]
    assert isinstance(source, fx.Node)
    before, after = source.meta["val"].shape, node.meta["val"].shape
    given = _factors(node)
    for place, dim in enumerate(range(2, len(before))):
        yield dim, before[dim], after[dim], given[place] if given else None


def _factors(node: fx.Node) -> list[float | None]:
    """scale_factors, or the scales of an overload that takes them one by one; empty where there are none."""
    assert isinstance(node.target, OpOverload)
    names = [declared.name for declared in node.target._schema.arguments]
    given = [*node.args, *([None] * len(names))]
    named = {name: node.kwargs.get(name, value) for name, value in zip(names, given, strict=False)}
    listed = named.get("scale_factors")
    if isinstance(listed, (list, tuple)):
        return list(listed)
    return [value for name, value in named.items() if name.startswith("scales")]  # type: ignore[misc]


def becomes_one(node: fx.Node, *, shrinking: bool) -> str:
    """Which dimension of a linear or cubic one may have one element then, or "". shrinking: where it may have had more before."""
    for dim, before, after, _ in _dims(node):
        if least(after) < 2 and not (shrinking and statically_known_true(before == 1)):
            return f"dimension {dim} of its result has, or may have, one element"
    return ""


def rounds(node: fx.Node, *, steps: bool) -> str:
    """Where pixels of a nearest one may lie between two neighbours, or "". steps: `take_steps` will be called for it."""
    if _repeats(node) or (steps and all(_step(before, after, factor) for _, before, after, factor in _dims(node))):
        return ""
    sizes = ", ".join(f"{before} to {after}" for _, before, after, _ in _dims(node))
    return f"it goes from {sizes}, where pixels lie, or may lie, between two neighbours"


def steps_taken(node: fx.Node) -> dict[int, tuple[int, int]]:
    """Dimension -> (end, n) where a nearest one takes each n-th element up to `end`; empty where it repeats elements."""
    if _repeats(node):
        return {}
    found = {}
    for dim, before, after, factor in _dims(node):
        step = _step(before, after, factor)
        assert step
        found[dim] = ((int(after) - 1) * step + 1, step)
    return found


def take_steps(node: fx.Node, steps: Mapping[int, tuple[int, int]]) -> None:
    """nearest(x)  ->  x[:, :, :end:n, :end:n]."""
    picked = node.args[0]
    assert isinstance(picked, fx.Node)
    for dim, (end, step) in steps.items():
        value = picked.meta["val"]
        picked = node.graph.call_function(aten.slice.Tensor, (picked, dim, 0, end, step))
        picked.meta["val"] = aten.slice.Tensor(value, dim, 0, end, step)
    node.replace_all_uses_with(picked)
    node.graph.erase_node(node)


def _repeats(node: fx.Node) -> bool:
    return all(_is_repeated(before, after, factor) for _, before, after, factor in _dims(node))


def _is_repeated(before: _Size, after: _Size, factor: float | None) -> bool:
    """Whether OpenVINO's own way is right: each is repeated as often as the others, or none lies between two."""
    if isinstance(before, int) and isinstance(after, int):
        times = after // before
        whole = after == times * before and factor in (None, times)
        apart = factor is None and math.gcd(before, after) == 1 and before * after < _EXACT
        return (whole or apart) and torch.equal(_places(before, after, factor), _count(after) * before // after)
    steady = _whole_factor(before, after, factor)
    return steady is not None and torch.equal(
        _places(_LONG // steady, _LONG // steady * steady, factor), _blocks(steady)
    )


def _whole_factor(before: _Size, after: _Size, factor: float | None) -> int | None:
    """n where `after` is n times `before` at all sizes."""
    first, last = _hint(before), _hint(after)
    if factor is None and not (first and last):
        return None
    times = int(factor) if factor is not None else last // first  # type: ignore[operator]
    known = factor == times if factor is not None else statically_known_true(after == times * before)
    return times if known and 1 <= times <= _LONG else None


def _hint(size: _Size) -> int | None:
    """A typical value; None for a size that only a run tells."""
    return size if isinstance(size, int) else size.node.hint


def _blocks(times: int) -> torch.Tensor:
    return _count(_LONG // times * times) // times


def _step(before: _Size, after: _Size, factor: float | None) -> int | None:
    """n where PyTorch takes each n-th; None where it doesn't, or sizes vary."""
    if not isinstance(before, int) or not isinstance(after, int):
        return None
    places = _places(before, after, factor)
    step = int(places[1]) if after > 1 else 1
    return step if step >= 1 and torch.equal(places, _count(after) * step) else None


def _places(before: int, after: int, factor: float | None) -> torch.Tensor:
    """Which elements PyTorch takes."""
    row = _count(before).float()[None, None]
    taken: torch.Tensor = aten.upsample_nearest1d.default(row, [after], factor)
    return taken[0, 0].long()


def _count(numbers: int) -> torch.Tensor:
    return torch.arange(numbers, device="cpu")  # whatever torch.set_default_device says
