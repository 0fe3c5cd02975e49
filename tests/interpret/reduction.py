"""Many values into one: reductions, products of matrices, normalisation, sums along an axis."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from interpret.reading import TORCH_DTYPE, Layer, axes_of
from interpret.semantics import runs


@runs("REDUCE")
def reduce(layer: Layer, x: Tensor) -> Tensor:
    """Reduce.html; integers stay what they are, and their average is cut off."""
    native = layer.native
    for axis in reversed(axes_of(native.axes, x.dim())):
        x = _reduce(native.op.name, x, axis, native.keep_dims)
    return x


def _reduce(op: str, x: Tensor, axis: int, keep: bool) -> Tensor:
    options: dict[str, Any] = {"dim": axis, "keepdim": keep}
    if op == "SUM":
        return x.sum(dtype=x.dtype, **options)
    if op == "PROD":
        return x.prod(dtype=x.dtype, **options)
    if op == "AVG":
        if x.is_floating_point():
            return x.mean(**options)
        return torch.div(x.sum(dtype=x.dtype, **options), x.shape[axis], rounding_mode="trunc")
    if x.shape[axis] == 0:  # what every other value beats
        whole = (
            (torch.iinfo(x.dtype).min, torch.iinfo(x.dtype).max) if not x.is_floating_point() else (-math.inf, math.inf)
        )
        return x.sum(dtype=x.dtype, **options).fill_(whole[op == "MIN"])
    result: Tensor = (x.amax if op == "MAX" else x.amin)(**options)
    return result


@runs("SOFTMAX")
def softmax(layer: Layer, x: Tensor) -> Tensor:
    """SoftMax.html"""
    (axis,) = axes_of(layer.native.axes, x.dim())
    return x.softmax(axis)


@runs("RAGGED_SOFTMAX")
def ragged_softmax(layer: Layer, x: Tensor, bounds: Tensor) -> Tensor:
    """RaggedSoftMax.html: each row up to its bound, zeros behind."""
    keep = torch.arange(x.shape[-1]).expand(x.shape) < bounds
    return torch.where(keep, x.masked_fill(~keep, -math.inf).softmax(-1), torch.zeros(()))


@runs("MATRIX_MULTIPLY")
def matrix_multiply(layer: Layer, x: Tensor, y: Tensor) -> Tensor:
    """MatrixMultiply.html: op0 and op1 are NONE, TRANSPOSE or VECTOR; leading dimensions are broadcast."""
    first, second = layer.native.op0.name, layer.native.op1.name
    x = x.mT if first == "TRANSPOSE" else x.unsqueeze(-2) if first == "VECTOR" else x
    y = y.mT if second == "TRANSPOSE" else y.unsqueeze(-1) if second == "VECTOR" else y
    out = x @ y
    out = out.squeeze(-1) if second == "VECTOR" else out
    return out.squeeze(-1 if second == "VECTOR" else -2) if first == "VECTOR" else out


@runs("EINSUM")
def einsum(layer: Layer, *given: Tensor) -> Tensor:
    """Einsum.html"""
    return torch.einsum(layer.native.equation, *given)


@runs("NORMALIZATION")
def normalization(layer: Layer, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Normalization.html: (x - mean) / sqrt(variance + epsilon) * scale + bias over the axes, or over groups of channels."""
    native, shape, groups = layer.native, x.shape, layer.native.num_groups
    axes = axes_of(native.axes, x.dim())
    if groups > 1:  # channels are axis 1
        x = x.reshape(shape[0], groups, shape[1] // groups, *shape[2:])
        axes = [2, *(axis + 1 for axis in axes if axis > 1)]
    mean = x.mean(axes, keepdim=True)
    variance = (x - mean).square().mean(axes, keepdim=True)
    x = (x - mean) / torch.sqrt(variance + native.epsilon)
    if groups > 1 and not native.is_v2:  # the first version has a scale and a bias per group, [1, groups, 1, ...]
        return (x * scale.unsqueeze(2) + bias.unsqueeze(2)).reshape(shape)
    return x.reshape(shape) * scale + bias


@runs("CUMULATIVE")
def cumulative(layer: Layer, x: Tensor, where: Tensor) -> Tensor:
    """Cumulative.html: sums along an axis, in reverse, and without the value itself."""
    native, axis = layer.native, int(where)
    x = x.flip(axis) if native.reverse else x
    out = x.cumsum(axis, dtype=x.dtype)
    out = out - x if native.exclusive else out
    return out.flip(axis) if native.reverse else out


@runs("TOPK")
def topk(layer: Layer, x: Tensor, count: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """TopK.html; which of two equal values comes first is not said there."""
    native = layer.native
    (axis,) = axes_of(native.axes, x.dim())
    values, index = x.topk(native.k if count is None else int(count), axis, largest=native.op.name == "MAX")
    return values, index.to(TORCH_DTYPE[native.indices_type])
