"""Operators that move, repeat or leave out values of a mask, and compute nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import sympy
from torch import fx

from torch_tensorrt.engines.inductor.passes.masks.forms import (
    Form,
    Linear,
    each_linear,
    everywhere,
    is_at_least_zero,
    is_same_everywhere,
)
from torch_tensorrt.engines.inductor.passes.masks.reader import (
    WHOLE,
    Given,
    MaskReader,
    Rule,
    axis_of,
    number_of,
    sizes_of,
)


def _moved(reader: MaskReader, node: fx.Node, given: Given) -> Form | None:
    """expand, view, squeeze, unsqueeze and the like: sizes of 1 come and go, all others stay in their order."""
    source = given["self"]
    assert isinstance(source, fx.Node)
    form, before, after = reader.read(source), sizes_of(source), sizes_of(node)
    if form is None:
        return None
    kept = [at for at, size in enumerate(before) if size != 1]
    places = [at for at, size in enumerate(after) if size != 1]
    if [before[at] for at in kept] != [after[at] for at in places]:
        return _respread(form, len(after))
    of = dict(zip(places, kept, strict=True))
    zero = sympy.S.Zero
    return each_linear(
        form, lambda old: Linear(old.start, tuple(old.steps[of[at]] if at in of else zero for at in range(len(after))))
    )


def _respread(form: Form, rank: int) -> Form | None:
    """`form` in any other sizes, where it is the same everywhere."""
    return each_linear(form, lambda old: everywhere(old.start, rank)) if is_same_everywhere(form) else None


def _expanded(reader: MaskReader, node: fx.Node, given: Given) -> Form | None:
    return reader.operand(given["self"], node)


def _permuted(reader: MaskReader, node: fx.Node, given: Given) -> Form | None:
    source, rank = given["self"], len(sizes_of(node))
    assert isinstance(source, fx.Node)
    form, order = reader.read(source), list(range(rank))
    if "dims" in given:
        dims = given["dims"]
        assert isinstance(dims, Sequence)
        order = [axis_of(dim, rank) for dim in dims]
    elif rank:
        first, second = axis_of(given["dim0"], rank), axis_of(given["dim1"], rank)
        order[first], order[second] = order[second], order[first]
    if form is None:
        return None
    return each_linear(form, lambda old: Linear(old.start, tuple(old.steps[at] for at in order)))


def _sliced(reader: MaskReader, node: fx.Node, given: Given) -> Form | None:
    source, at = given["self"], axis_of(given["dim"], len(sizes_of(node)))
    assert isinstance(source, fx.Node)
    form, step = reader.read(source), number_of(given["step"])
    start = number_of(0 if given["start"] is None else given["start"])
    if form is None or step is None or not is_at_least_zero(start, reader.ranges):
        return None
    return each_linear(form, lambda old: _from(old, at, start, step))


def _from(old: Linear, at: int, start: sympy.Expr, step: sympy.Expr) -> Linear:
    steps = (*old.steps[:at], old.steps[at] * step, *old.steps[at + 1 :])
    return Linear(sympy.expand(old.start + old.steps[at] * start), steps)


def _selected(reader: MaskReader, node: fx.Node, given: Given) -> Form | None:
    source = given["self"]
    assert isinstance(source, fx.Node)
    form, index, at = reader.read(source), number_of(given["index"]), axis_of(given["dim"], len(sizes_of(source)))
    if form is None or not is_at_least_zero(index, reader.ranges):
        return None
    assert index is not None
    return each_linear(
        form,
        lambda old: Linear(sympy.expand(old.start + old.steps[at] * index), (*old.steps[:at], *old.steps[at + 1 :])),
    )


def _joined(reader: MaskReader, node: fx.Node, given: Given) -> Form | None:
    """Numbers that go on in the next tensor as they did in the last; a single one goes on in any way."""
    parts, at, place, found = given["tensors"], axis_of(given["dim"], len(sizes_of(node))), sympy.S.Zero, None
    assert isinstance(parts, Sequence)
    pieces: list[tuple[Linear, sympy.Expr, bool]] = []
    for part in parts:
        form, size = reader.read(part), sizes_of(part)[at]
        if not isinstance(form, Linear):
            return None
        pieces.append((form, place, size == 1))
        place = place + size
    for form, start, single in pieces:
        if not single:
            found = _from(form, at, -start, sympy.S.One)
    if found is None:
        return None
    return found if all(_agrees(found, piece, at) for piece in pieces) else None


def _agrees(found: Linear, piece: tuple[Linear, sympy.Expr, bool], at: int) -> bool:
    form, start, single = piece
    here = _from(found, at, start, sympy.S.One)
    steps = (*here.steps[:at], *here.steps[at + 1 :]) == (*form.steps[:at], *form.steps[at + 1 :])
    return steps and sympy.expand(here.start - form.start) == 0 and (single or here.steps[at] == form.steps[at])


def _indexed(reader: MaskReader, node: fx.Node, given: Given) -> Form | None:
    """`self[i, j]` with a tensor for each dimension."""
    source, indices, rank = given["self"], given["indices"], len(sizes_of(node))
    assert isinstance(source, fx.Node)
    assert isinstance(indices, Sequence)
    form = reader.read(source)
    if form is None or len(indices) != len(sizes_of(source)):
        return None if form is None else _respread(form, rank)
    whole = all(isinstance(index, fx.Node) and index.meta["val"].dtype in WHOLE for index in indices)
    places = [reader.number(index, node) if whole else None for index in indices]
    if any(place is None or not is_at_least_zero(place.least(sizes_of(node)), reader.ranges) for place in places):
        return _respread(form, rank)

    def at_places(old: Linear) -> Linear:
        found = everywhere(old.start, rank)
        for step, place in zip(old.steps, places, strict=True):
            found = found.plus(place, step) if place is not None else found
        return found

    return each_linear(form, at_places)


MOVING: Mapping[str, Rule] = {
    "expand.default": _expanded,
    **{f"{name}.default": _moved for name in ("view", "_unsafe_view", "reshape", "unsqueeze")},
    **dict.fromkeys(("squeeze.dim", "squeeze.dims"), _moved),
    **dict.fromkeys(("permute.default", "transpose.int"), _permuted),
    "slice.Tensor": _sliced,
    "select.int": _selected,
    "cat.default": _joined,
    "index.Tensor": _indexed,
}
