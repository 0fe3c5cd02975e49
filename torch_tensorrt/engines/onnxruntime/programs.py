"""A partition as a program that torch.onnx's exporter takes."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram

from torch_tensorrt.contracts.partition import Partition
from torch_tensorrt.graphs.predictions import PREDICTING
from torch_tensorrt.spec.tensor_spec import Dim, TensorSpec


class _Forward(torch.nn.Module):
    """Gives any number of inputs one name, so that their varying sizes can be listed by position."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__()
        self.module = module

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.module(*inputs))


def as_program(partition: Partition) -> ExportedProgram:
    """The partition, exported; each result is a tensor of its own, not an input, a weight or an earlier result."""
    examples = typical_inputs(partition.inputs, _export_point(partition.inputs))
    auto = torch.export.Dim.AUTO
    varying = tuple(
        {at: auto for at, size in enumerate(spec.shape) if isinstance(size, Dim)} for spec in partition.inputs
    )
    with PREDICTING, torch.no_grad():
        return torch.export.export(
            _Forward(_with_own_results(partition.module)), examples, dynamic_shapes=(varying,), strict=False
        )


def typical_inputs(specs: Sequence[TensorSpec], point: str = "opt") -> tuple[Tensor, ...]:
    """Zeros of the sizes at `point`: valid as indices too."""
    return tuple(torch.zeros(spec.shape_at(point), dtype=spec.dtype, device="cpu") for spec in specs)


def _with_own_results(module: fx.GraphModule) -> fx.GraphModule:
    graph = copy.deepcopy(module.graph)
    output = graph.output_node()
    (results,) = output.args
    assert isinstance(results, (tuple, list))
    seen: set[object] = set()
    own = []
    with graph.inserting_before(output):
        for result in results:
            if not isinstance(result, fx.Node) or result.op != "call_function" or result in seen:
                own.append(graph.call_function(torch.ops.aten.clone.default, (result,)))
            else:
                own.append(result)
            seen.add(result)
    output.args = (tuple(own),)
    return fx.GraphModule(module, graph)


def _export_point(inputs: Sequence[TensorSpec]) -> str:
    """A point at which no varying size is 0 or 1, because torch.export would make these constant."""
    for point in ("opt", "max", "min"):
        shapes = [(spec.shape_at(point), spec.shape) for spec in inputs]
        if all(size > 1 for shape, given in shapes for size, known in zip(shape, given, strict=True) if known != size):
            return point
    return "opt"
