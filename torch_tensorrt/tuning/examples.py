"""Values to measure with: the user's own examples at the typical sizes, carried on to each partition by PyTorch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram

from torch_tensorrt.contracts.partition import Partition
from torch_tensorrt.observe.log import logger
from torch_tensorrt.runtime.calling import Door
from torch_tensorrt.spec.errors import InputError
from torch_tensorrt.spec.input import Input
from torch_tensorrt.spec.tensor_spec import TensorSpec
from torch_tensorrt.trace.call_inputs import CallInputs
from torch_tensorrt.trace.dynamic_shapes import ranges_of

_log = logger("tuning")


def flat_examples(
    program: ExportedProgram,
    graph: fx.Graph,
    specs: Sequence[TensorSpec | None],
    call: CallInputs | None,
    device: torch.device,
) -> Sequence[object]:
    """A value for each argument of `graph`: from `call`, else what the program was exported with, else made up."""
    if call is not None:
        typical = call.map(lambda leaf: _typical(leaf, device))
        return Door(graph, specs).enter(typical.args, typical.kwargs)
    if program.example_inputs is not None:
        args, kwargs = program.example_inputs
        try:
            return Door(graph, specs).enter(tuple(args), kwargs)
        except InputError as error:
            _log.info("the program's own example inputs don't fit it: %s", error)
    return made_up(graph, specs)


def _typical(leaf: object, device: torch.device) -> object:
    if not isinstance(leaf, Input):
        return leaf
    return (leaf.example_tensor("opt_shape") if ranges_of(leaf) else leaf.example_tensor()).to(device)


def made_up(graph: fx.Graph, specs: Sequence[TensorSpec | None]) -> list[object]:
    """Random numbers; 0 for whole numbers, which may be indices; True."""
    values: list[object] = []
    for node, spec in zip(graph.find_nodes(op="placeholder"), specs, strict=True):
        value = node.meta.get("val")
        if spec is None:
            hint = value.node.hint if isinstance(value, (torch.SymInt, torch.SymFloat, torch.SymBool)) else value
            values.append(hint)
            continue
        shape, device = spec.shape_at("opt"), value.device if isinstance(value, Tensor) else spec.device
        if spec.dtype.is_floating_point or spec.dtype.is_complex:
            values.append(torch.randn(shape, device=device).to(spec.dtype))
        else:
            fill = torch.ones if spec.dtype is torch.bool else torch.zeros
            values.append(fill(shape, dtype=spec.dtype, device=device))
    return values


class _Recording(fx.Interpreter):
    """Runs the graph around the engines with PyTorch in their place, and notes what each is given. Nothing is written to."""

    def __init__(self, outer: fx.GraphModule, partitions: Mapping[str, Partition]) -> None:
        super().__init__(outer)
        self.partitions = partitions
        self.given: dict[str, tuple[Tensor, ...]] = {}

    def run_node(self, n: fx.Node) -> Any:
        if n.name in self.partitions:
            inputs = fx.map_arg(n.args[0], lambda node: self.env[node])
            assert isinstance(inputs, (list, tuple))
            self.given[n.name] = tuple(tensor.detach().clone() for tensor in inputs)
            return list(self.partitions[n.name].module(*self.given[n.name]))
        value = super().run_node(n)
        if n.op in {"get_attr", "placeholder"} and isinstance(value, Tensor) and any(map(_is_mutable, n.users)):
            return value.clone()
        return value


def _is_mutable(node: fx.Node) -> bool:
    return isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable


def record_inputs(
    outer: fx.GraphModule, partitions: Mapping[str, Partition], values: Sequence[object]
) -> Mapping[str, tuple[Tensor, ...]]:
    """What each partition (by the name of the node that calls it) is given when `outer` runs on `values`.

    Raises InputError when the graph can't be run on them.
    """
    recording = _Recording(outer, partitions)
    try:
        with torch.no_grad():
            recording.run(*values, enable_io_processing=False)
    except Exception as error:  # whatever the model's operators raise
        raise InputError(
            f"The model can't be run on its example inputs, so that nothing can be measured: {type(error).__name__}: {error} "
            "Give examples that it takes, Input(torch_tensor=...), or an optimization_level below 4."
        ) from error
    return recording.given
