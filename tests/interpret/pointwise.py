"""One value in, one value out."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from interpret.reading import TORCH_DTYPE, Layer, along, read_weights
from interpret.semantics import NotInterpretedError, runs

_UNARY = {"RECIP": torch.reciprocal, "NOT": torch.logical_not}


@runs("ACTIVATION")
def activation(layer: Layer, x: Tensor) -> Tensor:
    """Activation.html: the formulas of its table, with alpha and beta."""
    a, b = layer.native.alpha, layer.native.beta
    functions = {
        "RELU": lambda: x.clamp(min=0),
        "SIGMOID": x.sigmoid,
        "TANH": x.tanh,
        "LEAKY_RELU": lambda: torch.where(x >= 0, x, a * x),
        "ELU": lambda: torch.where(x >= 0, x, a * torch.expm1(x)),
        "SELU": lambda: b * torch.where(x > 0, x, a * torch.expm1(x)),
        "SOFTSIGN": lambda: x / (1 + x.abs()),
        "SOFTPLUS": lambda: a * torch.logaddexp(b * x, torch.zeros_like(x)),
        "CLIP": lambda: x.clamp(a, b) if x.is_floating_point() else x.double().clamp(a, b).to(x.dtype),
        "HARD_SIGMOID": lambda: (a * x + b).clamp(0, 1),
        "SCALED_TANH": lambda: a * (b * x).tanh(),
        "THRESHOLDED_RELU": lambda: torch.where(x > a, x, torch.zeros_like(x)),
        "GELU_ERF": lambda: F.gelu(x),
        "GELU_TANH": lambda: F.gelu(x, approximate="tanh"),
    }
    return functions[layer.native.type.name]()


@runs("PARAMETRIC_RELU")
def parametric_relu(layer: Layer, x: Tensor, slope: Tensor) -> Tensor:
    """ParametricReLU.html"""
    return torch.where(x >= 0, x, x * slope)


@runs("ELEMENTWISE")
def elementwise(layer: Layer, x: Tensor, y: Tensor) -> Tensor:
    """ElementWise.html: equal ranks, sizes of 1 are broadcast; DIV of integers cuts off, FLOOR_DIV rounds down.

    FLOOR_DIV of floats rounds the rounded quotient down, as NVIDIA's own evaluation of constants does (3 / 0.6 gives 5).
    """
    assert x.dim() == y.dim(), layer.name
    cut = None if x.is_floating_point() else "trunc"
    functions = {
        "SUM": lambda: x + y,
        "SUB": lambda: x - y,
        "PROD": lambda: x * y,
        "DIV": lambda: torch.div(x, y, rounding_mode=cut),
        "FLOOR_DIV": lambda: (x / y).floor() if cut is None else torch.div(x, y, rounding_mode="floor"),
        "POW": lambda: x.pow(y),
        "MAX": lambda: torch.maximum(x, y),
        "MIN": lambda: torch.minimum(x, y),
        "AND": lambda: x & y,
        "OR": lambda: x | y,
        "XOR": lambda: x ^ y,
        "EQUAL": lambda: x == y,
        "GREATER": lambda: x > y,
        "LESS": lambda: x < y,
    }
    return functions[layer.native.op.name]()


@runs("UNARY")
def unary(layer: Layer, x: Tensor) -> Tensor:
    """Unary.html; ROUND takes half to even."""
    name = layer.native.op.name
    function = _UNARY.get(name) or getattr(torch, name.lower())
    result: Tensor = function(x)
    return result


@runs("SCALE")
def scale(layer: Layer, x: Tensor) -> Tensor:
    """Scale.html: (x * scale + shift) ** power, each of them optional."""
    native = layer.native
    parts = [
        (read_weights(native.scale), torch.mul),
        (read_weights(native.shift), torch.add),
        (read_weights(native.power), torch.pow),
    ]
    for weights, function in parts:
        if weights is None:
            continue
        shaped = weights.float().reshape(()) if native.mode.name == "UNIFORM" else weights.float()
        if native.mode.name == "CHANNEL":
            shaped = along(shaped, native.channel_axis, x.dim())
        elif native.mode.name == "ELEMENTWISE":
            shaped = shaped.reshape(x.shape[native.channel_axis :])
        x = function(x, shaped)
    return x


@runs("CAST")
def cast(layer: Layer, x: Tensor) -> Tensor:
    """Cast.html: a float is cut off, a bool is whether it is not zero.

    What a byte becomes that the value doesn't fit into is not said there: a network must not depend on it.
    """
    if layer.native.to_type not in TORCH_DTYPE:  # the builder takes int4 and fp4 out of quantize layers only
        raise NotInterpretedError(f"{layer.name}: a cast to {layer.native.to_type}")
    to = TORCH_DTYPE[layer.native.to_type]
    if to in (torch.uint8, torch.int8) and not x.is_floating_point() and x.numel():
        low, high = int(x.min()), int(x.max())
        limits = torch.iinfo(to)
        assert limits.min <= low <= high <= limits.max, f"{layer.name}: {low} to {high} as {to}"
    return x != 0 if to == torch.bool else x.to(to)


@runs("IDENTITY", "CONDITIONAL_INPUT", "ATTENTION_OUTPUT")
def identity(layer: Layer, x: Tensor) -> Tensor:
    """Identity.html"""
    return x


@runs("SELECT")
def select(layer: Layer, condition: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Select.html"""
    return torch.where(condition, x, y)


@runs("LRN")
def lrn(layer: Layer, x: Tensor) -> Tensor:
    """LRN.html"""
    native = layer.native
    return F.local_response_norm(x, native.window_size, native.alpha, native.beta, native.k)
