"""The three points (min, opt, max) of each symbol of an exported program."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import fx
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from torch_tensorrt.graphs.bounds import allow_from
from torch_tensorrt.spec.errors import InputError
from torch_tensorrt.spec.input import Input
from torch_tensorrt.trace.call_inputs import CallInputs
from torch_tensorrt.trace.dynamic_shapes import ranges_of

_NO_BOUND = 2**31
_ASSUMED = 2  # torch.export takes sizes for that at least


@dataclass(frozen=True)
class SymbolRange:
    """Least, typical and greatest value of a symbol; `max` is None where there is no bound.

    profiles: the same in each of several ranges, where the caller's Inputs have them.
    """

    min: int
    opt: int
    max: int | None
    profiles: tuple[tuple[int, int, int], ...] = ()


def symbol_ranges(program: ExportedProgram, call: CallInputs | None) -> Mapping[str, SymbolRange]:
    """Symbol name -> range, for every symbol in the sizes of the program's inputs.

    min and max come from the program's range constraints (max not over that of the caller's Inputs); opt from the Inputs, else
    from the example sizes. Raises InputError when Inputs have several ranges, and not equally many.
    """
    typical, greatest = _typical_sizes(program, call)
    profiles = _profiles(program, call)
    ranges: dict[str, SymbolRange] = {}
    for symbol, bounds in program.range_constraints.items():
        low = int(bounds.lower) if 0 < bounds.lower < _NO_BOUND else 0  # a value from .item() may have no bounds
        high = int(bounds.upper) if bounds.upper < _NO_BOUND else None
        asked = greatest.get(str(symbol))
        high = asked if asked is not None and (high is None or asked < high) else high
        opt = typical.get(str(symbol), max(low, 1))
        usual = max(low, opt if high is None else min(opt, high))
        ranges[str(symbol)] = SymbolRange(low, usual, high, profiles.get(str(symbol), ()))
    return ranges


def tell_lowest(program: ExportedProgram) -> None:
    """Where the program's ranges begin, for whoever looks at its sizes later: PyTorch's own begin at 2."""
    for node in tensor_inputs(program):
        for size in node.meta["val"].shape:
            bounds = program.range_constraints.get(size.node.expr) if isinstance(size, torch.SymInt) else None
            if bounds is not None and bounds.lower < _ASSUMED:
                allow_from(size.node.shape_env, {size.node.expr: max(0, int(bounds.lower))})


def _profiles(program: ExportedProgram, call: CallInputs | None) -> dict[str, tuple[tuple[int, int, int], ...]]:
    """Symbol name -> its (min, opt, max) in each range of the Inputs that have several."""
    nodes = tensor_inputs(program)
    wanted = tensor_leaves(call) if call is not None else []
    counts = {len(leaf.profiles) for leaf in wanted if isinstance(leaf, Input)} - {1}
    if len(counts) > 1:
        raise InputError(
            f"The Inputs have {' and '.join(map(str, sorted(counts)))} profiles; those that have several need equally many, since "
            "the first of one belongs to the first of the others."
        )
    found: dict[str, tuple[tuple[int, int, int], ...]] = {}
    for node, leaf in zip(nodes, wanted, strict=False) if counts and len(nodes) == len(wanted) else ():
        if isinstance(leaf, Input) and len(leaf.profiles) > 1:
            for dim, size in enumerate(node.meta["val"].shape):
                if isinstance(size, torch.SymInt) and size.node.expr.is_symbol:
                    points = (tuple(shape[dim] for shape in shapes) for shapes in leaf.profiles)
                    found.setdefault(str(size.node.expr), tuple((low, opt, high) for low, opt, high in points))
    return found


def _typical_sizes(program: ExportedProgram, call: CallInputs | None) -> tuple[dict[str, int], dict[str, int]]:
    """Symbol name -> typical value, and the greatest that the Inputs ask for."""
    sizes: dict[str, int] = {}
    greatest: dict[str, int] = {}
    nodes = tensor_inputs(program)
    wanted = tensor_leaves(call) if call is not None else []
    for at, node in enumerate(nodes):
        ranges = ranges_of(wanted[at]) if len(wanted) == len(nodes) else {}
        for dim, size in enumerate(node.meta["val"].shape):
            if isinstance(size, torch.SymInt) and size.node.expr.is_symbol:
                if dim in ranges:
                    sizes[str(size.node.expr)] = ranges[dim][1]
                    greatest.setdefault(str(size.node.expr), ranges[dim][2])
                elif size.node.hint is not None:
                    sizes.setdefault(str(size.node.expr), int(size.node.hint))
    return sizes, greatest


def tensor_inputs(program: ExportedProgram) -> list[fx.Node]:
    """The placeholders of the caller's tensors, in flattening order."""
    names = set(program.graph_signature.user_inputs)
    placeholders = (node for node in program.graph.nodes if node.op == "placeholder" and node.name in names)
    return [node for node in placeholders if isinstance(node.meta.get("val"), torch.Tensor)]


def tensor_leaves(call: CallInputs) -> list[object]:
    """The Inputs and tensors that a caller described, in flattening order."""
    leaves = pytree.tree_leaves((call.args, dict(call.kwargs)), is_leaf=lambda leaf: isinstance(leaf, Input))
    return [leaf for leaf in leaves if isinstance(leaf, (Input, torch.Tensor))]
