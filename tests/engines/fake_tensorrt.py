"""TensorRT's run-time classes without a GPU: they keep the documented rules, and say which one was broken.

A plan is JSON. The engine computes y = cat([x, x]) * scale, or the rows of x whose sum is positive, in the memory whose addresses
it was given; what it was told, in order, is in `Gpu.calls`. CUDA's streams and events are here too; tensors are on the CPU. With
`Gpu(real=True)` CUDA is the real one, and the work is enqueued on the stream that the engine was given, to be done later.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import json
import operator
import threading
import time
from collections.abc import Iterator, Sequence
from enum import IntEnum
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, fx

from torch_tensorrt.contracts.engine import EngineSpec
from torch_tensorrt.engines.tensorrt import engine as room
from torch_tensorrt.engines.tensorrt import sdk
from torch_tensorrt.engines.tensorrt.engine import TensorRTEngine
from torch_tensorrt.engines.tensorrt.payload import Payload
from torch_tensorrt.runtime.op import pack
from torch_tensorrt.spec.tensor_spec import Dim, TensorSpec

Call = tuple[Any, ...]
RANGE = [[[1, 3], [4, 3], [8, 3]]]
SPEC = EngineSpec(
    name="part_0",
    backend="tensorrt_rtx",
    format_version=1,
    target="sm_89",
    settings_key="0",
    inputs=(TensorSpec("x", torch.float32, (Dim("s0", 1, 4, 8), 3)),),
    outputs=(TensorSpec("y", torch.float32, (Dim("2*s0", 2, 8, 16), 3)),),
    versions={"tensorrt_rtx": "1.7"},
)
POSITIVE_ROWS = EngineSpec(**{**vars(SPEC), "outputs": (TensorSpec("y", torch.float32, (Dim("u0", 0, 1, None), 3)),)})


def plan(
    *, profiles: Sequence[object] = RANGE, scale: Sequence[float] = (1, 1, 1), rows: bool = False, streamable: int = 0
) -> bytes:
    """The bytes of an engine."""
    return json.dumps({"profiles": profiles, "scale": [*scale], "rows": rows, "streamable": streamable}).encode()


def scale_of(data: bytes) -> list[float]:
    """The weights in a plan."""
    return json.loads(data)["scale"]  # type: ignore[no-any-return]


def made(spec: EngineSpec = SPEC, *, payload: Payload | None = None, **options: Any) -> TensorRTEngine:
    """An engine of such a plan."""
    return TensorRTEngine(spec, payload or Payload(plan(**options)))


def module_of(engines: Sequence[TensorRTEngine]) -> fx.GraphModule:
    """A module that runs one engine after the other on its input, and gives what each gives."""
    root, graph = torch.nn.Module(), fx.Graph()
    x = graph.placeholder("x")
    results = []
    for place, engine in enumerate(engines):
        root.register_buffer(f"engine_{place}", pack(engine))
        call = (([x], graph.get_attr(f"engine_{place}"), engine.spec.to_json()),)
        node = graph.call_function(torch.ops.tensorrt.execute_engine.default, *call)
        results.append(graph.call_function(operator.getitem, (node, 0)))
    graph.output(tuple(results))
    return fx.GraphModule(root, graph)


class Mode(IntEnum):
    NONE, INPUT, OUTPUT = range(3)


class Flag(IntEnum):
    EXCLUDE_WEIGHTS, EXCLUDE_LEAN_RUNTIME, INCLUDE_REFIT = range(3)


class Why(IntEnum):
    VERSION_MISMATCH, UNSUPPORTED_CC = 1, 2


class Event:
    """Over when the test says so."""

    def __init__(self, stream: Stream) -> None:
        self.stream, self.over = stream, False

    def query(self) -> bool:
        return self.over

    def synchronize(self) -> None:
        self.over = True


class Stream:
    """One of CUDA's."""

    def __init__(self, number: int) -> None:
        self.cuda_stream = number
        self.waited: list[Event] = []

    def synchronize(self) -> None:
        pass

    def wait_event(self, event: Event) -> None:
        self.waited.append(event)

    def record_event(self) -> Event:
        return Event(self)


class Context:
    """An IExecutionContext."""

    def __init__(self, engine: NativeEngine, config: Any) -> None:
        self.engine, self.config = engine, config
        self.active_optimization_profile = 0
        self.shape: tuple[int, ...] | None = None
        self.addresses: dict[str, int] = {}
        self.allocator: Any = None
        self.last: Stream | None = None
        self.profiler: Any = None
        self._busy = threading.Lock()
        with engine.counting:
            engine.contexts += 1

    def __del__(self) -> None:
        with self.engine.counting:
            self.engine.contexts -= 1

    def _told(self, *call: Any) -> bool:
        self.engine.gpu.calls.append(call)
        if call[0] == self.engine.gpu.fails:
            sdk.hear("ERROR", f"{call[0]} did not work")
            return False
        return True

    def set_optimization_profile_async(self, profile: int, stream: int) -> bool:
        self.active_optimization_profile, self.shape, self.addresses = profile, None, {}
        return self._told("profile", profile, stream)

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        low, _, high = self.engine.profiles[self.active_optimization_profile]
        self.shape, self.addresses = tuple(shape), {}
        fits = all(a <= size <= b for a, size, b in zip(low, shape, high, strict=True))
        return self._told("shape", name, tuple(shape)) and fits

    def set_tensor_address(self, name: str, address: int) -> bool:
        assert self.shape is not None, "addresses are checked against shapes: those come first"
        assert address, "the address 0 is refused"
        assert address % (256 if self.engine.gpu.real else 64) == 0, "addresses have the alignment of an allocator"
        self.addresses[name] = address
        return self._told("address", name, address)

    def set_output_allocator(self, name: str, allocator: Any) -> bool:
        self.allocator = allocator
        return self._told("allocator", name, allocator is not None)

    def execute_async_v3(self, stream: int) -> bool:
        assert self._busy.acquire(blocking=False), "a context runs once at a time"
        time.sleep(0.002)
        missing = {"x", "y"} - set(self.addresses) - ({"y"} if self.allocator is not None else set())
        assert not missing, f"no address for {missing}"
        with _enqueued_on(stream) if self.engine.gpu.real else contextlib.nullcontext():
            fine = self._compute(stream)
        if self.profiler is not None:
            for layer in ("cat", "scale"):
                self.profiler.report_layer_time(layer, 0.5)
        self._busy.release()
        return self._told("execute", stream) and fine

    def _compute(self, stream: int) -> bool:
        assert self.shape is not None
        at = _at_gpu if self.engine.gpu.real else _at
        scribbled = [] if self.engine.gpu.real else [torch.full(self.shape, float("nan")) for _ in range(50)]
        x = at(self.addresses["x"], self.shape)  # after memory that was freed too early was written over
        done = x[x.sum(1) > 0] if self.engine.rows else torch.cat([x, x])
        if not self.engine.rows and not self.engine.gpu.real:
            done *= x.new_tensor(self.engine.scale)
        address = self.addresses.get("y", 0)
        if self.allocator is not None:
            address = self.allocator.reallocate_output_async("y", 0, done.numel() * 4, 256, stream)
            self.allocator.notify_shape("y", tuple(done.shape))
        if address and done.numel():
            at(address, tuple(done.shape)).copy_(done)
        del scribbled
        return bool(address)


class NativeEngine:
    """An ICudaEngine."""

    num_io_tensors = 2

    def __init__(self, gpu: Gpu, data: bytes) -> None:
        self.gpu, self.contexts, self.counting = gpu, 0, threading.RLock()
        told = json.loads(data)
        self.profiles, self.scale, self.rows = told["profiles"], told["scale"], told["rows"]
        self.num_optimization_profiles = len(self.profiles)
        self.streamable_weights_size = told["streamable"]
        self._budget = told["streamable"]

    @property
    def weight_streaming_budget_v2(self) -> int:
        return int(self._budget)

    @weight_streaming_budget_v2.setter
    def weight_streaming_budget_v2(self, budget: int) -> None:
        if self.contexts or budget > self.streamable_weights_size:
            sdk.hear("ERROR", "the budget can't be set: too large, or a context exists")
            return
        self.gpu.calls.append(("budget", budget))
        self._budget = budget

    def get_weight_streaming_automatic_budget(self) -> int:
        return int(self.streamable_weights_size) // 2

    def get_tensor_name(self, place: int) -> str:
        return ("y", "x")[place]  # the order is the SDK's own

    def get_tensor_mode(self, name: str) -> Mode:
        return Mode.INPUT if name == "x" else Mode.OUTPUT

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[list[int]]:
        return self.profiles[profile]  # type: ignore[no-any-return]

    def get_tensor_shape(self, name: str) -> list[int]:
        return [-1, 3]

    def get_tensor_dtype(self, name: str) -> str:
        return self.gpu.tells.get("dtype", "DataType.FLOAT")

    def get_tensor_location(self, name: str) -> str:
        return self.gpu.tells.get("location", "DEVICE")

    def get_tensor_format(self, name: str) -> str:
        return self.gpu.tells.get("format", "LINEAR")

    def create_execution_context(self, config: Any = None) -> Context | None:
        return None if self.gpu.fails == "context" else Context(self, config)

    def create_runtime_config(self) -> SimpleNamespace:
        config = SimpleNamespace(cache=None)
        config.create_runtime_cache = lambda: Kernels(self.gpu)
        config.set_runtime_cache = lambda cache: setattr(config, "cache", cache)
        return config

    def create_engine_inspector(self) -> SimpleNamespace:
        return SimpleNamespace(get_engine_information=lambda form: json.dumps({"Layers": ["cat"], "form": form}))

    def create_serialization_config(self) -> SimpleNamespace:
        flags = {Flag.EXCLUDE_WEIGHTS}
        return SimpleNamespace(flags=flags, clear_flag=flags.discard, set_flag=flags.add)

    def serialize_with_config(self, config: Any) -> bytes:
        self.gpu.calls.append(("serialize", sorted(flag.name for flag in config.flags)))
        return plan(profiles=self.profiles, scale=self.scale, rows=self.rows)


class Kernels:
    """An IRuntimeCache: knows what was run with it."""

    def __init__(self, gpu: Gpu) -> None:
        self.gpu, self.content = gpu, b"compiled"

    def deserialize(self, data: bytes) -> bool:
        self.gpu.calls.append(("kernels", data))
        if data == b"of another GPU":
            sdk.hear("WARNING", "made on another GPU")
            return False
        self.content = data
        return True

    def serialize(self) -> bytes:
        return self.content


class Refitter:
    """Gives an engine another scale."""

    def __init__(self, engine: NativeEngine, logger: object) -> None:
        self.engine, self.new = engine, dict[str, Any]()

    def get_all_weights(self) -> list[str]:
        return ["scale"]

    def get_missing_weights(self) -> list[str]:
        return self.engine.gpu.missing

    def set_named_weights(self, name: str, weights: Any) -> bool:
        self.engine.gpu.calls.append(("weight", name))
        self.new[name] = weights
        return self.engine.gpu.fails != "weight"

    def refit_cuda_engine(self) -> bool:
        assert not self.engine.contexts, "an engine must not run while it is refitted"
        scribbled = [torch.full((3,), float("nan")) for _ in range(50)]
        self.engine.scale = _at(self.new["scale"].address, (3,)).tolist()
        del scribbled
        self.engine.gpu.calls.append(("refit",))
        return self.engine.gpu.fails != "refit"


class Runtime:
    """An IRuntime."""

    def __init__(self, gpu: Gpu) -> None:
        self.gpu, self.engine_host_code_allowed, self.DLA_core = gpu, False, -1

    def deserialize_cuda_engine(self, data: Any) -> NativeEngine | None:
        self.gpu.calls.append(("deserialize", self.engine_host_code_allowed, self.DLA_core))
        if self.gpu.fails == "deserialize":
            sdk.hear("ERROR", "it was built for another GPU")
            return None
        return NativeEngine(self.gpu, bytes(data))

    def get_engine_validity(self, data: Any) -> tuple[int, int]:
        return 0, Why.UNSUPPORTED_CC


class Gpu:
    """The SDK and CUDA. fails: the step that does not work. missing: what the refitter wants beside what it got. tells: what
    engines say of their tensors, where it isn't what they usually are.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str = "tensorrt_rtx", *, real: bool = False) -> None:
        self.real = real
        self.calls: list[Call] = []
        self.fails, self.missing = "", list[str]()
        self.tells: dict[str, str] = {}
        self.streams = {0: Stream(7)}
        self._numbers = itertools.count(100)
        self._current = threading.local()
        module = SimpleNamespace(
            __version__="1.8",
            Runtime=lambda logger: Runtime(self),
            Refitter=Refitter,
            IOutputAllocator=object,
            IProfiler=object,
            TensorIOMode=Mode,
            DynamicShapesKernelSpecializationStrategy=SimpleNamespace(
                __members__={name: name for name in ("LAZY", "EAGER", "NONE")}
            ),
            SerializationFlag=Flag,
            EngineInvalidityDiagnostics=Why,
            LayerInformationFormat=SimpleNamespace(__members__={"JSON": "JSON"}),
            DataType=SimpleNamespace(__members__={"FLOAT": "FLOAT"}),
            TensorLocation=SimpleNamespace(__members__={"DEVICE": "DEVICE", "HOST": "HOST"}),
            TensorFormat=SimpleNamespace(__members__={"LINEAR": "LINEAR", "HWC8": "HWC8"}),
            Weights=lambda dtype, address, count: SimpleNamespace(address=address, count=count),
        )
        monkeypatch.setattr(sdk, "load", lambda _: sdk.Sdk(name, module, None))  # type: ignore[arg-type]
        if real:
            return
        for attribute, value in {
            "is_available": lambda: True,
            "current_device": lambda: 0,
            "get_device_capability": lambda: (9, 0),
            "get_device_name": lambda: "a GPU/1",
            "device": lambda device: contextlib.nullcontext(),
            "current_stream": lambda: getattr(self._current, "stream", self.streams[0]),
            "is_current_stream_capturing": lambda: False,
        }.items():
            monkeypatch.setattr(torch.cuda, attribute, value)
        monkeypatch.setattr(room.TensorRTEngine, "_device", lambda engine, inputs: torch.device("cpu"))

    @contextlib.contextmanager
    def on_another_stream(self) -> Iterator[Stream]:
        """Runs of this thread are enqueued on a stream of its own."""
        self._current.stream = Stream(next(self._numbers))
        yield self._current.stream
        del self._current.stream

    def steps(self) -> list[str]:
        """The kinds of what was called."""
        return [call[0] for call in self.calls]


@contextlib.contextmanager
def _enqueued_on(stream: int) -> Iterator[None]:
    """What is done inside waits on the GPU, so that mistakes in the order of streams show."""
    # PyTorch takes the address 0 for none, and would give a stream of its own.
    with torch.cuda.stream(torch.cuda.ExternalStream(stream) if stream else torch.cuda.default_stream()):
        torch.cuda._sleep(2_000_000)
        yield


def _at_gpu(address: int, shape: tuple[int, ...]) -> Tensor:
    """The float32 tensor at an address of the GPU."""
    told = {"shape": shape, "typestr": "<f4", "data": (address, False), "version": 3}
    return torch.as_tensor(SimpleNamespace(__cuda_array_interface__=told), device="cuda")


def _at(address: int, shape: tuple[int, ...]) -> Tensor:
    """The float32 tensor at an address."""
    count = 1
    for size in shape:
        count *= size
    return torch.frombuffer((ctypes.c_float * count).from_address(address), dtype=torch.float32).view(shape)
