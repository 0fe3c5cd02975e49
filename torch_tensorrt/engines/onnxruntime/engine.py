"""An ONNX Runtime session as an Engine: any number of threads; inputs and outputs are used where they are in memory."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from torch_tensorrt.contracts.engine import Engine, EngineSpec
from torch_tensorrt.contracts.results import ResultMemory
from torch_tensorrt.engines.onnxruntime import sdk
from torch_tensorrt.engines.onnxruntime.payload import write_payload
from torch_tensorrt.spec.errors import FileFormatError
from torch_tensorrt.spec.shape_expr import parse, solve
from torch_tensorrt.spec.tensor_spec import TensorSpec

_SHAPES_KEPT = 256
_SMALL = 32 * 1024  # bytes up to which copying a tensor takes less than telling ONNX Runtime where it is
_Shapes: TypeAlias = "tuple[tuple[int, ...], ...]"


def input_names(spec: EngineSpec) -> list[str]:
    """What the model calls the engine's inputs."""
    return [f"input{place}" for place in range(len(spec.inputs))]


def output_names(spec: EngineSpec) -> list[str]:
    """What the model calls the engine's outputs."""
    return [f"output{place}" for place in range(len(spec.outputs))]


@dataclass
class _Slot:
    """A binding that reads and writes memory of its own, for inputs of these sizes."""

    binding: sdk.Binding
    sizes: list[torch.Size] | None = None
    fills: tuple[Callable[[Tensor], object], ...] = ()  # one for each input, whose memory it holds
    results: tuple[Callable[[], Tensor], ...] = ()  # one for each output, likewise


class ONNXRuntimeEngine(Engine):
    """Runs `model`, an ONNX model, with the session options `options`. What ONNX Runtime raises on opening it passes through."""

    def __init__(self, spec: EngineSpec, model: bytes, options: Mapping[str, int]) -> None:
        self.spec = spec
        self._model = model
        self._options = dict(options)
        self._session = sdk.open_session(model, options)
        ports = [(port.name, port.type) for port in (*self._session.get_inputs(), *self._session.get_outputs())]
        named = (*zip(input_names(spec), spec.inputs, strict=True), *zip(output_names(spec), spec.outputs, strict=True))
        wanted = [(name, sdk.NAMES.get(tensor.dtype)) for name, tensor in named]
        if ports != wanted:
            raise FileFormatError(
                f"The model of engine {spec.name!r} has the inputs and outputs {ports}, not {wanted}."
            )
        self._inputs = [(name, sdk.NUMPY[tensor.dtype]) for name, tensor in named[: len(spec.inputs)]]
        self._outputs = [(name, sdk.NUMPY[tensor.dtype], tensor.dtype) for name, tensor in named[len(spec.inputs) :]]
        self._static = all(tensor.is_static for tensor in spec.outputs)
        self._fixed: _Shapes = tuple(tensor.shape_at("opt") for tensor in spec.outputs)
        self._sizes = tuple(tensor.sizes for tensor in spec.inputs)
        self._known: dict[tuple[torch.Size, ...], _Shapes] = {}
        self._free: deque[sdk.Binding] = deque()  # append and pop are atomic
        self._slots: deque[_Slot] = deque()
        tensors = (*spec.inputs, *spec.outputs)
        self._varies = not all(tensor.is_static for tensor in tensors)
        self._may_be_small = all(
            not tensor.is_static or _is_small(tensor.shape_at("opt"), tensor) for tensor in tensors
        )
        self._results = ResultMemory()
        self._same: list[torch.Size] = []
        self._execute = self._session.run_with_iobinding
        self._large: list[torch.Size] | None = None  # the last sizes that are not
        self._nothing = _empty((1,), torch.uint8)  # an address for tensors without elements

    def run(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Outputs for `inputs`, in memory of their own. What ONNX Runtime raises passes through."""
        small = self._run_small(inputs) if self._may_be_small else None
        if small is not None:
            return small
        try:
            binding = self._free.pop()
        except IndexError:
            binding = self._session.io_binding()
        given = [_plain(tensor) for tensor in inputs]  # kept until it has run
        for (name, element), tensor in zip(self._inputs, given, strict=True):
            binding.bind_input(name, "cpu", 0, element, tensor.shape, self._address(tensor))
        shapes = self._fixed if self._static else self._shapes(inputs)
        made = []
        for (name, element, dtype), shape in zip(self._outputs, shapes, strict=True):
            made.append(self._results.new(shape, dtype))
            binding.bind_output(name, "cpu", 0, element, shape, self._address(made[-1]))
        self._session.run_with_iobinding(binding)
        self._free.append(binding)
        return tuple(made)

    def _run_small(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...] | None:
        """The same in memory of a slot's own: what binding takes is much of what a small model takes. None for large tensors."""
        sizes = [tensor.shape for tensor in inputs] if self._varies else self._same
        if sizes == self._large:
            return None
        try:
            slot = self._slots.pop()
        except IndexError:
            slot = _Slot(self._session.io_binding())
        if slot.sizes != sizes and not self._give_memory(slot, inputs, sizes):
            self._slots.append(slot)
            return None
        for fill, tensor in zip(slot.fills, inputs):  # noqa: B905 - as many by construction; saying so takes time
            fill(tensor.detach() if tensor.requires_grad else tensor)
        self._execute(slot.binding)
        outputs = tuple([result() for result in slot.results])
        self._slots.append(slot)
        return outputs

    def _give_memory(self, slot: _Slot, inputs: Sequence[Tensor], sizes: list[torch.Size]) -> bool:
        """Binds `slot` to memory for inputs of these sizes; False where a tensor isn't small."""
        shapes = self._shapes(inputs) if self._varies else self._fixed
        forms = [*zip([tensor.shape for tensor in inputs], self.spec.inputs, strict=True)]
        results = [*zip(shapes, self.spec.outputs, strict=True)]
        if not all(_is_small(shape, tensor) for shape, tensor in (*forms, *results)):
            self._large = sizes
            return False
        slot.sizes = None  # until all is bound
        with torch.inference_mode(False):  # memory made in inference mode could not be written to outside of it
            read = tuple(_empty(shape, tensor.dtype) for shape, tensor in forms)
            written = tuple(_empty(shape, tensor.dtype) for shape, tensor in results)
        for (name, element), memory in zip(self._inputs, read, strict=True):
            slot.binding.bind_input(name, "cpu", 0, element, memory.shape, memory.data_ptr())
        for (name, element, _), memory in zip(self._outputs, written, strict=True):
            slot.binding.bind_output(name, "cpu", 0, element, memory.shape, memory.data_ptr())
        slot.fills, slot.results = tuple(one.copy_ for one in read), tuple(one.clone for one in written)
        slot.sizes = sizes
        return True

    def _address(self, tensor: Tensor) -> int:
        return tensor.data_ptr() if tensor.numel() else self._nothing.data_ptr()

    def _shapes(self, inputs: Sequence[Tensor]) -> _Shapes:
        key = tuple([tensor.shape for tensor in inputs])
        shapes = self._known.get(key)
        if shapes is None:
            symbols = solve(list(zip(self._sizes, key, strict=True)))
            shapes = tuple(
                tuple(int(parse(size)(symbols)) if isinstance(size, str) else size for size in tensor.sizes)
                for tensor in self.spec.outputs
            )
            if len(self._known) >= _SHAPES_KEPT:
                self._known.clear()
            self._known[key] = shapes
        return shapes

    def raw_bytes(self) -> bytes:
        """The ONNX model, with its weights."""
        return self._model

    def to_bytes(self) -> bytes:
        """The model and the options, as payload.py describes."""
        return write_payload(self._options, self._model)


def _is_small(shape: Sequence[int], tensor: TensorSpec) -> bool:
    """Neither large nor nothing."""
    return 0 < math.prod(shape) * tensor.dtype.itemsize <= _SMALL


def _empty(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    return torch.empty(shape, dtype=dtype, device="cpu")  # whatever torch.set_default_device says


def _plain(tensor: Tensor) -> Tensor:
    if tensor.is_contiguous() and not tensor.is_neg():
        return tensor
    return tensor.detach().resolve_neg().contiguous()
