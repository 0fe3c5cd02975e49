"""Forms of operators that OpenVINO gets wrong or can't do: each function says why for one node, or "" when it is fine."""

from __future__ import annotations

import operator
from collections.abc import Iterator

import torch
from torch import fx

_NARROW = (torch.uint8, torch.int8, torch.int16)
_INT32 = 2**31


def tensors(node: fx.Node) -> Iterator[torch.Tensor]:
    """The tensors that `node` reads and makes."""
    for owner in (*node.all_input_nodes, node):
        yield from _tensors_of(owner)


def _tensors_of(node: fx.Node) -> Iterator[torch.Tensor]:
    value = node.meta.get("val")
    for part in value if isinstance(value, (tuple, list)) else (value,):
        if isinstance(part, torch.Tensor):
            yield part


def argument(node: fx.Node, name: str) -> object:
    """What `node` passes for the schema's argument `name`, or its default."""
    schema = node.target._schema  # type: ignore[union-attr]
    for place, declared in enumerate(schema.arguments):
        if declared.name == name:
            return node.args[place] if place < len(node.args) else node.kwargs.get(name, declared.default_value)
    raise KeyError(f"{node.target} has no argument {name!r}")


def moves(node: fx.Node) -> str:
    """Operators that only move values take every dtype but complex."""
    for value in tensors(node):
        if value.dtype.is_complex:
            return f"OpenVINO has no complex numbers ({value.dtype})"
        if any(type(size) is int and size == 0 for size in value.shape):
            return f"OpenVINO is not reliable with empty tensors (here {tuple(value.shape)})"
    for number in _numbers(node):
        if type(number) is int and not -_INT32 <= number < _INT32 and number not in (2**63 - 1, -(2**63)):
            return f"{number} is outside int32, in which OpenVINO computes int64"
    return ""


def _numbers(node: fx.Node) -> Iterator[object]:
    for given in (*node.args, *node.kwargs.values()):
        yield from given if isinstance(given, (tuple, list)) else (given,)


def computes(node: fx.Node) -> str:
    """Arithmetic is float32, float16, bfloat16, int32 or (within int32) int64."""
    for value in tensors(node):
        if value.dtype is torch.float64:
            return "OpenVINO computes float64 in float32 on a CPU; truncate_double=True allows that"
        if value.dtype in _NARROW:
            return f"OpenVINO does not wrap around in {value.dtype} arithmetic as PyTorch does"
    return moves(node)


def computes_floats(node: fx.Node) -> str:
    """For rules that are right for floats only."""
    for value in tensors(node):
        if not value.dtype.is_floating_point:
            return f"OpenVINO's rule for {node.target} is not right for {value.dtype}"
    return computes(node)


def first_is_float(node: fx.Node) -> str:
    """For rules that are right when the first argument is of floats."""
    value = next(tensors(node), None)
    if value is not None and not value.dtype.is_floating_point:
        return f"OpenVINO's rule for {node.target} is not right for {value.dtype}"
    return computes(node)


def not_bool(node: fx.Node) -> str:
    """For minima and maxima, which OpenVINO doesn't have of bool."""
    value = next(tensors(node), None)
    if value is not None and value.dtype is torch.bool:
        return f"OpenVINO's rule for {node.target} does not take bool"
    return computes(node)


def has_dimensions(node: fx.Node) -> str:
    """For reductions along a dimension."""
    value = next(tensors(node), None)
    if value is not None and value.dim() == 0:
        return f"OpenVINO's rule for {node.target} does not take a tensor without dimensions"
    return not_bool(node)


def expands(node: fx.Node) -> str:
    """OpenVINO 2026.4 crashes when it broadcasts to a tensor without dimensions."""
    result = next(_tensors_of(node), None)
    if result is not None and result.dim() == 0:
        return "OpenVINO can't broadcast to a tensor without dimensions"
    return moves(node)


def clamps(node: fx.Node) -> str:
    """Integers with float bounds would be clamped to truncated bounds."""
    value = next(tensors(node), None)
    bounds = node.args[1:]
    if value is not None and not value.dtype.is_floating_point and any(isinstance(bound, float) for bound in bounds):
        return f"OpenVINO's rule for {node.target} truncates float bounds for {value.dtype}"
    return not_bool(node)


def powers(node: fx.Node) -> str:
    """Powers of integers go through float32."""
    if any(not value.dtype.is_floating_point for value in _tensors_of(node)):
        return "OpenVINO computes powers of integers in float32"
    return computes(node)


def averages(node: fx.Node) -> str:
    """Windows that reach over the padded border, and a divisor of one's own, are counted in another way."""
    if argument(node, "divisor_override") is not None:
        return f"OpenVINO's rule for {node.target} has no divisor_override"
    if argument(node, "ceil_mode") and argument(node, "count_include_pad"):
        return f"OpenVINO counts padding in another way for ceil_mode=True with count_include_pad=True in {node.target}"
    return computes_floats(node)


def normalizes(node: fx.Node) -> str:
    """Only the normalised tensor comes out of OpenVINO's rules, not the statistics."""
    for user in node.users:
        if user.target is not operator.getitem or user.args[1] != 0:
            return f"OpenVINO's rule for {node.target} gives no mean and rstd, which {user.name!r} needs"
    return computes_floats(node)


def attends(node: fx.Node) -> str:
    """Attention without dropout."""
    if argument(node, "dropout_p") != 0.0:
        return "attention with dropout is random, and OpenVINO's random numbers are not PyTorch's"
    return computes(node)


def counts(node: fx.Node) -> str:
    """arange of whole numbers: with float steps OpenVINO may count one value more."""
    if any(isinstance(number, (bool, float)) for number in node.args):
        return "OpenVINO may count one value more or less than PyTorch in a range of floats"
    return computes(node)
