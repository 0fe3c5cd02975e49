"""The documented `torch_tensorrt.fx` verbs. They are deprecated there and here, and go to the one pipeline."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from torch_tensorrt.compiler import compile_model
from torch_tensorrt.fx.input_tensor_spec import InputTensorSpec, generate_input_specs
from torch_tensorrt.fx.lower_setting import LowerSetting, options_of
from torch_tensorrt.fx.utils import LowerPrecision
from torch_tensorrt.runtime.module import CompiledModule
from torch_tensorrt.spec.absent import Absent
from torch_tensorrt.spec.errors import InputError, UnsupportedError

_ONE_PIPELINE = "fx.compile and fx.Lowerer go to the pipeline of torch_tensorrt.compile, which has no such part"
LowerTrtInterpreter = Absent("fx.lower.LowerTrtInterpreter", _ONE_PIPELINE)
create_lower_trt_interpreter = Absent("fx.lower.create_lower_trt_interpreter", _ONE_PIPELINE)
default_split_function = Absent("fx.lower.default_split_function", _ONE_PIPELINE)
default_lower_pass = Absent("fx.lower.default_lower_pass", _ONE_PIPELINE)


def compile(  # the documented signature
    module: nn.Module,
    input: Sequence[object],
    min_acc_module_size: int = 10,
    max_batch_size: int = 2048,
    max_workspace_size: int = 1 << 25,
    explicit_batch_dimension: bool = False,
    lower_precision: LowerPrecision = LowerPrecision.FP16,
    verbose_log: bool = False,
    timing_cache_prefix: str = "",
    save_timing_cache: bool = False,
    cuda_graph_batch_size: int = -1,
    dynamic_batch: bool = True,
    is_aten: bool = False,
    use_experimental_fx_rt: bool = False,
    correctness_atol: float = 0.1,
    correctness_rtol: float = 0.1,
    **kwargs: object,
) -> CompiledModule:
    """Compiles `module` for the tensors `input`, after a DeprecationWarning; use `torch_tensorrt.compile`.

    Args:
        module: an nn.Module or fx.GraphModule.
        input: one entry per argument: a tensor, or anything else that `torch_tensorrt.compile` takes, whose sizes then don't vary
            with max_batch_size.
        min_acc_module_size: fewest operations that are worth an engine (min_block_size).
        max_batch_size: greatest batch size, where it varies.
        max_workspace_size: bytes of scratch memory for the builder; the default leaves it to the engine.
        explicit_batch_dimension: True with dynamic_batch=False fixes the batch size; else it varies from 1 to max_batch_size.
        lower_precision: FP32 is the model's own dtypes, FP16 adds float16; results keep the model's dtypes.
        verbose_log: log at debug level.
        timing_cache_prefix: file of timings, without its suffix `.cache`; needs save_timing_cache.
        save_timing_cache: write it.
        cuda_graph_batch_size: refused when it is set.
        dynamic_batch: as said above.
        is_aten: which tracer; there is one, so both mean the same.
        use_experimental_fx_rt: warned about when it is set, as are the next two.
        correctness_atol: not used.
        correctness_rtol: not used.
        **kwargs: options of CompilationSettings.

    Raises:
        InputError, UnsupportedError, BuildError: as `torch_tensorrt.compile` does; also for options named above.
    """
    given = locals()
    warnings.warn(
        "torch_tensorrt.fx.compile (ir='fx') is deprecated; use torch_tensorrt.compile(module, inputs=...).",
        DeprecationWarning,
        stacklevel=2,
    )
    setting = _setting(given)
    return _lower(module, input, setting, None, kwargs)


@dataclass(frozen=True)
class Lowerer:
    """`Lowerer.create(lower_setting)(module, inputs)` is what `fx.compile` gives for these options."""

    lower_setting: LowerSetting

    @classmethod
    def create(
        cls,
        lower_setting: LowerSetting,
        interpreter_builder: object = create_lower_trt_interpreter,
        split_func: object = default_split_function,
    ) -> Lowerer:
        """Raises UnsupportedError for an interpreter or split function of your own."""
        for name, given in (("interpreter_builder", interpreter_builder), ("split_func", split_func)):
            if given is not None and not isinstance(given, Absent):
                raise UnsupportedError(f"{name}={given!r:.200} is not possible: {_ONE_PIPELINE}.")
        return cls(lower_setting)

    def __call__(
        self, module: nn.Module, inputs: Sequence[object], additional_inputs: Sequence[torch.Tensor] | None = None
    ) -> CompiledModule:
        """Compiles `module`; `additional_inputs`, of another batch size, show which dimension is the batch."""
        warnings.warn("fx.Lowerer is deprecated; use torch_tensorrt.compile.", DeprecationWarning, stacklevel=2)
        return _lower(module, inputs, self.lower_setting, additional_inputs, {})


def _lower(
    module: nn.Module,
    inputs: Sequence[object],
    setting: LowerSetting,
    additional_inputs: Sequence[torch.Tensor] | None,
    options: dict[str, object],
) -> CompiledModule:
    """The pipeline of every door. Options that were given by their own name go before those that the setting means."""
    if not isinstance(module, nn.Module) or isinstance(module, torch.jit.ScriptModule):
        raise InputError(f"The FX door takes an nn.Module or GraphModule, not a {type(module).__name__}.")
    if not isinstance(inputs, (list, tuple)):
        raise InputError(f"input is a {type(inputs).__name__}; a list of tensors, one per argument, is needed.")
    described: list[object] = [*inputs]
    if setting.input_specs:
        described = [spec.to_input() if isinstance(spec, InputTensorSpec) else spec for spec in setting.input_specs]
    elif all(isinstance(given, torch.Tensor) for given in inputs) and not _is_fixed(setting):
        tensors = [given for given in inputs if isinstance(given, torch.Tensor)]
        described = [spec.to_input() for spec in generate_input_specs(tensors, setting, additional_inputs)]
    return compile_model(module, described, None, None, {**options_of(setting), **options})


def _setting(given: Mapping[str, object]) -> LowerSetting:
    """The arguments of `compile` in the form of a LowerSetting, which calls one of them otherwise."""
    named = {**given, "use_experimental_rt": given["use_experimental_fx_rt"]}
    known = {declared.name for declared in dataclasses.fields(LowerSetting)}
    return LowerSetting(**{name: value for name, value in named.items() if name in known})  # type: ignore[arg-type]


def _is_fixed(setting: LowerSetting) -> bool:
    return setting.explicit_batch_dimension and not setting.dynamic_batch
