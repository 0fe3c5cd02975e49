"""Layers that move values and compute none, and constants."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from interpret.reading import HELD_AS, Layer, along, read_weights
from interpret.semantics import runs


@runs("CONSTANT")
def constant(layer: Layer) -> Tensor:
    """Constant.html"""
    shape, flat = tuple(layer.native.shape), read_weights(layer.native.weights)
    return torch.empty(shape, dtype=HELD_AS[layer.output_types[0]]) if flat is None else flat.reshape(shape)


@runs("SHAPE")
def shape_of(layer: Layer, x: Tensor) -> Tensor:
    """Shape.html: int64 in networks with strong types."""
    return torch.tensor(x.shape, dtype=torch.int64)


@runs("SHUFFLE")
def shuffle(layer: Layer, x: Tensor, sizes: Tensor | None = None) -> Tensor:
    """Shuffle.html: a transposition, a reshape, a transposition; the size 0 means "as it is", unless told otherwise."""
    native = layer.native
    x = x.permute(tuple(native.first_transpose)[: x.dim()])  # always eight long
    target = native.reshape_dims if sizes is None else sizes.tolist()
    if target is not None:
        target = list(target)
        if native.zero_is_placeholder:
            target = [x.shape[place] if size == 0 else size for place, size in enumerate(target)]
        x = x.reshape(target)
    return x.permute(tuple(native.second_transpose)[: x.dim()])


@runs("SQUEEZE")
def squeeze(layer: Layer, x: Tensor, axes: Tensor | None = None) -> Tensor:
    """Squeeze.html"""
    return x.squeeze() if axes is None else x.squeeze(tuple(axes.tolist()))


@runs("UNSQUEEZE")
def unsqueeze(layer: Layer, x: Tensor, axes: Tensor) -> Tensor:
    """Unsqueeze.html: axes count in the result."""
    for axis in sorted(place % (x.dim() + axes.numel()) for place in axes.tolist()):
        x = x.unsqueeze(axis)
    return x


@runs("CONCATENATION")
def concatenation(layer: Layer, *given: Tensor) -> Tensor:
    """Concatenation.html"""
    return torch.cat(given, layer.native.axis)


@runs("PADDING")
def padding(layer: Layer, x: Tensor) -> Tensor:
    """Padding.html: the last two dimensions; a negative count cuts."""
    (top, left), (bottom, right) = layer.native.pre_padding_nd, layer.native.post_padding_nd
    return F.pad(x, (left, right, top, bottom))


@runs("SLICE")
def slice_of(
    layer: Layer,
    x: Tensor,
    start: Tensor | None = None,
    size: Tensor | None = None,
    stride: Tensor | None = None,
    fill: Tensor | None = None,
    axes: Tensor | None = None,
) -> Tensor:
    """Slice.html: start + stride * i for each i below size; the mode says what lies outside."""
    native, mode = layer.native, layer.native.mode.name
    # A getter is asked only when its tensor is absent: TensorRT logs a warning otherwise.
    first = list(native.start) if start is None else start.tolist()
    count = list(native.shape) if size is None else size.tolist()
    step = list(native.stride) if stride is None else stride.tolist()
    every = list(range(x.dim())) if native.axes is None else list(native.axes)
    outside = None
    for axis, begin, length, apart in zip(every if axes is None else axes.tolist(), first, count, step, strict=True):
        index = begin + apart * torch.arange(length)
        extent = x.shape[axis % x.dim()]
        bad = (index < 0) | (index >= extent)
        assert mode != "STRICT_BOUNDS" or not bad.any(), f"{layer.name}: outside of its input on axis {axis}"
        if extent == 0 and length and mode == "FILL":  # nothing but what fills it
            x = x.new_zeros([length if place == axis % x.dim() else size for place, size in enumerate(x.shape)])
        else:
            x = x.index_select(axis, _within(mode, index, extent))
        if mode == "FILL":
            here = along(bad, axis % x.dim(), x.dim())
            outside = here if outside is None else outside | here
    if outside is None:
        return x
    return torch.where(outside, torch.zeros((), dtype=x.dtype) if fill is None else fill.to(x.dtype), x)


def _within(mode: str, index: Tensor, extent: int) -> Tensor:
    if mode == "WRAP":
        return index % extent
    if mode == "REFLECT":
        return (extent - 1) - (index % max(2 * (extent - 1), 1) - (extent - 1)).abs()
    return index.clamp(0, max(extent - 1, 0))  # CLAMP; with FILL the value is replaced


@runs("REVERSE_SEQUENCE")
def reverse_sequence(layer: Layer, x: Tensor, lengths: Tensor) -> Tensor:
    """ReverseSequence.html"""
    order = (layer.native.batch_axis, layer.native.sequence_axis)
    moved = x.movedim(order, (0, 1)).clone()
    for row, length in enumerate(lengths.tolist()):
        moved[row, :length] = moved[row, :length].flip(0)
    return moved.movedim((0, 1), order)
