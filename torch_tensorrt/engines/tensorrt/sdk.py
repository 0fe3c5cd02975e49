"""The only file that imports TensorRT or TensorRT-RTX, on first use: one API, two packages, chosen by name.

What is left of them elsewhere are the protocols below; enums are read by name, so that TensorRT 10, 11 and RTX look alike.
"""

from __future__ import annotations

import importlib
import logging
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from types import ModuleType
from typing import Any, Protocol

import torch
from torch import Tensor

from torch_tensorrt.observe.log import logger
from torch_tensorrt.spec.errors import EngineNotRunnable, UnsupportedError

NAMES: Mapping[str, str] = {"tensorrt": "TensorRT", "tensorrt_rtx": "TensorRT-RTX"}  # module -> what people call it
INSTALL: Mapping[str, str] = {"tensorrt": "tensorrt", "tensorrt_rtx": "tensorrt-rtx"}
DTYPES: Mapping[torch.dtype, str] = {
    torch.float32: "FLOAT",
    torch.float16: "HALF",
    torch.bfloat16: "BF16",
    torch.int8: "INT8",
    torch.int32: "INT32",
    torch.int64: "INT64",
    torch.bool: "BOOL",
    torch.uint8: "UINT8",
    torch.float8_e4m3fn: "FP8",
}
# What the SDK says beside an error (on a machine without a driver, for instance) that has nothing to do with it.
_NOISE = re.compile(
    r"catchCudaError|CUDA initialization failure|Thread context has not been set|getHardwareCompatibilityLevel"
)
_log = logger("engines.tensorrt.sdk")


class ITensor(Protocol):
    """A tensor of a network being defined. Reading `shape` makes the SDK check all that leads to it; -1 varies."""

    name: str

    @property
    def shape(self) -> Sequence[int]: ...
    @property
    def dtype(self) -> object: ...
    def set_dimension_name(self, index: int, name: str) -> None:
        """Dimensions of one name have one size."""


class Native(Protocol):
    """Any other object of the SDK (network, layer, builder, config, engine, context): attributes as its documentation says."""

    def __getattr__(self, name: str) -> Any: ...
    def __setattr__(self, name: str, value: object) -> None: ...


@dataclass(eq=False)  # listeners within listeners are told apart by identity
class Words:
    """What the SDK logged while something was done, worst first to be quoted."""

    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return " | ".join(self.errors or self.warnings) or "(it gave no reason)"


_listening = threading.local()


@contextmanager
def listen() -> Iterator[Words]:
    """Collects what the SDK says on this thread."""
    heard: list[Words] = _listening.__dict__.setdefault("heard", [])
    words = Words()
    heard.append(words)
    try:
        yield words
    finally:
        heard.remove(words)


def hear(severity: str, message: str) -> None:
    """Hands a message of the SDK to our logger, and to those who listen on this thread."""
    if _NOISE.search(message):
        return
    heard: list[Words] = getattr(_listening, "heard", [])
    for words in heard:
        if "ERROR" in severity:
            words.errors.append(message)
        elif severity == "WARNING":
            words.warnings.append(message)
    # An error that somebody listens for is going to be raised: it is not reported twice.
    levels = {"WARNING": logging.WARNING, "INFO": logging.DEBUG, "VERBOSE": logging.DEBUG - 1}
    quiet = logging.DEBUG if heard else logging.ERROR
    _log.log(levels.get(severity, quiet), "%s", message)


@dataclass(frozen=True)
class Sdk:
    """One of the two packages. `name`: "tensorrt" or "tensorrt_rtx"; `title`: what people call it."""

    name: str
    module: ModuleType
    logger: object

    @property
    def title(self) -> str:
        """Its name in sentences."""
        return NAMES[self.name]

    @property
    def version(self) -> str:
        """Such as "1.7.1.116"."""
        return str(self.module.__version__)

    @property
    def is_rtx(self) -> bool:
        """Whether it is TensorRT-RTX. Asked here only; elsewhere the properties below say what follows from it."""
        return self.name == "tensorrt_rtx"

    @property
    def names_targets(self) -> bool:
        """Whether it builds for compute capabilities that are named, without a GPU; else for the GPU that is present."""
        return hasattr(self.module, "ComputeCapability")

    @property
    def has_dla(self) -> bool:
        """Whether it builds for a DLA, the accelerator of NVIDIA's Jetson and DRIVE boards."""
        return not self.is_rtx

    @property
    def measures_timings(self) -> bool:
        """Whether its builder times kernels, so that a timing cache saves work."""
        return not self.is_rtx

    @property
    def is_portable(self) -> bool:
        """Whether one plan runs on Linux and on Windows; else the builder is told the platform."""
        return self.is_rtx

    @property
    def compiles_at_run_time(self) -> bool:
        """Whether kernels are compiled when an engine first runs, so that they are worth keeping in a file."""
        return self.is_rtx

    def member(self, enum: str, name: str) -> object:
        """The member of an enum by name. Raises UnsupportedError when this version has no such member."""
        members: Mapping[str, object] = getattr(self.module, enum).__members__
        if name not in members:
            known = ", ".join(members)
            raise UnsupportedError(
                f"{self.title} {self.version} has no {enum}.{name}; what it knows is {known}. Another version may have it."
            )
        return members[name]

    def dtype(self, dtype: torch.dtype) -> object:
        """The SDK's type for `dtype`. Raises UnsupportedError where there is none (float64, int16, complex, ...)."""
        if dtype not in DTYPES:
            raise UnsupportedError(
                f"{self.title} has no type for {dtype}; it has {', '.join(map(str, DTYPES))}. "
                "With truncate_double=True float64 becomes float32."
            )
        return self.member("DataType", DTYPES[dtype])

    def torch_dtype(self, dtype: object) -> torch.dtype:
        """The inverse of `dtype`."""
        found = {name: known for known, name in DTYPES.items()}
        return found[str(dtype).rpartition(".")[2]]

    def weights(self, tensor: Tensor) -> object:
        """`tensor` (contiguous, on the CPU) as the SDK's Weights. Nothing is copied: keep `tensor` until the build is over."""
        return self.module.Weights(self.dtype(tensor.dtype), tensor.data_ptr(), tensor.numel())

    def builder(self) -> Native:
        """A builder."""
        return self.module.Builder(self.logger)  # type: ignore[no-any-return]

    def runtime(self, *, host_code: bool = False, dla_core: int = -1) -> Native:
        """A runtime, which deserialises plans. `host_code`: also those that hold code for the CPU (version-compatible ones)."""
        made: Native = self.module.Runtime(self.logger)
        if host_code:
            made.engine_host_code_allowed = True
        if dla_core >= 0:
            made.DLA_core = dla_core
        return made

    def why_unreadable(self, runtime: Native, plan: bytes | memoryview) -> str:
        """What the runtime says is wrong with a plan, in a word or two ("UNSUPPORTED_CC"); "" where it doesn't say."""
        if not hasattr(runtime, "get_engine_validity"):
            return ""
        _, found = runtime.get_engine_validity(plan)
        known: Mapping[str, object] = self.module.EngineInvalidityDiagnostics.__members__
        return ", ".join(name for name, bit in known.items() if int(bit) & int(found))  # type: ignore[call-overload]

    def context(self, engine: Native, kernels: Native | None = None, strategy: str = "lazy") -> Native | None:
        """An execution context; None when the SDK makes none. `kernels`: a cache made by `kernel_cache`.

        strategy: when kernels are compiled for sizes that vary: "lazy", "eager" or "none".
        """
        if kernels is None and strategy == "lazy":
            return engine.create_execution_context()  # type: ignore[no-any-return]
        config = engine.create_runtime_config()
        if kernels is not None:
            config.set_runtime_cache(kernels)
        if strategy != "lazy":
            chosen = self.member("DynamicShapesKernelSpecializationStrategy", strategy.upper())
            config.dynamic_shapes_kernel_specialization_strategy = chosen
        return engine.create_execution_context(config)  # type: ignore[no-any-return]

    def kernel_cache(self, engine: Native) -> Native:
        """An empty cache for the kernels that TensorRT-RTX compiles at run time; engines may share it."""
        return engine.create_runtime_config().create_runtime_cache()  # type: ignore[no-any-return]

    def refitter(self, engine: Native) -> Native:
        """What puts other weights into `engine`."""
        return self.module.Refitter(engine, self.logger)  # type: ignore[no-any-return]

    def serialize(self, engine: Native) -> bytes:
        """The plan of a live engine, with all its weights, and as refittable as it was."""
        config = engine.create_serialization_config()
        flags: Mapping[str, object] = self.module.SerializationFlag.__members__
        config.clear_flag(flags["EXCLUDE_WEIGHTS"])
        if (
            "INCLUDE_REFIT" in flags
        ):  # not in the first versions of TensorRT 10, which leave an engine refittable anyway
            config.set_flag(flags["INCLUDE_REFIT"])
        return bytes(engine.serialize_with_config(config))

    def layer_information(self, engine: Native) -> str:
        """What the engine's layers are, as JSON."""
        inspector = engine.create_engine_inspector()
        return str(inspector.get_engine_information(self.member("LayerInformationFormat", "JSON")))

    def output_allocator(self, memory: OutputMemory) -> object:
        """An IOutputAllocator that asks `memory`."""
        base = self.module.IOutputAllocator

        class Allocator(base):  # type: ignore[misc, valid-type]
            def __init__(self) -> None:
                base.__init__(self)

            def reallocate_output(self, tensor_name: str, memory_: int, size: int, alignment: int) -> int:
                return memory.reallocate(tensor_name, size, alignment)

            def reallocate_output_async(
                self, tensor_name: str, memory_: int, size: int, alignment: int, stream: int
            ) -> int:
                return memory.reallocate(tensor_name, size, alignment)

            def notify_shape(self, tensor_name: str, shape: Sequence[int]) -> None:
                memory.notify(tensor_name, tuple(shape))

        return Allocator()

    def profiler(self, hear_time: Callable[[str, float], None]) -> object:
        """An IProfiler that tells each layer's name and milliseconds."""
        base = self.module.IProfiler

        class Profiler(base):  # type: ignore[misc, valid-type]
            def __init__(self) -> None:
                base.__init__(self)

            def report_layer_time(self, layer_name: str, ms: float) -> None:
                hear_time(layer_name, ms)

        return Profiler()

    def network(self, builder: Native) -> Native:
        """An empty, strongly typed network (TensorRT 10 has to be asked for that; later there is nothing else)."""
        flags = self.module.NetworkDefinitionCreationFlag.__members__
        asked = 1 << int(flags["STRONGLY_TYPED"]) if "STRONGLY_TYPED" in flags and self._is_ten() else 0
        return builder.create_network(asked)  # type: ignore[no-any-return]

    def _is_ten(self) -> bool:
        return not self.is_rtx and self.version.startswith("10.")

    def progress_monitor(self, listener: Listener) -> object:
        """An IProgressMonitor that hands on to `listener`."""
        base = self.module.IProgressMonitor

        class Monitor(base):  # type: ignore[misc, valid-type]
            def __init__(self) -> None:
                base.__init__(self)

            def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
                listener.phase_start(phase_name, parent_phase, num_steps)

            def step_complete(self, phase_name: str, step: int) -> bool:
                return listener.step_complete(phase_name, step)

            def phase_finish(self, phase_name: str) -> None:
                listener.phase_finish(phase_name)

        return Monitor()


class OutputMemory(Protocol):
    """Asked for the memory of outputs whose sizes only a run knows."""

    def reallocate(self, name: str, size: int, alignment: int) -> int:
        """The address of `size` bytes for the output `name`; 0 when there are none."""

    def notify(self, name: str, shape: tuple[int, ...]) -> None:
        """The sizes that the output `name` has."""


class Listener(Protocol):
    """Told by a builder how far it is."""

    def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
        """A phase of `steps` steps begins, within `parent` if that is given."""

    def step_complete(self, phase: str, step: int) -> bool:
        """A step is done; False cancels the build."""

    def phase_finish(self, phase: str) -> None:
        """A phase is over."""


@cache
def load(name: str) -> Sdk:
    """The package `name`. Raises EngineNotRunnable when it can't be imported here."""
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        raise EngineNotRunnable(
            f"The {name!r} engine needs the package {INSTALL[name]}, which can't be imported here ({error}). "
            f"Install it with: pip install {INSTALL[name]}"
        ) from error
    return Sdk(name, module, _make_logger(module))


def _make_logger(module: ModuleType) -> object:
    base = module.ILogger

    class Logger(base):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            base.__init__(self)

        def log(self, severity: object, message: str) -> None:
            hear(str(severity).rpartition(".")[2], message)

    return Logger()
