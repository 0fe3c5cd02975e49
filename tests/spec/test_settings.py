"""Compile options: names, aliases, forms of values, errors, and which of them change an engine."""

from __future__ import annotations

import dataclasses
import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from torch_tensorrt import Device, EngineCapability, InputError, InternalError, dtype
from torch_tensorrt.dynamo import CompilationSettings

make = CompilationSettings.from_options
OPTIONS = {declared.name: declared for declared in dataclasses.fields(CompilationSettings)}

# Every option of the documented compile functions.
DOCUMENTED = re.findall(
    r"\w+",
    """
    assume_dynamic_shape_support attn_bias_is_causal autocast_calibration_dataloader autocast_excluded_nodes
    autocast_excluded_ops autocast_low_precision_type autocast_max_depth_of_reduction
    autocast_max_output_threshold cache_built_engines cpu_memory_budget custom_engine_cache decompose_attention
    device disable_tf32 disabled_constant_fold_exclusions dla_global_dram_size dla_local_dram_size dla_sram_size
    dryrun dynamically_allocate_resources enable_autocast enable_cross_compile_for_windows
    enable_experimental_decompositions enable_resource_partitioning enable_weight_streaming engine_cache_dir
    engine_cache_size engine_capability fallback_data_dependent_ops hardware_compatible immutable_weights
    l2_limit_for_tiling lazy_engine_init max_aux_streams min_block_size num_avg_timing_iters
    offload_module_to_cpu optimization_level pass_through_build_failures refit_identical_engine_weights
    require_full_compilation reuse_cached_engines sparse_weights strip_engine_weights tiling_optimization_level
    timing_cache_path torch_executed_modules torch_executed_ops truncate_double use_complex_decomposition
    use_distributed_mode_trace use_fast_partitioner use_fp32_acc use_python_runtime version_compatible
    workspace_size allow_shape_tensors calibrator capability debug enabled_precisions input_signature
    make_refittable refit truncate_long_and_double
    """,
)


@pytest.mark.parametrize("name", DOCUMENTED)
def test_a_documented_option_is_known_or_said_to_be_missing(name: str) -> None:
    """None of them gets the answer that a misspelt one gets."""
    with pytest.raises(InputError) as caught:
        make(**{name: object()})
    assert name in str(caught.value)
    assert "Unknown compile option" not in str(caught.value)
    if name not in {*OPTIONS, "make_refittable", "truncate_long_and_double", "capability"}:
        assert "is no option here; " in str(caught.value)


def test_the_defaults_are_the_documented_ones() -> None:
    settings = make()
    assert settings == CompilationSettings()
    assert settings.given() == frozenset()
    expected: dict[str, object] = {
        "engine": "auto",
        "device": None,
        "enabled_precisions": frozenset(),
        "min_block_size": 5,
        "optimization_level": None,
        "immutable_weights": True,
        "workspace_size": 0,
        "num_avg_timing_iters": 1,
        "max_aux_streams": None,
        "engine_capability": EngineCapability.STANDARD,
        "use_fast_partitioner": True,
        "dla_sram_size": 1048576,
        "dla_local_dram_size": 1073741824,
        "dla_global_dram_size": 536870912,
        "tiling_optimization_level": "none",
        "l2_limit_for_tiling": -1,
        "timing_cache_path": None,
        "engine_cache_dir": None,
        "engine_cache_size": 5368709120,
        "custom_engine_cache": None,
        "torch_executed_ops": frozenset(),
        "torch_executed_modules": frozenset(),
        "attn_bias_is_causal": True,
        "disabled_constant_fold_exclusions": frozenset(),
        "autocast_low_precision_type": None,
        "autocast_excluded_nodes": frozenset(),
        "autocast_excluded_ops": frozenset(),
        "autocast_max_output_threshold": 512,
        "autocast_max_depth_of_reduction": None,
        "autocast_calibration_dataloader": None,
        "cpu_memory_budget": None,
        "disabled_passes": frozenset(),
        "engine_options": (),
        "max_tuning_seconds": 300.0,
        "num_threads": None,
    }
    assert {name: getattr(settings, name) for name in expected} == expected
    flags = OPTIONS.keys() - expected.keys()
    assert {name: getattr(settings, name) for name in flags} == dict.fromkeys(flags, False)


FORMS: dict[str, tuple[dict[str, Any], str, object]] = {
    "one precision": ({"enabled_precisions": torch.half}, "enabled_precisions", {torch.float16}),
    "a set of precisions": ({"enabled_precisions": {torch.half}}, "enabled_precisions", {torch.float16}),
    "our dtypes": ({"enabled_precisions": [dtype.f16, dtype.bf16]}, "enabled_precisions", {torch.half, torch.bfloat16}),
    "names of dtypes": ({"enabled_precisions": ("fp16", "int8")}, "enabled_precisions", {torch.half, torch.int8}),
    "one name": ({"enabled_precisions": "bf16"}, "enabled_precisions", {torch.bfloat16}),
    "numpy dtype": ({"enabled_precisions": np.float16}, "enabled_precisions", {torch.half}),
    "the same one twice": ({"enabled_precisions": {torch.half, "f16"}}, "enabled_precisions", {torch.half}),
    "eight bits": ({"enabled_precisions": {dtype.f8}}, "enabled_precisions", {torch.float8_e4m3fn}),
    "no precision": ({"enabled_precisions": None}, "enabled_precisions", set()),
    "a device": ({"device": Device("cuda:1")}, "device", Device("cuda:1")),
    "a torch device": ({"device": torch.device("cuda:1")}, "device", Device("cuda:1")),
    "a device's name": ({"device": "cuda:1"}, "device", Device("cuda:1")),
    "no device": ({"device": None}, "device", None),
    "an overload": ({"torch_executed_ops": {torch.ops.aten.add.Tensor}}, "torch_executed_ops", {"aten.add.Tensor"}),
    "all overloads": ({"torch_executed_ops": [torch.ops.aten.add]}, "torch_executed_ops", {"aten.add"}),
    "documented name": (
        {"torch_executed_ops": {"torch.ops.aten.convolution.default"}}, "torch_executed_ops", {"aten.convolution.default"}
    ),
    "short name": ({"torch_executed_ops": ("aten.relu.default",)}, "torch_executed_ops", {"aten.relu.default"}),
    "schema name": ({"torch_executed_ops": {"aten::convolution"}}, "torch_executed_ops", {"aten.convolution"}),
    "schema name with overload": ({"torch_executed_ops": {"aten::add.Tensor"}}, "torch_executed_ops", {"aten.add.Tensor"}),
    "no operator": ({"torch_executed_ops": None}, "torch_executed_ops", set()),
    "a class": ({"torch_executed_modules": {nn.Linear}}, "torch_executed_modules", {"torch.nn.modules.linear.Linear"}),
    "names of modules": ({"torch_executed_modules": ["a.b", "Linear"]}, "torch_executed_modules", {"a.b", "Linear"}),
    "no module": ({"torch_executed_modules": None}, "torch_executed_modules", set()),
    "a capability's name": ({"engine_capability": "safety"}, "engine_capability", EngineCapability.SAFETY),
    "a level": ({"optimization_level": 0}, "optimization_level", 0),
    "no level": ({"optimization_level": None}, "optimization_level", None),
    "other name for truncate_double": ({"truncate_long_and_double": True}, "truncate_double", True),
    "refittable": ({"make_refittable": True}, "immutable_weights", False),
    "not refittable": ({"make_refittable": False}, "immutable_weights", True),
    "other name for engine_capability": (
        {"capability": EngineCapability.SAFETY}, "engine_capability", EngineCapability.SAFETY
    ),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_value_has_one_normal_form(form: str) -> None:
    options, name, expected = FORMS[form]
    settings = make(**options)
    assert getattr(settings, name) == expected
    assert dataclasses.replace(settings) == settings, "a normal form is its own normal form"


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "misspelt": ({"min_blok_size": 1}, r"min_blok_size.*Did you mean 'min_block_size'\?.*explain\(\)"),
    "misspelt alias": ({"make_refitable": True}, r"Did you mean 'make_refittable'"),
    "nothing like it": ({"zzz": 1}, r"'zzz'.*options are: .*min_block_size.*workspace_size"),
    "several devices": ({"use_distributed_mode_trace": True}, r"use_distributed_mode_trace=True.*one device"),
    "autocast": ({"enable_autocast": True}, r"enable_autocast=True.*enabled_precisions"),
    "autocast's threshold": ({"autocast_max_output_threshold": 513}, r"autocast_max_output_threshold=513"),
    "a refused flag as a number": ({"enable_autocast": 0}, r"enable_autocast=0 is not possible"),
    "another door's option": ({"calibrator": None}, r"'calibrator' is no option here; quantize"),
    "cache that can't save": ({"custom_engine_cache": {}}, r"custom_engine_cache=\{\}.*save\(hash, blob\)"),
    "cache folder by number": ({"engine_cache_dir": 3}, r"engine_cache_dir=3"),
    "negative cache": ({"engine_cache_size": -1}, r"engine_cache_size=-1.*at least 0"),
    "two names at once": ({"truncate_double": True, "truncate_long_and_double": True}, r"'truncate_double' was given twice"),
    "engine by number": ({"engine": 3}, r"engine=3"),
    "empty engine": ({"engine": ""}, r"engine=''"),
    "block of nothing": ({"min_block_size": 0}, r"min_block_size=0.*at least 1"),
    "block by name": ({"min_block_size": "5"}, r"min_block_size='5'"),
    "block of True": ({"min_block_size": True}, r"min_block_size=True"),
    "level too high": ({"optimization_level": 6}, r"optimization_level=6.*0 to 5"),
    "level below 0": ({"optimization_level": -1}, r"optimization_level=-1"),
    "half a level": ({"optimization_level": 1.5}, r"optimization_level=1\.5"),
    "flag as a number": ({"dryrun": 1}, r"dryrun=1: True or False"),
    "flag as None": ({"debug": None}, r"debug=None: True or False"),
    "negated flag as a number": ({"make_refittable": 2}, r"make_refittable=2: True or False"),
    "negative workspace": ({"workspace_size": -1}, r"workspace_size=-1"),
    "no timing runs": ({"num_avg_timing_iters": 0}, r"num_avg_timing_iters=0.*at least 1"),
    "negative streams": ({"max_aux_streams": -1}, r"max_aux_streams=-1"),
    "unknown tiling": ({"tiling_optimization_level": "max"}, r"'max'.*'moderate'"),
    "tiling as a list": ({"tiling_optimization_level": ["fast"]}, r"\['fast'\].*'moderate'"),
    "path as a number": ({"timing_cache_path": 1}, r"timing_cache_path=1"),
    "unknown capability": ({"engine_capability": "fast"}, r"'fast'.*DLA_STANDALONE"),
    "unknown device": ({"device": "tpu"}, r"device='tpu'.*sm_89"),
    "device by number": ({"device": 0}, r"device=0"),
    "unknown precision": ({"enabled_precisions": {"f99"}}, r"enabled_precisions holds 'f99'"),
    "integers as precision": ({"enabled_precisions": {torch.int32}}, r"holds torch\.int32"),
    "bool as precision": ({"enabled_precisions": {torch.bool}}, r"holds torch\.bool"),
    "complex precision": ({"enabled_precisions": {torch.complex64}}, r"holds torch\.complex64"),
    "no dtype among precisions": ({"enabled_precisions": [None]}, r"holds None"),
    "unknown dtype": ({"enabled_precisions": dtype.unknown}, r"holds .*unknown"),
    "misspelt operator": ({"torch_executed_ops": {"aten.convolutoin.default"}}, r"mean 'torch\.ops\.aten\.convolution\.default'"),
    "misspelt overload": ({"torch_executed_ops": {"aten::add.Tensr"}}, r"aten::add\.Tensr.*mean 'torch\.ops\.aten\.add\.Tensor'"),
    "unknown operator": ({"torch_executed_ops": {"mine.nothing.default"}}, r"mine\.nothing\.default.*no operator"),
    "namespace": ({"torch_executed_ops": {"aten"}}, r"'aten', which names no operator"),
    "method of an operator": ({"torch_executed_ops": {"aten.relu.overloads"}}, r"relu\.overloads.*no operator"),
    "empty operator": ({"torch_executed_ops": {""}}, r"no operator"),
    "Python function": ({"torch_executed_ops": {torch.relu}}, r"torch\.ops\.aten\.relu\.default"),
    "operator without a set": ({"torch_executed_ops": "aten.relu"}, r"torch_executed_ops='aten\.relu': a set or list"),
    "module instance": ({"torch_executed_modules": [nn.ReLU()]}, r"instance of ReLU"),
    "class of something else": ({"torch_executed_modules": [dict]}, r"dict"),
    "empty module": ({"torch_executed_modules": [""]}, r"holds ''"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_bad_option_is_one_input_error(name: str) -> None:
    options, words = BAD[name]
    with pytest.raises(InputError, match=words):
        make(**options)


def test_the_constructor_checks_like_from_options() -> None:
    assert CompilationSettings(min_block_size=2) == make(min_block_size=2)
    assert CompilationSettings(enabled_precisions={"fp16"}).enabled_precisions == {torch.float16}  # type: ignore[arg-type]
    with pytest.raises(InputError, match="min_block_size=0"):
        CompilationSettings(min_block_size=0)


def test_settings_are_values() -> None:
    settings = make(torch_executed_ops={"aten.relu"}, device="cpu")
    assert len({settings, make(device=torch.device("cpu"), torch_executed_ops=[torch.ops.aten.relu])}) == 1
    with pytest.raises(AttributeError):
        settings.min_block_size = 1  # type: ignore[misc]


def test_given_tells_what_differs_from_the_defaults() -> None:
    settings = make(min_block_size=5, make_refittable=True, workspace_size=7, disable_tf32=False)
    assert settings.given() == {"immutable_weights", "workspace_size"}
    assert settings.is_set("workspace_size")
    assert not settings.is_set("min_block_size")
    with pytest.raises(InternalError, match="min_blok_size"):
        settings.is_set("min_blok_size")


def test_options_that_an_engine_cannot_honour_are_one_sentence_each() -> None:
    settings = make(workspace_size=7, optimization_level=3, min_block_size=1, use_python_runtime=True)
    told = settings.unhonoured("openvino")
    assert [("workspace_size=7" in line, "optimization_level=3" in line) for line in told] == [
        (False, True),
        (True, False),
    ]
    assert all("openvino" in line for line in told)
    assert settings.unhonoured("tensorrt", honours=("workspace_size", "optimization_level")) == ()
    assert make().unhonoured("openvino") == ()


# Options that can only be at their defaults, each with the reason in its error.
REFUSED = {
    *("decompose_attention", "disabled_constant_fold_exclusions", "use_distributed_mode_trace", "enable_autocast"),
    *(
        "autocast_low_precision_type",
        "autocast_excluded_nodes",
        "autocast_excluded_ops",
        "autocast_calibration_dataloader",
    ),
    *("autocast_max_output_threshold", "autocast_max_depth_of_reduction", "enable_resource_partitioning"),
    *("cpu_memory_budget", "dynamically_allocate_resources"),
}


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_an_option_that_is_not_here_is_taken_at_its_default_and_refused_otherwise(name: str) -> None:
    default = OPTIONS[name].default
    assert make(**{name: set() if default == frozenset() else default}) == make()
    with pytest.raises(InputError, match=f"{name}=.* is not possible in this version: .+"):
        make(**{name: {"x"} if default == frozenset() else 7 if default is None else not default})


OTHER_VALUES: dict[str, Any] = {
    "disabled_passes": {"a_pass"},
    "engine_options": {"num_threads": 1},
    "max_tuning_seconds": 10.0,
    "num_threads": 2,
    "engine": "eager",
    "device": "cpu",
    "enabled_precisions": torch.half,
    "torch_executed_ops": {"aten.relu"},
    "torch_executed_modules": {"a"},
    "min_block_size": 1,
    "optimization_level": 0,
    "engine_capability": "safety",
    "workspace_size": 7,
    "num_avg_timing_iters": 2,
    "max_aux_streams": 0,
    "timing_cache_path": "timings",
    "tiling_optimization_level": "fast",
    "l2_limit_for_tiling": 0,
    "dla_sram_size": 7,
    "dla_local_dram_size": 7,
    "dla_global_dram_size": 7,
    "engine_cache_dir": "cache",
    "engine_cache_size": 7,
    "custom_engine_cache": SimpleNamespace(save=print, load=print),
}


@pytest.mark.parametrize("name", sorted(OPTIONS.keys() - REFUSED))
def test_the_engine_key_changes_with_exactly_the_options_that_change_the_engine(name: str) -> None:
    other = OTHER_VALUES.get(name, OPTIONS[name].default is False)
    settings = make(**{name: other})
    assert settings.given() == {name}
    assert (settings.engine_key() != make().engine_key()) == OPTIONS[name].metadata["engine"]


def test_only_what_steers_the_pipeline_leaves_the_engine_as_it_is() -> None:
    assert {name for name, declared in OPTIONS.items() if not declared.metadata["engine"]} == {
        *(
            "torch_executed_ops",
            "torch_executed_modules",
            "min_block_size",
            "require_full_compilation",
            "dryrun",
            "debug",
        ),
        *("pass_through_build_failures", "use_python_runtime", "use_fast_partitioner", "assume_dynamic_shape_support"),
        *("enable_experimental_decompositions", "timing_cache_path", "lazy_engine_init", "offload_module_to_cpu"),
        "max_tuning_seconds",
        *(
            "cache_built_engines",
            "reuse_cached_engines",
            "engine_cache_dir",
            "engine_cache_size",
            "custom_engine_cache",
        ),
        *("use_complex_decomposition", "attn_bias_is_causal", "fallback_data_dependent_ops", *REFUSED),
    }


def test_the_engine_key_is_short_and_the_order_of_precisions_does_not_matter() -> None:
    key = make(enabled_precisions=[torch.half, torch.float32]).engine_key()
    assert len(key) == 16
    assert set(key) <= set("0123456789abcdef")
    assert key == make(enabled_precisions=["f32", "f16"]).engine_key()
    assert key != make(enabled_precisions=[torch.half]).engine_key()
    assert (
        make(dla_sram_size=1, dla_local_dram_size=2).engine_key()
        != make(dla_sram_size=2, dla_local_dram_size=1).engine_key()
    )


def test_explain_has_a_line_for_every_option_and_alias() -> None:
    lines = CompilationSettings.explain().splitlines()[1:]
    assert [line.split()[0] for line in lines] == [
        *OPTIONS,
        "truncate_long_and_double",
        "make_refittable",
        "capability",
    ]
    assert all(len(line.split()) > 3 for line in lines[: len(OPTIONS)]), "name, default and a sentence"
    assert any(line.startswith("min_block_size") and " 5 " in line for line in lines)
    assert "not immutable_weights" in CompilationSettings.explain()
