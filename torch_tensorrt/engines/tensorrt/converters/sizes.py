"""Arithmetic on sizes: nodes of Python operators and of `sym_size`, on ints and on sizes that only a run decides.

Fractions are float32 in an engine and float64 in Python: they may be factors, but a size is never made of one, except of the
quotient of two whole numbers, which is rounded exactly.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import torch
from torch import fx

from torch_tensorrt.engines.tensorrt.net import Net
from torch_tensorrt.engines.tensorrt.network import Scalar, Size
from torch_tensorrt.engines.tensorrt.sdk import ITensor

ValueOf: TypeAlias = "Callable[[fx.Node], Any]"  # what a node became in the network
_SYM_SIZE, _SYM_NUMEL = torch.ops.aten.sym_size.int, torch.ops.aten.sym_numel.default
_COUNTS = (_SYM_SIZE, _SYM_NUMEL)
_TABLE: Mapping[object, str] = {
    operator.add: "SUM",
    operator.sub: "SUB",
    operator.mul: "PROD",
    operator.floordiv: "FLOOR_DIV",
    torch.sym_max: "MAX",
    torch.sym_min: "MIN",
}


_COMPARED: Mapping[object, tuple[str, bool]] = {  # the SDK's operation, and whether its result is negated
    operator.eq: ("EQUAL", False),
    operator.ne: ("EQUAL", True),
    operator.gt: ("GREATER", False),
    operator.le: ("GREATER", True),
    operator.lt: ("LESS", False),
    operator.ge: ("LESS", True),
}
_BOTH: Mapping[object, str] = {operator.and_: "AND", operator.or_: "OR"}
_ROUNDED = (math.ceil, math.floor, math.trunc, torch.sym_int)


def _modulo(net: Net, first: Size, second: Size) -> Size:
    whole = net.compute_size(net.compute_size(first, second, "FLOOR_DIV"), second, "PROD")
    return net.compute_size(first, whole, "SUB")


def _negate(net: Net, value: Size) -> Size:
    return net.compute_size(0, value, "SUB")


def _as_float(net: Net, value: Size) -> Scalar:
    return Scalar(net.cast(net.size_tensor([value]), torch.float32))


def _divide(net: Net, first: Size, second: Size) -> Scalar:
    a, b = (_operand(net, value) for value in (first, second))
    return Scalar(net.elementwise(a, b, "DIV", torch.float32))


def _power(net: Net, first: Size, second: float | Scalar) -> Size:
    if isinstance(second, int) and second >= 0 and not _is_fraction(net, first):
        return net.product([first] * second)
    return Scalar(net.elementwise(_operand(net, first), _operand(net, second), "POW", torch.float32))


def _root(net: Net, value: Size) -> Scalar:
    return Scalar(net.unary(net.cast(_operand(net, value), torch.float32), "SQRT"))


def _not(net: Net, value: Scalar) -> Scalar:
    return Scalar(net.unary(value.tensor, "NOT"))


def _choose(net: Net, condition: bool | Scalar, yes: float | Scalar, no: float | Scalar) -> float | Scalar:
    if isinstance(condition, bool):
        return yes if condition else no
    kind = torch.float32 if _is_fraction(net, yes) or _is_fraction(net, no) else torch.int64
    a, b = (net.tensor(value, kind, rank=1) for value in (yes, no))
    return Scalar(net.select(condition.tensor, a, b, kind))


def _operand(net: Net, value: float | Scalar) -> ITensor:
    return value.tensor if isinstance(value, Scalar) else net.tensor(value, torch.float32, rank=1)


def _is_fraction(net: Net, value: float | Scalar) -> bool:
    return net.dtype(value.tensor) is torch.float32 if isinstance(value, Scalar) else isinstance(value, float)


def _compare(net: Net, op: str, negated: bool, values: tuple[float | Scalar, float | Scalar]) -> Scalar:
    fraction = any(_is_fraction(net, value) for value in values)
    kind = torch.float32 if fraction else torch.int64
    a, b = (net.tensor(value, kind, rank=1) for value in values)
    made = net.elementwise(a, b, op, kind)
    return Scalar(net.unary(made, "NOT") if negated else made)


def _round(net: Net, function: object, first: Size, second: Size) -> Size:
    """The quotient of two whole numbers as one: the fraction itself is not looked at."""
    if function is math.floor:
        return net.compute_size(first, second, "FLOOR_DIV")
    if function is math.ceil:
        return _negate(net, net.compute_size(_negate(net, first), second, "FLOOR_DIV"))
    a, b = net.size_tensor([first]), net.size_tensor([second])
    return Scalar(net.elementwise(a, b, "DIV", torch.int64))  # cut off


def _shift_left(net: Net, first: Size, second: int) -> Size:
    return net.compute_size(first, 2**second, "PROD")


def _shift_right(net: Net, first: Size, second: int) -> Size:
    return net.compute_size(first, 2**second, "FLOOR_DIV")


_FUNCTIONS: Mapping[object, Callable[..., float | Scalar]] = {
    operator.mod: _modulo,
    operator.neg: _negate,
    operator.pow: _power,
    operator.truediv: _divide,
    operator.lshift: _shift_left,
    operator.rshift: _shift_right,
    torch.sym_float: _as_float,
    torch.sym_not: _not,
    operator.not_: _not,
    torch.sym_ite: _choose,
    torch.sym_sqrt: _root,
    math.sqrt: _root,
}


def size_functions() -> tuple[str, ...]:
    """The names of all functions of sizes that are converted: "operator.add", "torch.sym_min", "aten.sym_size.int"."""
    functions = (*_TABLE, *_COMPARED, *_BOTH, *_ROUNDED, *_FUNCTIONS)
    return (*map(str, _COUNTS), *(_name(function) for function in (operator.getitem, *functions)))


def _name(function: object) -> str:
    module, name = getattr(function, "__module__", ""), getattr(function, "__name__", str(function))
    return f"{module.removeprefix('_')}.{name}"


def is_size_node(node: fx.Node) -> bool:
    """Whether a node computes a number from sizes, and no tensor."""
    number = isinstance(node.meta.get("val"), (torch.SymInt, torch.SymFloat, torch.SymBool, int, float))
    return node.op == "call_function" and number and node.target is not operator.getitem


def size_refusal(node: fx.Node) -> str:
    """Why the sizes that `node` needs can't be computed inside an engine, or ""."""
    for argument in node.all_input_nodes:
        if is_size_node(argument) and argument.target not in _COUNTS:
            why = _unknown(argument) or size_refusal(argument)
            if why:
                return why
    return ""


def _unknown(node: fx.Node) -> str:
    if node.target in _ROUNDED:
        given = node.args[0]
        whole = isinstance(given, fx.Node) and given.target is operator.truediv and all(map(_is_whole, given.args))
        told = "a size is made of a fraction, which TensorRT computes in float32 and PyTorch in float64"
        return "" if whole else f"it needs {node.name!r}: {told}"
    if node.target is operator.mod and not all(map(_is_whole, node.args)):
        return f"it needs {node.name!r}, and TensorRT has no remainder of fractions for sizes"
    tables: tuple[Mapping[object, object], ...] = (_TABLE, _COMPARED, _BOTH, _FUNCTIONS)
    if any(node.target in table for table in tables):
        return ""
    return f"it needs {node.name!r}, and TensorRT has no {node.target} for sizes"


def _is_whole(given: object) -> bool:
    value = given.meta.get("val") if isinstance(given, fx.Node) else given
    return isinstance(value, (int, torch.SymInt))


def convert_size(net: Net, node: fx.Node, value_of: ValueOf) -> float | Scalar:
    """The number that `node` stands for: a Python number where nothing in it varies."""
    if node.target in _COUNTS:
        return _count(net, node, value_of)
    values: list[Any] = [value_of(given) if isinstance(given, fx.Node) else given for given in node.args]
    if node.target in _ROUNDED and isinstance(values[0], Scalar):
        quotient = node.args[0]
        assert isinstance(quotient, fx.Node)
        parts: list[Any] = [value_of(given) if isinstance(given, fx.Node) else given for given in quotient.args]
        return _round(net, node.target, parts[0], parts[1])
    if not any(isinstance(value, Scalar) for value in values):
        assert callable(node.target)
        return node.target(*values)  # type: ignore[no-any-return]
    if node.target in _COMPARED:
        first, second = values
        return _compare(net, *_COMPARED[node.target], (first, second))
    if node.target in _BOTH:
        a, b = (net.tensor(value, torch.bool, rank=1) for value in values)
        return Scalar(net.elementwise(a, b, _BOTH[node.target], torch.bool))
    if node.target in _TABLE and isinstance(node.meta.get("val"), torch.SymFloat):
        a, b = (_operand(net, value) for value in values)
        return Scalar(net.elementwise(a, b, _TABLE[node.target], torch.float32))
    if node.target in _TABLE:
        first, second = values
        return net.compute_size(first, second, _TABLE[node.target])
    return _FUNCTIONS[node.target](net, *values)


def _count(net: Net, node: fx.Node, value_of: ValueOf) -> Size:
    tensor, axis = (*node.args, None)[:2]
    assert isinstance(tensor, fx.Node)
    found = value_of(tensor)
    if not isinstance(axis, int):
        return found.numel() if isinstance(found, torch.Tensor) else net.product(net.sizes(found))
    return int(found.shape[axis]) if isinstance(found, torch.Tensor) else net.size(found, axis)
