"""Compiled models in CUDA graphs on a GPU: right for every address, size, stream, thread and set of weights."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from engines.fake_tensorrt import SPEC, Gpu, made, module_of
from torch import Tensor, nn

import torch_tensorrt
from gpu.test_tensorrt_streams import on_gpu, wanted
from torch_tensorrt.engines.tensorrt import kernels
from torch_tensorrt.runtime import CudaGraphsMode, enable_cudagraphs, set_cudagraphs_mode
from torch_tensorrt.runtime.cudagraphs.calls import GraphCalls, Options
from torch_tensorrt.runtime.cudagraphs.contents import Contents
from torch_tensorrt.spec.errors import InputError, UnsupportedError

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def _standard_afterwards() -> Iterator[None]:
    yield
    set_cudagraphs_mode(False)
    torch.cuda.synchronize()


class Layers(nn.Module):
    """An engine, a step that stays in PyTorch, another engine; results that are inputs and views."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(64, 256), nn.Linear(256, 64)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y = torch.cumsum(torch.nn.functional.gelu(self.first(x)), 1)
        y = self.second(y) + x
        return y, x, y.t()


SIZES = torch_tensorrt.Input(min_shape=(1, 64), opt_shape=(8, 64), max_shape=(32, 64))


def compiled(model: nn.Module, *inputs: object, **options: object) -> torch_tensorrt.CompiledModule:
    return torch_tensorrt.compile(model, inputs=list(inputs), min_block_size=1, device="cuda", **options)


@pytest.fixture(scope="module")
def layers() -> tuple[nn.Module, torch_tensorrt.CompiledModule]:
    model = Layers().eval().cuda()
    return model, compiled(model, SIZES, torch_executed_ops={"torch.ops.aten.cumsum.default"})


Pair = tuple[nn.Module, torch_tensorrt.CompiledModule]


def assert_agree(given: tuple[Tensor, ...], wanted: tuple[Tensor, ...]) -> None:
    torch.cuda.current_stream().synchronize()
    for a, b in zip(given, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_the_fixture_has_two_engines_and_a_step_between_them(layers: Pair) -> None:
    assert len([name for name, _ in layers[1].named_buffers() if name.startswith("engine_")]) == 2


def test_a_whole_model_is_replayed_for_inputs_at_any_address(layers: Pair) -> None:
    model, module = layers
    with enable_cudagraphs(module) as graphs, torch.no_grad():
        kept = []
        for _ in range(6):
            x = torch.randn(8, 64, device="cuda")
            kept.append((graphs(x), model(x)))
        for given, want in kept:  # no result was written over by a later call
            assert_agree(given, want)
        assert len(module.whole_calls().calls) == 1


def test_each_size_has_its_graph_and_the_oldest_goes(layers: Pair) -> None:
    model, module = layers
    with enable_cudagraphs(module, kept=3) as graphs, torch.no_grad():
        for size in (1, 2, 3, 4, 5, 1, 5, 32, 2, 1):
            x = torch.randn(size, 64, device="cuda")
            assert_agree(graphs(x), model(x))
        assert len(module.whole_calls().calls) == 3
    assert len(module.whole_calls().calls) == 0


def test_more_captures_than_an_engine_has_runners_and_runs_between_them(layers: Pair) -> None:
    model, module = layers
    with enable_cudagraphs(module, kept=4) as graphs, torch.no_grad():
        for size in range(1, 30):
            x = torch.randn(size, 64, device="cuda")
            assert_agree(graphs(x), model(x))
            for _ in range(9):
                plain = module(x)
            assert_agree(plain, model(x))


def test_a_result_that_is_an_input_is_the_callers_own(layers: Pair) -> None:
    with enable_cudagraphs(layers[1]) as graphs:
        for _ in range(3):
            x = torch.randn(4, 64, device="cuda")
            y, same, turned = graphs(x)
            assert same is x
            assert len({t.untyped_storage().data_ptr() for t in (x, y)}) == 2
            assert torch.equal(turned, y.t())


@pytest.mark.parametrize("mode", [True, CudaGraphsMode.WHOLE_GRAPH_CUDAGRAPHS])
def test_the_mode_of_the_process_holds_for_every_call(layers: Pair, mode: bool) -> None:
    model, module = layers
    set_cudagraphs_mode(mode)
    with torch.no_grad():
        for turn in range(12):
            x = torch.randn(1 + turn % 3, 64, device="cuda")
            assert_agree(module(x), model(x))
    module.whole_calls().forget()


def test_a_whole_model_in_a_graph_where_the_mode_is_each_engine_in_one(layers: Pair) -> None:
    model, module = layers
    set_cudagraphs_mode(True)
    with enable_cudagraphs(module) as graphs, torch.no_grad():
        for turn in range(6):
            x = torch.randn(1 + turn % 2, 64, device="cuda")
            assert_agree(graphs(x), model(x))
            assert_agree(module(x), model(x))


def test_calls_follow_the_callers_streams(layers: Pair) -> None:
    model, module = layers
    streams = [torch.cuda.Stream() for _ in range(3)]
    x = torch.randn(8, 64, device="cuda")
    with enable_cudagraphs(module) as graphs, torch.no_grad():
        graphs(x)
        torch.cuda.synchronize()
        kept = []
        for turn in range(30):
            with torch.cuda.stream(streams[turn % 3]):
                torch.cuda._sleep(3_000_000 if turn % 2 else 1000)
                late = torch.full((8, 64), float(turn), device="cuda")
                kept.append((graphs(late)[0], late))
                late_copy = late.clone()
                late.fill_(-1.0)
                kept[-1] = (kept[-1][0], late_copy)
        torch.cuda.synchronize()
        for given, late in kept:
            assert_agree((given,), (model(late)[0],))


def test_sixteen_threads_on_streams_of_their_own(layers: Pair) -> None:
    model, module = layers
    given = torch.randn(
        5, 64, device="cuda"
    )  # PyTorch lets no other thread draw random numbers while a graph is captured
    torch.cuda.synchronize()
    with enable_cudagraphs(module, kept=4) as graphs:

        def call(seed: int) -> None:
            stream = torch.cuda.Stream()
            with torch.cuda.stream(stream), torch.no_grad():
                for turn in range(15):
                    x = given[: 1 + (seed + turn) % 5] * (seed + turn)
                    assert_agree(graphs(x), model(x))
                    if turn % 5 == 0:
                        assert_agree(module(x), model(x))

        with ThreadPoolExecutor(16) as pool:
            list(pool.map(call, range(16)))


def test_preallocated_outputs_are_written_over_by_the_next_call(layers: Pair) -> None:
    model, module = layers
    with enable_cudagraphs(module) as graphs, torch.no_grad():
        a, b = torch.randn(8, 64, device="cuda"), torch.randn(8, 64, device="cuda")
        with torch_tensorrt.runtime.enable_pre_allocated_outputs(graphs):
            first = graphs(a)[0]
            assert_agree((first,), (model(a)[0],))
            second = graphs(b)[0]
            assert first.data_ptr() == second.data_ptr()
            assert_agree((first,), (model(b)[0],))
        assert graphs(a)[0].data_ptr() != first.data_ptr()


def test_new_weights_are_captured_anew() -> None:
    old, new = Layers().eval().cuda(), Layers().eval().cuda()
    with torch.no_grad():
        for parameter in new.parameters():
            parameter.mul_(1.5)
    x = torch.randn(8, 64, device="cuda")
    module = compiled(old, x, immutable_weights=False)
    with enable_cudagraphs(module) as graphs, torch.no_grad():
        assert_agree(graphs(x), old(x))
        torch_tensorrt.dynamo.refit_module_weights(module, torch.export.export(new, (x,)), in_place=True)
        assert_agree(graphs(x), new(x))


def test_a_loaded_program_is_replayed_too(layers: Pair, tmp_path: Path) -> None:
    model, module = layers
    torch_tensorrt.save(module, str(tmp_path / "model.ep"))
    loaded = torch_tensorrt.load(str(tmp_path / "model.ep")).module()
    with enable_cudagraphs(loaded) as graphs, torch.no_grad():
        for size in (3, 8, 3, 8):
            x = torch.randn(size, 64, device="cuda")
            assert_agree(graphs(x), model(x))


class Counts(nn.Module):
    """Keeps a number of its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(1))
        self.layer = nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.layer(x) * self.calls


def test_a_model_that_writes_its_buffers_counts_each_call_once() -> None:
    model = Counts().eval().cuda()
    x = torch.randn(4, 16, device="cuda")
    module = compiled(model, x)
    with enable_cudagraphs(module) as graphs, torch.no_grad():
        for _ in range(4):
            assert_agree((graphs(x),), (model(x),))


class Noisy(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x) + torch.rand_like(x)


def test_random_numbers_are_those_of_pytorch_and_new_at_each_call() -> None:
    x = torch.randn(4, 16, device="cuda")
    module = compiled(Noisy().eval(), x)
    torch.cuda.manual_seed(5)
    want = [module(x) for _ in range(3)]
    with enable_cudagraphs(module) as graphs:
        torch.cuda.manual_seed(5)
        given = [graphs(x) for _ in range(3)]
    assert_agree(tuple(given), tuple(want))
    assert not torch.equal(given[0], given[1])


class Picks(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x[x > 0]) * 2


def test_what_can_not_be_captured_is_named_and_the_mode_runs_it_without_a_graph(
    caplog: pytest.LogCaptureFixture,
) -> None:
    x = torch.randn(64, device="cuda")
    module = compiled(Picks().eval(), x)
    with pytest.raises(UnsupportedError, match=r"'nonzero|'index"), enable_cudagraphs(module):
        pass
    set_cudagraphs_mode(CudaGraphsMode.WHOLE_GRAPH_CUDAGRAPHS)
    assert torch.equal(module(x), torch.relu(x[x > 0]) * 2)
    assert "runs without a CUDA graph" in caplog.text


def test_wrong_inputs_are_the_same_errors_as_without_graphs(layers: Pair) -> None:
    with enable_cudagraphs(layers[1]) as graphs:
        for wrong in (torch.randn(8, 65, device="cuda"), torch.randn(8, 64), torch.randn(33, 64, device="cuda")):
            with pytest.raises(InputError):
                graphs(wrong)


def test_inputs_of_other_layouts_and_with_gradients_and_in_inference_mode(layers: Pair) -> None:
    model, module = layers
    with enable_cudagraphs(module) as graphs:
        base = torch.randn(64, 16, device="cuda")
        for x in (
            base.t()[:8],
            base.t()[::2],
            torch.randn(1, 64, device="cuda").expand(8, 64),
            torch.randn(8, 64, device="cuda", requires_grad=True),
        ):
            with torch.no_grad():
                want = model(x)
            given = graphs(x)
            assert not given[0].requires_grad
            assert_agree(given, want)
        with torch.inference_mode():
            x = torch.randn(8, 64, device="cuda")
            assert_agree(graphs(x), model(x))
        x = torch.randn(8, 64, device="cuda")
        with torch.no_grad():
            assert_agree(graphs(x), model(x))


def test_a_call_within_the_callers_own_capture_becomes_part_of_that(layers: Pair) -> None:
    model, module = layers
    x = torch.randn(8, 64, device="cuda")
    with enable_cudagraphs(module) as graphs, torch.no_grad():
        graphs(x)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            given = graphs(x)
        x.copy_(torch.randn_like(x))
        graph.replay()
        assert_agree(given, model(x))


def test_a_capture_goes_well_while_another_thread_allocates_and_waits(layers: Pair) -> None:
    model, module = layers
    stop = threading.Event()

    def disturb() -> int:
        turns = 0
        with torch.cuda.stream(torch.cuda.Stream()), torch.no_grad():
            while not stop.is_set():
                y = torch.ones(257, 257, device="cuda")
                (y @ y).sum().item()
                torch.cuda.current_stream().synchronize()
                turns += 1
        return turns

    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(disturb)
        try:
            with enable_cudagraphs(module) as graphs, torch.no_grad():
                for size in range(1, 12):
                    x = torch.randn(size, 64, device="cuda")
                    assert_agree(graphs(x), model(x))
        finally:
            stop.set()
        assert other.result() > 0


@pytest.mark.parametrize("random", [False, True])
def test_after_a_capture_that_failed_all_goes_on(random: bool) -> None:
    def waits(flat: Sequence[Any]) -> Sequence[object]:
        return [flat[0] * float(flat[0].sum())]

    x = torch.ones(3, device="cuda")
    failing = GraphCalls("It", waits, Contents("", True, random, tuple), Options())
    with pytest.raises(UnsupportedError, match=r"It can't be captured in a CUDA graph: .*capturing"):
        failing([x])
    assert torch.equal(failing.or_run([x])[0], torch.full((3,), 3.0, device="cuda"))  # type: ignore[arg-type]
    torch.manual_seed(1)
    first = torch.rand(3, device="cuda")
    torch.manual_seed(1)
    assert torch.equal(torch.rand(3, device="cuda"), first)
    fine = GraphCalls(
        "It", lambda flat: [flat[0] + torch.rand_like(flat[0])], Contents("", True, True, tuple), Options()
    )
    given = [fine([x])[0] for _ in range(3)]
    assert len({float(y.sum()) for y in given}) == 3  # type: ignore[attr-defined]
    torch.cuda.empty_cache()


def test_the_memory_of_graphs_is_given_back(layers: Pair) -> None:
    module = layers[1]
    x = torch.randn(8, 64, device="cuda")
    with enable_cudagraphs(module) as graphs:
        graphs(x)
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    before = torch.cuda.memory_reserved()
    for _ in range(3):
        with enable_cudagraphs(module) as graphs:
            graphs(x)
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
    assert torch.cuda.memory_reserved() <= before


def test_the_typical_size_can_be_captured_ahead(layers: Pair) -> None:
    model, module = layers
    with enable_cudagraphs(module) as graphs, torch.no_grad():
        graphs.warm_up()
        x = torch.randn(8, 64, device="cuda")
        assert graphs.validate_input_shapes([x]) is False
        assert graphs.validate_input_shapes([x[:3]]) is True
        assert_agree(graphs(x), model(x))


def test_products_of_two_models_replayed_at_once_do_not_mix() -> None:
    """cuBLAS works in a workspace per stream, and both were captured on one stream."""
    torch.manual_seed(0)
    models = [nn.Sequential(nn.Linear(4096, 64), nn.Linear(64, 4096)).eval().cuda().half() for _ in range(2)]
    x = torch.randn(2, 4096, device="cuda", dtype=torch.half)
    modules = [compiled(model, x) for model in models]
    streams = [torch.cuda.Stream() for _ in models]
    with enable_cudagraphs(modules[0]) as one, enable_cudagraphs(modules[1]) as two, torch.no_grad():
        want = [graphs(x) for graphs in (one, two)]
        torch.cuda.synchronize()
        given: list[list[Tensor]] = [[], []]
        for _ in range(300):
            for place, graphs in enumerate((one, two)):
                with torch.cuda.stream(streams[place]):
                    given[place].append(graphs(x))
        torch.cuda.synchronize()
    for place in range(2):
        assert all(torch.equal(y, want[place]) for y in given[place])


def test_tensorrt_engines_are_captured_by_the_same_modules(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(kernels, "_open", {})
    Gpu(monkeypatch, real=True)
    module = module_of([made(on_gpu(SPEC))])
    set_cudagraphs_mode(True)
    for turn in range(10):
        x = torch.randn(1 + turn % 3, 3, device="cuda")
        assert torch.equal(module(x)[0], wanted(x))
    set_cudagraphs_mode(False)
    with enable_cudagraphs(module) as graphs:
        for turn in range(10):
            x = torch.randn(1 + turn % 3, 3, device="cuda")
            assert torch.equal(graphs(x)[0], wanted(x))


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="one GPU")
def test_graphs_on_the_gpu_that_the_model_was_compiled_for() -> None:
    model = Layers().eval().to("cuda:1")
    x = torch.randn(8, 64, device="cuda:1")
    module = torch_tensorrt.compile(model, inputs=[x], min_block_size=1, device="cuda:1")
    with enable_cudagraphs(module) as graphs, torch.no_grad():
        for _ in range(3):
            x = torch.randn(8, 64, device="cuda:1")
            given = graphs(x)
            assert given[0].device == x.device
            assert_agree(given, model(x))
        assert torch.cuda.current_device() == 0
    with torch.no_grad():
        assert_agree(module(x), model(x))
    with pytest.raises(InputError, match="cuda:0"):
        torch_tensorrt.compile(model.to("cuda:0"), inputs=[x.to("cuda:0")], device="cuda:1")


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="one GPU")
def test_inputs_on_another_gpu_are_moved_or_refused() -> None:
    model = Layers().eval().to("cuda:1")
    x = torch.randn(8, 64, device="cuda:1")
    module = torch_tensorrt.compile(model, inputs=[x], min_block_size=1)
    moved = x.to("cuda:0")
    with torch.no_grad():
        with pytest.raises(InputError, match=r"on cuda:0, and is on cuda:1"):
            module(moved)
        with torch_tensorrt.runtime.set_multi_device_safe_mode(True):
            given = module(moved)
            assert given[0].device == x.device
            torch.testing.assert_close(given[0], model(x)[0], rtol=1e-4, atol=1e-4)
    module = torch_tensorrt.compile(Counts().eval().to("cuda:1"), inputs=[x[:, :16]], min_block_size=1)
    with pytest.raises(InputError, match=r"on cuda:0, .* compiled on cuda:1"):
        module(moved[:, :16])
