"""Every compile option, declared once: its default, what it does, and whether it changes what an engine is."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import torch

from torch_tensorrt.spec import coercion
from torch_tensorrt.spec.device import Device
from torch_tensorrt.spec.enums import EngineCapability
from torch_tensorrt.spec.errors import InputError, InternalError

T = TypeVar("T")

MEASURED_LEVEL = 4  # optimization_level from which on the fastest of several ways is found by measuring
_MEASURING = ("optimization_level", "timing_cache_path")
_AUTOCAST = "which dtypes engines compute in is said by enabled_precisions"
_MEMORY = "engines are cut by what they take, not by memory; torch_executed_modules makes them smaller"


def option(
    default: T, doc: str, *, engine: bool, coerce: Callable[[str, object], T] | None = None, honoured: bool = True
) -> T:
    """A settings field.

    `engine`: whether its value changes the built engine. `coerce(name, given)` checks a given value and gives its normal
    form; default: True or False is needed. `honoured`: whether the option holds with every engine; where it doesn't, each
    backend says what it can't do (see `CompilationSettings.unhonoured`).
    """
    return field(
        default=default,
        metadata={"doc": doc, "engine": engine, "coerce": coerce or coercion.flag, "honoured": honoured},
    )


def refused(default: T, doc: str, reason: str) -> T:
    """A documented option that can only be at its default; another value is an InputError that gives the reason."""
    return option(default, f"{doc} The default only: {reason}.", engine=False, coerce=coercion.only(default, reason))


@dataclass(frozen=True)
class CompilationSettings:
    """The options of one compilation. `from_options` also knows the other documented name of an option.

    Raises InputError for a value of the wrong type or out of range.
    """

    engine: str = option(
        "auto", "Engine to build with; 'auto' decides by the device.", engine=True, coerce=coercion.text
    )
    device: Device | None = option(
        None,
        "Device, torch.device or name to compile for; None: where the inputs are.",
        engine=True,
        coerce=coercion.device,
    )
    enabled_precisions: frozenset[torch.dtype] = option(
        frozenset(),
        "Dtypes that engines may compute in (torch or torch_tensorrt dtypes); empty: the model's own.",
        engine=True,
        coerce=coercion.precisions,
        honoured=False,
    )
    truncate_double: bool = option(False, "Compute in float32 where the model has float64.", engine=True)
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
        False, "Fail, listing every reason, unless all operations go into engines.", engine=False
    )
    optimization_level: int | None = option(
        None,
        "Builder effort from 0 to 5; None: the engine's default. From 4 on the fastest way to build is found by measuring.",
        engine=True,
        coerce=coercion.level,
        honoured=False,
    )
    disabled_passes: frozenset[str] = option(
        frozenset(),
        "Names of an engine's own lowering passes to leave out; the engine lists them when a name is unknown.",
        engine=True,
        coerce=coercion.texts,
        honoured=False,
    )
    engine_options: tuple[tuple[str, coercion.Knob], ...] = option(
        (),
        "Options of the engine itself, as a dict; each engine says which it knows.",
        engine=True,
        coerce=coercion.knobs,
        honoured=False,
    )
    num_threads: int | None = option(
        None,
        "Most threads that an engine may use on the CPU; None: its own choice. The same among engine_options takes precedence.",
        engine=True,
        coerce=coercion.positive,
        honoured=False,
    )
    max_tuning_seconds: float = option(
        300.0,
        "From optimization_level 4 on: seconds after which no further candidate is built and measured.",
        engine=False,
        coerce=coercion.seconds,
    )
    pass_through_build_failures: bool = option(
        False, "Raise what the engine's SDK raised itself, not our BuildError around it.", engine=False
    )
    dryrun: bool = option(False, "Print the plan and build nothing.", engine=False)
    debug: bool = option(False, "Log at debug level while compiling.", engine=False)
    immutable_weights: bool = option(
        True, "Engines keep the weights of compile time; False: made to be refitted.", engine=True, honoured=False
    )
    hardware_compatible: bool = option(False, "An engine for more devices than this one.", engine=True, honoured=False)
    enable_cross_compile_for_windows: bool = option(
        False, "Engines for Windows; set by cross_compile_for_windows.", engine=True
    )
    version_compatible: bool = option(False, "An engine for later SDK versions too.", engine=True, honoured=False)

    cache_built_engines: bool = option(False, "Keep built engines in the engine cache.", engine=False)
    reuse_cached_engines: bool = option(
        False, "Take engines from the engine cache where it has the very same one.", engine=False
    )
    engine_cache_dir: str | None = option(
        None,
        "Folder of the engine cache; None: torch_tensorrt_engine_cache in the system's folder for temporary files.",
        engine=False,
        coerce=coercion.optional_path,
    )
    engine_cache_size: int = option(
        5 << 30,
        "Most bytes in that folder; the engines that were not used for longest leave first.",
        engine=False,
        coerce=coercion.at_least(0),
    )
    custom_engine_cache: object = option(
        None,
        "A BaseEngineCache of your own, used instead of the folder.",
        engine=False,
        coerce=coercion.engine_cache,
    )

    # One behaviour here, whatever the value.
    use_python_runtime: bool = option(
        False, "Accepted; there is one runtime, so both values mean the same.", engine=False
    )
    use_fast_partitioner: bool = option(
        True, "Accepted; there is one partitioner, so both values mean the same.", engine=False
    )
    enable_experimental_decompositions: bool = option(
        False, "Accepted; there is one set of decompositions, so both values mean the same.", engine=False
    )
    use_complex_decomposition: bool = option(
        False, "Accepted; complex numbers stay in PyTorch, so both values mean the same.", engine=False
    )
    attn_bias_is_causal: bool = option(
        True, "Accepted; attention adds the mask that it is given, so both values mean the same.", engine=False
    )
    fallback_data_dependent_ops: bool = option(
        False, "Accepted; results whose sizes depend on the data stay in PyTorch with both values.", engine=False
    )
    assume_dynamic_shape_support: bool = option(
        False, "Take your own converters for sizes that vary, also where they don't say so.", engine=False
    )

    # Of interest to TensorRT; other engines say that they can't honour them.
    workspace_size: int = option(
        0,
        "Bytes of scratch memory for the builder; 0: its choice.",
        engine=True,
        coerce=coercion.at_least(0),
        honoured=False,
    )
    disable_tf32: bool = option(False, "Multiply float32 without TF32.", engine=True, honoured=False)
    use_fp32_acc: bool = option(False, "Add up products of float16 in float32.", engine=True, honoured=False)
    sparse_weights: bool = option(False, "Use 2:4 sparsity in weights.", engine=True, honoured=False)
    engine_capability: EngineCapability = option(
        EngineCapability.STANDARD, "Flavour of engine.", engine=True, coerce=coercion.capability, honoured=False
    )
    num_avg_timing_iters: int = option(
        1, "Runs that the builder averages over.", engine=True, coerce=coercion.at_least(1), honoured=False
    )
    max_aux_streams: int | None = option(
        None, "Most extra CUDA streams; None: the builder's choice.", engine=True, coerce=coercion.count, honoured=False
    )
    timing_cache_path: str | None = option(
        None,
        "File that keeps timings between builds; None: the engine's own way, and torch_tensorrt/timing_cache.json in the user's "
        "cache folder for what is measured from optimization_level 4 on.",
        engine=False,
        coerce=coercion.optional_text,
        honoured=False,
    )
    tiling_optimization_level: str = option(
        "none",
        "Effort for tiling: 'none', 'fast', 'moderate' or 'full'.",
        engine=True,
        coerce=coercion.one_of("none", "fast", "moderate", "full"),
        honoured=False,
    )
    l2_limit_for_tiling: int = option(
        -1, "Bytes of L2 cache for tiling; -1: no limit.", engine=True, coerce=coercion.at_least(-1), honoured=False
    )
    strip_engine_weights: bool = option(False, "Engines without weights, to be refitted.", engine=True, honoured=False)
    refit_identical_engine_weights: bool = option(
        False, "Refitting brings back the weights of compile time, and no others.", engine=True, honoured=False
    )
    enable_weight_streaming: bool = option(
        False, "Let weights stay in CPU memory and be streamed to the GPU.", engine=True, honoured=False
    )
    lazy_engine_init: bool = option(False, "Set engines up when all are built.", engine=False, honoured=False)
    offload_module_to_cpu: bool = option(
        False, "Keep the model's weights in CPU memory while building.", engine=False, honoured=False
    )
    dla_sram_size: int = option(
        1 << 20, "DLA: bytes of its own fast memory.", engine=True, coerce=coercion.at_least(0), honoured=False
    )
    dla_local_dram_size: int = option(
        1 << 30,
        "DLA: bytes of host memory for intermediates.",
        engine=True,
        coerce=coercion.at_least(0),
        honoured=False,
    )
    dla_global_dram_size: int = option(
        1 << 29, "DLA: bytes of host memory for weights.", engine=True, coerce=coercion.at_least(0), honoured=False
    )

    # Documented, and not here: said so when one is set to something else.
    decompose_attention: bool = refused(
        False, "Take attention apart into products and softmax.", "each engine decides what it takes whole"
    )
    disabled_constant_fold_exclusions: frozenset[str] = refused(
        frozenset(), "Operators that constant folding is to fold after all.", "it leaves out none to begin with"
    )
    use_distributed_mode_trace: bool = refused(
        False, "Trace models that are spread over GPUs.", "a model is compiled for one device"
    )
    enable_autocast: bool = refused(False, "Lower precision by rules.", _AUTOCAST)
    autocast_low_precision_type: object = refused(None, "The lower precision.", _AUTOCAST)
    autocast_excluded_nodes: frozenset[str] = refused(frozenset(), "Nodes to leave as they are.", _AUTOCAST)
    autocast_excluded_ops: frozenset[str] = refused(frozenset(), "Operators to leave as they are.", _AUTOCAST)
    autocast_max_output_threshold: int = refused(512, "Largest result to lower.", _AUTOCAST)
    autocast_max_depth_of_reduction: int | None = refused(None, "Longest reduction to lower.", _AUTOCAST)
    autocast_calibration_dataloader: object = refused(None, "Data to find ranges with.", _AUTOCAST)
    enable_resource_partitioning: bool = refused(False, "Cut engines by the memory of building them.", _MEMORY)
    cpu_memory_budget: int | None = refused(None, "Bytes that building may take.", _MEMORY)
    dynamically_allocate_resources: bool = refused(
        False,
        "Give engines memory only while they run.",
        "dynamo.runtime.ResourceAllocationStrategy does so, for a block of calls",
    )

    def __post_init__(self) -> None:
        for declared in dataclasses.fields(self):
            checked = declared.metadata["coerce"](declared.name, getattr(self, declared.name))
            object.__setattr__(self, declared.name, checked)

    @classmethod
    def from_options(cls, **options: object) -> CompilationSettings:
        """Settings from documented option names and their aliases.

        Raises InputError for an unknown name (with the closest known one), a value of the wrong type or out of range, or
        an option that is given under two names.
        """
        known = {declared.name: declared for declared in dataclasses.fields(cls)}
        values: dict[str, object] = {}
        for name, given in options.items():
            target = _ALIASES.get(name, name)
            if target not in known:
                raise InputError(_unknown(name, [*known, *_ALIASES]))
            if target in values:
                raise InputError(f"Option {target!r} was given twice; {', '.join(_names_of(target))} mean the same.")
            value = not given if name in _NEGATED and isinstance(given, bool) else given
            values[target] = known[target].metadata["coerce"](name, value)
        return cls(**values)  # type: ignore[arg-type]

    def given(self) -> frozenset[str]:
        """The names of the options whose value is not the default."""
        known = dataclasses.fields(self)
        return frozenset(declared.name for declared in known if getattr(self, declared.name) != declared.default)

    def is_set(self, name: str) -> bool:
        """Whether option `name` has a value that is not the default. Raises InternalError for a name of no option."""
        if name not in {declared.name for declared in dataclasses.fields(self)}:
            raise InternalError(
                f"The package asked for compile option {name!r}, which does not exist; please report it."
            )
        return name in self.given()

    def unhonoured(self, engine: str, honours: Collection[str] = ()) -> tuple[str, ...]:
        """A sentence for each given option that not every engine honours, unless it is among those that `engine` does.

        Above optimization_level 3 that level and timing_cache_path hold for all: ways of building are measured.
        """
        honours = {*honours, *(_MEASURING if (self.optimization_level or 0) >= MEASURED_LEVEL else ())}
        return tuple(
            f"Engine {engine!r} can't honour {declared.name}={_shown(getattr(self, declared.name))}; it is not used."
            for declared in dataclasses.fields(self)
            if declared.name in self.given() - set(honours) and not declared.metadata["honoured"]
        )

    def engine_key(self) -> str:
        """16 hex digits of a SHA-256 over every option that changes the engine: equal keys, equal engines."""
        return hashlib.sha256(json.dumps(self.shaping_options(), sort_keys=True).encode()).hexdigest()[:16]

    def shaping_options(self) -> Mapping[str, str]:
        """Every option that changes the engine, with its value as text."""
        known = [declared for declared in dataclasses.fields(self) if declared.metadata["engine"]]
        return {declared.name: _shown(getattr(self, declared.name)) for declared in known}

    @classmethod
    def explain(cls) -> str:
        """A table of every option: name, default, what it does."""
        known = dataclasses.fields(cls)
        rows = [(declared.name, _shown(declared.default), declared.metadata["doc"]) for declared in known]
        rows += [(name, "", f"Means {'not ' * (name in _NEGATED)}{target}.") for name, target in _ALIASES.items()]
        name_width, default_width = (max(len(row[column]) for row in rows) for column in (0, 1))
        rows.insert(0, ("option", "default", "what it does"))
        return "\n".join(f"{name:{name_width}}  {default:{default_width}}  {doc}" for name, default, doc in rows)


_ALIASES: Mapping[str, str] = {
    "truncate_long_and_double": "truncate_double",
    "make_refittable": "immutable_weights",
    "capability": "engine_capability",
}
_NEGATED = frozenset({"make_refittable"})

# Documented for other doors: a user who gives one must hear where.
_ELSEWHERE: Mapping[str, str] = {
    "refit": "say make_refittable=True; torch_tensorrt.ts.compile knows refit",
    "calibrator": "quantize the model itself: engines take its quantize and dequantize operators",
    "allow_shape_tensors": "an Input says is_shape_tensor=True; torch_tensorrt.ts.compile knows allow_shape_tensors",
    "input_signature": "inputs may be nested as forward takes them; torch_tensorrt.ts.compile knows input_signature",
}


def _names_of(target: str) -> list[str]:
    return [repr(target), *(repr(name) for name, meant in _ALIASES.items() if meant == target)]


def _unknown(name: str, known: list[str]) -> str:
    if name in _ELSEWHERE:
        return f"{name!r} is no option here; {_ELSEWHERE[name]}."
    close = difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else f" The options are: {', '.join(sorted(known))}."
    return f"Unknown compile option {name!r}.{hint} torch_tensorrt.dynamo.CompilationSettings.explain() describes all."


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return "{" + ", ".join(f"{name}: {given}" for name, given in value) + "}"
    if isinstance(value, frozenset):
        return "{" + ", ".join(sorted(str(part) for part in value)) + "}"
    return str(value)
