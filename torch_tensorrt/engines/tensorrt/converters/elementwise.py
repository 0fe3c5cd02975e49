"""Operators that work on each element: one value in, or two with broadcasting, in the dtype that PyTorch promotes to."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import fx
from torch._ops import OpOverload

from torch_tensorrt.engines.tensorrt.converters.casting import BYTES, wrap
from torch_tensorrt.engines.tensorrt.converters.registry import bind, converts
from torch_tensorrt.engines.tensorrt.net import Net
from torch_tensorrt.engines.tensorrt.network import Operand
from torch_tensorrt.engines.tensorrt.promotion import operand_dtype, result_dtype
from torch_tensorrt.engines.tensorrt.sdk import ITensor
from torch_tensorrt.spec.settings import CompilationSettings

aten = torch.ops.aten
_LARGEST_PRODUCT = 4

# Results are floats: integers are cast first.
UNARY: Mapping[OpOverload, str] = {
    aten.acos.default: "ACOS",
    aten.acosh.default: "ACOSH",
    aten.asin.default: "ASIN",
    aten.asinh.default: "ASINH",
    aten.atan.default: "ATAN",
    aten.atanh.default: "ATANH",
    aten.cos.default: "COS",
    aten.cosh.default: "COSH",
    aten.erf.default: "ERF",
    aten.exp.default: "EXP",
    aten.log.default: "LOG",
    aten.reciprocal.default: "RECIP",
    aten.sin.default: "SIN",
    aten.sinh.default: "SINH",
    aten.sqrt.default: "SQRT",
    aten.tan.default: "TAN",
}
# Integers are left as they are.
ROUNDING: Mapping[OpOverload, str] = {
    aten.ceil.default: "CEIL",
    aten.floor.default: "FLOOR",
    aten.round.default: "ROUND",
}
SIGNED: Mapping[OpOverload, str] = {aten.abs.default: "ABS", aten.neg.default: "NEG", aten.sign.default: "SIGN"}
FLOATING: Mapping[OpOverload, str] = {aten.sigmoid.default: "SIGMOID", aten.tanh.default: "TANH"}
BINARY: Mapping[OpOverload, str] = {
    aten.mul.Tensor: "PROD",
    aten.mul.Scalar: "PROD",
    aten.div.Tensor: "DIV",
    aten.div.Scalar: "DIV",
    torch.ops.prims.div.default: "DIV",
    aten.maximum.default: "MAX",
    aten.minimum.default: "MIN",
}
OF_BOOLS: Mapping[str, str] = {
    "SUM": "OR",
    "PROD": "AND",
    "MAX": "OR",
    "MIN": "AND",
}  # what PyTorch's results amount to
COMPARISON: Mapping[OpOverload, tuple[str, bool]] = {  # the SDK's operation, and whether its result is negated
    aten.eq.Tensor: ("EQUAL", False),
    aten.eq.Scalar: ("EQUAL", False),
    aten.ne.Tensor: ("EQUAL", True),
    aten.ne.Scalar: ("EQUAL", True),
    aten.gt.Tensor: ("GREATER", False),
    aten.gt.Scalar: ("GREATER", False),
    aten.lt.Tensor: ("LESS", False),
    aten.lt.Scalar: ("LESS", False),
}
OR_EQUAL: Mapping[OpOverload, str] = {
    aten.ge.Tensor: "GREATER",
    aten.ge.Scalar: "GREATER",
    aten.le.Tensor: "LESS",
    aten.le.Scalar: "LESS",
}
LOGICAL: Mapping[OpOverload, str] = {
    aten.logical_and.default: "AND",
    aten.logical_or.default: "OR",
    aten.logical_xor.default: "XOR",
    aten.bitwise_and.Tensor: "AND",
    aten.bitwise_or.Tensor: "OR",
    aten.bitwise_xor.Tensor: "XOR",
    aten.bitwise_and.Scalar: "AND",
    aten.bitwise_and.Scalar_Tensor: "AND",
    aten.bitwise_or.Scalar: "OR",
    aten.bitwise_or.Scalar_Tensor: "OR",
    aten.bitwise_xor.Scalar: "XOR",
    aten.bitwise_xor.Scalar_Tensor: "XOR",
}


def not_bool(node: fx.Node, settings: CompilationSettings) -> str:
    """TensorRT's arithmetic takes numbers."""
    return "TensorRT computes no numbers with bool" if operand_dtype(node) is torch.bool else ""


def outside_bytes(node: fx.Node, settings: CompilationSettings) -> str:
    """PyTorch cuts a number down to the tensor's dtype before it compares."""
    dtype = operand_dtype(node)
    if dtype not in BYTES:
        return ""
    low, high = torch.iinfo(dtype).min, torch.iinfo(dtype).max
    outside = [given for given in node.args if isinstance(given, int) and not low <= given <= high]
    return f"{outside[0]} is outside of {dtype}, which TensorRT computes in int32" if outside else ""


def only_bool(node: fx.Node, settings: CompilationSettings) -> str:
    """Bits of integers can't be reached."""
    bits = "bitwise" in str(node.target) and result_dtype(node) is not torch.bool
    return f"TensorRT has no {node.target} of integers, only of bools" if bits else ""


@converts(*UNARY)
def unary(net: Net, self: ITensor) -> ITensor:
    """f(Tensor self) -> Tensor, floating point."""
    return net.unary(net.cast(self, net.result), UNARY[_target(net)])


@converts(*ROUNDING)
def rounding(net: Net, self: ITensor) -> ITensor:
    """f(Tensor self) -> Tensor; half goes to even."""
    return self if net.is_integer(self) else net.unary(self, ROUNDING[_target(net)])


@converts(*SIGNED, refuse=not_bool)
def signed(net: Net, self: ITensor) -> ITensor:
    """f(Tensor self) -> Tensor, numbers of any type."""
    return net.unary(self, SIGNED[_target(net)])


@converts(*FLOATING)
def floating(net: Net, self: ITensor) -> ITensor:
    """f(Tensor self) -> Tensor, floating point."""
    return net.activation(net.cast(self, net.result), FLOATING[_target(net)])


@converts(aten.relu.default, refuse=not_bool)
def relu(net: Net, self: ITensor) -> ITensor:
    """relu(Tensor self) -> Tensor"""
    return net.elementwise(self, 0, "MAX", net.result) if net.is_integer(self) else net.activation(self, "RELU")


@converts(aten.rsqrt.default)
def rsqrt(net: Net, self: ITensor) -> ITensor:
    """rsqrt(Tensor self) -> Tensor"""
    return net.unary(net.unary(net.cast(self, net.result), "SQRT"), "RECIP")


@converts(aten.gelu.default, whole=True)
def gelu(net: Net, self: ITensor, approximate: str) -> ITensor:
    """gelu(Tensor self, *, str approximate='none') -> Tensor"""
    return net.activation(self, "GELU_TANH" if approximate == "tanh" else "GELU_ERF")


@converts(*BINARY, refuse=outside_bytes, also=BYTES)
def binary(net: Net, self: Operand, other: Operand) -> ITensor:
    """f(Tensor self, Tensor other) -> Tensor; div gives a float."""
    return _arithmetic(net, self, other, BINARY[_target(net)])


@converts(aten.add.Tensor, aten.add.Scalar, also=BYTES)
def add(net: Net, self: Operand, other: Operand, alpha: float) -> ITensor:
    """add.Tensor(Tensor self, Tensor other, *, Scalar alpha=1) -> Tensor"""
    return _arithmetic(net, self, _scaled(net, other, alpha), "SUM")


@converts(aten.sub.Tensor, aten.sub.Scalar, refuse=not_bool, also=BYTES)
def sub(net: Net, self: Operand, other: Operand, alpha: float) -> ITensor:
    """sub.Tensor(Tensor self, Tensor other, *, Scalar alpha=1) -> Tensor"""
    return _arithmetic(net, self, _scaled(net, other, alpha), "SUB")


def divides_whole_numbers(node: fx.Node, settings: CompilationSettings) -> str:
    """div with a rounding mode: of floats, where infinities and -0 are what remains to be looked at, or of integers."""
    mode = bind(node)["rounding_mode"]
    if mode == "trunc" and result_dtype(node).is_floating_point:
        return ""
    return not_bool(node, settings)


@converts(aten.div.Tensor_mode, aten.div.Scalar_mode, refuse=divides_whole_numbers)
def div_mode(net: Net, self: Operand, other: Operand, rounding_mode: str | None) -> ITensor:
    """div.Tensor_mode(Tensor self, Tensor other, *, str? rounding_mode) -> Tensor"""
    if rounding_mode == "floor":
        return _divide_down(net, self, other)
    quotient = net.elementwise(self, other, "DIV", net.result)  # of integers: cut off already
    if rounding_mode is None or net.is_integer(quotient):
        return quotient
    size = net.unary(net.unary(quotient, "ABS"), "FLOOR")
    return net.elementwise(net.unary(quotient, "SIGN"), size, "PROD", net.result)


@converts(aten.floor_divide.default, aten.floor_divide.Scalar, refuse=not_bool)
def floor_divide(net: Net, self: Operand, other: Operand) -> ITensor:
    """floor_divide(Tensor self, Tensor other) -> Tensor"""
    return _divide_down(net, self, other)


def _divide_down(net: Net, first: Operand, second: Operand) -> ITensor:
    """The whole number below a quotient. FLOOR_DIV of floats rounds the rounded quotient down.

    PyTorch has NaN for infinities, and -1 for a negative quotient that is too small for anything but -0.
    """
    a, b = net.operands(first, second, dtype=net.result)
    below = net.elementwise(a, b, "FLOOR_DIV", net.result)
    if net.is_integer(below):
        return below
    signs = net.elementwise(net.unary(a, "SIGN"), net.unary(b, "SIGN"), "PROD", net.result)
    small = net.elementwise(signs, 0.0, "MIN", net.result)
    below = net.select(net.elementwise(below, 0.0, "EQUAL", net.result), small, below, net.result)
    return net.select(net.unary(a, "ISINF"), math.nan, below, net.result)


@converts(aten.remainder.Tensor, aten.remainder.Scalar, aten.remainder.Scalar_Tensor, refuse=not_bool)
def remainder(net: Net, self: Operand, other: Operand) -> ITensor:
    """remainder.Tensor(Tensor self, Tensor other) -> Tensor: with the sign of `other`."""
    whole = _divide_down(net, self, other)
    taken = net.elementwise(whole, other, "PROD", net.result)
    if not net.is_integer(whole):  # 0 times an infinite `other`
        taken = net.select(net.elementwise(whole, 0.0, "EQUAL", net.result), 0.0, taken, net.result)
    return net.elementwise(self, taken, "SUB", net.result)


def powers(node: fx.Node, settings: CompilationSettings) -> str:
    """POW is of floats; small whole powers of integers are products."""
    small = bind(node)["exponent"]
    if result_dtype(node).is_floating_point or (type(small) is int and 1 <= small <= _LARGEST_PRODUCT):
        return ""
    return f"TensorRT has powers of floats, and of integers those from 1 to {_LARGEST_PRODUCT}"


@converts(aten.pow.Tensor_Tensor, aten.pow.Tensor_Scalar, aten.pow.Scalar, refuse=powers)
def power(net: Net, self: Operand, exponent: Operand) -> ITensor:
    """pow.Tensor_Scalar(Tensor self, Scalar exponent) -> Tensor"""
    if type(exponent) is int and 1 <= exponent <= _LARGEST_PRODUCT:
        result, *factors = net.operands(*[self] * exponent, dtype=net.result)
        for factor in factors:
            result = net.elementwise(result, factor, "PROD", net.result)
        return result
    return net.elementwise(self, exponent, "POW", net.result)


@converts(*COMPARISON, refuse=outside_bytes, also=BYTES)
def compare(net: Net, self: Operand, other: Operand) -> ITensor:
    """f(Tensor self, Tensor other) -> Tensor of bools; bools are compared as 0 and 1."""
    op, negated = COMPARISON[_target(net)]
    result = net.elementwise(self, other, op, _comparable(net))
    return net.unary(result, "NOT") if negated else result


@converts(*OR_EQUAL, refuse=outside_bytes, also=BYTES)
def compare_or_equal(net: Net, self: Operand, other: Operand) -> ITensor:
    """f(Tensor self, Tensor other) -> Tensor of bools; false where either is NaN."""
    dtype = _comparable(net)
    a, b = net.operands(self, other, dtype=dtype)
    strictly, equal = net.elementwise(a, b, OR_EQUAL[_target(net)], dtype), net.elementwise(a, b, "EQUAL", dtype)
    return net.elementwise(strictly, equal, "OR", torch.bool)


@converts(*LOGICAL, refuse=only_bool, also=BYTES)
def logical(net: Net, self: Operand, other: Operand) -> ITensor:
    """f(Tensor self, Tensor other) -> Tensor of bools."""
    return net.elementwise(self, other, LOGICAL[_target(net)], torch.bool)


@converts(aten.bitwise_not.default)
def bitwise_not(net: Net, self: ITensor) -> ITensor:
    """bitwise_not(Tensor self) -> Tensor: of a bool its opposite, of an integer -1 - self."""
    return net.elementwise(-1, self, "SUB", net.result) if net.is_integer(self) else net.unary(self, "NOT")


@converts(aten.logical_not.default, also=BYTES)
def invert(net: Net, self: ITensor) -> ITensor:
    """logical_not(Tensor self) -> Tensor of bools."""
    return net.unary(net.cast(self, torch.bool), "NOT")


@converts(aten.where.self)
def where(net: Net, condition: Operand, self: Operand, other: Operand) -> ITensor:
    """where.self(Tensor condition, Tensor self, Tensor other) -> Tensor"""
    return net.select(condition, self, other, net.result)


@converts(aten.clamp.default, aten.clamp.Tensor, aten.clip.default, aten.clip.Tensor, refuse=not_bool)
def clamp(net: Net, self: ITensor, min: Operand | None, max: Operand | None) -> ITensor:
    """clamp(Tensor self, Scalar? min=None, Scalar? max=None) -> Tensor, or with tensors; the upper bound wins."""
    result = net.cast(self, net.result)
    if min is not None:
        result = net.elementwise(result, min, "MAX", net.result)
    return result if max is None else net.elementwise(result, max, "MIN", net.result)


@converts(aten.hardtanh.default, refuse=not_bool)
def hardtanh(net: Net, self: ITensor, min_val: float, max_val: float) -> ITensor:
    """hardtanh(Tensor self, Scalar min_val=-1, Scalar max_val=1) -> Tensor"""
    return clamp(net, self, min_val, max_val)


@converts(aten.isnan.default, aten.isinf.default)
def is_special(net: Net, self: ITensor) -> ITensor:
    """isnan(Tensor self) -> Tensor of bools; no integer is special."""
    if net.dtype(self) is torch.bool or net.is_integer(self):
        zero = net.cast(self, torch.float32)
        return net.elementwise(net.unary(zero, "ABS"), -1.0, "LESS", torch.float32)
    return net.unary(self, "ISNAN" if _target(net) is aten.isnan.default else "ISINF")


@converts(aten.log2.default, aten.log10.default)
def log_of_base(net: Net, self: ITensor) -> ITensor:
    """log2(Tensor self) -> Tensor"""
    base = 2.0 if _target(net) is aten.log2.default else 10.0
    return net.elementwise(net.unary(net.cast(self, net.result), "LOG"), 1 / math.log(base), "PROD", net.result)


def _target(net: Net) -> OpOverload:
    assert net.node is not None
    assert isinstance(net.node.target, OpOverload)
    return net.node.target


def _arithmetic(net: Net, first: Operand, second: Operand, op: str) -> ITensor:
    if net.result in BYTES:
        return wrap(net, net.elementwise(first, second, op, torch.int32), net.result)
    return net.elementwise(first, second, OF_BOOLS[op] if net.result is torch.bool else op, net.result)


def _comparable(net: Net) -> torch.dtype:
    return torch.int32 if net.common is torch.bool or net.common in BYTES else net.common


def _scaled(net: Net, value: Operand, alpha: float) -> Operand:
    dtype = torch.int32 if net.result in BYTES else net.result
    op = OF_BOOLS["PROD"] if dtype is torch.bool else "PROD"
    return value if alpha == 1 else net.elementwise(value, alpha, op, dtype)
