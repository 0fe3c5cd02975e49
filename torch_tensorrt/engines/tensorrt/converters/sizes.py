"""Arithmetic on sizes: nodes of Python operators and of `sym_size`, on ints and on sizes that only a run decides."""

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
_SYM_SIZE = torch.ops.aten.sym_size.int
_TABLE: Mapping[object, str] = {
    operator.add: "SUM",
    operator.sub: "SUB",
    operator.mul: "PROD",
    operator.floordiv: "FLOOR_DIV",
    torch.sym_max: "MAX",
    torch.sym_min: "MIN",
}


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


def _power(net: Net, first: Size, second: int) -> Size:
    return net.product([first] * second)


def _root(net: Net, value: Size) -> Scalar:
    return Scalar(net.unary(net.cast(_operand(net, value), torch.float32), "SQRT"))


def _operand(net: Net, value: float | Scalar) -> ITensor:
    return value.tensor if isinstance(value, Scalar) else net.tensor(value, torch.float32, rank=1)


_FUNCTIONS: Mapping[object, Callable[..., Size]] = {
    operator.mod: _modulo,
    operator.neg: _negate,
    operator.pow: _power,
    operator.truediv: _divide,
    torch.sym_float: _as_float,
    torch.sym_sqrt: _root,
    math.sqrt: _root,
}


def is_size_node(node: fx.Node) -> bool:
    """Whether a node computes a number from sizes, and no tensor."""
    number = isinstance(node.meta.get("val"), (torch.SymInt, torch.SymFloat, torch.SymBool, int, float))
    return node.op == "call_function" and number and node.target is not operator.getitem


def size_refusal(node: fx.Node) -> str:
    """Why the sizes that `node` needs can't be computed inside an engine, or ""."""
    for argument in node.all_input_nodes:
        if is_size_node(argument):
            if argument.target is not _SYM_SIZE and not (argument.target in _TABLE or argument.target in _FUNCTIONS):
                return f"it needs {argument.name!r}, and TensorRT has no {argument.target} for sizes"
            if argument.target is not _SYM_SIZE and (inner := size_refusal(argument)):
                return inner
    return ""


def convert_size(net: Net, node: fx.Node, value_of: ValueOf) -> float | Scalar:
    """The number that `node` stands for: a Python number where nothing in it varies."""
    if node.target is _SYM_SIZE:
        tensor, axis = node.args
        assert isinstance(tensor, fx.Node)
        assert isinstance(axis, int)
        found = value_of(tensor)
        return int(found.shape[axis]) if isinstance(found, torch.Tensor) else net.size(found, axis)
    values: list[Any] = [value_of(given) if isinstance(given, fx.Node) else given for given in node.args]
    if not any(isinstance(value, Scalar) for value in values):
        assert callable(node.target)
        return node.target(*values)  # type: ignore[no-any-return]
    if node.target in _TABLE and isinstance(node.meta.get("val"), torch.SymFloat):
        a, b = (_operand(net, value) for value in values)
        return Scalar(net.elementwise(a, b, _TABLE[node.target], torch.float32))
    if node.target in _TABLE:
        first, second = values
        return net.compute_size(first, second, _TABLE[node.target])
    return _FUNCTIONS[node.target](net, *values)
