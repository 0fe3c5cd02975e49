"""Resize and grid sampling."""

from __future__ import annotations

import math
from typing import Any

import tensorrt_rtx as trt
import torch
import torch.nn.functional as F
from torch import Tensor

from interpret.reading import Layer, along
from interpret.semantics import runs

_ROUNDING = {
    "HALF_UP": lambda at: (at + 0.5).floor(),
    "HALF_DOWN": lambda at: (at - 0.5).ceil(),
    "FLOOR": torch.floor,
    "CEIL": torch.ceil,
}


@runs("RESIZE")
def resize(layer: Layer, x: Tensor, sizes: Tensor | None = None) -> Tensor:
    """Resize.html: each axis by itself, by its size or by its scale."""
    native, dtype, scales = layer.native, x.dtype, None
    if sizes is not None:
        wanted = sizes.tolist()
    elif (fixed := native.shape) is not None:  # asked first: the SDK warns when it is asked for scales that are not set
        wanted = list(fixed)
    else:
        scales = native.scales
        wanted = [math.floor(size * scale) for size, scale in zip(x.shape, scales, strict=True)]
    for axis, (size, out) in enumerate(zip(list(x.shape), wanted, strict=True)):
        if size != out:
            x = _resize_axis(native, x, axis, out, scales[axis] if scales else out / size)
    return x.to(dtype)


def _resize_axis(native: Any, x: Tensor, axis: int, out: int, scale: float) -> Tensor:
    size, mode, at = x.shape[axis], native.resize_mode.name, _source(native, x.shape[axis], out, scale)
    if mode == "NEAREST":
        return x.index_select(axis, _ROUNDING[native.nearest_rounding.name](at).clamp(0, size - 1).long())
    if mode == "LINEAR":
        at = at.clamp(0, size - 1)
    base = at.floor()
    taps = _cubic(native, base, at - base, size) if mode == "CUBIC" else [(base, 1 - at + base), (base + 1, at - base)]
    result = torch.zeros(())
    for place, weight in taps:
        picked = x.index_select(axis, place.clamp(0, size - 1).long())
        result = result + picked * along(weight.to(x.dtype), axis, x.dim())
    return result


def _source(native: Any, size: int, out: int, scale: float) -> Tensor:
    """Where in the input each place of the output lies."""
    at = torch.arange(out, dtype=torch.float64)
    how = native.coordinate_transformation.name
    if native.selector_for_single_pixel == trt.ResizeSelector.UPPER and out == 1:
        return torch.zeros(1, dtype=torch.float64)
    if how == "ALIGN_CORNERS":
        return at * (size - 1) / (out - 1) if out > 1 else at * 0
    return (at + 0.5) / scale - 0.5 if how == "HALF_PIXEL" else at / scale


def _cubic(native: Any, base: Tensor, part: Tensor, size: int) -> list[tuple[Tensor, Tensor]]:
    a = native.cubic_coeff

    def near(t: Tensor) -> Tensor:
        return ((a + 2) * t - (a + 3)) * t * t + 1

    def far(t: Tensor) -> Tensor:
        return ((a * t - 5 * a) * t + 8 * a) * t - 4 * a

    taps = [(base - 1, far(1 + part)), (base, near(part)), (base + 1, near(1 - part)), (base + 2, far(2 - part))]
    if not native.exclude_outside:
        return taps
    taps = [(place, weight * ((place >= 0) & (place < size))) for place, weight in taps]
    total = torch.stack([weight for _, weight in taps]).sum(0)
    return [(place, weight / total) for place, weight in taps]


@runs("GRID_SAMPLE")
def grid_sample(layer: Layer, x: Tensor, grid: Tensor) -> Tensor:
    """GridSample.html"""
    native = layer.native
    mode = {"NEAREST": "nearest", "LINEAR": "bilinear", "CUBIC": "bicubic"}[native.interpolation_mode.name]
    outside = {"FILL": "zeros", "CLAMP": "border", "REFLECT": "reflection"}[native.sample_mode.name]
    return F.grid_sample(x, grid, mode, outside, native.align_corners)
