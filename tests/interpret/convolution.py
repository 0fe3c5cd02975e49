"""Convolution, deconvolution, pooling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import tensorrt_rtx as trt
import torch
import torch.nn.functional as F
from torch import Tensor

from interpret.reading import Layer, read_weights
from interpret.semantics import runs

_SAME = (trt.PaddingMode.SAME_UPPER, trt.PaddingMode.SAME_LOWER)


def _windows(size: int, window: int, step: int, pads: tuple[int, int], mode: Any) -> tuple[int, int]:
    """(padding in front, number of windows) along one axis; `window` with its dilation."""
    if mode in _SAME:
        count = -(-size // step)
        total = max((count - 1) * step + window - size, 0)
        return (total // 2 if mode == trt.PaddingMode.SAME_UPPER else total - total // 2), count
    span = size + sum(pads) - window
    rounded = -(-span // step) if mode == trt.PaddingMode.EXPLICIT_ROUND_UP else span // step
    return pads[0], rounded + 1


def _padded(
    value: Tensor, native: Any, window: Sequence[int], step: Sequence[int], gap: Sequence[int], fill: float
) -> Tensor:
    """`value` padded, or cut, so that windows without padding give TensorRT's sizes."""
    pad: list[int] = []
    for axis, extent in enumerate(window):
        size = value.shape[value.dim() - len(window) + axis]
        wide = gap[axis] * (extent - 1) + 1
        pads = (native.pre_padding[axis], native.post_padding[axis])
        before, count = _windows(size, wide, step[axis], pads, native.padding_mode)
        pad = [before, (count - 1) * step[axis] + wide - size - before, *pad]
    return F.pad(value, pad, value=fill)


def _weights(
    native: Any, shape: tuple[int, ...], kernel: Tensor | None, bias: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """The kernel and the bias, which are the layer's own or come as tensors."""
    own = kernel if kernel is not None else read_weights(native.kernel)
    assert own is not None
    added = bias if bias is not None else read_weights(native.bias)
    return own.reshape(shape).float(), None if added is None else added.float().flatten()


@runs("CONVOLUTION")
def convolution(layer: Layer, x: Tensor, kernel: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
    """Convolution.html; the kernel is [maps, channels / groups, ...]."""
    native, window = layer.native, tuple(layer.native.kernel_size_nd)
    channels = x.shape[-len(window) - 1]
    shape = (native.num_output_maps, channels // native.num_groups, *window)
    weight, added = _weights(native, shape, kernel, bias)
    stride, gap = tuple(native.stride_nd), tuple(native.dilation_nd)
    function = F.conv2d if len(window) == 2 else F.conv3d
    return function(_padded(x, native, window, stride, gap, 0.0), weight, added, stride, 0, gap, native.num_groups)


@runs("DECONVOLUTION")
def deconvolution(layer: Layer, x: Tensor, kernel: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
    """Deconvolution.html; the kernel is [channels, maps / groups, ...], padding cuts the result."""
    native, window = layer.native, tuple(layer.native.kernel_size_nd)
    shape = (x.shape[-len(window) - 1], native.num_output_maps // native.num_groups, *window)
    weight, added = _weights(native, shape, kernel, bias)
    function = F.conv_transpose2d if len(window) == 2 else F.conv_transpose3d
    stride, gap = tuple(native.stride_nd), tuple(native.dilation_nd)
    full = function(x, weight, added, stride, 0, 0, native.num_groups, gap)
    pad: list[int] = []
    for axis in range(len(window)):
        before, after = native.pre_padding[axis], native.post_padding[axis]
        if native.padding_mode in _SAME:
            place = full.dim() - len(window) + axis
            total = max(full.shape[place] - x.shape[place] * stride[axis], 0)
            small, large = total // 2, total - total // 2
            before, after = (small, large) if native.padding_mode == trt.PaddingMode.SAME_UPPER else (large, small)
        pad = [-before, -after, *pad]
    return F.pad(full, pad)


@runs("POOLING")
def pooling(layer: Layer, x: Tensor) -> Tensor:
    """Pooling.html: the average counts padding unless it is told not to; a blend is between both."""
    native, window, stride = layer.native, tuple(layer.native.window_size_nd), tuple(layer.native.stride_nd)
    ones, lead = (1,) * len(window), x.shape[: -len(window)]
    largest, mean = (F.max_pool2d, F.avg_pool2d) if len(window) == 2 else (F.max_pool3d, F.avg_pool3d)
    flat = x.reshape((-1, 1, *x.shape[-len(window) :])).float()
    results = {}
    if native.type != trt.PoolingType.AVERAGE:
        results["max"] = largest(_padded(flat, native, window, stride, ones, -math.inf), window, stride)
    if native.type != trt.PoolingType.MAX:
        results["mean"] = mean(_padded(flat, native, window, stride, ones, 0.0), window, stride)
        if native.average_count_excludes_padding:
            share = mean(_padded(torch.ones_like(flat), native, window, stride, ones, 0.0), window, stride)
            results["mean"] = results["mean"] / share
    if len(results) == 2:
        out = (1 - native.blend_factor) * results["max"] + native.blend_factor * results["mean"]
    else:
        (out,) = results.values()
    return out.reshape(lead + out.shape[-len(window) :]).to(x.dtype)
