"""A decomposed graph kept for later: another program with the very same graph needs new weights in it, not decomposing again."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram


@dataclass(frozen=True)
class DecomposedGraph:
    """The graph that `decompose` made, without weights, and the program that it was made of, in words."""

    graph: fx.Graph
    described: tuple[str, ...]

    @classmethod
    def of(cls, program: ExportedProgram, decomposed: fx.GraphModule) -> DecomposedGraph | None:
        """A copy of `decomposed`'s graph; None when not all of its attributes are the program's own tensors."""
        described = _describe(program)
        tensors = _tensors(program)
        for node in decomposed.graph.find_nodes(op="get_attr"):
            value = fx.graph_module._get_attr(decomposed, str(node.target))
            own = tensors.get(str(node.target))
            if not isinstance(value, Tensor) or own is None or value.data_ptr() != own.data_ptr():
                return None
        return None if described is None else cls(copy.deepcopy(decomposed.graph), described)

    def with_weights_of(self, program: ExportedProgram) -> fx.GraphModule | None:
        """The decomposed form of `program`; None when it isn't the same program but for its weights."""
        if _describe(program) != self.described:
            return None
        tensors = _tensors(program)
        graph = copy.deepcopy(self.graph)
        return fx.GraphModule(
            {str(node.target): tensors[str(node.target)] for node in graph.find_nodes(op="get_attr")}, graph
        )


def _tensors(program: ExportedProgram) -> dict[str, Tensor]:
    named = {**program.constants, **program.state_dict}
    return {name: value for name, value in named.items() if isinstance(value, Tensor)}


def _describe(program: ExportedProgram) -> tuple[str, ...] | None:
    """Everything but the weights' values; None for a program with submodules (control flow), whose graphs are elsewhere."""
    signature = program.graph_signature
    lines = [f"{program.call_spec}", f"{program.range_constraints}", f"{signature.output_specs}"]
    lines += [f"{spec}" for spec in signature.input_specs]
    named = _tensors(program)
    lines += [
        f"{name} {tensor.shape} {tensor.stride()} {tensor.dtype} {tensor.device}" for name, tensor in named.items()
    ]
    for node in program.graph.nodes:
        if node.op == "get_attr":
            return None
        lines.append(f"{node.name} {node.op} {node.target} {node.args} {node.kwargs} {_known(node.meta.get('val'))}")
    return tuple(lines)


def _known(value: object) -> str:
    if isinstance(value, torch.Tensor):
        return f"{value.dtype} {value.shape} {value.stride()} {value.device}"
    if isinstance(value, (tuple, list)):
        return str([_known(part) for part in value])
    return str(value)
