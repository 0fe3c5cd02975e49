"""A plan as an Engine: deserialised on first use, run on the caller's CUDA stream, by any number of threads.

Written against the SDK's documentation; docs/verification.md says what of it has been run.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from pathlib import Path

import torch
from torch import Tensor

from torch_tensorrt.contracts.abilities import LayerTime
from torch_tensorrt.contracts.engine import Engine, EngineSpec
from torch_tensorrt.contracts.mapped import write_parts
from torch_tensorrt.engines.tensorrt import sdk
from torch_tensorrt.engines.tensorrt.build import output_names
from torch_tensorrt.engines.tensorrt.contexts import Contexts, Slot
from torch_tensorrt.engines.tensorrt.kernels import KernelFile, default_path, kernel_file
from torch_tensorrt.engines.tensorrt.live import Live, address, check_names, read_ranges, readable
from torch_tensorrt.engines.tensorrt.outputs import FoundMemory, Sizes, empty_outputs
from torch_tensorrt.engines.tensorrt.payload import Payload
from torch_tensorrt.engines.tensorrt.refitting import put_weights
from torch_tensorrt.engines.tensorrt.sdk import Native, Sdk, listen
from torch_tensorrt.spec.errors import BuildError, EngineNotRunnable, InputError, UnsupportedError


class TensorRTEngine(Engine):
    """Runs a plan. Tensors on the CPU, where the spec says so, are copied to the GPU and back.

    Can what contracts/abilities.py lists.
    """

    def __init__(self, spec: EngineSpec, payload: Payload) -> None:
        self.spec = spec
        self._payload = payload
        self._sizes = Sizes.of(spec)
        self._lives: dict[int, Live] = {}  # by the index of the GPU
        self._lock = threading.RLock()
        self._profile: int | None = None
        self._ahead, self._by_engine = False, False
        self._kernels: str | None = None
        self._budget: int | None = None
        self._strategy = "lazy"
        self._releases = False

    @classmethod
    def of_plan(
        cls, spec: EngineSpec, payload: Payload, describe: Callable[[Sdk, Native], EngineSpec]
    ) -> TensorRTEngine:
        """The engine of a plan that `spec` tells too little of: `describe` asks the SDK's engine for the rest.

        Raises EngineNotRunnable where the SDK can't read the plan here, and what `describe` raises.
        """
        blank = cls(spec, payload)
        chosen, device = blank._sdk(), blank._device(())
        with torch.cuda.device(device):
            runtime, engine = blank._deserialize(chosen)
            made = cls(describe(chosen, engine), payload)
            made._lives[_index(device)] = made._bring_up(chosen, runtime, engine)
        return made

    def run(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Outputs in fresh memory, computed on the current CUDA stream.

        Raises EngineNotRunnable where that can't be, InputError for sizes within no profile, BuildError with the SDK's words.
        """
        device = self._device(inputs)
        with torch.cuda.device(device):
            live = self._live(device)
            stream = torch.cuda.current_stream()
            fed = [readable(tensor, device) for tensor in inputs]
            profile = live.profile_for(fed, self._profile)
            with live.contexts.lend(stream, profile) as slot:
                first = slot.done is None
                self._switch(slot, profile, stream)
                outputs = self._execute(live, slot, fed, stream, device)
            if first:
                self.save_kernels()
            if self._releases:
                self._put_contexts_away()
        return tuple(out.to(known.device) for out, known in zip(outputs, self.spec.outputs, strict=True))

    def to_bytes(self) -> bytes:
        """The plan, exactly as the SDK wrote it, with facts before it where it needs any (payload.py)."""
        return b"".join(self._payload.parts())

    def write_payload(self, file: BytesIO) -> None:
        """The same without a copy."""
        write_parts(file, self._payload.parts())

    def raw_bytes(self) -> bytes:
        """The plan alone, exactly as the SDK wrote it."""
        return bytes(self._payload.plan)

    def refit(self, weights: Mapping[str, Tensor]) -> Engine:
        """A new engine, by the SDK's Refitter, on the current GPU. This one goes on as it was.

        Raises UnsupportedError, InputError or BuildError as `put_weights` does, EngineNotRunnable without a GPU.
        """
        if not self._payload.refittable:
            raise UnsupportedError(
                f"Engine {self.spec.name!r} was built with immutable_weights=True, the default, and can't be refitted; compile "
                "with immutable_weights=False."
            )
        chosen, device = self._sdk(), self._device(())
        runtime, engine = self._deserialize(chosen)
        made = TensorRTEngine(self.spec, put_weights(chosen, engine, self._payload, weights, self.spec.name))
        made._lives[_index(device)] = made._bring_up(chosen, runtime, engine)
        return made

    def require_machine(self) -> None:
        """Raises EngineNotRunnable, saying what the engine was built for and what is here, where it can't run."""
        self._live(self._device(()))

    def layer_information(self) -> str:
        """Its layers as JSON: their names, and with debug=True at compile time all that the SDK tells."""
        live = self._live(self._device(()))
        return live.sdk.layer_information(live.engine)

    def run_timed(self, inputs: Sequence[Tensor]) -> tuple[tuple[Tensor, ...], Sequence[LayerTime]]:
        """Runs in a context of its own, with the SDK's profiler, and waits for the end. Raises what `run` raises."""
        device, times = self._device(inputs), list[LayerTime]()
        with torch.cuda.device(device):
            live, stream = self._live(device), torch.cuda.current_stream()
            fed = [readable(tensor, device) for tensor in inputs]
            slot = self._make_context(live.sdk, live.engine)
            slot.context.profiler = live.sdk.profiler(lambda name, taken: times.append(LayerTime(name, "layer", taken)))
            self._switch(slot, live.profile_for(fed, self._profile), stream)
            outputs = self._execute(live, slot, fed, stream, device)
            stream.synchronize()
        return tuple(out.to(known.device) for out, known in zip(outputs, self.spec.outputs, strict=True)), times

    def streamable_weights(self) -> int:
        """Bytes of weights that can be streamed; 0 where the engine was built without enable_weight_streaming."""
        return int(self._live(self._device(())).engine.streamable_weights_size)

    def streaming_budget(self) -> int:
        """Bytes of them that stay on the GPU."""
        return int(self._live(self._device(())).engine.weight_streaming_budget_v2)

    def automatic_streaming_budget(self) -> int:
        """What the SDK proposes for the memory that is free."""
        return int(self._live(self._device(())).engine.get_weight_streaming_automatic_budget())

    def set_streaming_budget(self, budget: int) -> None:
        """Sets it on every GPU that the engine runs on. The SDK allows that while there is no context only."""
        self._live(self._device(()))
        with self._lock:
            self._budget = budget
            for live in self._lives.values():
                with live.contexts.put_away():
                    self._apply_budget(live.sdk, live.engine)

    def profiles(self) -> Sequence[str]:
        """What each profile is; one entry where there is one."""
        return self._live(self._device(())).describe_profiles() or ["profile 0: all sizes"]

    def choose_profile(self, profile: int | None) -> int | None:
        """Runs use `profile`; None: the first that the sizes are in. Returns what was chosen before. Raises InputError."""
        if profile is not None and not 0 <= profile < len(found := self.profiles()):
            raise InputError(f"Engine {self.spec.name!r} has no profile {profile}; it has {'; '.join(found)}.")
        before, self._profile = self._profile, profile
        return before

    def place_outputs(self, *, ahead: bool | None = None, by_engine: bool | None = None) -> tuple[bool, bool]:
        """See contracts/abilities.py."""
        before = self._ahead, self._by_engine
        self._ahead = self._ahead if ahead is None else ahead
        self._by_engine = self._by_engine if by_engine is None else by_engine
        return before

    def keep_kernels(self, path: str | None) -> str | None:
        """The file for kernels that are compiled at run time; "" for none, None for the usual one. Returns the former."""
        with self._lock:
            before, self._kernels = self._kernels, path
            self._put_contexts_away()
        return before

    def specialise_kernels(self, strategy: str) -> str:
        """When TensorRT-RTX compiles kernels for the sizes that it meets; other SDKs compile none when they run."""
        with self._lock:
            before, self._strategy = self._strategy, strategy
            self._put_contexts_away()
        return before

    def release_memory(self, always: bool) -> bool:
        """Whether a context, with its memory on the GPU, goes after each run. The weights stay."""
        with self._lock:
            before, self._releases = self._releases, always
            self._put_contexts_away()
        return before

    def _put_contexts_away(self) -> None:
        """A context keeps what it was made with: new ones are made."""
        for live in self._lives.values():
            with live.contexts.put_away():
                pass

    def save_kernels(self) -> None:
        """Writes the file now, where this SDK compiles at run time."""
        file = self._kernel_file(self._sdk())
        if file is not None:
            file.save()

    def _switch(self, slot: Slot, profile: int, stream: torch.cuda.Stream) -> None:
        """Before the shapes, which are checked against the profile."""
        if slot.profile == profile:
            return
        with listen() as words:
            if not slot.context.set_optimization_profile_async(profile, stream.cuda_stream):
                raise BuildError(f"{self._title()} could not switch {self.spec.name!r} to profile {profile}: {words}")
        slot.profile = profile

    def _execute(
        self, live: Live, slot: Slot, inputs: Sequence[Tensor], stream: torch.cuda.Stream, device: torch.device
    ) -> list[Tensor]:
        """Shapes first, because addresses are checked against them; then addresses; then the run."""
        shapes = self._sizes.compute(inputs)
        if self._by_engine:
            shapes = (None,) * len(shapes)
        key = (shapes, stream.cuda_stream, device)
        if slot.spare is not None and slot.spare[0] == key:
            outputs = slot.spare[1]
        else:
            outputs = empty_outputs(shapes, self.spec.outputs, device)
        slot.spare = None
        given = dict(zip(live.outputs, outputs, strict=True))
        found = FoundMemory(device)
        self._enqueue(slot.context, live, inputs, given, found, stream)
        if self._ahead:
            slot.spare = (key, empty_outputs(shapes, self.spec.outputs, device))
        return [
            found.tensor(name, known.dtype) if out is None else out
            for (name, out), known in zip(given.items(), self.spec.outputs, strict=True)
        ]

    def _enqueue(
        self,
        context: Native,
        live: Live,
        inputs: Sequence[Tensor],
        outputs: Mapping[str, Tensor | None],
        found: FoundMemory,
        stream: torch.cuda.Stream,
    ) -> None:
        fed = dict(zip(live.inputs, inputs, strict=True))
        unknown = [name for name, out in outputs.items() if out is None]
        bound = {**fed, **{name: out for name, out in outputs.items() if out is not None}}
        # Kept to the end: memory of empty tensors, and the allocator, of which the SDK has no more than the address.
        places = {name: address(tensor, tensor.device) for name, tensor in bound.items()}
        allocator = live.sdk.output_allocator(found) if unknown else None
        with listen() as words:
            fine = all(context.set_input_shape(name, tuple(tensor.shape)) for name, tensor in fed.items())
            fine = fine and all(context.set_tensor_address(name, place) for name, (place, _) in places.items())
            fine = fine and all(context.set_output_allocator(name, allocator) for name in unknown)
            fine = fine and context.execute_async_v3(stream.cuda_stream)
            for name in unknown:
                context.set_output_allocator(name, None)
            if not fine:
                told = f"{self._title()} could not run engine {self.spec.name!r}: {found.failure or words}"
                raise BuildError(told) from found.failure

    def _live(self, device: torch.device) -> Live:
        with self._lock:
            index = _index(device)
            if index not in self._lives:
                chosen = self._sdk()
                self._lives[index] = self._bring_up(chosen, *self._deserialize(chosen))
            return self._lives[index]

    def _sdk(self) -> Sdk:
        """The SDK, where there is one, and a GPU for it."""
        chosen = sdk.load(self.spec.backend)
        if not torch.cuda.is_available():
            raise EngineNotRunnable(
                f"Engine {self.spec.name!r} was built with {self._built()}; it needs an NVIDIA GPU, and {_here()}. Save it and "
                "load it where there is one, or compile with engine='openvino' to run on the CPU."
            )
        return chosen

    def _deserialize(self, chosen: Sdk) -> tuple[Native, Native]:
        payload = self._payload
        with listen() as words:
            runtime = chosen.runtime(host_code=payload.host_code, dla_core=payload.dla_core)
            engine: Native | None = runtime.deserialize_cuda_engine(payload.plan)
            if engine is None:
                why = chosen.why_unreadable(runtime, payload.plan)
                raise EngineNotRunnable(
                    f"Engine {self.spec.name!r} was built with {self._built()}; {chosen.title} {chosen.version} can't read it, and "
                    f"{_here()}: {words}{f' ({why})' if why else ''}. Compile the model again for this machine."
                )
        return runtime, engine

    def _bring_up(self, chosen: Sdk, runtime: Native, engine: Native) -> Live:
        if self._payload.stripped:
            raise EngineNotRunnable(
                f"Engine {self.spec.name!r} was built with strip_engine_weights=True and has no weights yet: "
                "torch_tensorrt.dynamo.refit_module_weights(module, program) gives a module that has them."
            )
        inputs, outputs = tuple(known.name for known in self.spec.inputs), tuple(output_names(self.spec))
        check_names(chosen, engine, inputs, outputs, self.spec.name)
        self._apply_budget(chosen, engine)
        contexts = Contexts(lambda: self._make_context(chosen, engine))
        return Live(chosen, runtime, engine, contexts, inputs, outputs, read_ranges(engine, inputs))

    def _make_context(self, chosen: Sdk, engine: Native) -> Slot:
        file = self._kernel_file(chosen)
        with listen() as words:
            strategy = self._strategy if chosen.compiles_at_run_time else "lazy"  # others have no such choice
            context = chosen.context(engine, None if file is None else file.cache(chosen, engine), strategy)
            if context is None:
                raise EngineNotRunnable(f"{self._title()} made no execution context for {self.spec.name!r}: {words}")
        return Slot(context, profile=int(context.active_optimization_profile))

    def _apply_budget(self, chosen: Sdk, engine: Native) -> None:
        if self._budget is None:
            return
        with listen() as words:
            engine.weight_streaming_budget_v2 = self._budget
            if words.errors or engine.weight_streaming_budget_v2 != self._budget:
                raise UnsupportedError(
                    f"{chosen.title} can't keep {self._budget} bytes of the weights of {self.spec.name!r} on the GPU: {words}"
                )

    def _kernel_file(self, chosen: Sdk) -> KernelFile | None:
        if not chosen.compiles_at_run_time or self._kernels == "":
            return None
        return kernel_file(default_path(chosen) if self._kernels is None else Path(self._kernels))

    def _device(self, inputs: Sequence[Tensor]) -> torch.device:
        """Where to run: on the GPU of the inputs, or on the current one when all of them are on the CPU."""
        found = next((tensor.device for tensor in inputs if tensor.is_cuda), None)
        if found is not None:
            return found
        self._sdk()
        return torch.device("cuda", torch.cuda.current_device())

    def _built(self) -> str:
        return f"{self._title()} {self.spec.versions.get(self.spec.backend)} for {self.spec.target}"

    def _title(self) -> str:
        return sdk.NAMES[self.spec.backend]


def _index(device: torch.device) -> int:
    return -1 if device.index is None else device.index


def _here() -> str:
    """What there is to run on."""
    if not torch.cuda.is_available():
        built = "" if torch.version.cuda else ", a build without CUDA,"
        return f"PyTorch {torch.__version__}{built} sees none here"
    major, minor = torch.cuda.get_device_capability()
    return f"the GPU here is a {torch.cuda.get_device_name()} (sm_{major}{minor})"
