"""Forms of operators that OpenVINO gets wrong or can't do: each function says why for one node, or "" if it is fine."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from itertools import islice

import torch
from torch import fx

from torch_tensorrt.graphs.bounds import least
from torch_tensorrt.graphs.resizing import becomes_one, rounds

_NARROW = (torch.uint8, torch.int8, torch.int16)
_INT32 = 2**31
_EXACT = 2**24  # OpenVINO compares, divides and sums integers in float32
_SLICE_ENDS = (2**63 - 1, -(2**63))
_COUNTS = (torch.ops.aten.sym_size.int, torch.ops.aten.sym_numel.default)
_ARITHMETIC = (operator.add, operator.sub, operator.mul, operator.neg)


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


def unknown_number(node: fx.Node) -> fx.Node | None:
    """The node of a number that `node` needs, itself or through others, and that OpenVINO's frontend can't compute from sizes."""
    for given in node.all_input_nodes:
        value = given.meta.get("val")
        if not isinstance(value, (torch.SymInt, torch.SymFloat, torch.SymBool)) or given.target in _COUNTS:
            continue
        known = isinstance(value, torch.SymInt) and (given.target in _ARITHMETIC or _divides_down(given))
        unknown = unknown_number(given) if known else given
        if unknown is not None:
            return unknown
    return None


def _divides_down(node: fx.Node) -> bool:
    """A division of what is never negative: OpenVINO divides towards zero."""
    if node.target is not operator.floordiv:
        return False
    first, second = (_number(given) for given in node.args)
    return least(first) >= 0 and least(second) > 0


def _number(given: object) -> int | torch.SymInt:
    return given.meta["val"] if isinstance(given, fx.Node) else given  # type: ignore[return-value]


def moves(node: fx.Node) -> str:
    """Operators that only move values: every dtype but complex and float64, and within int32."""
    return _dtypes(node) or _limits(node, _INT32)


def _dtypes(node: fx.Node) -> str:
    for value in tensors(node):
        if value.dtype.is_complex:
            return f"OpenVINO has no complex numbers ({value.dtype})"
        if value.dtype is torch.float64:
            return "OpenVINO computes float64 in float32 on a CPU; truncate_double=True allows that"
    inputs = (value for given in node.all_input_nodes for value in _tensors_of(given))
    for value in (*inputs, *islice(_tensors_of(node), 1)):  # the statistics of a batch norm are empty, and unused
        if any(type(size) is int and size == 0 for size in value.shape):
            return f"OpenVINO is not reliable with empty tensors (here {tuple(value.shape)})"
    return ""


def _limits(node: fx.Node, limit: int) -> str:
    """Whole numbers among the arguments must be within `limit`."""
    for given in (*node.args, *node.kwargs.values()):
        for number in given if isinstance(given, (tuple, list)) else (given,):
            if type(number) is int and not -limit <= number <= limit and number not in _SLICE_ENDS:
                return f"OpenVINO is exact for whole numbers up to {limit} only, and this one is {number}"
    return ""


def compares(node: fx.Node) -> str:
    """Comparisons and logic: every dtype that `moves` takes, but numbers that float32 holds."""
    return _dtypes(node) or _limits(node, _EXACT)


def computes(node: fx.Node) -> str:
    """Arithmetic: float32, float16, bfloat16, int32 and int64 (exact up to 2**24)."""
    for value in tensors(node):
        if value.dtype in _NARROW:
            return f"OpenVINO does not wrap around in {value.dtype} arithmetic as PyTorch does"
    whole = any(not value.dtype.is_floating_point for value in tensors(node))
    return _dtypes(node) or (_limits(node, _EXACT) if whole else "")


def reduces(node: fx.Node) -> str:
    """Along a dimension, which must be there."""
    return _dimensions(node) or computes(node)


def _dimensions(node: fx.Node) -> str:
    value = next(tensors(node), None)
    if value is not None and value.dim() == 0:
        return f"OpenVINO's rule for {node.target} does not take a tensor without dimensions"
    return ""


def blends(node: fx.Node) -> str:
    """Linear and cubic resizing."""
    one = "" if argument(node, "align_corners") else becomes_one(node, shrinking=True)
    return computes(node) or (f"{one}, which OpenVINO computes otherwise than PyTorch" if one else "")


def picks_nearest(node: fx.Node) -> str:
    """Resizing to the nearest neighbour."""
    between = rounds(node, steps=True)
    return computes(node) or (f"{between}: OpenVINO rounds otherwise than PyTorch" if between else "")


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


def orders(node: fx.Node) -> str:
    """Minima, maxima and orders along a dimension."""
    return _dimensions(node) or not_bool(node)


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


def varies(node: fx.Node) -> str:
    """Variances with correction 0 or 1."""
    if argument(node, "correction") not in (None, 0, 1):
        return f"OpenVINO's rule for {node.target} takes correction 0 or 1 only"
    return computes(node)


def measures(node: fx.Node) -> str:
    """Norms but the count of what isn't zero."""
    if argument(node, "ord") == 0:
        return f"OpenVINO's rule for {node.target} does not take ord=0"
    return orders(node)


def adds_product(node: fx.Node) -> str:
    """With beta=0 PyTorch ignores the first argument, even NaN; OpenVINO multiplies it."""
    return (
        f"OpenVINO's rule for {node.target} does not ignore its input for beta=0"
        if argument(node, "beta") == 0
        else computes(node)
    )


def gathers(node: fx.Node) -> str:
    """Indices that reach along the other dimensions as far as the data."""
    if picks(node):
        return picks(node)
    data, _, index = (next(_tensors_of(given), None) if isinstance(given, fx.Node) else None for given in node.args[:3])
    along = argument(node, "dim")
    if data is None or index is None or not isinstance(along, int):
        return f"the arguments of {node.target} are not known"
    for dim, (size, reach) in enumerate(zip(data.shape, index.shape, strict=True)):
        if dim != along % data.dim() and str(size) != str(reach):
            return f"OpenVINO's rule for {node.target} needs {size} indices along dimension {dim}, not {reach}"
    return moves(node)


def indexes(node: fx.Node) -> str:
    """Indices by number."""
    given = argument(node, "indices")
    for index in given if isinstance(given, (tuple, list)) else ():
        if isinstance(index, fx.Node) and any(value.dtype in (torch.bool, torch.uint8) for value in _tensors_of(index)):
            return "the size of what a mask picks depends on the data"
    return moves(node)


def puts(node: fx.Node) -> str:
    """index_put: adding takes indices for the first dimensions only, a mask one value only."""
    given, values = argument(node, "indices"), argument(node, "values")
    indices = given if isinstance(given, (tuple, list)) else ()
    if argument(node, "accumulate") and None in indices:
        return f"OpenVINO's rule for {node.target} does not add at indices that leave out a dimension"
    masked = any(
        value.dtype is torch.bool for index in indices if isinstance(index, fx.Node) for value in _tensors_of(index)
    )
    if masked and isinstance(values, fx.Node) and any(value.dim() for value in _tensors_of(values)):
        return f"OpenVINO's rule for {node.target} does not spread values over a mask"
    return computes(node)


def picks(node: fx.Node) -> str:
    """Picking along a dimension, which must be there."""
    return _dimensions(node) or moves(node)


def attends(node: fx.Node) -> str:
    """Attention without dropout."""
    if argument(node, "dropout_p") != 0.0:
        return "attention with dropout is random, and OpenVINO's random numbers are not PyTorch's"
    return computes(node)


def counts(node: fx.Node) -> str:
    """Ranges of whole numbers: with float steps OpenVINO may count one value more."""
    if any(isinstance(number, (bool, float)) for number in node.args):
        return "OpenVINO may count one value more or less than PyTorch in a range of floats"
    return computes(node)
