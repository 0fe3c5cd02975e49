"""Settings of running engines: RuntimeSettings, the file of kernels, and the memory that engines keep between runs."""

from __future__ import annotations

import dataclasses
import gc
import io
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from engines.fake_tensorrt import SPEC, Gpu, made, module_of
from torch import fx, nn

import torch_tensorrt
from torch_tensorrt import InputError, UnsupportedError
from torch_tensorrt.dynamo.runtime import _ResourceAllocator
from torch_tensorrt.dynamo.runtime._ResourceAllocator import ResourceAllocationStrategy
from torch_tensorrt.engines.tensorrt import kernels
from torch_tensorrt.engines.tensorrt.engine import TensorRTEngine
from torch_tensorrt.runtime import (
    RuntimeCache,
    RuntimeSettings,
    modes,
    native,
    runtime_config,
    set_dynamic_shapes_kernel_strategy,
)


@pytest.fixture(autouse=True, scope="module")
def _engines_in_python() -> Iterator[None]:
    """What is tested here, the C++ runtime has not; it may have been built on this machine."""
    with pytest.MonkeyPatch.context() as changes:
        changes.setattr(native, "runtime", lambda: None)
        yield


X = torch.ones(1, 3)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Gpu:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(kernels, "_open", {})
    return Gpu(monkeypatch)


@pytest.fixture(scope="module")
def on_cpu() -> nn.Module:
    """A module whose engine is OpenVINO's."""
    return torch_tensorrt.compile(nn.Linear(3, 3).eval(), inputs=[X], min_block_size=1)  # type: ignore[no-any-return]


def two_engines() -> fx.GraphModule:
    return module_of([made(dataclasses.replace(SPEC, name=f"part_{place}")) for place in range(2)])


def contexts_of(module: fx.GraphModule) -> list[Any]:
    """The contexts that wait for the next run of each engine."""
    found = [engine for engine in modes.engines_in(module) if isinstance(engine, TensorRTEngine)]
    return [slot.context for engine in found for live in engine._lives.values() for slot in live.contexts._free]


def strategies_of(module: fx.GraphModule) -> list[str]:
    configs = [context.config for context in contexts_of(module)]
    return [getattr(config, "dynamic_shapes_kernel_specialization_strategy", "unset") for config in configs]


@pytest.mark.parametrize("strategy", ["eager", "none"])
def test_kernels_are_specialised_as_the_block_says_and_as_before_after_it(gpu: Gpu, strategy: str) -> None:
    module = two_engines()
    module(X)
    assert strategies_of(module) == ["unset"] * 2
    with set_dynamic_shapes_kernel_strategy(module, strategy) as settings:
        assert settings.dynamic_shapes_kernel_specialization_strategy == strategy
        assert contexts_of(module) == []  # they would keep the strategy that they were made with
        module(X)
        assert strategies_of(module) == [strategy.upper()] * 2
    module(X)
    assert strategies_of(module) == ["unset"] * 2


def test_several_modules_and_settings_at_once(gpu: Gpu, tmp_path: Path) -> None:
    modules = [two_engines(), two_engines()]
    path = str(tmp_path / "kernels.bin")
    with runtime_config(modules, dynamic_shapes_kernel_specialization_strategy="eager", runtime_cache=path):
        for module in modules:
            module(X)
            assert strategies_of(module) == ["EAGER"] * 2
    assert Path(path).is_file()
    for module in modules:
        for engine in modes.engines_in(module):
            assert engine.keep_kernels(None) is None  # type: ignore[attr-defined]


def test_what_is_not_named_stays_as_it_is(gpu: Gpu, tmp_path: Path) -> None:
    module = two_engines()
    with runtime_config(module, runtime_cache=str(tmp_path / "outer")):
        with runtime_config(module, dynamic_shapes_kernel_specialization_strategy="none"):
            module(X)
        assert {engine._kernels for engine in modes.engines_in(module)} == {str(tmp_path / "outer")}  # type: ignore[attr-defined]


def test_a_block_that_fails_sets_all_back(gpu: Gpu) -> None:
    module = two_engines()
    with pytest.raises(KeyError), set_dynamic_shapes_kernel_strategy(module, "eager"):
        raise KeyError
    assert {engine._strategy for engine in modes.engines_in(module)} == {"lazy"}  # type: ignore[attr-defined]


def test_for_engines_that_compile_no_kernels_a_warning_says_that_nothing_changes(on_cpu: nn.Module) -> None:
    plain = on_cpu(X)
    with (
        pytest.warns(UserWarning, match="'openvino' compile no kernels"),
        set_dynamic_shapes_kernel_strategy(on_cpu, "none"),
    ):
        assert torch.equal(on_cpu(X), plain)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (
            lambda: RuntimeSettings(dynamic_shapes_kernel_specialization_strategy="fast"),
            InputError,
            "'lazy', 'eager', 'none'",
        ),
        (lambda: RuntimeSettings(cuda_graph_strategy="whole_graph_capture"), UnsupportedError, "enable_cudagraphs"),
        (lambda: RuntimeSettings(cuda_graph_strategy="all"), InputError, "'all'"),
        (lambda: RuntimeSettings(runtime_cache=3), InputError, "a path"),  # type: ignore[arg-type]
        (lambda: RuntimeSettings().merge(cache="x"), InputError, "'cache'; there are dynamic"),
    ],
)
def test_wrong_settings_are_named(make: Callable[[], object], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        make()


def test_settings_are_merged_into_new_ones() -> None:
    first = RuntimeSettings(runtime_cache="a")
    second = first.merge(dynamic_shapes_kernel_specialization_strategy="eager")
    assert (first.dynamic_shapes_kernel_specialization_strategy, second.runtime_cache) == ("lazy", "a")
    assert second == RuntimeSettings("eager", runtime_cache="a")


def test_a_cache_is_shared_saved_and_loaded(gpu: Gpu, tmp_path: Path) -> None:
    cache, modules = RuntimeCache(), [two_engines(), two_engines()]
    assert (cache.path, cache.has_cache(), cache.is_cpp_runtime()) == ("", False, False)
    with runtime_config(modules, runtime_cache=cache):
        for module in modules:
            module(X)
    assert cache.has_cache()
    stream = io.BytesIO()
    cache.save_to_stream(stream)
    cache.save(tmp_path / "kept.bin")
    assert stream.getvalue() == (tmp_path / "kept.bin").read_bytes() != b""
    other = RuntimeCache(str(tmp_path / "folder" / "other.bin"))
    other.load(tmp_path / "kept.bin")
    assert other.file.read_bytes() == stream.getvalue()
    again = RuntimeCache()
    again.load_from_stream(io.BytesIO(stream.getvalue()))
    assert again.has_cache()
    with pytest.raises(InputError, match="into a new RuntimeCache"):
        cache.load(tmp_path / "kept.bin")
    with pytest.raises(InputError, match="no such file"):
        again.load(tmp_path / "missing.bin")


@pytest.mark.parametrize("autosave", [True, False])
def test_a_cache_saves_itself_when_it_goes_where_it_was_asked_to(
    gpu: Gpu, tmp_path: Path, autosave: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[object] = []
    cache = RuntimeCache(str(tmp_path / "k.bin"), autosave_on_del=autosave)
    cache.attach(made())
    monkeypatch.setattr(TensorRTEngine, "save_kernels", lambda engine: saved.append(engine))
    del cache
    gc.collect()
    assert len(saved) == autosave


def test_engines_keep_no_context_between_runs_in_a_block_that_says_so(gpu: Gpu) -> None:
    module = two_engines()
    module(X)
    assert len(contexts_of(module)) == 2
    strategy = ResourceAllocationStrategy(module)
    with strategy:
        assert contexts_of(module) == []
        assert all(torch.equal(result, torch.cat([X, X])) for result in strategy(X))
        assert contexts_of(module) == []
        with ResourceAllocationStrategy(module, dynamically_allocate_resources=False):
            module(X)
            assert len(contexts_of(module)) == 2
        module(X)
        assert contexts_of(module) == []
    module(X)
    assert len(contexts_of(module)) == 2


def test_openvino_keeps_no_request_between_runs_in_a_block_that_says_so(on_cpu: nn.Module) -> None:
    (engine,) = modes.engines_in(on_cpu)
    plain = on_cpu(X)
    assert len(engine._free) == 1  # type: ignore[attr-defined]
    with ResourceAllocationStrategy(on_cpu):
        for _ in range(2):
            assert torch.equal(on_cpu(X), plain)
            assert len(engine._free) == 0  # type: ignore[attr-defined]
    assert torch.equal(on_cpu(X), plain)
    assert len(engine._free) == 1  # type: ignore[attr-defined]


def test_an_engine_in_the_cpp_runtime_keeps_its_memory_with_a_warning(
    on_cpu: nn.Module, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (engine,) = modes.engines_in(on_cpu)
    native_one = native.NativeEngine(engine.spec, torch.empty(0), types.SimpleNamespace(run=None))  # type: ignore[arg-type]
    monkeypatch.setattr(_ResourceAllocator, "engines_in", lambda module: [native_one])
    with ResourceAllocationStrategy(on_cpu):
        assert "runs in the C++ runtime, which keeps memory" in caplog.text


def test_a_module_without_engines_has_no_resources_of_ours() -> None:
    with pytest.raises(InputError, match="has no engines"):
        ResourceAllocationStrategy(nn.Linear(3, 3))
