"""Every compile option, declared once: its default, what it does, and whether it changes what an engine is."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import torch

from torch_tensorrt.spec import coercion
from torch_tensorrt.spec.device import Device
from torch_tensorrt.spec.enums import EngineCapability
from torch_tensorrt.spec.errors import InputError

T = TypeVar("T")


def option(default: T, doc: str, *, engine: bool, coerce: Callable[[str, object], T]) -> T:
    """A settings field. `engine`: whether its value changes the built engine; `coerce(name, given)` checks a given value."""
    return field(default=default, metadata={"doc": doc, "engine": engine, "coerce": coerce})  # type: ignore[no-any-return]


@dataclass(frozen=True)
class CompilationSettings:
    """The options of one compilation. Make it with `from_options`, which checks them."""

    engine: str = option(
        "auto", "Engine to build with; 'auto' decides by the device.", engine=True, coerce=coercion.text
    )
    device: Device | None = option(
        None, "Device to compile for; None: where the inputs are.", engine=True, coerce=coercion.device
    )
    enabled_precisions: frozenset[torch.dtype] = option(
        frozenset(),
        "Dtypes that engines may compute in (torch or torch_tensorrt dtypes); empty: the model's own.",
        engine=True,
        coerce=coercion.precisions,
    )
    truncate_double: bool = option(
        False, "Compute in float32 where the model has float64.", engine=True, coerce=coercion.flag
    )
    torch_executed_ops: frozenset[str] = option(
        frozenset(), "Operators that stay in PyTorch: op objects or names.", engine=False, coerce=coercion.operators
    )
    torch_executed_modules: frozenset[str] = option(
        frozenset(),
        "Modules that stay in PyTorch: classes, class names or paths.",
        engine=False,
        coerce=coercion.modules,
    )
    min_block_size: int = option(
        5, "Fewest operations that are worth an engine.", engine=False, coerce=coercion.at_least(1)
    )
    require_full_compilation: bool = option(
        False, "Fail, listing every reason, unless all operations go into engines.", engine=False, coerce=coercion.flag
    )
    optimization_level: int | None = option(
        None, "Builder effort from 0 to 5; None: the engine's default.", engine=True, coerce=coercion.level
    )
    pass_through_build_failures: bool = option(
        False,
        "Raise what the engine's SDK raised itself, not our BuildError around it.",
        engine=False,
        coerce=coercion.flag,
    )
    dryrun: bool = option(False, "Print the plan and build nothing.", engine=False, coerce=coercion.flag)
    immutable_weights: bool = option(
        True,
        "Engines keep the weights of compile time. False (refit) is not built yet.",
        engine=True,
        coerce=coercion.flag,
    )
    hardware_compatible: bool = option(
        False, "An engine for more devices than this one, where the SDK can.", engine=True, coerce=coercion.flag
    )
    version_compatible: bool = option(
        False, "An engine for later SDK versions too, where the SDK can.", engine=True, coerce=coercion.flag
    )
    use_python_runtime: bool = option(
        False, "Accepted: there is one runtime, so both values mean the same.", engine=False, coerce=coercion.flag
    )
    debug: bool = option(False, "Log at debug level while compiling.", engine=False, coerce=coercion.flag)
    disable_tf32: bool = option(
        False, "Keep float32 products in full precision (NVIDIA).", engine=True, coerce=coercion.flag
    )
    workspace_size: int = option(
        0, "Bytes of scratch memory for the builder; 0: its own choice.", engine=True, coerce=coercion.at_least(0)
    )
    num_avg_timing_iters: int = option(
        1, "Runs that a builder averages over.", engine=True, coerce=coercion.at_least(1)
    )
    max_aux_streams: int | None = option(
        None, "Extra CUDA streams in an engine.", engine=True, coerce=coercion.optional_count
    )
    sparse_weights: bool = option(False, "Use 2:4 sparsity in weights (NVIDIA).", engine=True, coerce=coercion.flag)
    engine_capability: EngineCapability = option(
        EngineCapability.STANDARD, "TensorRT's flavour of engine.", engine=True, coerce=coercion.capability
    )
    given: frozenset[str] = field(default=frozenset(), compare=False)  # options that the caller set

    @classmethod
    def from_options(cls, **options: object) -> CompilationSettings:
        """Settings from documented option names and their aliases.

        Raises InputError for an unknown name (with the closest known one) or a value of the wrong type or range.
        """
        known = {declared.name: declared for declared in dataclasses.fields(cls) if "coerce" in declared.metadata}
        values: dict[str, object] = {}
        for name, given in options.items():
            target, value = _resolve_alias(name, given)
            if target not in known:
                raise InputError(_unknown(name, [*known, *_ALIASES]))
            if target in values:
                raise InputError(f"Option {target!r} was given twice ({name!r} means the same).")
            values[target] = known[target].metadata["coerce"](name, value)
        return cls(**values, given=frozenset(values))  # type: ignore[arg-type]

    def is_set(self, name: str) -> bool:
        """Whether the caller gave `name`, with a value that is not the default."""
        declared = {known.name: known.default for known in dataclasses.fields(self)}
        return name in self.given and getattr(self, name) != declared[name]

    def engine_key(self) -> str:
        """16 hex digits of a SHA-256 over every option that changes the engine: equal keys, equal engines."""
        parts = [
            f"{declared.name}={_canonical(getattr(self, declared.name))}"
            for declared in dataclasses.fields(self)
            if declared.metadata.get("engine")
        ]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def option_table() -> list[tuple[str, str, str]]:
    """(name, default, what it does) of every option, in the order of declaration."""
    return [
        (declared.name, _canonical(declared.default), str(declared.metadata["doc"]))
        for declared in dataclasses.fields(CompilationSettings)
        if "doc" in declared.metadata
    ]


def _negated(value: object) -> object:
    return not value if isinstance(value, bool) else value


_ALIASES: Mapping[str, tuple[str, Callable[[object], object]]] = {
    "truncate_long_and_double": ("truncate_double", lambda value: value),
    "make_refittable": ("immutable_weights", _negated),
    "capability": ("engine_capability", lambda value: value),
}

# Documented elsewhere for this API, and not built here yet: a user who gives one must hear so.
_NOT_YET = frozenset(
    {
        *(
            "assume_dynamic_shape_support",
            "dla_sram_size",
            "dla_local_dram_size",
            "dla_global_dram_size",
            "timing_cache_path",
        ),
        *(
            "use_complex_decomposition",
            "use_fast_partitioner",
            "enable_experimental_decompositions",
            "lazy_engine_init",
        ),
        *(
            "cache_built_engines",
            "reuse_cached_engines",
            "engine_cache_dir",
            "engine_cache_size",
            "custom_engine_cache",
        ),
        *("use_fp32_acc", "refit_identical_engine_weights", "strip_engine_weights", "enable_weight_streaming"),
        *(
            "enable_cross_compile_for_windows",
            "tiling_optimization_level",
            "l2_limit_for_tiling",
            "offload_module_to_cpu",
        ),
        *("use_distributed_mode_trace", "enable_autocast", "autocast_low_precision_type", "autocast_excluded_nodes"),
        *("autocast_excluded_ops", "autocast_max_output_threshold", "autocast_max_depth_of_reduction"),
        *(
            "autocast_calibration_dataloader",
            "enable_resource_partitioning",
            "cpu_memory_budget",
            "refit",
            "calibrator",
        ),
        *("dynamically_allocate_resources", "decompose_attention", "disabled_constant_fold_exclusions"),
        *("attn_bias_is_causal", "fallback_data_dependent_ops", "allow_shape_tensors", "input_signature"),
    }
)


def _resolve_alias(name: str, value: object) -> tuple[str, object]:
    if name in _ALIASES:
        target, convert = _ALIASES[name]
        return target, convert(value)
    return name, value


def _unknown(name: str, known: list[str]) -> str:
    if name in _NOT_YET:
        return f"{name!r} is a documented option that this version does not implement; leave it out."
    close = difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else f" The options are: {', '.join(sorted(known))}."
    return f"Unknown compile option {name!r}.{hint}"


def _canonical(value: object) -> str:
    if isinstance(value, frozenset):
        return "{" + ", ".join(sorted(str(part) for part in value)) + "}"
    return str(value)
