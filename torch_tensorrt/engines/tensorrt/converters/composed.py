"""Functions that the SDK has no layer for, made of ones that it has, by formulas that are exact near 0 and at infinity."""

from __future__ import annotations

import math

import torch
from torch import fx

from torch_tensorrt.engines.tensorrt.converters.registry import bind, converts
from torch_tensorrt.engines.tensorrt.net import Net
from torch_tensorrt.engines.tensorrt.network import Operand
from torch_tensorrt.engines.tensorrt.promotion import operand_dtype
from torch_tensorrt.engines.tensorrt.sdk import ITensor
from torch_tensorrt.spec.settings import CompilationSettings

aten = torch.ops.aten
_LARGEST_SHIFT = 30


@converts(aten.expm1.default)
def expm1(net: Net, self: ITensor) -> ITensor:
    """expm1(Tensor self) -> Tensor: tanh(x / 2) * (exp(x) + 1), which cancels nothing."""
    x = net.cast(self, net.result)
    half = net.activation(net.elementwise(x, 0.5, "PROD", net.result), "TANH")
    return net.elementwise(half, net.elementwise(net.unary(x, "EXP"), 1.0, "SUM", net.result), "PROD", net.result)


@converts(aten.log1p.default)
def log1p(net: Net, self: ITensor) -> ITensor:
    """log1p(Tensor self) -> Tensor: 2 * atanh(x / (2 + x)), and beyond 0.5 the logarithm itself."""
    x = net.cast(self, net.result)
    ratio = net.elementwise(x, net.elementwise(x, 2.0, "SUM", net.result), "DIV", net.result)
    near = net.elementwise(net.unary(ratio, "ATANH"), 2.0, "PROD", net.result)
    far = net.unary(net.elementwise(x, 1.0, "SUM", net.result), "LOG")
    beyond = net.elementwise(net.unary(x, "ABS"), 0.5, "GREATER", net.result)
    return net.select(beyond, far, near, net.result)


@converts(aten.exp2.default)
def exp2(net: Net, self: ITensor) -> ITensor:
    """exp2(Tensor self) -> Tensor"""
    return net.elementwise(2.0, self, "POW", net.result)


@converts(aten.trunc.default)
def trunc(net: Net, self: ITensor) -> ITensor:
    """trunc(Tensor self) -> Tensor"""
    return self if net.is_integer(self) else _cut_off(net, self)


@converts(aten.round.decimals)
def round_decimals(net: Net, self: ITensor, decimals: int) -> ITensor:
    """round.decimals(Tensor self, *, int decimals) -> Tensor"""
    if net.is_integer(self):
        return self
    up, down = ("PROD", "DIV") if decimals >= 0 else ("DIV", "PROD")
    moved = net.elementwise(self, 10.0 ** abs(decimals), up, net.result)
    return net.elementwise(net.unary(moved, "ROUND"), 10.0 ** abs(decimals), down, net.result)


@converts(aten.fmod.Tensor, aten.fmod.Scalar)
def fmod(net: Net, self: Operand, other: Operand) -> ITensor:
    """fmod.Tensor(Tensor self, Tensor other) -> Tensor: with the sign of `self`, which is the result where `other` is inf."""
    quotient = net.elementwise(self, other, "DIV", net.result)
    whole = quotient if net.is_integer(quotient) else _cut_off(net, quotient)
    taken = net.elementwise(whole, other, "PROD", net.result)
    if net.result.is_floating_point:
        taken = net.select(net.elementwise(whole, 0.0, "EQUAL", net.result), 0.0, taken, net.result)
    return net.elementwise(self, taken, "SUB", net.result)


@converts(aten.atan2.default)
def atan2(net: Net, self: ITensor, other: ITensor) -> ITensor:
    """atan2(Tensor self, Tensor other) -> Tensor: the angle of the sizes, put in its quadrant by signs (zeros have them)."""
    y, x = net.operands(self, other, dtype=net.result)
    rise, run = net.unary(y, "ABS"), net.unary(x, "ABS")
    equal = net.elementwise(rise, run, "EQUAL", net.result)  # both 0 or both inf: not their quotient
    ratio = net.select(equal, net.unary(rise, "SIGN"), net.elementwise(rise, run, "DIV", net.result), net.result)
    angle = net.unary(ratio, "ATAN")
    turned = net.select(_is_negative(net, x), net.elementwise(math.pi, angle, "SUB", net.result), angle, net.result)
    return net.select(_is_negative(net, y), net.unary(turned, "NEG"), turned, net.result)


def no_small_shift(node: fx.Node, settings: CompilationSettings) -> str:
    """Shifting is multiplying or dividing by a power of two, which has to be an integer."""
    count = bind(node)["other"]
    if operand_dtype(node).is_floating_point or operand_dtype(node) is torch.bool:
        return f"TensorRT shifts whole numbers, not {operand_dtype(node)}"
    small = type(count) is int and 0 <= count <= _LARGEST_SHIFT
    return "" if small else f"TensorRT shifts by fixed numbers from 0 to {_LARGEST_SHIFT}, not by {count}"


@converts(aten.__lshift__.Scalar, aten.bitwise_left_shift.Tensor_Scalar, refuse=no_small_shift)
def shift_left(net: Net, self: ITensor, other: int) -> ITensor:
    """__lshift__.Scalar(Tensor self, Scalar other) -> Tensor"""
    return net.elementwise(self, 2**other, "PROD", net.result)


@converts(aten.__rshift__.Scalar, aten.bitwise_right_shift.Tensor_Scalar, refuse=no_small_shift)
def shift_right(net: Net, self: ITensor, other: int) -> ITensor:
    """__rshift__.Scalar(Tensor self, Scalar other) -> Tensor: rounds down."""
    return net.elementwise(self, 2**other, "FLOOR_DIV", net.result)


def _cut_off(net: Net, value: ITensor) -> ITensor:
    size = net.unary(net.unary(value, "ABS"), "FLOOR")
    return net.elementwise(net.unary(value, "SIGN"), size, "PROD", net.dtype(value))


def _is_negative(net: Net, value: ITensor) -> ITensor:
    """Whether the sign is set: of -0 too, whose reciprocal is -inf."""
    below = net.elementwise(value, 0.0, "LESS", net.dtype(value))
    beneath = net.elementwise(net.unary(value, "RECIP"), 0.0, "LESS", net.dtype(value))
    return net.elementwise(below, beneath, "OR", torch.bool)
