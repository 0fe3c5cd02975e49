"""A compiled OpenVINO model as an Engine: any number of threads, zero-copy for all but the smallest tensors.

Telling a request of another place in memory takes OpenVINO's binding some 4 microseconds per tensor, and OpenVINO itself 15 where
sizes vary; copying a few kilobytes takes less than one. Small tensors are therefore copied to and from memory that a request is told
of once, or, where sizes vary, whenever they are others than in the request's last run.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import TypeAlias

import torch
from torch import Tensor

from torch_tensorrt.contracts.abilities import LayerTime, layers_as_json
from torch_tensorrt.contracts.engine import Engine, EngineSpec
from torch_tensorrt.contracts.results import ResultMemory
from torch_tensorrt.engines.openvino import sdk
from torch_tensorrt.engines.openvino.ports import Request
from torch_tensorrt.engines.openvino.wiring import Wiring
from torch_tensorrt.spec.errors import BuildError, InputError, UnsupportedError
from torch_tensorrt.spec.shape_expr import parse, solve, symbols_in
from torch_tensorrt.spec.tensor_spec import Json, TensorSpec

_SHAPES_KEPT = 256
_SMALL = 32 * 1024  # bytes
_INT32 = torch.iinfo(torch.int32)
Write: TypeAlias = "Callable[[BytesIO], None]"
_Shapes: TypeAlias = "tuple[tuple[int, ...], ...]"


@dataclass(frozen=True)
class _Memory:
    """What a request is bound to: (place among the engine's inputs or outputs, memory); for inputs of these sizes only."""

    inputs: tuple[tuple[int, Tensor], ...]
    outputs: tuple[tuple[int, Tensor], ...]
    keep: tuple[object, ...]
    sizes: tuple[torch.Size, ...] = ()


@dataclass
class _Slot:
    """An infer request. memory: of tensors of fixed size. varying: of all tensors, for the sizes of its last run."""

    request: Request
    memory: _Memory
    varying: _Memory | None = None


@dataclass
class StartedRun:
    """A request that was started. finish: takes its outputs. borrowed: what it may be using until then."""

    request: Request
    borrowed: Sequence[object]
    finish: Callable[[], tuple[Tensor, ...]]

    def poll(self) -> None:
        """Raises what OpenVINO says of a run that failed."""
        self.request.wait_for(0)

    def outputs(self) -> tuple[Tensor, ...]:
        """Waits for the end. What OpenVINO raises passes through; the request isn't used again then."""
        self.request.wait()
        self.borrowed = ()
        return self.finish()


class OpenVINOEngine(Engine):
    """Runs a compiled model.

    options: what it was compiled with. write: writes the payload to a file. keep: memory that `compiled` borrows.
    """

    def __init__(
        self,
        spec: EngineSpec,
        compiled: sdk.Compiled,
        options: sdk.Config,
        wiring: Wiring,
        write: Write,
        keep: object = None,
    ) -> None:
        self.spec = spec
        self._compiled = compiled
        self._options = options
        self._wiring = wiring
        self._write = write
        self._keep = keep
        self._releases = False
        self._results = ResultMemory()
        self._timed: OpenVINOEngine | None = None
        self._timing = threading.Lock()
        self._runs = 0  # timed ones
        self._told: dict[str, float] = {}  # node -> milliseconds of all of them that were told
        self._free: deque[_Slot] = deque()  # append and pop are atomic
        self._execute = sdk.run()
        plan = wiring.plan(sdk.passed_through(compiled))
        self._small_feeds = tuple((port, given) for port, given in plan.feeds if _is_small(spec.inputs[given]))
        self._small_writes = tuple(
            (port, place)
            for port, place in sorted(plan.writes, key=lambda write: write[1])
            if _is_small(spec.outputs[place])
        )
        self._feeds = tuple(
            (port, given, sdk.wrap(spec.inputs[given].dtype))
            for port, given in plan.feeds
            if not _is_small(spec.inputs[given])
        )
        self._writes = tuple(
            (port, place, sdk.wrap(spec.outputs[place].dtype), spec.outputs[place].dtype)
            for port, place in plan.writes
            if not _is_small(spec.outputs[place]) and _follows(spec.outputs[place], spec.inputs)
        )
        self._varies = not all(tensor.is_static for tensor in (*spec.inputs, *spec.outputs))
        self._found = tuple(
            (port, place) for port, place in plan.writes if not _follows(spec.outputs[place], spec.inputs)
        )
        self._copies = plan.copies
        self._merged = wiring.outputs != tuple(range(len(spec.outputs)))
        self._wide = tuple(given for given, tensor in enumerate(spec.inputs) if tensor.dtype is torch.int64)
        self._sizes = tuple(tensor.sizes for tensor in spec.inputs)
        self._static = all(tensor.is_static for tensor in spec.outputs)
        self._fixed: _Shapes = tuple(tensor.shape_at("opt") for tensor in spec.outputs)
        self._known: dict[tuple[torch.Size, ...], _Shapes] = {}
        plain = not any((self._wide, self._found, self._copies))
        self._copied = plain and (self._varies or not (self._feeds or self._writes))  # tensors may all be small
        self._large: tuple[torch.Size, ...] = ()  # the last sizes that weren't

    def run(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Outputs for `inputs`, in memory of their own. What OpenVINO raises passes through.

        Raises InputError for an int64 tensor with values outside of int32.
        """
        if self._copied:
            small = self._run_small(inputs)
            if small is not None:
                return small
        slot, outputs, borrowed = self._prepare(inputs)
        self._execute(slot.request)
        del borrowed  # not before it has run
        return self._finish(slot, inputs, outputs)

    def _prepare(self, inputs: Sequence[Tensor]) -> tuple[_Slot, list[Tensor | None], Sequence[object]]:
        """A request that knows its inputs, the outputs that it writes to, and what must live until it has."""
        for given in self._wide:
            self._check_range(given, inputs[given])
        try:
            slot = self._free.pop()
        except IndexError:
            slot = self._new_slot()
        slot.varying = None
        _fill(slot.memory, inputs)
        outputs: list[Tensor | None] = [None] * len(self._fixed)
        return slot, outputs, self._bind(slot.request, inputs, outputs) if self._feeds or self._writes else ()

    def _varying_memory(self, slot: _Slot, inputs: Sequence[Tensor]) -> _Memory | None:
        """What the request's last run had if sizes are the same, else new memory; None where one of the tensors isn't small."""
        sizes = tuple([tensor.shape for tensor in inputs])
        if slot.varying is None or slot.varying.sizes != sizes:
            slot.varying = self._small_memory(slot, inputs, sizes) if sizes != self._large else None
        return slot.varying

    def _small_memory(self, slot: _Slot, inputs: Sequence[Tensor], sizes: tuple[torch.Size, ...]) -> _Memory | None:
        """Memory that the request is told of for all tensors of a call with these sizes; None where one of them isn't small."""
        shapes = self._shapes(inputs)
        wanted = [inputs[given].nbytes for _, given, _ in self._feeds]
        wanted += [math.prod(shapes[place]) * dtype.itemsize for _, place, _, dtype in self._writes]
        if max(wanted, default=0) > _SMALL:
            self._large = sizes
            return None
        with torch.inference_mode(False):  # memory made in inference mode could not be written to outside of it
            fed = [(given, _empty(inputs[given].shape, inputs[given].dtype)) for _, given, _ in self._feeds]
            written = [(place, _empty(shapes[place], dtype)) for _, place, _, dtype in self._writes]
        keep: list[object] = []
        for (port, _, show), (_, memory) in zip(self._feeds, fed, strict=True):
            keep.append(show(memory))
            slot.request.set_input_tensor(port, keep[-1])
        for (port, _, show, _), (_, memory) in zip(self._writes, written, strict=True):
            keep.append(show(memory))
            slot.request.set_output_tensor(port, keep[-1])
        outputs = sorted([*slot.memory.outputs, *written], key=lambda each: each[0])
        return _Memory((*slot.memory.inputs, *fed), tuple(outputs), tuple(keep), sizes)

    def _finish(self, slot: _Slot, inputs: Sequence[Tensor], outputs: list[Tensor | None]) -> tuple[Tensor, ...]:
        """The outputs of a request that has run, which is free from now on."""
        for port, place in self._found:
            outputs[place] = sdk.found_output(slot.request, port, self.spec.outputs[place].dtype)
        for place, memory in slot.memory.outputs:
            outputs[place] = memory.clone()
        self._free.append(slot)
        for place, from_input, source in self._copies:
            copied = inputs[source] if from_input else outputs[source]
            assert copied is not None
            outputs[place] = copied.detach().clone(memory_format=torch.contiguous_format)
        return tuple(outputs)  # type: ignore[arg-type]

    def preferred_runs(self) -> int:
        """As many as the compiled model has streams."""
        return sdk.preferred_runs(self._compiled)

    def start(self, inputs: Sequence[Tensor], tell: Callable[[], None]) -> StartedRun:
        """Begins what `run` does, in OpenVINO's own threads. Raises what `run` raises of the inputs."""
        slot, outputs, borrowed = self._prepare(inputs)
        sdk.start(slot.request, tell)
        return StartedRun(slot.request, borrowed, lambda: self._finish(slot, inputs, outputs))

    def _run_small(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...] | None:
        """The same where all memory is a slot's own: what this takes is much of what a small model takes. None for large tensors."""
        try:
            slot = self._free.pop()
        except IndexError:
            slot = self._new_slot()
        held = slot.memory if not self._varies else self._varying_memory(slot, inputs)
        if held is None:
            self._free.append(slot)
            return None
        _fill(held, inputs)
        self._execute(slot.request)
        outputs = tuple([memory.clone() for _, memory in held.outputs])
        self._free.append(slot)
        return outputs

    def _check_range(self, given: int, tensor: Tensor) -> None:
        """OpenVINO computes int64 in int32, and would clip in silence what doesn't fit."""
        if not tensor.numel():
            return
        low, high = torch.aminmax(tensor)
        if low.item() < _INT32.min or high.item() > _INT32.max:
            raise InputError(
                f"Engine {self.spec.name!r}: input {self.spec.inputs[given].name!r} holds values from {low.item()} to {high.item()}; "
                "OpenVINO computes whole numbers in int32. Run what needs them in PyTorch (torch_executed_ops) or with engine='eager'."
            )

    def _new_slot(self) -> _Slot:
        request = self._compiled.create_infer_request()
        inputs, outputs, keep = [], [], []
        with torch.inference_mode(False):  # memory made in inference mode could not be written to outside of it
            for port, given in self._small_feeds:
                inputs.append((given, _empty_for(self.spec.inputs[given])))
                keep.append(sdk.wrap(self.spec.inputs[given].dtype)(inputs[-1][1]))
                request.set_input_tensor(port, keep[-1])
            for port, place in self._small_writes:
                outputs.append((place, _empty_for(self.spec.outputs[place])))
                keep.append(sdk.wrap(self.spec.outputs[place].dtype)(outputs[-1][1]))
                request.set_output_tensor(port, keep[-1])
        return _Slot(request, _Memory(tuple(inputs), tuple(outputs), tuple(keep)))

    def _bind(self, request: Request, inputs: Sequence[Tensor], outputs: list[Tensor | None]) -> list[object]:
        """Shows the large inputs to `request`, and makes the large outputs; what it returns owns the memory."""
        shapes = self._fixed if self._static else self._shapes(inputs)
        held: list[object] = []
        for port, given, show in self._feeds:
            tensor = inputs[given]
            view = show(tensor if _is_plain(tensor) else _plain(tensor))
            request.set_input_tensor(port, view)
            held.append(view)
        for port, place, show, dtype in self._writes:
            outputs[place] = made = self._results.new(shapes[place], dtype)
            view = show(made)
            request.set_output_tensor(port, view)
            held.append(view)
        return held

    def _shapes(self, inputs: Sequence[Tensor]) -> _Shapes:
        key = tuple([tensor.shape for tensor in inputs])
        shapes = self._known.get(key)
        if shapes is None:
            symbols = solve(list(zip(self._sizes, key, strict=True)))
            shapes = tuple(
                tuple(int(parse(size)(symbols)) if isinstance(size, str) else size for size in tensor.sizes)
                if _follows(tensor, self.spec.inputs)
                else ()
                for tensor in self.spec.outputs
            )
            if len(self._known) >= _SHAPES_KEPT:
                self._known.clear()
            self._known[key] = shapes
        return shapes

    def layer_information(self) -> str:
        """The nodes that are executed, constants left out; "OriginalNames" are those of the model that each was made of."""
        return layers_as_json(
            self.spec, [_layer(node) for node in sdk.executed_nodes(self._compiled) if _is_layer(node)]
        )

    def run_timed(self, inputs: Sequence[Tensor]) -> tuple[tuple[Tensor, ...], Sequence[LayerTime]]:
        """Runs the model compiled once more, with OpenVINO's counters, one run at a time. Raises BuildError."""
        with self._timing:
            if self._timed is None:
                self._timed = self._with_counters()
            outputs = self._timed.run(inputs)
            self._runs += 1
            request = self._timed._free[0].request  # the only one: no other run takes part
            return outputs, [
                LayerTime(name, kind, self._new(name, mean)) for name, kind, mean in sdk.node_times(request)
            ]

    def _new(self, name: str, mean: float) -> float:
        """What is new in node `name`'s mean over all timed runs. It comes in whole microseconds: what one run lost is in the next."""
        told = self._told.get(name, 0.0)
        new = max(0.0, mean * self._runs - told)
        self._told[name] = told + new
        return new

    def release_memory(self, always: bool) -> bool:
        """Whether requests, with the memory of intermediate results, go after each run. The compiled model stays."""
        before, self._releases = self._releases, always
        self._free = deque(maxlen=0 if always else None)  # one of no length keeps nothing
        self._results = ResultMemory(kept=0) if always else ResultMemory()
        if always:
            self._compiled.release_memory()
        return before

    def _with_counters(self) -> OpenVINOEngine:
        try:
            compiled, keep = sdk.with_counters(self._compiled, self._options)
        except RuntimeError as error:
            raise BuildError(f"OpenVINO can't compile engine {self.spec.name!r} to be timed: {error}") from error
        return OpenVINOEngine(self.spec, compiled, self._options, self._wiring, self._write, (keep, self._keep))

    def raw_bytes(self) -> bytes:
        """What OpenVINO's `Core.import_model` reads. Raises UnsupportedError when the model has fewer outputs than the engine."""
        if self._merged:
            raise UnsupportedError(
                f"Two outputs of engine {self.spec.name!r} are one output of its OpenVINO model; leave one of them out of the results."
            )
        return sdk.export_blob(self._compiled)

    def to_bytes(self) -> bytes:
        """The compiled model and what is needed to compile it again, as payload.py describes."""
        file = BytesIO()
        self._write(file)
        return file.getvalue()

    def write_payload(self, file: BytesIO) -> None:
        """The same without a copy of the weights."""
        self._write(file)


def _fill(memory: _Memory, inputs: Sequence[Tensor]) -> None:
    for given, held in memory.inputs:
        tensor = inputs[given]
        held.copy_(tensor.detach() if tensor.requires_grad else tensor)


def _follows(output: TensorSpec, inputs: Sequence[TensorSpec]) -> bool:
    """Whether the sizes of `output` can be computed from those of `inputs`: raw engines don't tell how."""
    known = {
        symbol for tensor in inputs for size in tensor.sizes if isinstance(size, str) for symbol in symbols_in(size)
    }
    return all(symbols_in(size) <= known for size in output.sizes if isinstance(size, str))


def _is_layer(node: Mapping[str, str]) -> bool:
    return node.get("layerType") not in ("Const", "Input", "Output")


def _layer(node: Mapping[str, str]) -> dict[str, Json]:
    return {
        "Name": node["name"],
        "LayerType": node.get("layerType", ""),
        "Implementation": node.get("primitiveType", ""),
        "Precision": node.get("runtimePrecision", ""),
        "OutputLayouts": node.get("outputLayouts", ""),
        "OriginalNames": [name for name in node.get("originalLayersNames", "").split(",") if name],
    }


def _is_small(spec: TensorSpec) -> bool:
    return spec.is_static and math.prod(spec.shape_at("opt")) * spec.dtype.itemsize <= _SMALL


def _empty_for(spec: TensorSpec) -> Tensor:
    return _empty(spec.shape_at("opt"), spec.dtype)


def _empty(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    return torch.empty(shape, dtype=dtype, device="cpu")  # whatever torch.set_default_device says


def _is_plain(tensor: Tensor) -> bool:
    return tensor.is_contiguous() and not tensor.requires_grad and not tensor.is_neg()


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().resolve_neg().contiguous()
