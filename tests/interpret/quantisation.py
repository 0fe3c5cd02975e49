"""Quantize and dequantize."""

from __future__ import annotations

import tensorrt_rtx as trt
import torch
from torch import Tensor

from interpret.reading import FP4_VALUES, HELD_AS, Layer, along
from interpret.semantics import runs

_RANGE = {trt.int8: (-128, 127), trt.int4: (-8, 7), trt.uint8: (0, 255)}


def _spread(scale: Tensor, x: Tensor, axis: int) -> Tensor:
    """A scale for the whole tensor, along an axis, or for blocks, as large as `x`."""
    if scale.numel() == 1:
        return scale.reshape(())
    if scale.dim() == 1:
        return along(scale, axis % x.dim(), x.dim())
    for place in range(x.dim()):
        scale = scale.repeat_interleave(x.shape[place] // scale.shape[place], place)
    return scale


@runs("QUANTIZE")
def quantize(layer: Layer, x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
    """Quantize.html: round to even, add the zero point, and stay in the range."""
    axis, to = layer.native.axis, layer.output_types[0]
    scaled = x / _spread(scale.float(), x, axis)
    if to == trt.fp8:
        return scaled.clamp(-448, 448).to(torch.float8_e4m3fn)
    if to == trt.fp4:
        grid = FP4_VALUES[:8]
        return torch.sign(scaled) * grid[(scaled.abs().unsqueeze(-1) - grid).abs().argmin(-1)]
    shift = torch.zeros(()) if zero is None else _spread(zero.float(), x, axis)
    return (scaled.round() + shift).clamp(*_RANGE[to]).to(HELD_AS[to])


@runs("DEQUANTIZE")
def dequantize(layer: Layer, x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
    """Dequantize.html"""
    shift = torch.zeros(()) if zero is None else _spread(zero.float(), x, layer.native.axis)
    return (x.float() - shift) * _spread(scale.float(), x, layer.native.axis)
