"""Operators that compute the values of a mask: numbers, comparisons of them, and what is hidden where they don't hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import sympy
import torch
from torch import fx

from torch_tensorrt.engines.inductor.passes.masks.forms import (
    Form,
    Hidden,
    Linear,
    Truth,
    everywhere,
    hides,
    is_never,
    never,
)
from torch_tensorrt.engines.inductor.passes.masks.places import MOVING
from torch_tensorrt.engines.inductor.passes.masks.reader import Given, MaskReader, Rule, axis_of, number_of, sizes_of


def _arange(reader: MaskReader, node: fx.Node, given: Given) -> Form | None:
    start, step = number_of(given.get("start", 0)), number_of(given.get("step", 1))
    return None if start is None or step is None else Linear(start, (step,))


def _full(reader: MaskReader, node: fx.Node, given: Given) -> Form | None:
    number = number_of(given["s" if "s" in given else "fill_value"])
    return None if number is None else everywhere(number, len(sizes_of(node)))


def _same(reader: MaskReader, node: fx.Node, given: Given) -> Form | None:
    form = reader.operand(given["self"], node)
    return None if isinstance(form, Hidden) and not node.meta["val"].dtype.is_floating_point else form


def _added(reader: MaskReader, node: fx.Node, given: Given) -> Form | None:
    sign = -1 if "sub" in str(node.target) else 1
    first, second = reader.operand(given["self"], node), reader.operand(given["other"], node)
    alpha = number_of(given.get("alpha", 1))
    if isinstance(first, Hidden) or isinstance(second, Hidden):
        return _both_hidden(first, second) if sign == 1 and alpha == 1 else None
    flipped = "rsub" in str(node.target)
    if isinstance(second, Truth) and isinstance(first, Linear) and first.constant == 1 and alpha == 1 and sign == -1:
        return None if flipped else negation(second)
    if isinstance(first, Truth) and isinstance(second, Linear) and second.constant == 1 and alpha == 1 and flipped:
        return negation(first)
    a, b = reader.number(given["self"], node), reader.number(given["other"], node)
    if a is None or b is None or alpha is None:
        return None
    return b.plus(a, -alpha) if flipped else a.plus(b, sign * alpha)


def _both_hidden(first: Form | None, second: Form | None) -> Form | None:
    shown: set[Linear] = set()
    for form in (first, second):
        if isinstance(form, Hidden):
            shown |= form.shown.conditions
        elif not isinstance(form, Linear) or form.constant != 0:
            return None
    return Hidden(Truth(frozenset(shown)))


def negation(truth: Truth) -> Truth | None:
    """Where `truth` doesn't hold; None where that takes more than one condition."""
    if not truth.conditions:
        return None
    if len(truth.conditions) > 1:
        return None
    (only,) = truth.conditions
    return Truth(frozenset({everywhere(-1, len(only.steps)).plus(only, sympy.S.NegativeOne)}))


def _multiplied(reader: MaskReader, node: fx.Node, given: Given) -> Form | None:
    first, second = reader.operand(given["self"], node), reader.operand(given["other"], node)
    for form, other in ((first, second), (second, first)):
        if isinstance(form, Truth) and form.conditions and _hides(other, node):
            shown = negation(form)
            return None if shown is None else Hidden(shown)
    a, b = reader.number(given["self"], node), reader.number(given["other"], node)
    if a is None or b is None:
        return None
    if a.constant is None:
        a, b = b, a
    return None if a.constant is None else everywhere(0, len(a.steps)).plus(b, a.constant)


def _negative(reader: MaskReader, node: fx.Node, given: Given) -> Form | None:
    number = reader.number(given["self"], node)
    return None if number is None else everywhere(0, len(number.steps)).plus(number, sympy.S.NegativeOne)


def _compared(reader: MaskReader, node: fx.Node, given: Given) -> Form | None:
    name = str(node.target).split(".")[1]
    a, b = reader.number(given["self"], node), reader.number(given["other"], node)
    if a is None or b is None:
        return None
    ahead, behind = a.plus(b, sympy.S.NegativeOne), b.plus(a, sympy.S.NegativeOne)
    difference = ahead.constant
    if difference is sympy.nan:
        return None
    if difference is not None and difference.is_number:
        return Truth(frozenset()) if _HOLDS[name](float(difference)) else never(len(a.steps))
    less = everywhere(-1, len(a.steps))
    conditions = {
        "ge": (ahead,),
        "le": (behind,),
        "gt": (less.plus(ahead, sympy.S.One),),
        "lt": (less.plus(behind, sympy.S.One),),
        "eq": (ahead, behind),
    }.get(name)
    return None if conditions is None else Truth(frozenset(conditions))


_HOLDS: Mapping[str, Callable[[float], bool]] = {
    "ge": lambda difference: difference >= 0,
    "le": lambda difference: difference <= 0,
    "gt": lambda difference: difference > 0,
    "lt": lambda difference: difference < 0,
    "eq": lambda difference: difference == 0,
    "ne": lambda difference: difference != 0,
}


def _both(reader: MaskReader, node: fx.Node, given: Given) -> Form | None:
    first, second = reader.truth(given["self"], node), reader.truth(given["other"], node)
    if first is None or second is None or node.meta["val"].dtype is not torch.bool:
        return None
    return Truth(first.conditions | second.conditions)


def _either(reader: MaskReader, node: fx.Node, given: Given) -> Form | None:
    first, second = reader.truth(given["self"], node), reader.truth(given["other"], node)
    if node.meta["val"].dtype is not torch.bool:
        return None
    for form, other in ((first, second), (second, first)):
        if form is not None and not form.conditions:
            return form
        if form is not None and is_never(form):
            return other
    return None


def _not(reader: MaskReader, node: fx.Node, given: Given) -> Form | None:
    truth = reader.truth(given["self"], node)
    if truth is None or node.meta["val"].dtype is not torch.bool:
        return None
    return negation(truth) if truth.conditions else never(len(sizes_of(node)))


def _where(reader: MaskReader, node: fx.Node, given: Given) -> Form | None:
    condition = reader.truth(given["condition"], node)
    return None if condition is None else _chosen(reader, node, condition, given["self"], given["other"])


def _filled(reader: MaskReader, node: fx.Node, given: Given) -> Form | None:
    condition = reader.truth(given["mask"], node)
    return None if condition is None else _chosen(reader, node, condition, given["value"], given["self"])


def _chosen(reader: MaskReader, node: fx.Node, condition: Truth, yes: object, no: object) -> Form | None:
    first, second = reader.operand(yes, node), reader.operand(no, node)
    if not condition.conditions or is_never(condition):
        return second if condition.conditions else first
    if node.meta["val"].dtype is torch.bool:
        return condition if first == Truth(frozenset()) and isinstance(second, Truth) and is_never(second) else None
    if _is_zero(second) and _hides(first, node):
        shown = negation(condition)
        return None if shown is None else Hidden(shown)
    return Hidden(condition) if _is_zero(first) and _hides(second, node) else None


def _is_zero(form: Form | None) -> bool:
    return isinstance(form, Linear) and form.constant == 0


def _hides(form: Form | None, node: fx.Node) -> bool:
    number = form.constant if isinstance(form, Linear) else None
    return number is not None and number.is_number and hides(float(number), node.meta["val"].dtype)


def _summed(reader: MaskReader, node: fx.Node, given: Given) -> Form | None:
    number, rank = reader.number(given["self"], node), len(sizes_of(node))
    if number is None or number.constant is None or rank == 0:
        return None
    at = axis_of(given["dim"], rank)
    return Linear(number.start, tuple(number.start if dim == at else sympy.S.Zero for dim in range(rank)))


_COMPUTING: Mapping[str, Rule] = {
    **dict.fromkeys(("arange.default", "arange.start", "arange.start_step"), _arange),
    **dict.fromkeys(("full.default", "full_like.default", "scalar_tensor.default", "new_full.default"), _full),
    **{f"{name}.default": _same for name in ("clone", "alias", "detach", "_to_copy", "lift_fresh_copy")},
    **{f"{name}.{kind}": _added for name in ("add", "sub", "rsub") for kind in ("Tensor", "Scalar")},
    **dict.fromkeys(("mul.Tensor", "mul.Scalar"), _multiplied),
    "neg.default": _negative,
    **{f"{name}.{kind}": _compared for name in _HOLDS for kind in ("Tensor", "Scalar")},
    **dict.fromkeys(("bitwise_and.Tensor", "logical_and.default"), _both),
    **dict.fromkeys(("bitwise_or.Tensor", "logical_or.default"), _either),
    **dict.fromkeys(("bitwise_not.default", "logical_not.default"), _not),
    **dict.fromkeys(("where.self", "where.ScalarSelf", "where.ScalarOther", "where.Scalar"), _where),
    **dict.fromkeys(("masked_fill.Scalar", "masked_fill.Tensor"), _filled),
    "cumsum.default": _summed,
}
RULES: Mapping[object, Rule] = {
    getattr(getattr(torch.ops.aten, name.partition(".")[0]), name.partition(".")[2]): rule
    for name, rule in {**MOVING, **_COMPUTING}.items()
}


def mask_reader(graph_module: fx.GraphModule) -> MaskReader:
    """A reader that knows all operators which masks are made with."""
    return MaskReader(graph_module, RULES)
