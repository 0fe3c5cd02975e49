"""From Inputs with ranges to what torch.export needs: example sizes and `dynamic_shapes`."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TypeAlias

import torch
from torch import nn
from torch.export import Dim

from torch_tensorrt.spec.errors import InputError
from torch_tensorrt.spec.input import Input
from torch_tensorrt.trace.call_inputs import CallInputs

_EXAMPLE = 5
Ranges: TypeAlias = "dict[int, tuple[int, int, int]]"


def ranges_of(leaf: object) -> Ranges:
    """Dimension -> (min, opt, max) for the sizes of `leaf` that vary; empty for a static Input or any other leaf."""
    if not isinstance(leaf, Input) or leaf.shape_mode != Input._ShapeMode.DYNAMIC:
        return {}
    shape = leaf.shape
    assert isinstance(shape, Mapping)
    points = zip(shape["min_shape"], shape["opt_shape"], shape["max_shape"], strict=True)
    return {dim: (low, opt, high) for dim, (low, opt, high) in enumerate(points) if low != high}


def example_tensor(leaf: object, device: torch.device) -> object:
    """A tensor for an Input (on `device`), at its opt sizes; for a tensor, another object with the same memory; any other leaf
    unchanged.

    torch.export takes sizes 0 and 1 for constants, those of intermediate results too, so a varying size whose opt is below 2 gets
    another value of its range, 5 where it can: a half of it, and one less, are still above 1. It takes one object that
    is given twice, or that is a weight, for one value: the other input would be ignored.
    """
    if isinstance(leaf, torch.Tensor):
        return leaf.detach()
    if not isinstance(leaf, Input):
        return leaf
    ranges = ranges_of(leaf)
    if not ranges:
        return leaf.example_tensor().to(device)
    tensor = leaf.example_tensor("opt_shape")
    for dim, (_, opt, high) in ranges.items():
        if opt < 2 and high >= 2:
            repeats = [1] * tensor.dim()
            repeats[dim] = min(high, _EXAMPLE)
            filled = (
                tensor
                if opt == 1
                else tensor.new_ones([1 if at == dim else size for at, size in enumerate(tensor.shape)])
            )
            tensor = filled.repeat(repeats)
    return tensor.to(device)


def dynamic_shapes_for(model: nn.Module, call: CallInputs) -> dict[str, object] | None:
    """`dynamic_shapes` for torch.export by parameter name, or None when every size is fixed.

    Each varying size is a symbol of its own; torch.export ties two of them only when the model needs them equal. Inputs that
    name a size alike in `shared_dims` share one Dim. Raises InputError when the inputs don't fit `forward`.
    """
    shared: dict[str, object] = {}
    marked = _by_parameter(model, call.map(lambda leaf: _marks(leaf, shared)))
    return marked if any(ranges_of(leaf) for _, leaf in call.leaves()) else None


def _marks(leaf: object, shared: dict[str, object]) -> object:
    ranges = ranges_of(leaf)
    if not ranges or not isinstance(leaf, Input):
        return None
    names = leaf.shared_dims or {}
    marks: dict[int, object] = {}
    for dim, (low, _, high) in ranges.items():
        name = names.get(dim)
        # torch.export leaves 0 and 1 out of a range, and takes the one size that is left of 1..2 for a constant. What the compiled
        # module accepts ends at 2 all the same: see symbol_ranges.
        high = high + 1 if high == 2 else high
        if name is None:
            marks[dim] = Dim.DYNAMIC(min=low, max=high)
        else:
            known = shared.setdefault(name, Dim(name, min=low, max=high))
            if (known.min, known.max) != (low, high):  # type: ignore[attr-defined]
                raise InputError(
                    f"shared_dims: the size {name!r} has the range {low} to {high} in {leaf!r}, and another one in an Input before "
                    "it; give all Inputs that share a size the same range."
                )
            marks[dim] = known
    return marks


def _by_parameter(model: nn.Module, call: CallInputs) -> dict[str, object]:
    try:
        bound = inspect.signature(model.forward).bind(*call.args, **call.kwargs)
    except TypeError as error:
        raise InputError(
            f"The inputs don't fit {type(model).__name__}.forward{inspect.signature(model.forward)}: {error}."
        ) from error
    return dict(bound.arguments)
