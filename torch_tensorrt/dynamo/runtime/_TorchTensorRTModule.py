"""The documented module of one engine: bytes that an SDK wrote, called like a model."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from torch_tensorrt.contracts.abilities import DescribesLayers, HasProfiles, PlacesOutputs, StreamsWeights
from torch_tensorrt.contracts.engine import Engine
from torch_tensorrt.contracts.raw import RawEngine
from torch_tensorrt.observe.log import logger
from torch_tensorrt.raw_engine import read_raw_engine
from torch_tensorrt.runtime.native import in_python
from torch_tensorrt.runtime.op import live_engine, pack
from torch_tensorrt.spec.errors import FileFormatError, InputError, UnsupportedError
from torch_tensorrt.spec.settings import CompilationSettings

_DEFAULTS = CompilationSettings()
_STATE = {"name": str, "engine": Tensor, "spec": str}


class TorchTensorRTModule(nn.Module):
    """An engine from `convert_exported_program_to_serialized_trt_engine` or an SDK's own builder as an nn.Module.

    Its state is the engine: `state_dict` and `load_state_dict` carry it to another module, which can be made without one. It
    stays where it is when the module is moved; tensors are passed on the device that the engine takes them on.
    """

    def __init__(
        self,
        serialized_engine: bytes | None = None,
        input_binding_names: Sequence[str] | None = None,
        output_binding_names: Sequence[str] | None = None,
        *,
        name: str = "",
        settings: CompilationSettings = _DEFAULTS,
        requires_output_allocator: bool = False,
        requires_native_multidevice: bool = False,
        symbolic_shape_expressions: object = None,
        aliased_io: object = None,
    ) -> None:
        """The bytes are read here, or on first use with `lazy_engine_init` in the settings.

        Args:
            serialized_engine: as for `torch_tensorrt.ts.embed_engine_in_new_module`; None: the state is loaded later.
            input_binding_names: what the engine calls its inputs, in the order in which they are passed; None: as there.
            output_binding_names: the same for its outputs.
            name: for messages.
            settings: engine, device, enabled_precisions and version_compatible say how the bytes are read.
            requires_output_allocator: TensorRT asks for the memory of all outputs while it runs; where sizes vary it does so anyway.
            requires_native_multidevice: False only.
            symbolic_shape_expressions: None only; sizes that the engine doesn't tell are found when it runs.
            aliased_io: None only.

        Raises:
            InputError, UnsupportedError, EngineNotRunnable: as `embed_engine_in_new_module` does.
        """
        super().__init__()
        for option, given in (
            ("requires_native_multidevice", requires_native_multidevice),
            ("symbolic_shape_expressions", symbolic_shape_expressions),
            ("aliased_io", aliased_io),
        ):
            if given:
                raise UnsupportedError(
                    f"{option}={given!r:.100} is not here; leave it out, or run the engine with its own SDK."
                )
        self.name, self.settings = name or "engine", settings
        self._by_engine = requires_output_allocator
        self._raw: RawEngine | None = None
        self._constant: Tensor | None = None  # no buffer: it isn't to be moved or converted
        self._spec = ""
        if serialized_engine is not None:
            self._raw = RawEngine.named(serialized_engine, self.name, input_binding_names, output_binding_names)
            if not settings.lazy_engine_init:
                self.setup_engine()

    def setup_engine(self) -> None:
        """Reads the engine, where that hasn't been done yet. Raises InputError where there is none."""
        if self._constant is not None:
            return
        if self._raw is None:
            raise InputError(
                f"The module {self.name!r} has no engine; give it one, or load_state_dict of a module that has."
            )
        engine = read_raw_engine(self._raw, self.settings)
        if self._by_engine and isinstance(engine, PlacesOutputs):
            engine.place_outputs(by_engine=True)
        self._constant, self._spec, self._raw = pack(engine), engine.spec.to_json(), None

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """The output for the inputs in their order, or a tuple of the outputs; without autograd history.

        Raises InputError for tensors of another number, dtype, device or size than the engine takes.
        """
        self.setup_engine()
        results = torch.ops.tensorrt.execute_engine.default(list(inputs), self._constant, self._spec)
        return results[0] if len(results) == 1 else tuple(results)

    def get_engine(self) -> Engine:
        """The engine in memory; what it is stands in its `spec`."""
        self.setup_engine()
        assert self._constant is not None
        return live_engine(self._constant, self._spec).engine

    def get_extra_state(self) -> dict[str, object]:
        """The engine for `state_dict`: a name, a tensor and a text. None of them where there is no engine."""
        if self._constant is None and self._raw is None:
            return {}
        self.setup_engine()
        return {"name": self.name, "engine": self._constant, "spec": self._spec}

    def set_extra_state(self, state: object) -> None:
        """Takes the engine of another module. Raises FileFormatError for anything else."""
        if state == {}:
            self._raw = self._constant = None
            return
        if not isinstance(state, dict) or set(state) != set(_STATE):
            raise FileFormatError(
                f"The state of an engine's module needs exactly {sorted(_STATE)}, not {state!r:.100}."
            )
        for key, kind in _STATE.items():
            if not isinstance(state[key], kind):
                raise FileFormatError(
                    f"{key!r} in the state of an engine's module is {state[key]!r:.60}, not a {kind.__name__}."
                )
        self.name, self._constant, self._spec, self._raw = state["name"], state["engine"], state["spec"], None

    def get_layer_info(self) -> str:
        """JSON of the engine's layers, as its SDK tells them. Raises UnsupportedError where it doesn't."""
        engine = in_python(self.get_engine())
        if not isinstance(engine, DescribesLayers):
            raise self._unable("does not tell its layers")
        return engine.layer_information()

    def dump_layer_info(self) -> None:
        """The same, to the log."""
        logger("dynamo.runtime").info("%s", self.get_layer_info())

    def get_streamable_device_memory_budget(self) -> int:
        """Bytes of the weights that can be streamed to the GPU. Raises UnsupportedError for engines that can't stream."""
        return self._streaming().streamable_weights()

    def get_automatic_device_memory_budget(self) -> int:
        """Bytes that the SDK would keep on the GPU now."""
        return self._streaming().automatic_streaming_budget()

    def get_device_memory_budget(self) -> int:
        """Bytes of them that stay on the GPU."""
        return self._streaming().streaming_budget()

    def set_device_memory_budget(self, budget_bytes: int) -> int:
        """Sets that, and gives it as it is now. Raises UnsupportedError with the SDK's words."""
        self._streaming().set_streaming_budget(budget_bytes)
        return self.get_device_memory_budget()

    def set_optimization_profile(self, profile: int | str) -> None:
        """The range of sizes to run with, counted from 0, or "auto". Raises InputError where there is none of that number."""
        if profile != "auto" and (isinstance(profile, bool) or not isinstance(profile, int)):
            raise InputError(f"profile={profile!r}: a number, counted from 0, or 'auto' is needed.")
        self.restore_optimization_profile_state(profile if isinstance(profile, int) else None)

    def get_optimization_profile_state(self) -> int | None:
        """What was chosen; None: the first range that the sizes are in."""
        engine = self.get_engine()
        if not isinstance(engine, HasProfiles):
            raise self._unable("does not have several profiles")
        before = engine.choose_profile(None)
        engine.choose_profile(before)
        return before

    def restore_optimization_profile_state(self, state: int | None) -> None:
        """Chooses what `get_optimization_profile_state` gave."""
        engine = self.get_engine()
        if not isinstance(engine, HasProfiles):
            raise self._unable("does not have several profiles")
        engine.choose_profile(state)

    def set_use_output_allocator(self, enable: bool) -> None:
        """Whether the SDK asks for the memory of outputs while it runs."""
        self._outputs().place_outputs(by_engine=enable)

    def set_pre_allocated_outputs(self, enable: bool) -> None:
        """Whether the memory of a run's outputs is made after the run before it."""
        self._outputs().place_outputs(ahead=enable)

    @property
    def pre_allocated_outputs(self) -> bool:
        """What was set; False where the engine knows no such thing, for torch.jit asks every module for all its attributes."""
        engine = self.get_engine() if self._constant is not None else None
        return engine.place_outputs()[0] if isinstance(engine, PlacesOutputs) else False

    def _streaming(self) -> StreamsWeights:
        engine = self.get_engine()
        if not isinstance(engine, StreamsWeights):
            raise self._unable("does not stream weights")
        return engine

    def _outputs(self) -> PlacesOutputs:
        engine = self.get_engine()
        if not isinstance(engine, PlacesOutputs):
            raise self._unable("does not place outputs in other ways")
        return engine

    def _unable(self, what: str) -> UnsupportedError:
        return UnsupportedError(f"Engine {self.name!r} of the {self.get_engine().spec.backend!r} backend {what}.")


__all__ = ["TorchTensorRTModule"]
