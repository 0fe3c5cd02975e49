"""Sizes that vary between runs, as text: parsed without `eval`, evaluated on ints or SymInts, solved from shapes.

The expressions are those that `torch.fx.experimental.symbolic_shapes` prints (sympy with torch's own functions), so a
saved file can carry them as strings.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeAlias

import sympy
import torch

from torch_tensorrt.spec.errors import FileFormatError, InputError

Size: TypeAlias = "int | torch.SymInt"
Evaluate: TypeAlias = Callable[[Mapping[str, Size]], Size]
_Part: TypeAlias = Callable[[Mapping[str, Size]], Any]  # of an expression: a size or a fraction

_BINARY: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: lambda base, exponent: _power(base, exponent),
}
_WHOLE_ONLY = (ast.FloorDiv, ast.Mod, ast.Pow)
_FUNCTIONS: Mapping[str, Callable[[Size, Size], Size]] = {
    "Max": torch.sym_max,
    "Min": torch.sym_min,
    "FloorDiv": operator.floordiv,
    "CleanDiv": operator.floordiv,
    "CeilDiv": lambda a, b: -(-a // b),
    "Mod": operator.mod,
    "PythonMod": operator.mod,
    "PowByNatural": lambda base, exponent: _power(base, exponent),
}
_ROUNDED: Mapping[str, Callable[[Any], Size]] = {  # a fraction to a size
    "TruncToInt": torch.sym_int,
    "FloorToInt": math.floor,
    "CeilToInt": math.ceil,
    "RoundToInt": round,
}
_FRACTIONS: Mapping[str, tuple[int, Callable[..., Any]]] = {  # (number of arguments, float64 as in Python)
    "ToFloat": (1, torch.sym_float),
    "OpaqueUnaryFn_sqrt": (1, torch.sym_sqrt),
    "IntTrueDiv": (2, operator.truediv),
    "FloatTrueDiv": (2, operator.truediv),
}
_NAMES = frozenset({*_FUNCTIONS, *_ROUNDED, *_FRACTIONS})
_LONGEST = 2000
_MOST_BITS = 1024  # of a power: a file may not ask for numbers without end


@lru_cache(maxsize=4096)
def parse(expr: str) -> Evaluate:
    """A function from symbol values to the size that `expr` denotes.

    It raises InputError where they have none: something is divided by zero, say. Raises FileFormatError when the text holds anything
    but numbers, names, + - * // % ** and the functions above, or denotes a fraction.
    """
    if len(expr) > _LONGEST:
        raise FileFormatError(f"A size expression of {len(expr)} characters is over the limit of {_LONGEST}.")
    try:
        tree = ast.parse(expr, mode="eval").body
        evaluate = _compile(tree)
        if _is_fraction(tree):
            raise ValueError("it is a fraction")
    except (SyntaxError, ValueError, RecursionError) as error:
        raise FileFormatError(f"{expr!r} is not a size expression: {error}") from error

    def size(symbols: Mapping[str, Size]) -> Size:
        try:
            return evaluate(symbols)  # type: ignore[no-any-return]
        except (FileFormatError, InputError):
            raise
        except (ArithmeticError, ValueError) as error:
            raise InputError(f"The size {expr} can't be computed for {dict(symbols)}: {error}.") from error

    return size


def text_of(expr: sympy.Basic) -> str:
    """An expression of PyTorch's as `parse` reads it, its fractions with all of their digits."""
    fractions = expr.atoms(sympy.Float)  # of which sympy prints 15 digits
    return str(expr.xreplace({fraction: sympy.Symbol(repr(float(fraction))) for fraction in fractions}))


def symbols_in(expr: str) -> frozenset[str]:
    """The names of the symbols in `expr` (function names left out)."""
    parse(expr)
    names = {node.id for node in ast.walk(ast.parse(expr, mode="eval")) if isinstance(node, ast.Name)}
    return frozenset(names - _NAMES)


def factors_in(expr: str) -> frozenset[float] | None:
    """The fractions that whole numbers, or their quotients, are multiplied by on the way to a whole one.

    None where more than that is done with fractions: their order decides then, which sympy doesn't keep.
    """
    found = set[float]()
    for call in ast.walk(ast.parse(expr, mode="eval")):
        if not (isinstance(call, ast.Call) and _name_of(call) in _ROUNDED and _is_fraction(call.args[0])):
            continue
        product = call.args[0]
        is_product = isinstance(product, ast.BinOp) and isinstance(product.op, ast.Mult)
        parts = [product.left, product.right] if isinstance(product, ast.BinOp) and is_product else [product]
        numbers = [part.value for part in parts if isinstance(part, ast.Constant)]
        (other, *others) = [part for part in parts if not isinstance(part, ast.Constant)] or parts
        if others or not isinstance(other, ast.Call) or any(map(_is_fraction, other.args)):
            return None
        found.update(number for number in numbers if isinstance(number, float))
    return frozenset(found)


def _name_of(call: ast.Call) -> str:
    return call.func.id if isinstance(call.func, ast.Name) else ""


def _compile(node: ast.expr) -> _Part:
    if isinstance(node, ast.Constant) and (type(node.value) is int or type(node.value) is float):
        value = node.value
        return lambda _: value
    if isinstance(node, ast.Name):
        return _lookup(node.id)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        inner = _compile(node.operand)
        return lambda symbols: -inner(symbols)
    if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
        if isinstance(node.op, _WHOLE_ONLY) and _is_fraction(node):
            raise ValueError("// % ** are for whole numbers")
        return _fold(_BINARY[type(node.op)], [_compile(node.left), _compile(node.right)])
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args and not node.keywords:
        return _call(node.func.id, node.args)
    raise ValueError(f"{ast.dump(node)[:80]} is not allowed")


def _call(name: str, arguments: Sequence[ast.expr]) -> _Part:
    parts = [_compile(argument) for argument in arguments]
    if name in _FUNCTIONS:
        if any(map(_is_fraction, arguments)):
            raise ValueError(f"{name} is for whole numbers")
        return _fold(_FUNCTIONS[name], parts)
    count, function = (1, _ROUNDED[name]) if name in _ROUNDED else _FRACTIONS.get(name, (0, None))
    if function is None or len(parts) != count:
        raise ValueError(f"{name} of {len(parts)} is not allowed")
    return lambda symbols: function(*[part(symbols) for part in parts])


def _is_fraction(node: ast.expr) -> bool:
    """Whether `node`, which was compiled, denotes a float."""
    if isinstance(node, ast.Constant):
        return isinstance(node.value, float)
    if isinstance(node, ast.UnaryOp):
        return _is_fraction(node.operand)
    if isinstance(node, ast.BinOp):
        return _is_fraction(node.left) or _is_fraction(node.right)
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _FRACTIONS


def _lookup(name: str) -> _Part:
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


def _fold(function: Callable[[Any, Any], Any], arguments: Sequence[_Part]) -> _Part:
    first, rest = arguments[0], tuple(arguments[1:])

    def evaluate(symbols: Mapping[str, Size]) -> object:
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
    linear = _is_linear(ast.parse(expr, mode="eval").body, name)
    start, end = (parse(expr)({**values, name: probe}) if linear else 0 for probe in (0, 1))
    if start == end:
        raise InputError(f"The size {name} can't be computed from {expr} = {given}.")
    values[name] = (given - start) // (end - start)


def _is_linear(node: ast.expr, name: str) -> bool:
    """Whether `node` is a*name + b, with a and b that don't depend on it."""
    if isinstance(node, ast.Name) or not any(isinstance(part, ast.Name) and part.id == name for part in ast.walk(node)):
        return True
    if isinstance(node, ast.UnaryOp):
        return _is_linear(node.operand, name)
    if not isinstance(node, ast.BinOp) or not isinstance(node.op, (ast.Add, ast.Sub, ast.Mult)):
        return False
    sides = [node.left, node.right]
    varying = [side for side in sides if any(isinstance(part, ast.Name) and part.id == name for part in ast.walk(side))]
    return all(_is_linear(side, name) for side in varying) and not (isinstance(node.op, ast.Mult) and len(varying) > 1)
