"""A model whose weights may change: compiled at the first call, refitted when weights changed, compiled again when more did."""

from __future__ import annotations

import io
import json
import os
import threading
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from pathlib import Path
from typing import NoReturn

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram

from torch_tensorrt.compiler import compile_program
from torch_tensorrt.dynamo.runtime._calls import (
    call_key,
    explain_constraints,
    refuse_shapes,
    refusing_assigned_buffers,
    run_hooked,
    share_state,
    without_hooks,
    without_ranges,
)
from torch_tensorrt.dynamo.runtime._ranges import (
    DynamicShapeOutOfRangeException,
    Ranges,
    check_ranges,
    read_ranges,
    with_ranges,
)
from torch_tensorrt.dynamo.runtime._watching import ModelWatch
from torch_tensorrt.observe.log import logger
from torch_tensorrt.observe.quiet import quiet_torch
from torch_tensorrt.package.loading import load as load_file
from torch_tensorrt.package.opening import open_file
from torch_tensorrt.package.sealing import replacing
from torch_tensorrt.refitting.refit import refit
from torch_tensorrt.spec.errors import FileFormatError, InputError, UnsupportedError
from torch_tensorrt.spec.json_text import not_deep
from torch_tensorrt.spec.settings import CompilationSettings
from torch_tensorrt.spec.settings_record import record_settings, settings_from_record
from torch_tensorrt.trace.call_inputs import CallInputs, collect_inputs
from torch_tensorrt.trace.tracer import trace

__all__ = ["DynamicShapeOutOfRangeException", "MutableTorchTensorRTModule", "RefitFlag", "RefitState"]
_log = logger("mutable")
_KEYS_KEPT = 256
_OWN = frozenset(
    {"original_model", "settings", "strict", "refit_state", "_lock", "_live", "_call", "_ranges"}
)  # attributes that are not the wrapped model's


class RefitFlag(Enum):
    """What a mutable module has to do before its next run."""

    UNKNOWN = auto()  # look for changes
    NEEDS_REFIT = auto()
    NEEDS_RECOMPILE = auto()
    LIVE = auto()  # as far as is known


class RefitState:
    """The flag of one module."""

    _state: RefitFlag = RefitFlag.NEEDS_RECOMPILE

    def set_state(self, state: RefitFlag) -> None:
        """Sets the flag. Raises InputError for what is no RefitFlag."""
        if not isinstance(state, RefitFlag):
            raise InputError(f"{state!r} is no RefitFlag; the flags are {', '.join(flag.name for flag in RefitFlag)}.")
        self._state = state

    def get_state(self) -> RefitFlag:
        """The flag."""
        return self._state


@dataclass(frozen=True)
class _Live:
    """What runs: a compiled module, what the model was when it was made, and the kinds of calls that it serves."""

    compiled: fx.GraphModule
    watch: ModelWatch
    pattern: object  # the kind of call, but for sizes that vary
    keys: set[object] = field(default_factory=set)


class MutableTorchTensorRTModule:
    """Runs `pytorch_model` compiled, and follows its changes: a call never gives the result of old weights.

    Attributes are those of the wrapped model (`module.fc.weight`, `module.scale = 2`), and so are `load_state_dict`, `parameters`,
    hooks and all other methods. `original_model` is the wrapped model itself, which may be changed directly as well. Calls from
    several threads are safe. Results carry no autograd history.

    Args:
        pytorch_model: the model; it stays as it is. Where it writes its buffers in forward, the compiled one writes these very buffers.
        device: as the option of `torch_tensorrt.compile`.
        immutable_weights: True compiles again where False, the default, refits.
        strict: traces with torch.export's strict mode.
        prefer_deferred_runtime_asserts_over_guards: only False.
        weight_streaming_budget: only None; see `torch_tensorrt.runtime.weight_streaming`.
        **kwargs: the options of `torch_tensorrt.compile`.

    Raises InputError for other arguments, UnsupportedError for what isn't here.
    """

    original_model: nn.Module
    settings: CompilationSettings
    strict: bool
    refit_state: RefitState
    _lock: threading.RLock
    _live: _Live | None
    _call: CallInputs | None
    _ranges: Ranges

    def __init__(
        self,
        pytorch_model: nn.Module,
        *,
        device: object = None,
        immutable_weights: bool = False,
        strict: bool = True,
        prefer_deferred_runtime_asserts_over_guards: bool = False,
        weight_streaming_budget: int | None = None,
        **kwargs: object,
    ) -> None:
        if not isinstance(pytorch_model, nn.Module):
            raise InputError(f"pytorch_model is a {type(pytorch_model).__name__}; an nn.Module is needed.")
        if prefer_deferred_runtime_asserts_over_guards:
            raise UnsupportedError("prefer_deferred_runtime_asserts_over_guards=True is not here; leave it out.")
        if weight_streaming_budget is not None:
            self.set_weight_streaming_ctx(weight_streaming_budget)
        given = {**kwargs, "immutable_weights": immutable_weights}
        if device is not None:
            given["device"] = device
        own: dict[str, object] = {
            "original_model": pytorch_model,
            "settings": CompilationSettings.from_options(**given),
            "strict": strict,
            "refit_state": RefitState(),
            "_lock": threading.RLock(),
            "_live": None,
            "_call": None,
            "_ranges": {},
        }
        self.__dict__.update(own)

    def __call__(self, *args: object, **kwargs: object) -> object:
        """What the model gives for these arguments, with its weights of now."""
        model = self.original_model
        hooked = bool(model._forward_hooks or model._forward_pre_hooks)
        if not hooked:
            return self._ready(args, kwargs)(*args, **kwargs)
        if self._ranges:  # first, so that a size outside says so
            check_ranges(collect_inputs(None, args, kwargs), self._ranges)
        return run_hooked(model, lambda *a, **k: self._ready(a, k)(*a, **k), args, kwargs)

    def forward(self, *args: object, **kwargs: object) -> object:
        """The same as calling the module."""
        return self(*args, **kwargs)

    def _ready(self, args: tuple[object, ...], kwargs: dict[str, object]) -> fx.GraphModule:
        key, live = call_key(args, kwargs), self._live
        if live is not None and key in live.keys and self._flag() is RefitFlag.LIVE and live.watch.is_untouched():
            return live.compiled
        with self._lock:
            call = collect_inputs(None, args, kwargs)
            check_ranges(call, self._ranges)
            pattern = call_key(*without_ranges(call, self._ranges))
            if self._live is None or self._live.pattern != pattern:
                self.refit_state.set_state(RefitFlag.NEEDS_RECOMPILE)
            elif self._flag() is not RefitFlag.NEEDS_RECOMPILE:
                self.update_refit_condition()
            refuse_shapes(args, kwargs)
            self.__dict__["_call"] = call
            self._bring_up()
            assert self._live is not None
            if len(self._live.keys) >= _KEYS_KEPT:
                self._live.keys.clear()
            self._live.keys.add(key)
            return self._live.compiled

    def _flag(self) -> RefitFlag:
        return self.refit_state.get_state()

    def _bring_up(self) -> None:
        if self._flag() is RefitFlag.NEEDS_REFIT and not self.settings.immutable_weights:
            self.refit_gm()
        elif self._flag() is not RefitFlag.LIVE:
            self.compile()

    def update_refit_condition(self) -> None:
        """Looks for changes of the model since it was compiled or refitted, and sets `refit_state`. Every call does this."""
        with self._lock:
            live = self._live
            if live is None or self._flag() is RefitFlag.NEEDS_RECOMPILE:
                self.refit_state.set_state(RefitFlag.NEEDS_RECOMPILE)
            elif self._flag() is RefitFlag.NEEDS_REFIT:
                return
            elif live.watch.is_untouched():
                self.refit_state.set_state(RefitFlag.LIVE)
            else:
                again = ModelWatch(self.original_model)  # taken first: what is written meanwhile shows in it
                again.leave_state(live.watch.state)
                same = live.watch.has_same_values(again)
                self.__dict__["_live"] = replace(live, watch=again if same else live.watch)
                self.refit_state.set_state(RefitFlag.LIVE if same else RefitFlag.NEEDS_REFIT)

    def get_exported_program(self) -> ExportedProgram:
        """The model as it is now, traced for the inputs of the last call. Raises InputError before the first one."""
        return self._program(self._described_call())

    def _described_call(self) -> CallInputs:
        if self._call is None:
            raise InputError("The module has not been called, so that its inputs are not known; call it first.")
        return with_ranges(self._call, self._ranges)

    def _program(self, call: CallInputs) -> ExportedProgram:
        model = without_hooks(self.original_model)
        with refusing_assigned_buffers():
            return trace(model, arg_inputs=call.args, kwarg_inputs=call.kwargs, strict=self.strict)

    def compile(self) -> None:
        """Compiles the model as it is now, for the inputs of the last call. Raises what `torch_tensorrt.compile` raises."""
        with self._lock, quiet_torch():
            call = self._described_call()
            watch = ModelWatch(self.original_model)  # before the tracing, so that later changes are seen
            compiled = compile_program(self._program(call), call, self.settings)
            watch.leave_state(share_state(compiled, self.original_model))
            assert self._call is not None
            self._take(compiled, watch, call_key(*without_ranges(self._call, self._ranges)))

    def refit_gm(self) -> None:
        """Gives the engines the model's weights; compiles where the model differs in more than values."""
        with self._lock:
            live = self._live
            if live is None:
                self.compile()
                return
            watch = ModelWatch(self.original_model)
            try:
                with quiet_torch(), torch.no_grad():
                    refitted = refit(live.compiled, self._program(self._described_call()))
                    watch.leave_state(share_state(refitted, self.original_model))
            except (InputError, UnsupportedError) as reason:
                _log.info("compiling again: %s", reason)
                self.compile()
                return
            self._take(refitted, watch, live.pattern)

    def _take(self, compiled: fx.GraphModule, watch: ModelWatch, pattern: object) -> None:
        self.__dict__["_live"] = _Live(compiled, watch, pattern)
        self.refit_state.set_state(RefitFlag.LIVE)

    def set_expected_dynamic_shape_range(self, args_dynamic_shape: object, kwargs_dynamic_shape: object = None) -> None:
        """Sizes that vary from call to call without compiling again; the next call compiles.

        Args:
            args_dynamic_shape: a tuple with one entry per positional argument: None, or a dict from dimension to torch.export.Dim
                with min and max; nested as the argument is.
            kwargs_dynamic_shape: the same by name for keyword arguments.

        Raises InputError for what is no range. Calls with other sizes raise DynamicShapeOutOfRangeException.
        """
        with self._lock:
            self.__dict__["_ranges"] = read_ranges(args_dynamic_shape, kwargs_dynamic_shape)
            self.refit_state.set_state(RefitFlag.NEEDS_RECOMPILE)
            self.__dict__["_live"] = None

    def serialize_dynamic_shapes(self) -> dict[str, dict[str, list[object]]]:
        """The ranges as JSON: path of an argument -> dimension -> [name, min, max]."""
        return {path: {str(dim): [*known] for dim, known in dims.items()} for path, dims in self._ranges.items()}

    def deserialize_dynamic_shapes(self) -> dict[str, dict[int, object]]:
        """The ranges as torch.export.Dims: path of an argument -> dimension -> Dim."""
        made = torch.export.Dim
        return {
            path: {dim: made(name or f"dim{dim}", min=low, max=high) for dim, (name, low, high) in dims.items()}
            for path, dims in self._ranges.items()
        }

    def load_state_dict(self, state_dict: Mapping[str, Tensor], strict: bool = True, assign: bool = False) -> object:
        """As `nn.Module.load_state_dict` of the wrapped model; the next call refits."""
        with self._lock:
            return self.original_model.load_state_dict(state_dict, strict=strict, assign=assign)

    def to(self, *args: object, **kwargs: object) -> MutableTorchTensorRTModule:
        """Moves or converts the wrapped model; the next call compiles. Where engines run is the option `device`."""
        with self._lock:
            self.original_model.to(*args, **kwargs)  # type: ignore[call-overload]
            self.refit_state.set_state(RefitFlag.NEEDS_RECOMPILE)
        return self

    @property
    def device(self) -> torch.device:
        """Where the wrapped model's weights are; the CPU for a model without."""
        tensors = [*self.original_model.parameters(), *self.original_model.buffers()]
        return tensors[0].device if tensors else torch.device("cpu")

    def set_weight_streaming_ctx(self, requested_budget: int | None = None) -> None:
        """Does nothing for None. Raises UnsupportedError for a budget."""
        if requested_budget is not None:
            raise UnsupportedError(
                "A mutable module streams no weights; use torch_tensorrt.runtime.weight_streaming on a compiled module."
            )

    @staticmethod
    def save(module: MutableTorchTensorRTModule, path: str | os.PathLike[str]) -> None:
        """Writes the model as it is now (its exported program), the options and the ranges; neither code nor engines.

        Raises InputError when the module has not been called yet, or the path can't be written.
        """
        if not isinstance(module, MutableTorchTensorRTModule):
            raise InputError(f"A MutableTorchTensorRTModule is needed, not a {type(module).__name__}.")
        with module._lock:
            program = module.get_exported_program()
            record = {
                "settings": record_settings(module.settings),
                "strict": module.strict,
                "ranges": module.serialize_dynamic_shapes(),
            }
        content = io.BytesIO()
        torch.export.save(program, content)
        with replacing(Path(path)) as file, zipfile.ZipFile(file, "w") as archive:
            archive.writestr("mutable.json", json.dumps(record, sort_keys=True))
            archive.writestr("program.pt2", content.getvalue())

    @staticmethod
    def load(path: str | os.PathLike[str]) -> MutableTorchTensorRTModule:
        """The module that `save` wrote; the first call compiles. Its `original_model` is the exported graph, with the same weights'
        names; it takes the kinds of inputs that it was saved with.

        Raises MissingFileError, and FileFormatError for what `save` didn't write.
        """
        place, file = open_file(path)
        try:
            with file, zipfile.ZipFile(file) as archive:
                record = json.loads(not_deep(archive.read("mutable.json")))
                content = archive.read("program.pt2")
            settings = settings_from_record(record["settings"])
            ranges = {
                path: {int(dim): (str(known[0]), int(known[1]), int(known[2])) for dim, known in dims.items()}
                for path, dims in record["ranges"].items()
            }
        except (zipfile.BadZipFile, KeyError, ValueError, TypeError, AttributeError, IndexError) as error:
            raise FileFormatError(
                f"{str(place)!r} is not a file of MutableTorchTensorRTModule.save, or was changed ({type(error).__name__}: {error})."
            ) from error
        program = load_file(io.BytesIO(content), format="exported_program")
        assert isinstance(program, ExportedProgram)
        model = program.module(check_guards=False)
        explain_constraints(model)
        made = MutableTorchTensorRTModule(model, strict=False)
        made.__dict__.update(settings=settings, _ranges=ranges)
        return made

    def __getattr__(self, name: str) -> object:
        """An attribute of the wrapped model."""
        if name in _OWN:  # only before __init__ has run
            raise AttributeError(name)
        return getattr(self.original_model, name)

    def __setattr__(self, name: str, value: object) -> None:
        if name in _OWN or name in type(self).__dict__:
            raise InputError(f"{name!r} of a mutable module can't be set; set attributes of its model by other names.")
        setattr(self.original_model, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self.original_model, name)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *dir(self.original_model)})

    def __repr__(self) -> str:
        return f"MutableTorchTensorRTModule({self._flag().name}, {self.original_model!r})"

    def __reduce__(self) -> NoReturn:
        raise UnsupportedError(
            "A mutable module is not pickled; write it with MutableTorchTensorRTModule.save(module, path)."
        )
