"""Upsampling and downsampling, where OpenVINO 2026.4 and ONNX Runtime 1.31 take other neighbours than PyTorch.

Where a pixel lies between two, rounding decides: they divide by out/in in float32, PyTorch multiplies by in/out. Images that shrink to
one row or column are wrong in OpenVINO without align_corners, and NaN in ONNX Runtime's cubic rule with them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

import torch
from torch import fx
from torch._ops import OpOverload
from torch.fx.experimental.symbolic_shapes import statically_known_true

from torch_tensorrt.graphs.bounds import least

aten = torch.ops.aten
_Size: TypeAlias = "int | torch.SymInt"
_LARGE = (
    2**20
)  # sizes multiplied; below it float32 tells what lies this near to a neighbour's edge from what lies on it:
_MARGIN = 1e-4  # pixels
_LONG = 4096  # output pixels for which a whole factor is tried


class _Resized(NamedTuple):
    """A dimension, its size before and after, and the factor where PyTorch goes by one."""

    dim: int
    before: _Size
    after: _Size
    factor: float | None


def _dims(node: fx.Node) -> list[_Resized]:
    source = node.args[0]
    assert isinstance(source, fx.Node)
    before, after = source.meta["val"].shape, node.meta["val"].shape
    given = _factors(node)
    return [_Resized(dim, before[dim], after[dim], given[dim - 2] if given else None) for dim in range(2, len(before))]


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
    dims = _dims(node)
    repeated, stepped = all(map(_is_repeated, dims)), all(map(_step, dims))
    mixed = not any(_factors(node)) and all(_is_repeated(each) or _step(each) for each in dims)
    if repeated or (steps and (stepped or mixed)):
        return ""
    sizes = ", ".join(f"{each.before} to {each.after}" for each in dims)
    return f"it goes from {sizes}, where pixels lie, or may lie, between two neighbours"


def steps_taken(node: fx.Node) -> dict[int, tuple[int, int]]:
    """Dimension -> (end, n) where a nearest one takes each n-th element up to `end`; none of those that it repeats elements of."""
    dims = _dims(node)
    if all(map(_is_repeated, dims)):
        return {}
    taken = dims if all(map(_step, dims)) else [each for each in dims if not _is_repeated(each)]
    steps = [(each, _step(each) or 1) for each in taken]
    return {each.dim: ((int(each.after) - 1) * step + 1, step) for each, step in steps}


def take_steps(node: fx.Node, steps: Mapping[int, tuple[int, int]]) -> None:
    """nearest(x)  ->  x[:, :, :end:n, :end:n], or nearest(x[:, :, :end:n]) where only some dimensions are taken in steps."""
    source = picked = node.args[0]
    assert isinstance(source, fx.Node)
    assert isinstance(picked, fx.Node)
    for dim, (end, step) in steps.items():
        value = picked.meta["val"]
        picked = node.graph.call_function(aten.slice.Tensor, (picked, dim, 0, end, step))
        picked.meta["val"] = aten.slice.Tensor(value, dim, 0, end, step)
    if len(steps) < source.meta["val"].dim() - 2:
        node.args = (picked, *node.args[1:])
        return
    node.replace_all_uses_with(picked)
    node.graph.erase_node(node)


def _is_repeated(each: _Resized) -> bool:
    """Whether division is right: each element is repeated as often as the others, or no pixel lies between two."""
    _, before, after, factor = each
    if not isinstance(before, int) or not isinstance(after, int):
        times = _whole_factor(each)
        pixels = _LONG // times if times is not None else 0
        return times is not None and torch.equal(
            _places(pixels, pixels * times, factor), _count(pixels * times) // times
        )
    times = after // before
    if after == times * before and factor in (None, times):
        return torch.equal(_places(before, after, factor), _count(after) * before // after)
    exact = _count(after).double() * (before / after if factor is None else 1 / factor)
    apart = after == 1 or bool((exact - exact.round()).abs()[1:].min() > _MARGIN)
    return apart and before * after < _LARGE and torch.equal(_places(before, after, factor), exact.long())


def _whole_factor(each: _Resized) -> int | None:
    """n where the size after is n times that before at all sizes."""
    _, before, after, factor = each
    first, last = _hint(before), _hint(after)
    if factor is None and not (first and last):
        return None
    times = int(factor) if factor is not None else int(last or 0) // int(first or 1)
    known = factor == times if factor is not None else statically_known_true(after == times * before)
    return times if known and 1 <= times <= _LONG else None


def _hint(size: _Size) -> int | None:
    """A typical value; None for a size that only a run tells."""
    return size if isinstance(size, int) else size.node.hint


def _step(each: _Resized) -> int | None:
    """n where PyTorch takes each n-th; None where it doesn't, or sizes vary."""
    _, before, after, factor = each
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
