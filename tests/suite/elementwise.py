"""Rows: one value in, one value out; two values in with broadcasting and type promotion."""

from __future__ import annotations

import operator
from collections.abc import Iterator

import torch
import torch.nn.functional as F

from suite.case import Case, boolean, f32, i64, nonzero_i64, pos, special, unit

_ANYWHERE = (
    "abs neg sign floor ceil round trunc relu sigmoid tanh sin cos atan asinh sinh cosh erf erfc exp expm1 square "
    "isnan isinf isfinite logical_not"
)
_POSITIVE = "log log2 log10 log1p sqrt rsqrt reciprocal lgamma digamma"
_UNIT = "acos asin atanh tan erfinv"
_ACTIVATIONS = (
    F.relu6, F.elu, F.celu, F.selu, F.gelu, F.silu, F.mish, F.hardswish, F.hardsigmoid, F.hardtanh, F.leaky_relu,
    F.softplus, F.softsign, F.tanhshrink, F.softshrink, F.hardshrink, F.logsigmoid,
)  # fmt: skip


def rows() -> Iterator[Case]:
    """All of them."""
    yield from _unary()
    yield from _binary()
    yield from _casts()


def _unary() -> Iterator[Case]:
    for name in _ANYWHERE.split():
        yield Case(name, getattr(torch, name), [f32(3, 5) * 3])
        yield Case(f"{name} of special values", getattr(torch, name), [special()])
        yield Case(f"{name} of int64", getattr(torch, name), [i64(3, 5)])
        yield Case(f"{name} dynamic", getattr(torch, name), [f32(3, 5)], [f32(6, 5)])
    for name in _POSITIVE.split():
        yield Case(name, getattr(torch, name), [pos(3, 5)])
        yield Case(f"{name} of special values", getattr(torch, name), [special()])
        yield Case(f"{name} of int64", getattr(torch, name), [i64(3, 5, low=1)])
    for name in _UNIT.split():
        yield Case(name, getattr(torch, name), [unit(3, 5)])
    yield Case("acosh", torch.acosh, [pos(3, 5) + 1])
    for function in _ACTIVATIONS:
        yield Case(function.__name__, function, [f32(3, 5) * 4])
        yield Case(f"{function.__name__} of special values", function, [special()])
        yield Case(f"{function.__name__} dynamic", function, [f32(3, 5)], [f32(4, 5)])
    yield Case("gelu tanh", lambda x: F.gelu(x, approximate="tanh"), [f32(3, 5) * 3])
    yield Case("elu alpha", lambda x: F.elu(x, 0.3), [f32(3, 5)])
    yield Case("celu alpha", lambda x: F.celu(x, 0.3), [f32(3, 5)])
    yield Case("leaky_relu slope", lambda x: F.leaky_relu(x, 0.3), [f32(3, 5)])
    yield Case("leaky_relu negative slope", lambda x: F.leaky_relu(x, -0.3), [f32(3, 5)])
    yield Case("softplus beta threshold", lambda x: F.softplus(x, 2.0, 3.0), [f32(3, 5) * 5])
    yield Case("hardtanh range", lambda x: F.hardtanh(x, -0.3, 0.6), [f32(3, 5)])
    yield Case("prelu", F.prelu, [f32(2, 4, 3), f32(4)])
    yield Case("prelu single", F.prelu, [f32(2, 4, 3), f32(1)])
    yield Case("glu", lambda x: F.glu(x, 1), [f32(3, 6)])
    yield Case("round half to even", torch.round, [torch.tensor([0.5, 1.5, 2.5, -0.5, -1.5, -2.5])])
    yield Case("round decimals", lambda x: torch.round(x, decimals=2), [f32(3, 5)])
    yield Case("nan_to_num", lambda x: torch.nan_to_num(x, 1.0, 2.0, -3.0), [special()])
    yield Case("abs of int32", torch.abs, [i64(5).int()])
    yield Case("bitwise_not of int64", torch.bitwise_not, [i64(5)])
    yield Case("bitwise_not of bool", torch.bitwise_not, [boolean(5)])
    yield Case("scalar input", lambda x: x.exp() + 1, [torch.tensor(0.5)])
    yield Case("empty input", lambda x: x.exp() + 1, [f32(0, 3)])
    yield Case("frac", torch.frac, [f32(5) * 3])
    for bound in ((-1, 1), (None, 0.5), (-0.5, None), (1.0, -1.0)):
        yield Case(f"clamp {bound}", lambda x, b=bound: torch.clamp(x, *b), [f32(3, 5)])
    yield Case("clamp of special values", lambda x: torch.clamp(x, -1, 1), [special()])
    yield Case("clamp of int64", lambda x: torch.clamp(x, -2, 3), [i64(3, 5)])
    yield Case("clamp of int64 from below", lambda x: torch.clamp(x, min=-2), [i64(3, 5)])
    yield Case("clamp of int64 with floats", lambda x: torch.clamp(x, -1.5, 2.5), [i64(3, 5)])
    yield Case("clamp of int64, one bound outside int32", lambda x: torch.clamp(x, 0, 2**40), [i64(3, 5)])
    yield Case("clamp with tensors", torch.clamp, [f32(3, 5), f32(5) - 1, f32(3, 1) + 1])
    yield Case("clamp with one tensor", lambda x, t: torch.clamp(x, max=t), [f32(3, 5), f32(5)])
    yield Case("clamp_min tensor", lambda x, t: torch.clamp(x, min=t), [f32(3, 5), f32(5)])


_ARITHMETIC = (torch.add, torch.sub, torch.mul, torch.maximum, torch.minimum, torch.atan2, torch.pow)
_TENSORS_ONLY = (torch.maximum, torch.minimum, torch.atan2)
_DIVISIONS = (torch.div, torch.floor_divide, torch.remainder, torch.fmod)
_COMPARISONS = (torch.eq, torch.ne, torch.lt, torch.le, torch.gt, torch.ge)
_LOGIC = (torch.logical_and, torch.logical_or, torch.logical_xor)
_BITS = (torch.bitwise_and, torch.bitwise_or, torch.bitwise_xor)


def _binary() -> Iterator[Case]:
    for function in _COMPARISONS:
        yield Case(f"{function.__name__} of special values and a number", lambda x, f=function: f(x, 1), [special()])
    for function in (*_ARITHMETIC, *_DIVISIONS, *_COMPARISONS):
        name = function.__name__
        yield Case(name, function, [pos(3, 5), f32(3, 5)])
        yield Case(f"{name} broadcast", function, [pos(3, 1, 5), f32(4, 1)])
        yield Case(f"{name} of special values", function, [special(), torch.full((8,), 2.0)])
        yield Case(f"{name} dynamic", function, [pos(3, 5), f32(3, 5)], [pos(4, 5), f32(4, 5)])
        if function not in _TENSORS_ONLY:
            yield Case(f"{name} with a number", lambda x, f=function: f(x, 2), [pos(3, 5)])
            yield Case(f"{name} of int64 and a float number", lambda x, f=function: f(x, 1.5), [i64(4, 6, low=1)])
        yield Case(f"{name} of int64", function, [i64(4, 6, low=0), nonzero_i64(4, 6).abs()])
        if function is not torch.pow:
            yield Case(f"{name} of int64 with signs", function, [i64(4, 6), nonzero_i64(4, 6)])
        yield Case(f"{name} of int32 and int64", function, [i64(4, 6, low=0).int(), nonzero_i64(4, 6).abs()])
        yield Case(f"{name} of int64 and float32", function, [i64(4, 6, low=1), pos(4, 6)])
        yield Case(f"{name} of float32 and a 0-d int64", function, [pos(4), torch.tensor(3)])
        yield Case(f"{name} of 0-d float32 and int64", function, [torch.tensor(2.0), i64(4, low=1)])
    for function in (*_COMPARISONS, *_LOGIC, *_BITS, torch.mul, torch.add, torch.maximum):
        yield Case(f"{function.__name__} of bool", function, [boolean(4, 6), boolean(4, 6)])
    for function in (*_BITS, *_LOGIC):
        yield Case(f"{function.__name__} of int64", function, [i64(4, 6), i64(4, 6)])
    for function in (torch.add, torch.mul, torch.eq, torch.sub, torch.bitwise_and):
        for dtype in (torch.uint8, torch.int8, torch.int16, torch.int32):
            low = 0 if dtype is torch.uint8 else -100
            given = [i64(30, low=low, high=127).to(dtype), i64(30, low=low, high=127).to(dtype)]
            yield Case(f"{function.__name__} of {dtype}", function, given)
    for mode in ("trunc", "floor"):
        divide = lambda x, y, m=mode: torch.div(x, y, rounding_mode=m)  # noqa: E731
        yield Case(f"div {mode}", divide, [f32(4, 6) * 9, pos(4, 6)])
        yield Case(f"div {mode} of negatives", divide, [f32(4, 6) * 9, -pos(4, 6)])
        yield Case(f"div {mode} of int64", divide, [i64(4, 6), nonzero_i64(4, 6)])
        yield Case(f"div {mode} of int64 by a number", lambda x, d=divide: d(x, -4), [i64(4, 6)])
        yield Case(f"div {mode} of large int64", divide, [i64(20, low=2**28, high=2**30), torch.tensor([7])])
    for operation in (operator.floordiv, operator.mod, operator.truediv, operator.pow):
        yield Case(f"number {operation.__name__} tensor", lambda x, f=operation: f(7, x), [nonzero_i64(4, 6).abs()])
        yield Case(f"number {operation.__name__} float tensor", lambda x, f=operation: f(7.5, x), [pos(4, 6)])
    yield Case("add alpha", lambda x, y: torch.add(x, y, alpha=2.5), [f32(3, 5), f32(5)])
    yield Case("sub alpha", lambda x, y: torch.sub(x, y, alpha=3), [i64(3, 5), i64(5)])
    yield Case("add of int64 with alpha", lambda x, y: torch.add(x, y, alpha=3), [i64(3, 5), i64(5)])
    yield Case("rsub", lambda x: torch.rsub(x, 2.5, alpha=3), [f32(3, 5)])
    yield Case("addcmul", lambda x, y, z: torch.addcmul(x, y, z, value=0.3), [f32(3, 5), f32(3, 1), f32(5)])
    yield Case("addcdiv", lambda x, y, z: torch.addcdiv(x, y, z, value=0.3), [f32(3, 5), f32(3, 1), pos(5)])
    yield Case("lerp", lambda x, y: torch.lerp(x, y, 0.3), [f32(3, 5), f32(3, 5)])
    yield Case("logaddexp", torch.logaddexp, [f32(3, 5), f32(3, 5)])
    yield Case("where", torch.where, [boolean(3, 5), f32(3, 1), f32(5)])
    yield Case("where with a number", lambda c, x: torch.where(c, x, float("-inf")), [boolean(3, 5), f32(3, 5)])
    yield Case("where of mixed dtypes", lambda c, x, y: torch.where(c, x, y), [boolean(3, 5), i64(3, 5), f32(5)])
    yield Case("masked_fill", lambda x, m: x.masked_fill(m, -1e9), [f32(3, 5), boolean(3, 5)])
    yield Case(
        "masked_fill -inf", lambda x, m: x.masked_fill(m, float("-inf")).softmax(-1), [f32(3, 5), boolean(3, 5).triu()]
    )
    yield Case(
        "masked_fill int64 min", lambda x, m: x.masked_fill(m, torch.finfo(torch.float32).min), [f32(3, 5), boolean(5)]
    )
    yield Case("shift left", lambda x: x << 2, [i64(5, low=0)])
    yield Case("shift right", lambda x: x >> 1, [i64(5)])
    yield Case("pow 2", lambda x: x**2, [f32(3, 5)])
    yield Case("pow 3 of negatives", lambda x: x**3, [f32(3, 5)])
    yield Case("pow 0.5", lambda x: x**0.5, [pos(3, 5)])
    yield Case("pow -1 of negatives", lambda x: x**-1, [f32(3, 5)])
    yield Case("pow int", lambda x: x**2, [i64(3, 5)])
    yield Case("large whole numbers", lambda x: x + 1, [torch.tensor([2**24 + 1, 2**30 + 1, -(2**30) - 1])])
    yield Case("product of large whole numbers", lambda x: x * 3, [torch.tensor([2**24 + 1, 2**28 + 1])])
    yield Case("comparison of large whole numbers", lambda x: x == 2**24 + 1, [torch.tensor([2**24, 2**24 + 1])])
    yield Case("a number outside int32", lambda x: x + 2**40, [i64(4)])


def _casts() -> Iterator[Case]:
    floats, small = (torch.float32, torch.float16, torch.bfloat16), (torch.int64, torch.int32, torch.bool)
    for source in (*floats, *small, torch.uint8, torch.int8, torch.float64):
        for target in (*floats, *small, torch.uint8, torch.int8, torch.float64):
            given = (f32(4, 6).abs() * 9).to(source)
            yield Case(f"{source} to {target}", lambda x, t=target: (x.to(t), x), [given])
    yield Case("negative floats to int64", lambda x: x.to(torch.int64), [torch.tensor([-1.5, -0.5, 0.5, 1.99, -2.0])])
    yield Case("fractions to bool", lambda x: x.to(torch.bool), [torch.tensor([0.0, 0.3, -0.2, 5.0, -0.0])])
    yield Case("nan to bool", lambda x: x.to(torch.bool), [special()])
    yield Case(
        "large int64 to int32 and back", lambda x: x.to(torch.int32).to(torch.int64), [torch.tensor([2**30 + 1])]
    )
    yield Case("float16 arithmetic", lambda x, y: x * y + 1, [f32(3, 5).half(), f32(5).half()], tolerance=1e-2)
    yield Case("bfloat16 arithmetic", lambda x, y: x * y + 1, [f32(3, 5).bfloat16(), f32(5).bfloat16()], tolerance=2e-2)
    yield Case("float16 times float32", lambda x, y: x * y, [f32(3, 5).half(), f32(5)])
