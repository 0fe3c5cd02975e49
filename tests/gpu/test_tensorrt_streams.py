"""TensorRT engines on a real GPU, with a fake SDK that does its work later on the stream it was given: streams, events, memory."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from engines.fake_tensorrt import POSITIVE_ROWS, SPEC, Gpu, made, module_of
from torch import Tensor

import torch_tensorrt
from torch_tensorrt.contracts.engine import EngineSpec
from torch_tensorrt.engines.tensorrt import kernels

pytestmark = pytest.mark.gpu


def on_gpu(spec: EngineSpec) -> EngineSpec:
    """`spec` with inputs and outputs on the GPU."""
    places = {
        name: tuple(dataclasses.replace(t, device="cuda") for t in getattr(spec, name))
        for name in ("inputs", "outputs")
    }
    return dataclasses.replace(spec, **places)  # type: ignore[arg-type]


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Gpu:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(kernels, "_open", {})
    return Gpu(monkeypatch, real=True)


def wanted(x: Tensor) -> Tensor:
    return torch.cat([x, x])


@pytest.mark.parametrize("own_stream", [False, True])
def test_results_are_right_on_the_stream_of_the_caller_while_inputs_come_late_and_go_early(
    gpu: Gpu, own_stream: bool
) -> None:
    engine = made(on_gpu(SPEC))
    stream = torch.cuda.Stream() if own_stream else torch.cuda.current_stream()
    with torch.cuda.stream(stream):
        kept = []
        for turn in range(50):
            torch.cuda._sleep(500_000)
            x = torch.full((1 + turn % 8, 3), float(turn), device="cuda")
            (y,) = engine.run([x.t().contiguous().t()])  # copied by the engine, and freed before the work is done
            x.fill_(-1.0)  # later on the same stream
            del x
            kept.append((turn, y))
        stream.synchronize()
    assert all(torch.equal(y, torch.full((2 * (1 + turn % 8), 3), float(turn), device="cuda")) for turn, y in kept)


def test_threads_with_streams_of_their_own_share_one_engine(gpu: Gpu) -> None:
    engine = made(on_gpu(SPEC))

    def work(number: int) -> bool:
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            pairs = []
            for turn in range(20):
                x = torch.randn(1 + (number + turn) % 8, 3, device="cuda")
                pairs.append((x, engine.run([x])[0]))
            stream.synchronize()
            return all(torch.equal(y, wanted(x)) for x, y in pairs)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))
    (live,) = engine._lives.values()
    assert 1 <= live.engine.contexts <= 16


def test_one_thread_that_changes_streams_waits_on_no_other_stream(gpu: Gpu) -> None:
    engine = made(on_gpu(SPEC))
    streams = [torch.cuda.Stream() for _ in range(3)]
    x = torch.randn(4, 3, device="cuda")
    torch.cuda.synchronize()
    results = []
    for turn in range(12):
        with torch.cuda.stream(streams[turn % 3]):
            results.append(engine.run([x])[0])
    torch.cuda.synchronize()
    assert all(torch.equal(y, wanted(x)) for y in results)


def test_tensors_on_the_cpu_go_there_and_back(gpu: Gpu) -> None:
    engine = made()
    for x in (torch.randn(4, 3), torch.randn(4, 3).pin_memory()):
        (y,) = engine.run([x])
        assert y.device.type == "cpu"
        assert torch.equal(y, wanted(x))


def test_memory_is_asked_for_during_the_run(gpu: Gpu) -> None:
    engine = made(on_gpu(POSITIVE_ROWS), rows=True)
    for rows in (0, 3, 8):
        x = torch.rand(8, 3, device="cuda") + 1
        x[rows:] *= -1
        assert torch.equal(engine.run([x])[0], x[:rows])


def test_outputs_allocated_ahead_stay_with_their_stream(gpu: Gpu) -> None:
    engine = made(on_gpu(SPEC))
    engine.place_outputs(ahead=True)
    streams = [torch.cuda.Stream() for _ in range(2)]
    pairs = []
    for turn in range(40):
        with torch.cuda.stream(streams[turn // 3 % 2]):
            x = torch.full((4, 3), float(turn), device="cuda")
            pairs.append((x, engine.run([x])[0]))
    torch.cuda.synchronize()
    assert all(torch.equal(y, wanted(x)) for x, y in pairs)
    assert len({y.data_ptr() for _, y in pairs}) == 40


def test_a_run_can_be_captured_in_a_cuda_graph_and_replayed_while_others_run(gpu: Gpu) -> None:
    engine = made(on_gpu(SPEC))
    x = torch.zeros(4, 3, device="cuda")
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        engine.run([x])
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        (y,) = engine.run([x])
    for turn in range(5):
        x.fill_(float(turn))
        other = torch.randn(2, 3, device="cuda")
        graph.replay()
        assert torch.equal(engine.run([other])[0], wanted(other))
        torch.cuda.synchronize()
        assert torch.equal(y, wanted(x))


def test_budgets_change_while_other_threads_run(gpu: Gpu) -> None:
    module = module_of([made(on_gpu(SPEC), streamable=1000)])

    def work(number: int) -> bool:
        with torch.cuda.stream(torch.cuda.Stream()):
            x = torch.full((4, 3), float(number), device="cuda")
            torch.cuda.current_stream().synchronize()
            return all(torch.equal(module(x)[0], wanted(x)) for _ in range(30))

    with ThreadPoolExecutor(4) as pool:
        done = [pool.submit(work, number) for number in range(4)]
        for budget in (100, 900, 0, 1000):
            with torch_tensorrt.runtime.weight_streaming(module) as streaming:
                streaming.device_budget = budget
                assert streaming.device_budget == budget
        assert all(one.result() for one in done)


def test_an_engine_is_set_up_once_on_the_gpu_of_its_inputs(gpu: Gpu) -> None:
    x = torch.randn(4, 3, device="cuda")
    engine = made(on_gpu(SPEC))
    assert torch.equal(engine.run([x])[0], wanted(x))
    assert engine._device(()) == torch.device("cuda", torch.cuda.current_device())
    assert list(engine._lives) == [x.device.index]
