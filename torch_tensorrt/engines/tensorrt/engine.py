"""A plan as an Engine: deserialised on first use, run on the caller's CUDA stream, by any number of threads.

Written against the SDK's documentation; docs/verification.md says what of it has been run.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from torch_tensorrt.contracts.engine import Engine, EngineSpec
from torch_tensorrt.engines.tensorrt import sdk
from torch_tensorrt.engines.tensorrt.sdk import Native, Sdk, listen
from torch_tensorrt.spec.errors import BuildError, EngineNotRunnable
from torch_tensorrt.spec.shape_expr import parse, solve


@dataclass(frozen=True)
class _Live:
    """A deserialised plan. The runtime has to outlive the engine."""

    runtime: Native
    engine: Native
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass
class _Slot:
    """An execution context. One run at a time: `done` is when its last run is over on the GPU."""

    context: Native
    done: torch.cuda.Event | None = None


class TensorRTEngine(Engine):
    """Runs a plan. Tensors on the CPU, where the spec says so, are copied to the GPU and back."""

    def __init__(self, spec: EngineSpec, plan: bytes | memoryview) -> None:
        self.spec = spec
        self._plan = plan
        self._live: _Live | None = None
        self._free: list[_Slot] = []
        self._lock = threading.Lock()

    def run(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Outputs in fresh memory, computed on the current CUDA stream. Raises EngineNotRunnable where that can't be."""
        live = self._live or self._bring_up()
        device = _gpu(inputs)
        with torch.cuda.device(device):
            stream = torch.cuda.current_stream()
            fed = [tensor.detach().to(device, non_blocking=True).contiguous() for tensor in inputs]
            outputs = [
                torch.empty(shape, dtype=known.dtype, device=device)
                for shape, known in zip(self._shapes(inputs), self.spec.outputs, strict=True)
            ]
            slot = self._take(live)
            if slot.done is not None:
                stream.wait_event(slot.done)  # its scratch memory may be in use on another stream
            self._enqueue(slot.context, live, fed, outputs, stream.cuda_stream)
            slot.done = stream.record_event()
            with self._lock:
                self._free.append(slot)
        return tuple(out.to(known.device) for out, known in zip(outputs, self.spec.outputs, strict=True))

    def to_bytes(self) -> bytes:
        """The plan, exactly as the SDK wrote it."""
        return bytes(self._plan)

    def _enqueue(
        self, context: Native, live: _Live, inputs: Sequence[Tensor], outputs: Sequence[Tensor], stream: int
    ) -> None:
        """Shapes first, because addresses are checked against them; then addresses; then the run."""
        bound = [*zip(live.inputs, inputs, strict=True), *zip(live.outputs, outputs, strict=True)]
        with listen() as words:
            fine = all(context.set_input_shape(name, tuple(tensor.shape)) for name, tensor in bound[: len(inputs)])
            # An empty tensor has no memory, and the SDK refuses the address 0.
            fine = fine and all(context.set_tensor_address(name, tensor.data_ptr() or 1) for name, tensor in bound)
            if not (fine and context.execute_async_v3(stream)):
                raise BuildError(f"{self._title()} could not run engine {self.spec.name!r}: {words}")

    def _take(self, live: _Live) -> _Slot:
        with self._lock:
            if self._free:
                return self._free.pop()
        with listen() as words:
            context = live.engine.create_execution_context()
        if context is None:
            raise EngineNotRunnable(f"{self._title()} made no execution context for {self.spec.name!r}: {words}")
        return _Slot(context)

    def _shapes(self, inputs: Sequence[Tensor]) -> list[tuple[int, ...]]:
        known = [(spec.sizes, tuple(tensor.shape)) for spec, tensor in zip(self.spec.inputs, inputs, strict=True)]
        symbols = solve(known) if not all(spec.is_static for spec in self.spec.inputs) else {}
        return [
            tuple(int(parse(size)(symbols)) if isinstance(size, str) else size for size in spec.sizes)
            for spec in self.spec.outputs
        ]

    def _bring_up(self) -> _Live:
        with self._lock:
            if self._live is None:
                self._live = self._deserialize()
            return self._live

    def _deserialize(self) -> _Live:
        chosen = sdk.load(self.spec.backend)
        if not torch.cuda.is_available():
            raise EngineNotRunnable(
                f"Engine {self.spec.name!r} was built with {self._built()}; it needs an NVIDIA GPU, and PyTorch "
                f"{torch.__version__} sees none here. Save it and load it where there is one, or compile with "
                "engine='openvino' to run on the CPU."
            )
        with listen() as words:
            runtime = chosen.runtime()
            engine: Native | None = runtime.deserialize_cuda_engine(bytes(self._plan))
        if engine is None:
            raise EngineNotRunnable(
                f"Engine {self.spec.name!r} was built with {self._built()}; {chosen.title} {chosen.version} on "
                f"{_here()} can't read it: {words}. Compile the model again for this machine."
            )
        return _Live(runtime, engine, *_names(chosen, engine))

    def _built(self) -> str:
        return f"{self._title()} {self.spec.versions.get(self.spec.backend)} for {self.spec.target}"

    def _title(self) -> str:
        return sdk.NAMES[self.spec.backend]


def _names(chosen: Sdk, engine: Native) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of an engine's inputs and of its outputs, in the order of the partition's."""
    names = [engine.get_tensor_name(place) for place in range(engine.num_io_tensors)]
    wanted = chosen.member("TensorIOMode", "INPUT")
    inputs = tuple(name for name in names if engine.get_tensor_mode(name) == wanted)
    return inputs, tuple(name for name in names if name not in inputs)


def _gpu(inputs: Sequence[Tensor]) -> torch.device:
    """Where to run: on the GPU of the inputs, or on the current one when all of them are on the CPU."""
    return next((tensor.device for tensor in inputs if tensor.is_cuda), torch.device("cuda"))


def _here() -> str:
    major, minor = torch.cuda.get_device_capability()
    return f"{torch.cuda.get_device_name()} (sm_{major}{minor})"
