"""LowerSetting: the documented options of the FX door, and what each becomes among those of CompilationSettings."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from torch_tensorrt.fx.utils import LowerPrecision
from torch_tensorrt.spec.errors import InputError, UnsupportedError

_PRECISIONS = {
    LowerPrecision.FP32: frozenset[torch.dtype](),  # the model's own
    LowerPrecision.FP16: frozenset({torch.float16, torch.float32}),
}
_WORKSPACES = (1 << 25, 1 << 30)  # the documented defaults: left to the engine's builder
_PASSES = "the passes are those of torch_tensorrt.compile"
_REFUSED: Mapping[str, str] = {
    "ast_rewriter_allow_list": "torch.export traces the model, and rewrites no source",
    "leaf_module_list": "name the modules in torch_executed_modules to keep them in PyTorch",
    "explicit_precision": "a quantized model says its precisions with quantize and dequantize operators",
    "customized_fuse_pass": _PASSES,
    "lower_basic_fuse_pass": _PASSES,
    "algo_selector": "the engine's builder chooses kernels",
    "tactic_sources": "the engine's builder chooses kernels",
    "cuda_graph_batch_size": "there are no CUDA graphs around engines in this version",
    "preset_lowerer": "there is one way of lowering",
    "strict_type_constraints": "engines compute in the dtypes of lower_precision only",
}
_WARNED: Mapping[str, str] = {
    "verbose_profile": "layers are described by torch_tensorrt.runtime.get_layer_info",
    "opt_profile_replica": "one engine serves every thread",
    "correctness_atol": "compare results with those of the model",
    "correctness_rtol": "compare results with those of the model",
    "use_experimental_rt": "there is one runtime",
}


@dataclass
class LowerSettingBasic:
    """Options that every way of lowering has. Those with no counterpart here are refused, or warned about, when they are set."""

    max_batch_size: int = 2048
    lower_precision: LowerPrecision = LowerPrecision.FP32
    min_acc_module_size: int = 10
    ast_rewriter_allow_list: object = None
    leaf_module_list: object = None
    verbose_profile: bool = False
    is_aten: bool = False  # which tracer: there is one


@dataclass
class LowerSetting(LowerSettingBasic):
    """The options of `Lowerer`. input_specs: InputTensorSpecs that go before the example inputs."""

    input_specs: Sequence[object] = field(default_factory=list)
    explicit_batch_dimension: bool = True
    explicit_precision: bool = False
    max_workspace_size: int = 1 << 30
    strict_type_constraints: bool = False
    customized_fuse_pass: object = None
    lower_basic_fuse_pass: object = None
    verbose_log: bool = False
    algo_selector: object = None
    timing_cache_prefix: str = ""
    save_timing_cache: bool = False
    cuda_graph_batch_size: int = -1
    preset_lowerer: str = ""
    opt_profile_replica: int = 8
    dynamic_batch: bool = True
    tactic_sources: object = None
    correctness_atol: float = 0.1
    correctness_rtol: float = 0.1
    use_experimental_rt: bool = False


def options_of(setting: LowerSetting) -> dict[str, object]:
    """The options of CompilationSettings that mean the same.

    Raises UnsupportedError naming an option that is set and has no counterpart; warns of those whose absence changes no result.
    """
    defaults = {declared.name: declared.default for declared in dataclasses.fields(setting)}
    for name, reason in _REFUSED.items():
        if getattr(setting, name) != defaults[name]:
            raise UnsupportedError(f"{name}={getattr(setting, name)!r:.200} is not possible: {reason}.")
    for name, reason in _WARNED.items():
        if getattr(setting, name) != defaults[name]:
            warnings.warn(f"{name}={getattr(setting, name)!r:.200} is not used: {reason}.", stacklevel=4)
    if setting.lower_precision not in _PRECISIONS:
        raise UnsupportedError(
            f"lower_precision={setting.lower_precision!r} is not possible: give FP32 or FP16. A model in eight bits has quantize and "
            "dequantize operators itself, and is compiled as it is."
        )
    options: dict[str, object] = {
        "min_block_size": setting.min_acc_module_size,
        "enabled_precisions": _PRECISIONS[setting.lower_precision],
        "debug": setting.verbose_log,
    }
    if setting.max_workspace_size not in _WORKSPACES:
        options["workspace_size"] = setting.max_workspace_size
    if setting.save_timing_cache != bool(setting.timing_cache_prefix):
        raise InputError(
            f"timing_cache_prefix={setting.timing_cache_prefix!r} with save_timing_cache={setting.save_timing_cache}: the cache is "
            "one file that is read and written, so give both or none."
        )
    if setting.save_timing_cache:
        options["timing_cache_path"] = f"{setting.timing_cache_prefix}.cache"
    return options
