"""The engine that is PyTorch itself: the reference for all others, and what always works."""

from __future__ import annotations

import copy
import io
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, fx
from torch._ops import OpOverload
from torch.export import ExportedProgram

from torch_tensorrt.archives.reading import read_program
from torch_tensorrt.contracts.abilities import LayerTime, layers_as_json
from torch_tensorrt.contracts.backend import EngineBackend, Support
from torch_tensorrt.contracts.engine import Engine, EngineSpec
from torch_tensorrt.contracts.partition import Partition
from torch_tensorrt.engines.eager.timing import TimedInterpreter, is_layer, layer
from torch_tensorrt.graphs.predictions import PREDICTING
from torch_tensorrt.spec.enums import Platform
from torch_tensorrt.spec.errors import BuildError, InputError
from torch_tensorrt.spec.settings import CompilationSettings
from torch_tensorrt.spec.tensor_spec import Dim, TensorSpec


class EagerBackend(EngineBackend):
    """Runs a partition node by node with PyTorch."""

    name: ClassVar[str] = "eager"
    format_version: ClassVar[int] = 1

    def available(self, device: torch.device) -> Support:
        """Always: PyTorch is here."""
        return Support(True)

    def builds_for(self, platform: Platform) -> Support:
        """Any platform: the bytes are an exported program."""
        return Support(True)

    def unhonoured(self, settings: CompilationSettings) -> Sequence[str]:
        """What only builders of other engines can do."""
        return settings.unhonoured(self.name, honours={"immutable_weights"})

    def supports(self, node: fx.Node, settings: CompilationSettings) -> Support:
        """Every operator of PyTorch that writes to none of its arguments."""
        if not isinstance(node.target, OpOverload):
            return Support(False, f"{node.target} is not an operator with a schema")
        if node.target._schema.is_mutable:
            return Support(False, f"{node.target} writes to one of its arguments")
        return Support(True)

    def build(self, partition: Partition, settings: CompilationSettings) -> Engine:
        """The partition as it is."""
        spec = EngineSpec(
            name=partition.name,
            backend=self.name,
            format_version=self.format_version,
            target="any",
            settings_key=settings.engine_key(),
            inputs=partition.inputs,
            outputs=partition.outputs,
            versions={"torch": torch.__version__},
        )
        return EagerEngine(spec, partition.module)

    def fingerprint(self, partition: Partition, settings: CompilationSettings) -> Mapping[str, str] | None:
        """PyTorch alone."""
        return {"torch": torch.__version__}

    def from_bytes(self, blob: memoryview, spec: EngineSpec) -> Engine:
        """The engine from an archive that torch.export.save wrote. Raises FileFormatError when it is anything else."""
        program = read_program(io.BytesIO(blob), f"The program of eager engine {spec.name!r}")
        # The caller has checked the inputs against the spec already; torch.export's guards would do so again.
        return EagerEngine(spec, _without_prefix(program.module(check_guards=False)))


def _without_prefix(module: torch.nn.Module) -> fx.GraphModule:
    """The module with the names of attributes that the partition had before `_AsForward` held it."""
    assert isinstance(module, fx.GraphModule)
    graph, attributes = copy.deepcopy(module.graph), {}
    for node in graph.find_nodes(op="get_attr"):
        value = fx.graph_module._get_attr(module, str(node.target))
        node.target = str(node.target).removeprefix("module.")
        attributes[node.target] = value
    return fx.GraphModule(attributes, graph)


class EagerEngine(Engine):
    """A graph module run with PyTorch."""

    def __init__(self, spec: EngineSpec, module: fx.GraphModule) -> None:
        self.spec = spec
        self._module = module
        attributes = (*module.state_dict().values(), *vars(module).values())
        self._constants = {value.untyped_storage()._cdata for value in attributes if isinstance(value, Tensor)}

    def run(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Outputs in fresh memory: what PyTorch gives as a view of an input, a weight or another output is copied."""
        with torch.no_grad():
            return self._owned(self._module(*inputs), inputs)

    def _owned(self, results: Sequence[Tensor], inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        taken = {tensor.untyped_storage()._cdata for tensor in inputs} | self._constants
        return tuple(_own(result, taken) for result in results)

    def layer_information(self) -> str:
        """The operations of the graph."""
        return layers_as_json(self.spec, [layer(node) for node in self._module.graph.nodes if is_layer(node)])

    def run_timed(self, inputs: Sequence[Tensor]) -> tuple[tuple[Tensor, ...], Sequence[LayerTime]]:
        """Runs node by node, in Python."""
        wait = torch.cuda.synchronize if any(tensor.is_cuda for tensor in inputs) else None
        interpreter = TimedInterpreter(self._module, wait=wait)
        with torch.no_grad():
            outputs = self._owned(interpreter.run(*inputs), inputs)
        return outputs, interpreter.times

    def refit(self, weights: Mapping[str, Tensor]) -> Engine:
        """The same graph with other constants. Raises InputError for a constant that is missing or of another dtype or shape."""
        new: dict[str, object] = {}
        for node in self._module.graph.find_nodes(op="get_attr"):
            name = str(node.target)
            old = fx.graph_module._get_attr(self._module, name)
            given = weights.get(name)
            new[name] = given
            if not isinstance(old, Tensor):
                new[name] = old
            elif given is None or (given.dtype, given.shape) != (old.dtype, old.shape):
                found = "is missing" if given is None else f"is {given.dtype} {list(given.shape)}"
                raise InputError(
                    f"Constant {name!r} of eager engine {self.spec.name!r} {found}; it must be {old.dtype} {list(old.shape)}."
                )
            else:
                new[name] = given.detach().clone()
        return EagerEngine(self.spec, fx.GraphModule(new, copy.deepcopy(self._module.graph)))

    def program(self) -> ExportedProgram:
        """The module exported again. Raises BuildError when PyTorch can't export it."""
        point = _export_point(self.spec.inputs)
        examples = tuple(torch.zeros(s.shape_at(point), dtype=s.dtype, device=s.device) for s in self.spec.inputs)
        auto = torch.export.Dim.AUTO
        shapes = tuple({i: auto for i, size in enumerate(s.shape) if isinstance(size, Dim)} for s in self.spec.inputs)
        try:
            with PREDICTING:
                program = torch.export.export(
                    _AsForward(self._module), examples, dynamic_shapes=(shapes,), strict=False
                )
        except Exception as error:  # torch.export raises many classes
            raise BuildError(
                f"PyTorch could not export partition {self.spec.name!r} to write it as an eager engine: {error}"
            ) from error
        for node in program.graph.nodes:
            node.meta.pop("stack_trace", None)  # it would name this file, with its place on this machine
        return program

    def to_bytes(self) -> bytes:
        """The exported module, as torch.export.save writes it. Raises BuildError when PyTorch can't export it."""
        program, buffer = self.program(), io.BytesIO()
        try:
            torch.export.save(program, buffer)
        except Exception as error:  # torch.export raises many classes
            raise BuildError(
                f"PyTorch could not write partition {self.spec.name!r} as an eager engine: {error}"
            ) from error
        return buffer.getvalue()


class _AsForward(torch.nn.Module):
    """Gives any number of inputs one name, so that their dynamic dimensions can be listed by position."""

    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.module(*inputs))


def _own(result: Tensor, taken: set[int]) -> Tensor:
    storage = result.untyped_storage()._cdata
    if storage in taken:
        return result.clone()
    taken.add(storage)
    return result


def _export_point(inputs: Sequence[TensorSpec]) -> str:
    """A point at which no varying size is 0 or 1, because torch.export would make these constant."""
    for point in ("opt", "max", "min"):
        sizes = [
            size
            for spec in inputs
            for size, given in zip(spec.shape_at(point), spec.shape, strict=True)
            if given != size
        ]
        if all(size > 1 for size in sizes):
            return point
    return "opt"
