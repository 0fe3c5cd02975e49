"""Compile options as the SDK's builder configuration. What it can't honour is an error with its own words, never ignored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from torch_tensorrt.engines.tensorrt.files import write_whole
from torch_tensorrt.engines.tensorrt.sdk import Native, Sdk, listen
from torch_tensorrt.observe.log import logger
from torch_tensorrt.spec.enums import EngineCapability
from torch_tensorrt.spec.errors import InputError, UnsupportedError
from torch_tensorrt.spec.settings import CompilationSettings

HONOURED = frozenset(
    {
        *("enabled_precisions", "use_fp32_acc"),
        *(
            "optimization_level",
            "workspace_size",
            "num_avg_timing_iters",
            "max_aux_streams",
            "sparse_weights",
            "disable_tf32",
        ),
        *("tiling_optimization_level", "l2_limit_for_tiling", "engine_capability", "hardware_compatible"),
        *("version_compatible", "strip_engine_weights", "enable_weight_streaming", "immutable_weights"),
        "refit_identical_engine_weights",
        "lazy_engine_init",  # every engine is set up when it first runs
        *("dla_sram_size", "dla_local_dram_size", "dla_global_dram_size", "timing_cache_path"),
    }
)
_POOLS: Mapping[str, str] = {
    "workspace_size": "WORKSPACE",
    "dla_sram_size": "DLA_MANAGED_SRAM",
    "dla_local_dram_size": "DLA_LOCAL_DRAM",
    "dla_global_dram_size": "DLA_GLOBAL_DRAM",
}
# The SDK's names of what options are called otherwise.
_OPTIONS: Mapping[str, str] = {
    "builder_optimization_level": "optimization_level",
    "avg_timing_iterations": "num_avg_timing_iters",
    "hardware_compatibility_level": "hardware_compatible",
    "profiling_verbosity": "debug",
    "DLA_core": "device",
}
_FLAGS: Mapping[str, str] = {
    "sparse_weights": "SPARSE_WEIGHTS",
    "version_compatible": "VERSION_COMPATIBLE",
    "strip_engine_weights": "STRIP_PLAN",
    "enable_weight_streaming": "WEIGHT_STREAMING",
}


@dataclass(frozen=True)
class Configuration:
    """The SDK's config, and where its timing cache goes after the build."""

    sdk: Sdk
    config: Native
    timing_cache: Path | None

    def save_timing_cache(self) -> None:
        """Writes the timings of this build, whole or not at all."""
        if self.timing_cache is None:
            return
        write_whole(self.timing_cache, bytes(self.config.get_timing_cache().serialize()))


def configure(sdk: Sdk, builder: Native, settings: CompilationSettings) -> Configuration:
    """A builder configuration. Raises UnsupportedError for an option that this SDK refuses, with its words.

    InputError for options that contradict each other.
    """
    _check_weights(settings)
    config: Native = builder.create_builder_config()
    _set(sdk, config, "builder_optimization_level", settings.optimization_level)
    _set(sdk, config, "max_aux_streams", settings.max_aux_streams)
    if settings.is_set("num_avg_timing_iters"):
        _set(sdk, config, "avg_timing_iterations", settings.num_avg_timing_iters)
    if settings.tiling_optimization_level != "none":
        level = sdk.member("TilingOptimizationLevel", settings.tiling_optimization_level.upper())
        _set(sdk, config, "tiling_optimization_level", level)
    if settings.l2_limit_for_tiling >= 0:
        _set(sdk, config, "l2_limit_for_tiling", settings.l2_limit_for_tiling)
    if settings.engine_capability is not EngineCapability.STANDARD:
        _set(sdk, config, "engine_capability", sdk.member("EngineCapability", settings.engine_capability.name))
    if settings.hardware_compatible:
        _set(sdk, config, "hardware_compatibility_level", sdk.member("HardwareCompatibilityLevel", "AMPERE_PLUS"))
    if settings.debug:
        _set(sdk, config, "profiling_verbosity", sdk.member("ProfilingVerbosity", verbosity(settings)))
    _set_flags(sdk, config, settings)
    _set_pools(sdk, config, settings)
    _set_target(sdk, config, settings)
    return Configuration(sdk, config, _load_timing_cache(sdk, config, settings))


def target(sdk: Sdk, settings: CompilationSettings) -> str:
    """What engines are built for, in a word: "sm_89", "sm_86,sm_89", or the builder's default."""
    capabilities = settings.device.compute_capabilities if settings.device is not None else ()
    if capabilities:
        return ",".join(f"sm_{major}{minor}" for major, minor in capabilities)
    if sdk.names_targets:
        return "sm_80,sm_86,sm_89,sm_120 and later"
    if not torch.cuda.is_available():
        return "the GPU of the build"
    major, minor = torch.cuda.get_device_capability()
    return f"sm_{major}{minor}"


def verbosity(settings: CompilationSettings) -> str:
    """How much engines can tell of their layers: with debug=True everything."""
    return "DETAILED" if settings.debug else "LAYER_NAMES_ONLY"


def _check_weights(settings: CompilationSettings) -> None:
    if settings.strip_engine_weights and settings.immutable_weights:
        raise InputError(
            "strip_engine_weights=True leaves engines without weights, which only refitting brings back; add "
            "immutable_weights=False, which makes them refittable, or leave strip_engine_weights out."
        )


def _set(sdk: Sdk, config: Native, name: str, value: object) -> None:
    """Sets one attribute. Refused means: the SDK logs an error or a warning, and the value is not what was set."""
    if value is None:
        return
    with listen() as words:
        setattr(config, name, value)
        if words.errors or getattr(config, name) != value:
            option = f"{_OPTIONS[name]} (its {name}={value})" if name in _OPTIONS else f"{name}={value}"
            raise UnsupportedError(f"{sdk.title} {sdk.version} can't honour {option}: {words} Leave the option out.")


def _set_flags(sdk: Sdk, config: Native, settings: CompilationSettings) -> None:
    wanted = [flag for option, flag in _FLAGS.items() if getattr(settings, option)]
    if not settings.immutable_weights:
        # Not REFIT or REFIT_IDENTICAL: they make a weight of every constant that a converter adds, and STRIP_PLAN takes all.
        wanted.append("REFIT_INDIVIDUAL")
    for name in wanted:
        flag = sdk.member("BuilderFlag", name)
        with listen() as words:
            config.set_flag(flag)
            if words.errors or not config.get_flag(flag):
                raise UnsupportedError(f"{sdk.title} {sdk.version} can't build with {name}: {words}.")
    if settings.disable_tf32:
        config.clear_flag(sdk.member("BuilderFlag", "TF32"))


def _set_pools(sdk: Sdk, config: Native, settings: CompilationSettings) -> None:
    for option, pool in _POOLS.items():
        if settings.is_set(option):
            kind, limit = sdk.member("MemoryPoolType", pool), getattr(settings, option)
            with listen() as words:
                config.set_memory_pool_limit(kind, limit)
                if words.errors or config.get_memory_pool_limit(kind) != limit:
                    raise UnsupportedError(f"{sdk.title} {sdk.version} can't honour {option}={limit}: {words}.")


def _set_target(sdk: Sdk, config: Native, settings: CompilationSettings) -> None:
    device = settings.device
    if device is None:
        return
    if device.dla_core >= 0:
        if not sdk.has_dla:
            raise UnsupportedError(f"{sdk.title} does not build for a DLA (device={device}); leave dla_core out.")
        config.default_device_type = sdk.member("DeviceType", "DLA")
        _set(sdk, config, "DLA_core", device.dla_core)
        if device.allow_gpu_fallback:
            config.set_flag(sdk.member("BuilderFlag", "GPU_FALLBACK"))
    capabilities = device.compute_capabilities
    if capabilities and not sdk.names_targets:
        raise UnsupportedError(
            f"{sdk.title} builds for the GPU that is present, not for {target(sdk, settings)} by name; "
            "engine='tensorrt_rtx' does."
        )
    if capabilities:
        config.num_compute_capabilities = len(capabilities)
    for place, (major, minor) in enumerate(capabilities):
        config.set_compute_capability(sdk.member("ComputeCapability", f"SM{major}{minor}"), place)


def _load_timing_cache(sdk: Sdk, config: Native, settings: CompilationSettings) -> Path | None:
    if settings.timing_cache_path is None or not sdk.measures_timings:  # its cache does nothing; `unhonoured` says so
        return None
    path = Path(settings.timing_cache_path)
    data = path.read_bytes() if path.exists() else b""
    cache = config.create_timing_cache(data) or config.create_timing_cache(b"")
    if not config.set_timing_cache(cache, False):
        logger(__name__).warning("The timing cache %s was made with another SDK or GPU; it is started anew.", path)
        config.set_timing_cache(config.create_timing_cache(b""), False)
    return path
