"""Sizes that vary between runs, as text: parsed without `eval`, evaluated on ints or SymInts, solved from shapes.

The expressions are those that `torch.fx.experimental.symbolic_shapes` prints (sympy with torch's own functions), so a
saved file can carry them as strings.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import TypeAlias

import torch

from torch_tensorrt.spec.errors import FileFormatError, InputError

Size: TypeAlias = "int | torch.SymInt"
Evaluate: TypeAlias = Callable[[Mapping[str, Size]], Size]

_BINARY: Mapping[type[ast.operator], Callable[[Size, Size], Size]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: lambda base, exponent: _power(base, exponent),
}
_FUNCTIONS: Mapping[str, Callable[[Size, Size], Size]] = {
    "Max": torch.sym_max,
    "Min": torch.sym_min,
    "FloorDiv": operator.floordiv,
    "CleanDiv": operator.floordiv,
    "CeilDiv": lambda a, b: -(-a // b),
    "Mod": operator.mod,
    "PythonMod": operator.mod,
}
_LONGEST = 2000
_MOST_BITS = 1024  # of a power: a file may not ask for numbers without end


@lru_cache(maxsize=4096)
def parse(expr: str) -> Evaluate:
    """A function from symbol values to the size that `expr` denotes.

    Raises FileFormatError when the text holds anything but integers, names, + - * // % ** and the functions above.
    """
    if len(expr) > _LONGEST:
        raise FileFormatError(f"A size expression of {len(expr)} characters is over the limit of {_LONGEST}.")
    try:
        tree = ast.parse(expr, mode="eval").body
        return _compile(tree)
    except (SyntaxError, ValueError, RecursionError) as error:
        raise FileFormatError(f"{expr!r} is not a size expression: {error}") from error


def symbols_in(expr: str) -> frozenset[str]:
    """The names of the symbols in `expr` (function names left out)."""
    parse(expr)
    names = {node.id for node in ast.walk(ast.parse(expr, mode="eval")) if isinstance(node, ast.Name)}
    return frozenset(names - set(_FUNCTIONS))


def _compile(node: ast.expr) -> Evaluate:
    if isinstance(node, ast.Constant) and type(node.value) is int:
        value = node.value
        return lambda _: value
    if isinstance(node, ast.Name):
        return _lookup(node.id)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        inner = _compile(node.operand)
        return lambda symbols: -inner(symbols)
    if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
        return _apply(_BINARY[type(node.op)], [_compile(node.left), _compile(node.right)])
    is_call = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args and not node.keywords
    if is_call and isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS:
        return _apply(_FUNCTIONS[node.func.id], [_compile(argument) for argument in node.args])
    raise ValueError(f"{ast.dump(node)[:80]} is not allowed")


def _lookup(name: str) -> Evaluate:
    def value(symbols: Mapping[str, Size]) -> Size:
        try:
            return symbols[name]
        except KeyError:
            raise FileFormatError(f"The size {name} of a result is the size of no input.") from None

    return value


def _power(base: Size, exponent: Size) -> Size:
    """Raises FileFormatError for a power that is no size of anything."""
    if not isinstance(base, int) or not isinstance(exponent, int):
        return operator.pow(base, exponent)  # type: ignore[no-any-return]
    if exponent < 0 or exponent * base.bit_length() > _MOST_BITS:
        raise FileFormatError(
            f"A size expression raises a number of {base.bit_length()} bits to a power of {exponent.bit_length()} bits, which is no size."
        )
    return int(base**exponent)


def _apply(function: Callable[[Size, Size], Size], arguments: Sequence[Evaluate]) -> Evaluate:
    first, rest = arguments[0], tuple(arguments[1:])

    def evaluate(symbols: Mapping[str, Size]) -> Size:
        result = first(symbols)
        for argument in rest:
            result = function(result, argument(symbols))
        return result

    return evaluate


def solve(shapes: Sequence[tuple[Sequence[int | str], Sequence[Size]]]) -> dict[str, Size]:
    """Symbol values from (declared sizes, actual sizes) pairs; bare symbols first, then `k*symbol` forms.

    Raises InputError when a symbol can't be determined.
    """
    values: dict[str, Size] = {}
    leftovers: list[tuple[str, Size]] = []
    for declared, actual in shapes:
        for size, given in zip(declared, actual, strict=True):
            if isinstance(size, str):
                if size.isidentifier():
                    values.setdefault(size, given)
                else:
                    leftovers.append((size, given))
    for expr, given in leftovers:
        _solve_linear(expr, given, values)
    return values


def _solve_linear(expr: str, given: Size, values: dict[str, Size]) -> None:
    """Adds the one unknown of `expr` when `expr` is linear in it: a*x + b = given."""
    unknown = set(symbols_in(expr)) - set(values)
    if not unknown:
        return
    if len(unknown) > 1:
        raise InputError(f"The sizes {sorted(unknown)} can't be told apart from {expr} = {given}.")
    name = unknown.pop()
    at = [parse(expr)({**values, name: probe}) for probe in (0, 1, 2)]
    slope = at[1] - at[0]
    if at[2] - at[1] != slope or slope == 0:
        raise InputError(f"The size {name} can't be computed from {expr} = {given}.")
    values[name] = (given - at[0]) // slope
