"""Which expressions of sizes, and which guards, a saved program may hold: arithmetic, and nothing that calls Python's own names.

PyTorch evaluates both as Python source when it reads a program or makes a module of it.
"""

from __future__ import annotations

import ast
import math
import re

import torch
import torch.utils._sympy.functions as sizes

from torch_tensorrt.spec.errors import FileFormatError

_LONGEST = 10_000
_LARGEST_EXPONENT = 64
_SYMPY = {
    "Add", "Mul", "Pow", "Mod", "Max", "Min", "Abs", "floor", "ceiling", "sqrt", "log", "exp", "Integer", "Rational",
    "Equality", "Unequality", "StrictLessThan", "LessThan", "StrictGreaterThan", "GreaterThan", "Eq", "Ne", "Gt", "Ge", "Lt",
    "Le", "And", "Or", "Not", "Piecewise", "ExprCondPair",
}  # fmt: skip
_FUNCTIONS = _SYMPY | set(sizes.__all__)
_POWERS = {"Pow", "PowByNatural", "FloatPow", "LShift"}
_ARITHMETIC = (
    ast.Expression, ast.BinOp, ast.UnaryOp, ast.Compare, ast.BoolOp, ast.Constant, ast.Name, ast.Load, ast.Call, ast.Tuple,
    ast.operator, ast.unaryop, ast.cmpop, ast.boolop, ast.IfExp,
)  # fmt: skip
_DECIMAL = re.compile(r"-?[0-9]{1,30}(\.[0-9]{0,30})?(e[-+]?[0-9]{1,3})?")
_OF_TENSORS = {"size", "stride", "storage_offset", "shape"}
_OF_MODULES = {
    "math": {"isnan", "isinf", "inf", "nan", "floor", "ceil", "trunc", "sqrt"},
    "torch": {name for name in dir(torch) if name.startswith(("sym_", "_sym_"))},
}


def check_expression(text: str, where: str) -> None:
    """Raises FileFormatError unless `text` is arithmetic over symbols and numbers with PyTorch's functions of sizes."""
    tree = _parse(text, where)
    whole = {node for node in ast.walk(tree) if _is_symbol(node) or _is_float(node)}
    inside = {part for node in whole for part in ast.walk(node)}
    exponent = 1
    for node in ast.walk(tree):
        if node in inside:
            continue
        allowed = isinstance(node, _ARITHMETIC)
        if isinstance(node, ast.Constant):
            allowed = isinstance(node.value, (int, float))
        elif isinstance(node, ast.Call):
            allowed = isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS and not node.keywords
            if allowed and isinstance(node.func, ast.Name) and node.func.id in _POWERS:
                exponent *= _exponent(node.args[-1] if node.args else None)
        elif isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Pow, ast.LShift)):
            exponent *= _exponent(node.right)
        if not allowed or exponent > _LARGEST_EXPONENT:
            raise FileFormatError(f"{where} is {text!r:.80}, which is not an expression of sizes.")


def _is_symbol(node: ast.AST) -> bool:
    """`Symbol('s0', positive=True, integer=True)`: how sympy writes a symbol."""
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Symbol"):
        return False
    flags = all(
        isinstance(given.value, ast.Constant) and isinstance(given.value.value, bool) for given in node.keywords
    )
    name = node.args[0] if len(node.args) == 1 else None
    return flags and isinstance(name, ast.Constant) and isinstance(name.value, str) and name.value.isidentifier()


def _is_float(node: ast.AST) -> bool:
    """`Float('1.5', precision=53)`: how sympy writes a number of float64."""
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Float"):
        return False
    named = [(given.arg, ast.unparse(given.value)) for given in node.keywords]
    digits = node.args[0] if len(node.args) == 1 else None
    is_text = isinstance(digits, ast.Constant) and isinstance(digits.value, str)
    return is_text and bool(_DECIMAL.fullmatch(str(digits.value))) and named == [("precision", "53")]  # type: ignore[union-attr]


def check_guard(text: str, where: str) -> None:
    """Raises FileFormatError unless `text` compares sizes and values of inputs (`L['x'].size()[0] <= 8`)."""
    for node in ast.walk(_parse(text, where)):
        allowed = isinstance(node, (*_ARITHMETIC, ast.Subscript, ast.Attribute))
        if isinstance(node, ast.Attribute):
            modules = _OF_MODULES.get(node.value.id) if isinstance(node.value, ast.Name) else None
            allowed = node.attr in (modules if modules is not None else _OF_TENSORS)
        elif isinstance(node, ast.Name):
            allowed = node.id in {"L", *_OF_MODULES}
        elif isinstance(node, ast.Call):
            allowed = isinstance(node.func, ast.Attribute) and not node.keywords
        elif isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Pow, ast.LShift)):
            allowed = _exponent(node.right) <= _LARGEST_EXPONENT
        if not allowed:
            raise FileFormatError(f"{where} holds {text!r:.80}, which is not a guard on sizes.")


def _parse(text: str, where: str) -> ast.Expression:
    if len(text) > _LONGEST:
        raise FileFormatError(f"{where} holds an expression of {len(text)} characters.")
    try:
        return ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise FileFormatError(f"{where} is {text!r:.80}, which is not an expression: {error}") from error


def _exponent(node: ast.expr | None) -> int:
    """How far raising to `node` can blow a number up; a symbol's value is not known when the expression is read."""
    if isinstance(node, ast.Call) and len(node.args) == 1 and not _is_symbol(node):
        number = node.args[0]  # of Integer(2)
        node = ast.Constant(float(number.value)) if _is_float(node) and isinstance(number, ast.Constant) else number  # type: ignore[arg-type]
    if isinstance(node, ast.UnaryOp):
        node = node.operand
    if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
        return max(1, math.ceil(min(abs(node.value), _LARGEST_EXPONENT + 1)))
    return 1 if isinstance(node, ast.Name) or (node is not None and _is_symbol(node)) else _LARGEST_EXPONENT + 1
