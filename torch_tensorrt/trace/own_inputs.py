"""An ExportedProgram has sizes and dtypes of its own: what a caller describes differently is told, since it can't be followed."""

from __future__ import annotations

import torch
from torch import fx
from torch.export import ExportedProgram

from torch_tensorrt.observe.log import logger
from torch_tensorrt.spec.input import Input
from torch_tensorrt.trace.call_inputs import CallInputs
from torch_tensorrt.trace.dynamic_shapes import ranges_of
from torch_tensorrt.trace.symbols import tensor_inputs, tensor_leaves

_log = logger("trace")


def warn_of_other_inputs(program: ExportedProgram, call: CallInputs) -> None:
    """One warning for each input that `call` describes with sizes or a dtype that `program` doesn't take."""
    nodes, leaves = tensor_inputs(program), tensor_leaves(call)
    if len(nodes) != len(leaves):
        _log.warning(
            "%d inputs are described, and the ExportedProgram takes %d tensors (%s): it is compiled for its own sizes.",
            len(leaves), len(nodes), ", ".join(node.name for node in nodes) or "none",
        )  # fmt: skip
        return
    for node, leaf in zip(nodes, leaves, strict=True):
        told = _differences(program, node, leaf)
        if told:
            _log.warning(
                "Input %r is described with %s. An ExportedProgram is compiled for the sizes and dtypes that it was exported with: give "
                "others to torch.export.export(..., dynamic_shapes=...), or to torch_tensorrt.quantize(..., inputs=...).",
                node.name, "; ".join(told),
            )  # fmt: skip


def _differences(program: ExportedProgram, node: fx.Node, leaf: object) -> list[str]:
    value, asked = node.meta["val"], _asked(leaf)
    dtype = leaf.dtype.to(torch.dtype) if isinstance(leaf, Input) else leaf.dtype  # type: ignore[attr-defined]
    told = [f"dtype {dtype}, and the program takes {value.dtype}"] if dtype is not value.dtype else []
    if len(asked) != value.dim():
        return [*told, f"{len(asked)} dimensions, and the program takes {value.dim()}"]
    for dim, ((low, high), size) in enumerate(zip(asked, value.shape, strict=True)):
        least, most = _taken(program, size)
        if low < least or high > most:
            one, other = (
                (str(least) if least == most else f"{least} to {most}"),
                (low if low == high else f"{low} to {high}"),
            )
            told.append(f"size {other} in dimension {dim}, and the program takes {one}")
    return told


def _asked(leaf: object) -> list[tuple[int, int]]:
    """The least and the greatest size in each dimension."""
    if isinstance(leaf, torch.Tensor):
        return [(size, size) for size in leaf.shape]
    assert isinstance(leaf, Input)
    varying, shape = ranges_of(leaf), leaf.shape
    sizes = shape["opt_shape"] if isinstance(shape, dict) else shape
    return [(varying[dim][0], varying[dim][2]) if dim in varying else (size, size) for dim, size in enumerate(sizes)]


def _taken(program: ExportedProgram, size: int | torch.SymInt) -> tuple[int, float]:
    if not isinstance(size, torch.SymInt):
        return size, size
    bounds = program.range_constraints.get(size.node.expr)
    if bounds is None:  # made of other sizes: what it may be depends on these
        return 0, float("inf")
    return (int(bounds.lower) if bounds.lower > 0 else 0), float(bounds.upper)
