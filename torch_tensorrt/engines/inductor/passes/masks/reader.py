"""Reads the form of a mask from the graph that makes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import sympy
import torch
from torch import Tensor, fx
from torch._ops import OpOverload
from torch.utils._sympy.value_ranges import ValueRanges

from torch_tensorrt.engines.inductor.passes.masks.forms import (
    Form,
    Hidden,
    Linear,
    Ranges,
    Sizes,
    Truth,
    each_linear,
    everywhere,
    exact,
    hides,
    is_never,
    never,
    read_constant,
    simplify,
)
from torch_tensorrt.graphs.editing import tensor_of, written_attributes

WHOLE = frozenset({torch.int64, torch.int32})
Given: TypeAlias = "Mapping[str, object]"
Rule: TypeAlias = "Callable[[MaskReader, fx.Node, Given], Form | None]"


class MaskReader:
    """Reads forms of nodes of one graph, each node once."""

    def __init__(self, graph_module: fx.GraphModule, rules: Mapping[object, Rule]) -> None:
        self._module = graph_module
        self._rules = rules
        self._written = written_attributes(graph_module)
        self._known: dict[fx.Node, Form | None] = {}
        self.ranges = _ranges(graph_module.graph)

    def read(self, node: fx.Node) -> Form | None:
        """What is known of the values of `node`; None for nothing."""
        if node not in self._known:
            self._known[node] = None
            value = node.meta.get("val")
            if isinstance(value, Tensor) and value.layout is torch.strided:
                self._known[node] = self._simplified(_possible(_settled(self._read(node), value), value), node)
        return self._known[node]

    def _simplified(self, form: Form | None, node: fx.Node) -> Form | None:
        if isinstance(form, Hidden):
            return Hidden(simplify(form.shown, sizes_of(node), self.ranges))
        return simplify(form, sizes_of(node), self.ranges) if isinstance(form, Truth) else form

    def _read(self, node: fx.Node) -> Form | None:
        if node.op == "get_attr":
            tensor = tensor_of(self._module, node)
            fixed = tensor is not None and str(node.target) not in self._written and tensor.device.type != "meta"
            return read_constant(tensor.detach()) if fixed and tensor is not None else None
        rule = self._rules.get(node.target) if isinstance(node.target, OpOverload) else None
        return None if rule is None else rule(self, node, arguments_of(node))

    def operand(self, given: object, node: fx.Node) -> Form | None:
        """The form of an argument, at the places of `node`'s result."""
        rank = len(sizes_of(node))
        if not isinstance(given, fx.Node) or not isinstance(given.meta.get("val"), Tensor):
            number = number_of(given)
            return None if number is None else everywhere(number, rank)
        form = self.read(given)
        missing = (sympy.S.Zero,) * (rank - len(sizes_of(given)))
        return None if form is None else each_linear(form, lambda old: Linear(old.start, (*missing, *old.steps)))

    def number(self, given: object, node: fx.Node) -> Linear | None:
        """An argument as numbers; truths that are the same everywhere are 1 or 0."""
        form = self.operand(given, node)
        if isinstance(form, Truth) and (not form.conditions or is_never(form)):
            return everywhere(int(not form.conditions), len(sizes_of(node)))
        return form if isinstance(form, Linear) else None

    def truth(self, given: object, node: fx.Node) -> Truth | None:
        """An argument as truths; numbers that are the same everywhere are true unless 0."""
        form = self.operand(given, node)
        if isinstance(form, Linear) and form.constant is not None and form.constant.is_number:
            return Truth(frozenset()) if form.constant != 0 else never(len(sizes_of(node)))
        return form if isinstance(form, Truth) else None


def sizes_of(node: fx.Node) -> Sizes:
    """The sizes of a node's tensor, as expressions."""
    return tuple(_expression(size) for size in node.meta["val"].shape)


def number_of(given: object) -> sympy.Expr | None:
    """A number among the arguments, or the size that a node gives."""
    value = given.meta.get("val") if isinstance(given, fx.Node) else given
    if isinstance(value, (bool, int, float, torch.SymInt)):
        return _expression(value)
    return None


def _expression(value: object) -> sympy.Expr:
    if isinstance(value, torch.SymInt):
        return sympy.expand(value.node.expr)
    assert isinstance(value, (bool, int, float))
    return exact(value)


def _ranges(graph: fx.Graph) -> Ranges:
    found: dict[sympy.Symbol, ValueRanges[sympy.Expr]] = {}
    for node in graph.nodes:
        value = node.meta.get("val")
        for size in value.shape if isinstance(value, Tensor) else (value,):
            if isinstance(size, torch.SymInt):
                known = size.node.shape_env.var_to_range
                found.update({symbol: known[symbol] for symbol in size.node.expr.free_symbols if symbol in known})
    return found


def _settled(form: Form | None, value: Tensor) -> Form | None:
    """`form` with no steps along sizes of 1, which may be expanded."""
    single = [not isinstance(size, torch.SymInt) and size == 1 for size in value.shape]

    def settle(old: Linear) -> Linear:
        return Linear(
            old.start, tuple(sympy.S.Zero if one else step for step, one in zip(old.steps, single, strict=True))
        )

    return None if form is None else each_linear(form, settle)


def _possible(form: Form | None, value: Tensor) -> Form | None:
    """`form` where tensors of this dtype hold it as it is: other numbers of floating point may have been rounded."""
    if not isinstance(form, Linear) or value.dtype in WHOLE:
        return form
    number = form.constant
    if number is None or not number.is_number or number is sympy.nan:
        return None
    if value.dtype is torch.bool:
        return Truth(frozenset()) if number != 0 else never(value.dim())
    if not value.dtype.is_floating_point:
        return form if 0 <= number <= 1 else None
    low = number == -sympy.oo or (hides(float(number), value.dtype) and float(number) >= torch.finfo(value.dtype).min)
    return form if low or (number == int(number) and abs(number) <= 256) else None


def arguments_of(node: fx.Node) -> Given:
    """The arguments of an operator by name, with its defaults."""
    assert isinstance(node.target, OpOverload)
    schema = node.target._schema.arguments
    given = {each.name: each.default_value for each in schema if each.has_default_value()}
    given.update(zip((each.name for each in schema), node.args, strict=False))
    return {**given, **node.kwargs}


def axis_of(given: object, rank: int) -> int:
    """A dimension, counted from the start."""
    assert isinstance(given, int)
    return given % rank if rank else 0
