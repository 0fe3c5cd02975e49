"""The option num_threads: who honours it, and what wins."""

from __future__ import annotations

import pytest
import torch

from engines.test_openvino import build_function
from torch_tensorrt import engines
from torch_tensorrt.engines.onnxruntime import knobs as onnxruntime_knobs
from torch_tensorrt.engines.openvino import knobs as openvino_knobs
from torch_tensorrt.spec.errors import InputError
from torch_tensorrt.spec.settings import CompilationSettings


def settings(**options: object) -> CompilationSettings:
    return CompilationSettings.from_options(num_threads=3, **options)


def test_openvino_and_onnxruntime_are_told() -> None:
    assert openvino_knobs.properties(settings()) == {"INFERENCE_NUM_THREADS": "3"}
    assert onnxruntime_knobs.read_knobs(settings()) == {"num_threads": 3}


def test_the_engines_own_option_takes_precedence() -> None:
    chosen = settings(engine_options={"num_threads": 1})
    assert openvino_knobs.properties(chosen) == {"INFERENCE_NUM_THREADS": "1"}
    assert onnxruntime_knobs.read_knobs(chosen) == {"num_threads": 1}


@pytest.mark.parametrize(
    ("engine", "honoured"), [("openvino", True), ("onnxruntime", True), ("eager", False), ("inductor", False)]
)
def test_engines_that_can_not_honour_it_say_so(engine: str, honoured: bool) -> None:
    told = [line for line in engines.backend(engine).unhonoured(settings()) if "num_threads=3" in line]
    assert told == [] if honoured else len(told) == 1


def test_no_way_that_is_measured_takes_more_threads() -> None:
    ways = openvino_knobs.variants([], CompilationSettings.from_options(num_threads=1).num_threads)
    assert not any("num_threads" in dict(way.get("engine_options", {})) for way in ways.values())
    assert openvino_knobs.variants([], 8)["4 threads"] == {"engine_options": {"num_threads": 4}}
    assert list(onnxruntime_knobs.variants(1)) == ["default"]


def test_it_changes_what_is_built() -> None:
    assert settings().engine_key() != CompilationSettings().engine_key()


@pytest.mark.parametrize("wrong", [0, -1, 1.0, True, "2"])
def test_a_number_of_threads_is_a_whole_number_from_1_on(wrong: object) -> None:
    with pytest.raises(InputError, match="num_threads"):
        CompilationSettings.from_options(num_threads=wrong)


def test_openvino_computes_with_so_many_threads() -> None:
    engine = build_function(lambda a: (a * 2,), [torch.randn(3)], num_threads=1)
    assert int(engine._compiled.get_property("INFERENCE_NUM_THREADS")) == 1  # type: ignore[attr-defined]
