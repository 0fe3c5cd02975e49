"""The FX door: specs of inputs, documented options each translated, warned about or refused, one pipeline."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from torch_tensorrt import Input, InputError, UnsupportedError
from torch_tensorrt.fx import (
    InputTensorSpec,
    Lowerer,
    LowerPrecision,
    LowerSetting,
    LowerSettingBasic,
    compile,
    generate_input_specs,
)
from torch_tensorrt.fx.lower_setting import _REFUSED, _WARNED, options_of

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
EAGER = {"engine": "eager", "min_acc_module_size": 1}


def model() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)).eval()


@pytest.mark.filterwarnings("default")
def test_compile_warns_that_the_door_is_deprecated_and_gives_the_models_results() -> None:
    network, x = model(), torch.randn(3, 4)
    with pytest.warns(DeprecationWarning, match=r"fx\.compile .*deprecated; use torch_tensorrt\.compile"):
        compiled = compile(network, [x], lower_precision=LowerPrecision.FP32, **EAGER)
    torch.testing.assert_close(compiled(x), network(x))


def test_the_batch_size_varies_up_to_max_batch_size() -> None:
    network = model()
    compiled = compile(network, [torch.randn(3, 4)], max_batch_size=6, lower_precision=LowerPrecision.FP32, **EAGER)
    for batch in (1, 2, 6):
        x = torch.randn(batch, 4)
        torch.testing.assert_close(compiled(x), network(x))
    with pytest.raises(InputError, match="7"):
        compiled(torch.randn(7, 4))


def test_an_explicit_batch_dimension_that_does_not_vary_is_fixed() -> None:
    fixed = {"explicit_batch_dimension": True, "dynamic_batch": False}
    compiled = compile(model(), [torch.randn(3, 4)], lower_precision=LowerPrecision.FP32, **fixed, **EAGER)
    compiled(torch.randn(3, 4))
    with pytest.raises(InputError, match="2"):
        compiled(torch.randn(2, 4))


def test_the_lower_precision_of_the_documented_default_is_float16() -> None:
    compiled = compile(model(), [torch.randn(3, 4)], **EAGER)
    assert compiled.settings.enabled_precisions == {torch.float16, torch.float32}
    assert compiled(torch.randn(3, 4)).dtype is torch.float32


def test_options_become_those_of_compilation_settings() -> None:
    setting = LowerSetting(
        min_acc_module_size=3,
        verbose_log=True,
        max_workspace_size=1 << 20,
        lower_precision=LowerPrecision.FP16,
        timing_cache_prefix="timings",
        save_timing_cache=True,
    )
    assert options_of(setting) == {
        "min_block_size": 3,
        "debug": True,
        "workspace_size": 1 << 20,
        "enabled_precisions": {torch.float16, torch.float32},
        "timing_cache_path": "timings.cache",
    }


def test_the_documented_defaults_set_nothing_else() -> None:
    assert options_of(LowerSetting()) == {"min_block_size": 10, "debug": False, "enabled_precisions": frozenset()}


USED = {
    *("max_batch_size", "lower_precision", "min_acc_module_size", "input_specs", "explicit_batch_dimension"),
    *("max_workspace_size", "verbose_log", "timing_cache_prefix", "save_timing_cache", "dynamic_batch"),
    "is_aten",  # which tracer: there is one
}
OTHER: dict[str, Any] = {
    "cuda_graph_batch_size": 4,
    "opt_profile_replica": 2,
    "preset_lowerer": "x",
    "leaf_module_list": {nn.ReLU},
}


def test_every_option_is_used_refused_or_warned_about() -> None:
    assert issubclass(LowerSetting, LowerSettingBasic)
    assert {field.name for field in dataclasses.fields(LowerSetting)} == USED | _REFUSED.keys() | _WARNED.keys()


@pytest.mark.parametrize("name", sorted(_REFUSED))
def test_an_option_without_a_counterpart_is_refused_by_name(name: str) -> None:
    with pytest.raises(UnsupportedError, match=f"{name}=.* is not possible: "):
        options_of(LowerSetting(**{name: OTHER.get(name, True)}))


@pytest.mark.parametrize("name", sorted(_WARNED))
def test_an_option_that_changes_no_result_is_warned_about(name: str) -> None:
    with pytest.warns(UserWarning, match=f"{name}=.* is not used: "):
        options_of(LowerSetting(**{name: OTHER.get(name, 0.5)}))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"cuda_graph_batch_size": 2}, "cuda_graph_batch_size=2"),
        ({"lower_precision": LowerPrecision.INT8}, "lower_precision=.*INT8.*quantize"),
        ({"save_timing_cache": True}, "give both or none"),
        ({"timing_cache_prefix": "x"}, "give both or none"),
        ({"min_blok_size": 1}, "min_blok_size"),
        ({"max_batch_size": 2}, "batch size 3, above max_batch_size=2"),
    ],
)
def test_what_compile_cannot_do_is_an_error(options: dict[str, Any], words: str) -> None:
    with pytest.raises((InputError, UnsupportedError), match=words):
        compile(model(), [torch.randn(3, 4)], **options)


@pytest.mark.parametrize("module", [torch.jit.script(nn.ReLU()), torch.relu])
def test_what_is_no_module_of_this_door_is_an_input_error(module: Any) -> None:
    with pytest.raises(InputError, match=r"takes an nn\.Module or GraphModule"):
        compile(module, [torch.ones(2)])


def test_the_input_has_to_be_a_list() -> None:
    with pytest.raises(InputError, match="a list of tensors"):
        compile(model(), torch.ones(3, 4))


def test_a_lowerer_compiles_for_its_setting() -> None:
    network, x = model(), torch.randn(3, 4)
    specs = [InputTensorSpec((-1, 4), torch.float32, shape_ranges=[((1, 4), (3, 4), (5, 4))])]
    compiled = Lowerer.create(LowerSetting(min_acc_module_size=1, input_specs=specs))(network, [x])
    for batch in (1, 5):
        x = torch.randn(batch, 4)
        torch.testing.assert_close(compiled(x), network(x), rtol=1e-4, atol=1e-5)
    with pytest.raises(UnsupportedError, match="split_func"):
        Lowerer.create(LowerSetting(), split_func=lambda *_: None)


def test_a_spec_of_a_tensor_has_its_shape_dtype_and_device() -> None:
    spec = InputTensorSpec.from_tensor(torch.zeros(2, 3, dtype=torch.int64))
    assert spec == ((2, 3), torch.int64, torch.device("cpu"), (), True)
    assert InputTensorSpec.from_tensors([torch.ones(2), torch.ones(3)])[1].shape == (3,)


def test_specs_whose_batch_size_varies_have_ranges() -> None:
    tensors = [torch.ones(3, 4), torch.ones(7, 3), torch.ones(2)]
    specs = InputTensorSpec.from_tensors_with_dynamic_batch_size(tensors, (1, 3, 8), opt_profile_replica=2)
    assert [spec.shape for spec in specs] == [(-1, 4), (7, -1), (2,)]
    assert specs[0].shape_ranges == [((1, 4), (3, 4), (8, 4))] * 2
    assert specs[0].to_input().shape == {"min_shape": (1, 4), "opt_shape": (3, 4), "max_shape": (8, 4)}
    assert specs[2].to_input().shape == (2,)


@pytest.mark.parametrize(
    ("shapes", "dims"),
    [([(3, 4)], [0]), ([(3, 4), (4, 3)], [0, 1]), ([(2,), (3, 4), (3,)], [-1, 0, 0]), ([()], [-1]), ([], [])],
)
def test_the_batch_dimension_is_that_of_the_size_that_most_tensors_begin_with(
    shapes: list[tuple[int, ...]], dims: list[int]
) -> None:
    assert InputTensorSpec.find_batch_size_dim([torch.zeros(shape) for shape in shapes]) == dims


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.int64, torch.bool])
def test_random_tensors_have_the_sizes_and_dtype_of_the_spec(dtype: torch.dtype) -> None:
    spec = InputTensorSpec((-1, 4), dtype, shape_ranges=[((1, 4), (3, 4), (8, 4))])
    assert [tuple(spec.to_random_tensor(at).shape) for at in range(3)] == [(1, 4), (3, 4), (8, 4)]
    assert spec.to_random_tensor().dtype is dtype
    assert [tuple(x.shape) for x in InputTensorSpec.create_inputs_from_specs([spec])] == [(3, 4)]
    assert [tuple(x.shape) for x in InputTensorSpec.create_inputs_from_max_specs([spec])] == [(8, 4)]


def test_a_spec_without_a_batch_dimension_is_for_a_batch_of_one() -> None:
    spec = InputTensorSpec((4,), torch.float32, has_batch_dim=False)
    assert tuple(spec.to_random_tensor().shape) == (1, 4)
    assert spec.to_input().shape == (1, 4)


def test_a_spec_of_several_ranges_becomes_an_input_of_several_profiles() -> None:
    ranges = [((1, 4), (1, 4), (2, 4)), ((3, 4), (4, 4), (8, 4))]
    given = InputTensorSpec((-1, 4), torch.float32, shape_ranges=ranges).to_input()
    assert isinstance(given, Input)
    assert given.profiles == tuple(ranges)


@pytest.mark.parametrize("use", [InputTensorSpec.to_input, InputTensorSpec.to_random_tensor])
def test_a_size_that_varies_needs_a_range(use: Any) -> None:
    with pytest.raises(InputError, match=r"\(-1, 4\) has no shape_ranges"):
        use(InputTensorSpec((-1, 4), torch.float32))


@pytest.mark.parametrize("sizes", [(0, 1, 2), (3, 2, 4), (1, 2)])
def test_a_range_of_batch_sizes_is_three_sizes_in_order(sizes: Any) -> None:
    with pytest.raises(InputError, match="batch_size_range"):
        InputTensorSpec.from_tensors_with_dynamic_batch_size([torch.ones(2)], sizes)


def test_other_inputs_show_the_batch_dimension() -> None:
    def shapes(**options: Any) -> list[tuple[int, ...]]:
        one, other = torch.ones(3, 4), torch.ones(3, 5)
        return [tuple(spec.shape) for spec in generate_input_specs([one], LowerSetting(**options), [other])]

    assert shapes() == [(3, -1)]
    assert shapes(dynamic_batch=False) == [(3, 4)]
    with pytest.raises(InputError, match="additional_inputs"):
        generate_input_specs([torch.ones(2)], LowerSetting(), [])


def test_inputs_described_otherwise_go_to_the_pipeline_as_they_are() -> None:
    class Scaled(nn.Module):
        def forward(self, x: Tensor, factor: float) -> Tensor:
            return x * factor

    compiled = compile(Scaled(), [Input(shape=(2, 3)), 2.5], lower_precision=LowerPrecision.FP32, **EAGER)
    torch.testing.assert_close(compiled(torch.ones(2, 3), 2.5), torch.full((2, 3), 2.5))
