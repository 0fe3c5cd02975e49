"""`torch_tensorrt.runtime`: ways of running the engines of a module, set for a block and set back after it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest
import torch
from engines.fake_tensorrt import SPEC, Gpu, made, module_of
from torch import fx, nn

import torch_tensorrt
from torch_tensorrt.engines.tensorrt import kernels
from torch_tensorrt.runtime import modes
from torch_tensorrt.spec.errors import InputError, UnsupportedError

TWO = [[[1, 3], [1, 3], [1, 3]], [[1, 3], [4, 3], [6, 3]]]
X = torch.ones(1, 3)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Gpu:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(kernels, "_open", {})
    return Gpu(monkeypatch)


def two_engines(**options: object) -> fx.GraphModule:
    return module_of([made(dataclasses.replace(SPEC, name=f"part_{place}"), **options) for place in range(2)])


@pytest.fixture(scope="module")
def on_cpu() -> nn.Module:
    """A module whose engine is OpenVINO's."""
    return torch_tensorrt.compile(nn.Linear(3, 3).eval(), inputs=[X], min_block_size=1)  # type: ignore[no-any-return]


def test_a_profile_is_chosen_for_a_block_in_every_engine_that_has_several(gpu: Gpu) -> None:
    module = module_of([made(profiles=TWO), made(dataclasses.replace(SPEC, name="part_1"))])
    module(X)
    with torch_tensorrt.runtime.optimization_profile(module, 1):
        module(X)
    module(X)
    assert [call[1] for call in gpu.calls if call[0] == "profile"] == [1, 0]


def test_auto_within_a_block_is_the_way_outside_of_it(gpu: Gpu) -> None:
    module = module_of([made(profiles=TWO)])
    with torch_tensorrt.runtime.optimization_profile(module, 1):
        with torch_tensorrt.runtime.optimization_profile(module, "auto"):
            module(X)
        module(X)
    assert [call[1] for call in gpu.calls if call[0] == "profile"] == [1]


@pytest.mark.parametrize(
    ("profile", "says"),
    [
        (2, r"no profile 2; .*profile 1: x \(1, 3\) to \(6, 3\)"),
        (-1, "no profile -1"),
        ("fast", "'fast'"),
        (True, "True"),
    ],
)
def test_a_profile_that_there_isn_t_is_an_input_error(gpu: Gpu, profile: int, says: str) -> None:
    module = module_of([made(profiles=TWO)])
    with pytest.raises(InputError, match=says), torch_tensorrt.runtime.optimization_profile(module, profile):
        pass


def test_a_block_that_fails_sets_all_back(gpu: Gpu) -> None:
    module = two_engines(profiles=TWO, streamable=100)
    engines = modes.engines_in(module)
    run = torch_tensorrt.runtime
    with (
        pytest.raises(KeyError),
        run.optimization_profile(module, 1),
        run.enable_pre_allocated_outputs(module),
        run.enable_output_allocator(module),
        run.weight_streaming(module) as streaming,
    ):
        streaming.device_budget = 20
        raise KeyError
    for engine in engines:
        assert engine.choose_profile(None) is None  # type: ignore[attr-defined]
        assert engine.place_outputs() == (False, False)  # type: ignore[attr-defined]
        assert engine.streaming_budget() == 100  # type: ignore[attr-defined]


def test_outputs_are_allocated_ahead_or_by_the_engine_within_a_block(gpu: Gpu) -> None:
    module = two_engines()
    engines = modes.engines_in(module)
    with torch_tensorrt.runtime.enable_pre_allocated_outputs(module):
        assert [engine.place_outputs() for engine in engines] == [(True, False)] * 2  # type: ignore[attr-defined]
        results = [module(X) for _ in range(3)]
    addresses = {result.data_ptr() for pair in results for result in pair}
    assert len(addresses) == 6  # each caller has its own
    with torch_tensorrt.runtime.enable_output_allocator(module):
        assert all(torch.equal(result, torch.cat([X, X])) for result in module(X))
    assert gpu.steps().count("allocator") == 4


def test_a_budget_is_shared_out_by_the_sizes_of_the_engines_weights(gpu: Gpu) -> None:
    sizes = (100, 300, 0)
    module = module_of([made(dataclasses.replace(SPEC, name=f"part_{size}"), streamable=size) for size in sizes])
    with torch_tensorrt.runtime.weight_streaming(module) as streaming:
        assert streaming.total_device_budget == streaming.device_budget == 400
        assert streaming.get_automatic_weight_streaming_budget() == 200
        streaming.device_budget = 200
        assert streaming.device_budget == 200
        assert [call[1] for call in gpu.calls if call[0] == "budget"] == [50, 150]
        module(X)
        streaming.device_budget = 10**9  # more than all is all
        assert streaming.device_budget == 400
        streaming.device_budget = 0
    assert [engine.streaming_budget() for engine in modes.engines_in(module)] == [*sizes]  # type: ignore[attr-defined]
    module(X)


@pytest.mark.parametrize("budget", [-1, 1.5, "all", True, None])
def test_a_budget_is_a_number_of_bytes(gpu: Gpu, budget: object) -> None:
    streaming = torch_tensorrt.runtime.weight_streaming(two_engines(streamable=10))
    with pytest.raises(InputError, match="device_budget"):
        streaming.device_budget = budget  # type: ignore[assignment]


def test_engines_that_were_not_built_for_it_stream_nothing(gpu: Gpu) -> None:
    with pytest.raises(UnsupportedError, match="enable_weight_streaming=True"):
        torch_tensorrt.runtime.weight_streaming(two_engines())


def test_kernels_go_to_the_file_of_the_block_and_to_the_usual_one_outside(gpu: Gpu, tmp_path: Path) -> None:
    module = two_engines()
    with torch_tensorrt.runtime.runtime_cache(module, str(tmp_path / "mine" / "kernels.bin")):
        module(X)
    assert (tmp_path / "mine" / "kernels.bin").read_bytes() == b"compiled"
    assert not (tmp_path / "cache").exists()
    module(X)
    assert len([*(tmp_path / "cache").rglob("*.bin")]) == 1


def test_kernels_are_not_saved_at_the_end_without_autosave(
    gpu: Gpu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[Path] = []
    monkeypatch.setattr(kernels.KernelFile, "save", lambda file: saved.append(file.path))
    modules = [two_engines(), two_engines()]
    for autosave, expected in ((False, 0), (True, 4)):
        with torch_tensorrt.runtime.runtime_cache(modules, str(tmp_path / "k.bin"), autosave=autosave):
            saved.clear()
        assert len(saved) == expected


def test_layers_are_given_by_the_name_of_the_engine(gpu: Gpu) -> None:
    assert set(torch_tensorrt.runtime.get_layer_info(two_engines())) == {"part_0", "part_1"}


BLOCKS: dict[str, Callable[[nn.Module], AbstractContextManager[object]]] = {
    "a profile": lambda module: torch_tensorrt.runtime.optimization_profile(module, 0),
    "outputs ahead": torch_tensorrt.runtime.enable_pre_allocated_outputs,
    "outputs by the engine": torch_tensorrt.runtime.enable_output_allocator,
    "weights": torch_tensorrt.runtime.weight_streaming,
    "kernels": torch_tensorrt.runtime.runtime_cache,
}
LAYERS = {"layers": lambda module: nullcontext(torch_tensorrt.runtime.get_layer_info(module))}


@pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)
def test_engines_of_other_backends_say_that_they_can_t(
    block: Callable[..., AbstractContextManager[object]], on_cpu: nn.Module
) -> None:
    with pytest.raises(UnsupportedError, match=r"Engine 'part_0' of the 'openvino' backend does not"):
        block(on_cpu).__enter__()


@pytest.mark.parametrize("block", [*BLOCKS.values(), *LAYERS.values()], ids=[*BLOCKS, *LAYERS])
def test_modules_without_engines_say_so(block: Callable[..., AbstractContextManager[object]]) -> None:
    with pytest.raises(InputError, match=r"A Linear has no engines; what torch_tensorrt.compile"):
        block(nn.Linear(3, 3)).__enter__()
    with pytest.raises(UnsupportedError, match="The module has no engine that could"):
        block(fx.symbolic_trace(nn.Linear(3, 3))).__enter__()
