"""`torch.ops.tensorrt.execute_engine`: the one operator through which every engine runs.

Its schema holds only Tensor, Tensor[] and str, so that the node survives torch.export, torch.jit.trace and AOTInductor, and a
C++ runtime can implement it too. The live engine behind a constant is made on first use and shared by all threads.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Sequence
from functools import lru_cache
from typing import Generic, TypeVar

import torch
from torch import Tensor

from torch_tensorrt import engines
from torch_tensorrt.contracts.abilities import ChecksMachine
from torch_tensorrt.contracts.engine import Engine, EngineSpec
from torch_tensorrt.contracts.engine_bytes import decode, encode_engine, read_program, with_origin
from torch_tensorrt.contracts.origin import Origin
from torch_tensorrt.runtime import watching
from torch_tensorrt.runtime.cudagraphs import mode
from torch_tensorrt.runtime.cudagraphs.calls import GraphCalls, Options
from torch_tensorrt.runtime.cudagraphs.contents import contents_of_engine
from torch_tensorrt.runtime.input_check import InputCheck
from torch_tensorrt.runtime.native import NativeEngine, native_engine, release_kernels
from torch_tensorrt.runtime.rebuilding import PayloadFormatError, rebuild
from torch_tensorrt.spec.errors import EngineNotRunnable, FileFormatError, InputError
from torch_tensorrt.spec.shape_expr import Size, parse, solve

Value = TypeVar("Value")

SCHEMA = "execute_engine(Tensor[] inputs, Tensor engine, str spec) -> Tensor[]"


class LiveEngine:
    """An engine in memory with the check of its inputs. run_engine: the engine's own `run`."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.run_engine = engine.run
        watching.tell_made(engine)
        checks_itself = isinstance(engine, NativeEngine)
        self._check = None if checks_itself else InputCheck(f"Engine {engine.spec.name!r}", engine.spec.inputs)
        name, contents = f"Engine {engine.spec.name!r}", contents_of_engine(engine.spec)
        self.graphs = GraphCalls(name, self.run_engine, contents, Options())

    def check(self, inputs: Sequence[Tensor]) -> None:
        """Raises InputError where the engine wasn't built for such inputs."""
        if self._check is not None:
            self._check(inputs)

    def __call__(self, inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        """Checks the inputs and runs the engine."""
        self.check(inputs)
        if watching.watchers:
            return watching.run_watched(self.engine, inputs)
        return self.graphs.or_run(inputs) if mode.each_engine else self.run_engine(inputs)  # type: ignore[return-value]


class _ByMemory(Generic[Value]):
    """Values for tensors, by the memory they show; forgotten when the tensor is gone.

    Address -> (weak reference to the tensor, value). The reference tells it from a later tensor at the same address.
    """

    def __init__(self) -> None:
        self._entries: dict[int, tuple[weakref.ref[Tensor], Value]] = {}

    def exact(self, tensor: Tensor) -> Value | None:
        """The value that was put in for this very object."""
        entry = self._entries.get(tensor.data_ptr())
        return entry[1] if entry is not None and entry[0]() is tensor else None

    def same_memory(self, tensor: Tensor) -> Value | None:
        """The value that was put in for this object or a living alias of it."""
        entry = self._entries.get(tensor.data_ptr())
        known = entry[0]() if entry is not None else None
        return entry[1] if entry is not None and known is not None and known.numel() == tensor.numel() else None

    def put(self, tensor: Tensor, value: Value) -> None:
        address = tensor.data_ptr()

        def forget(reference: weakref.ref[Tensor]) -> None:
            entry = self._entries.get(address)
            if entry is not None and entry[0] is reference:
                self._entries.pop(address, None)

        self._entries[address] = (weakref.ref(tensor, forget), value)


_live: _ByMemory[LiveEngine] = _ByMemory()
_verified: _ByMemory[bool] = _ByMemory()
_making = threading.RLock()


def pack(engine: Engine, origin: Origin | None = None) -> Tensor:
    """The constant that stands for `engine` in a graph: 1-D uint8 on the CPU, with the header of FORMAT.md.

    This process runs `engine` itself for it, without reading the bytes back, or what the C++ runtime makes of them.
    """
    constant = torch.frombuffer(encode_engine(engine, origin), dtype=torch.uint8)
    _live.put(constant, LiveEngine(native_engine(constant, engine.spec, verify=False) or engine))
    return constant


def add_origin(constant: Tensor, origin: Origin) -> Tensor:
    """The constant of the same engine with `origin` in its header."""
    data = memoryview(constant.detach().numpy())  # type: ignore[arg-type]
    made = torch.frombuffer(with_origin(data, origin), dtype=torch.uint8)
    live = _live.exact(constant)
    if live is not None and isinstance(live.engine, NativeEngine):
        verified(
            made
        )  # opened from the new bytes when it is first run: the old one would keep the old bytes beside them
    elif live is not None:
        _live.put(made, live)
    return made


def verified(constant: Tensor) -> None:
    """Says that the bytes of `constant` are those that were written (its file was checked): they are not hashed again."""
    _verified.put(constant, True)


def live_engine(constant: Tensor, spec: str | None = None) -> LiveEngine:
    """The engine behind `constant`, read from its bytes on first use.

    Raises FileFormatError when the bytes are not those of an engine or contradict `spec`, EngineNotRunnable when the SDK or
    device is missing.
    """
    live = _live.exact(constant)
    if live is not None:
        return live
    with _making:
        live = _live.same_memory(constant)  # made while this thread waited, or by an alias
        if live is None:
            live = LiveEngine(_read(constant, spec))
            _live.put(constant, live)
        return live


def _read(constant: Tensor, spec: str | None) -> Engine:
    if constant.dtype != torch.uint8 or constant.dim() != 1 or constant.device.type != "cpu":
        raise InputError(
            f"An engine is a 1-D uint8 tensor on the CPU, not {constant.dtype} {tuple(constant.shape)} on {constant.device}."
        )
    data = memoryview(constant.detach().contiguous().numpy())  # type: ignore[arg-type]
    found, payload = decode(data, verify=not _verified.same_memory(constant))
    if spec is not None and found != EngineSpec.from_json(spec):
        raise FileFormatError(
            f"The graph describes engine {found.name!r} otherwise than its own header does; the file was changed."
        )
    native = native_engine(constant, found, verify=False)
    if native is not None:
        return native
    try:
        engine = _with_its_backend(found, payload)
        if isinstance(engine, ChecksMachine) and read_program(data) is not None:
            engine.require_machine()  # in a portable file there is a remedy
        return engine
    except (EngineNotRunnable, PayloadFormatError) as reason:
        return rebuild(found, data, reason)


def _with_its_backend(found: EngineSpec, payload: memoryview) -> Engine:
    if found.backend not in engines.names():
        raise EngineNotRunnable(
            f"Engine {found.name!r} is for the backend {found.backend!r}, which is not installed; known here are "
            f"{', '.join(engines.names())}."
        )
    backend = engines.backend(found.backend)
    if found.format_version != backend.format_version:
        raise PayloadFormatError(
            f"Engine {found.name!r} has format {found.format_version} of the {found.backend!r} backend; this version reads "
            f"{backend.format_version}. Compile and save the model again."
        )
    device = torch.device(next((tensor.device for tensor in (*found.inputs, *found.outputs)), "cpu"))
    runnable = backend.runnable(device)
    if not runnable:
        raise EngineNotRunnable(
            f"Engine {found.name!r} needs the {found.backend!r} backend (built for {found.target}): {runnable.reason}."
        )
    return backend.from_bytes(payload, found)


def execute_engine(inputs: Sequence[Tensor], engine: Tensor, spec: str) -> list[Tensor]:
    """Runs the engine in the constant `engine` on `inputs`; fresh tensors, without autograd history."""
    return list(live_engine(engine, spec)(inputs))


@lru_cache(maxsize=512)
def _parsed(spec: str) -> EngineSpec:
    return EngineSpec.from_json(spec)


def execute_engine_fake(inputs: Sequence[Tensor], engine: Tensor, spec: str) -> list[Tensor]:
    """Shapes and dtypes of the results, from the spec alone: what torch.export sees."""
    described = _parsed(spec)
    shapes = [(known.sizes, list(tensor.shape)) for known, tensor in zip(described.inputs, inputs, strict=True)]
    symbols: dict[str, Size] = solve(shapes)
    return [
        torch.empty(
            [parse(size)(symbols) if isinstance(size, str) else size for size in output.sizes],
            dtype=output.dtype,
            device=output.device,
        )
        for output in described.outputs
    ]


def _without_autograd(inputs: Sequence[Tensor], engine: Tensor, spec: str) -> list[Tensor]:
    with torch.no_grad(), torch._C._AutoDispatchBelowAutograd():
        return [*torch.ops.tensorrt.execute_engine.default(inputs, engine, spec)]


_library = torch.library.Library("tensorrt", "FRAGMENT")
if "tensorrt::execute_engine" in torch._C._dispatch_get_all_op_names():  # the C++ runtime was loaded before us
    release_kernels()
else:
    _library.define(SCHEMA)
_library.impl("execute_engine", execute_engine, "CompositeExplicitAutograd")
_library.impl("execute_engine", _without_autograd, "Autograd")
torch.library.register_fake("tensorrt::execute_engine", execute_engine_fake, lib=_library)
