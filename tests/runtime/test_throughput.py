"""Many calls under way at once: results, order, back pressure, errors, cancelling and the end of a pool."""

from __future__ import annotations

import dataclasses
import io
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, wait

import pytest
import torch
from torch import Tensor, nn

import torch_tensorrt
from torch_tensorrt.runtime import Throughput, native, throughput
from torch_tensorrt.runtime.calling import Door
from torch_tensorrt.runtime.lanes import Route
from torch_tensorrt.runtime.watching import watching
from torch_tensorrt.spec.errors import InputError


@pytest.fixture(autouse=True, scope="module")
def _engines_in_python() -> Iterator[None]:
    """What is tested here, the C++ runtime has not; it may have been built on this machine."""
    with pytest.MonkeyPatch.context() as changes:
        changes.setattr(native, "runtime", lambda: None)
        yield


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 4)).eval()


def compile_for(engine: str, **options: object) -> nn.Module:
    given = torch_tensorrt.Input(min_shape=(1, 16), opt_shape=(2, 16), max_shape=(8, 16))
    return torch_tensorrt.compile(network(), inputs=[given], engine=engine, min_block_size=1, **options)


def reload(compiled: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch_tensorrt.save(compiled, file)
    return torch_tensorrt.load(io.BytesIO(file.getvalue())).module()


@pytest.fixture(scope="module")
def compiled() -> nn.Module:
    return compile_for("openvino")


MAKERS: dict[str, Callable[[], nn.Module]] = {
    "compiled by openvino": lambda: compile_for("openvino"),
    "loaded": lambda: reload(compile_for("openvino")),
    "for throughput": lambda: compile_for("openvino", engine_options={"performance_hint": "throughput"}),
    "two engines": lambda: compile_for("openvino", torch_executed_ops={"torch.ops.aten.relu.default"}),
    "eager engine": lambda: compile_for("eager"),
    "not compiled": network,
}


@pytest.mark.parametrize("name", MAKERS)
def test_every_result_is_that_of_a_call(name: str) -> None:
    module = MAKERS[name]()
    inputs = [torch.randn(1 + number % 8, 16) for number in range(100)]
    with Throughput(module, requests=3) as pool:
        futures = [pool.submit(x) for x in inputs]
    with torch.no_grad():
        for x, future in zip(inputs, futures, strict=True):
            assert future.done()
            assert torch.equal(future.result(), module(x))
            assert not future.result().requires_grad


@pytest.mark.parametrize(
    ("name", "threads"), [("compiled by openvino", False), ("loaded", False), ("two engines", True)]
)
def test_threads_call_only_what_is_more_than_one_openvino_engine(name: str, threads: bool) -> None:
    with Throughput(MAKERS[name]()) as pool:
        assert pool.uses_threads is threads


def test_keyword_arguments_and_the_form_of_results_are_the_models() -> None:
    class Named(nn.Module):
        def forward(self, x: Tensor, *, scale: Tensor) -> dict[str, Tensor]:
            return {"sum": x + scale, "product": x * scale}

    x, scale = torch.randn(2, 3), torch.randn(3)
    module = torch_tensorrt.compile(Named(), arg_inputs=[x], kwarg_inputs={"scale": scale}, min_block_size=1)
    with Throughput(module) as pool:
        result = pool.submit(x, scale=scale).result()
    assert set(result) == {"sum", "product"}
    torch.testing.assert_close(result["product"], x * scale)


def test_many_threads_submit_and_each_gets_its_own_results(compiled: nn.Module) -> None:
    wrong: list[int] = []

    def client(number: int) -> None:
        x = torch.full((1, 16), float(number))
        expected = compiled(x)
        results = [pool.submit(x).result() for _ in range(50)]
        wrong.extend(number for result in results if not torch.equal(result, expected))

    with Throughput(compiled, requests=4, waiting=2) as pool:
        clients = [threading.Thread(target=client, args=(number,)) for number in range(8)]
        for each in clients:
            each.start()
        for each in clients:
            each.join()
    assert wrong == []


def test_wrong_arguments_are_raised_by_the_future_and_the_pool_goes_on(compiled: nn.Module) -> None:
    with Throughput(compiled) as pool:
        bad, good = pool.submit(torch.randn(9, 16)), pool.submit(torch.randn(8, 16))
        with pytest.raises(InputError, match="9"):
            bad.result()
        assert good.result().shape == (8, 4)


class Gate(nn.Module):
    """Waits until it is opened, and notes in which order it was called."""

    def __init__(self) -> None:
        super().__init__()
        self.opened, self.calls = threading.Event(), []

    def forward(self, x: Tensor) -> Tensor:
        assert self.opened.wait(10)
        self.calls.append(int(x))
        return x + 1


def test_submit_blocks_while_as_many_wait_as_may() -> None:
    gate, submitted = Gate(), threading.Event()
    with Throughput(gate, requests=1, waiting=2) as pool:
        for number in range(3):
            pool.submit(torch.tensor(number))
        more = threading.Thread(target=lambda: (pool.submit(torch.tensor(3)), submitted.set()))
        more.start()
        assert not submitted.wait(0.1)
        gate.opened.set()
        assert submitted.wait(10)
        more.join()
    assert gate.calls == [0, 1, 2, 3]


def test_a_call_that_waits_can_be_cancelled_and_one_that_runs_cannot() -> None:
    gate = Gate()
    with Throughput(gate, requests=1) as pool:
        first, second, third = (pool.submit(torch.tensor(number)) for number in range(3))
        assert second.cancel()
        assert not first.cancel()
        gate.opened.set()
        assert third.result() == 3
    assert gate.calls == [0, 2]
    with pytest.raises(CancelledError):
        second.result()


def test_shutdown_can_cancel_what_waits_and_refuses_more() -> None:
    gate = Gate()
    pool = Throughput(gate, requests=1)
    first, second = pool.submit(torch.tensor(0)), pool.submit(torch.tensor(1))
    pool.shutdown(wait=False, cancel_futures=True)
    gate.opened.set()
    assert first.result() == 1
    assert second.cancelled()
    pool.shutdown()
    with pytest.raises(InputError, match="shut down"):
        pool.submit(torch.tensor(2))


def test_an_error_in_the_block_cancels_what_waits() -> None:
    gate, futures = Gate(), []

    def fail() -> None:
        with Throughput(gate, requests=1) as pool:
            futures.extend(pool.submit(torch.tensor(number)) for number in range(2))
            threading.Timer(0.05, gate.opened.set).start()
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert [future.cancelled() for future in futures] == [False, True]


def test_the_threads_of_a_pool_end_with_it(compiled: nn.Module) -> None:
    before = set(threading.enumerate())
    for module in (compiled, network()):
        with Throughput(module) as pool:
            pool.submit(torch.randn(1, 16)).result()
    deadline = time.monotonic() + 10
    while set(threading.enumerate()) - before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize("name", ["compiled by openvino", "not compiled"])
def test_a_callback_may_submit_even_when_no_room_is_left(name: str) -> None:
    module, again, x = MAKERS[name](), [], torch.randn(1, 16)
    finished = threading.Event()
    with Throughput(module, requests=1, waiting=0) as pool:

        def chain(_: object) -> None:
            if len(again) < 5:
                again.append(pool.submit(x))
                again[-1].add_done_callback(chain)
            else:
                finished.set()

        pool.submit(x).add_done_callback(chain)
        assert finished.wait(10)
    assert all(torch.equal(future.result(), again[0].result()) for future in again)


class FailingRun:
    def poll(self) -> None:
        raise RuntimeError("it broke")

    def outputs(self) -> tuple[Tensor, ...]:
        raise RuntimeError("it broke")


class FailingEngine:
    """What OpenVINO does when a run fails: nobody is told."""

    def preferred_runs(self) -> int:
        return 2

    def start(self, inputs: Sequence[Tensor], tell: Callable[[], None]) -> FailingRun:
        return FailingRun()


def test_a_run_that_fails_without_a_word_is_found(compiled: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    route = throughput.route_of(compiled)
    assert route is not None
    monkeypatch.setattr(throughput, "route_of", lambda module: Route(route.door, route.live, FailingEngine()))
    with Throughput(compiled) as pool, pytest.raises(RuntimeError, match="it broke"):
        pool.submit(torch.randn(1, 16)).result(10)


def test_a_pool_that_has_nothing_to_do_keeps_no_result(compiled: nn.Module) -> None:
    with Throughput(compiled) as pool:
        future = pool.submit(torch.randn(2, 16))
        kept = weakref.ref(future.result())
        del future
        until = time.monotonic() + 10
        while kept() is not None and time.monotonic() < until:
            time.sleep(0.01)  # the thread that told us may still be on its way
        assert kept() is None


def test_an_engine_refuses_what_only_the_module_around_it_lets_in(
    compiled: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    route = throughput.route_of(compiled)
    assert route is not None
    (spec,) = compiled.input_specs
    wider = dataclasses.replace(spec, shape=(dataclasses.replace(spec.shape[0], max=99), 16))
    door = Door(compiled.graph, [wider])
    monkeypatch.setattr(throughput, "route_of", lambda module: Route(door, route.live, route.engine))
    with Throughput(compiled) as pool, pytest.raises(InputError, match="Engine"):
        pool.submit(torch.randn(50, 16)).result(10)


def test_engines_that_are_watched_are_shown_each_run(compiled: nn.Module) -> None:
    class Counter:
        runs = 0

        def made(self, engine: object) -> None: ...

        def run(self, engine: object, inputs: Sequence[Tensor]) -> Sequence[Tensor]:
            self.runs += 1
            return engine.run(inputs)

    counter, x = Counter(), torch.randn(2, 16)
    with watching(counter), Throughput(compiled) as pool:
        results = [pool.submit(x) for _ in range(3)]
    assert all(torch.equal(each.result(), compiled(x)) for each in results)
    assert counter.runs == 3


def test_results_in_inference_mode_are_usual_tensors(compiled: nn.Module) -> None:
    with torch.inference_mode():
        x = torch.randn(2, 16)
        with Throughput(compiled) as pool:
            result = pool.submit(x).result()
    result += 1
    torch.testing.assert_close(result, compiled(x.clone()) + 1)


def test_a_module_that_writes_to_its_state_runs_one_call_after_the_other() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("count", torch.zeros(1))

        def forward(self, x: Tensor) -> Tensor:
            self.count += 1
            return x + self.count

    module = torch_tensorrt.compile(Counting().eval(), inputs=[torch.zeros(1)], min_block_size=1)
    with pytest.raises(InputError, match="requests=1"):
        Throughput(module, requests=2)
    with Throughput(module) as pool:
        assert pool.requests == 1
        results = [pool.submit(torch.zeros(1)) for _ in range(5)]
        assert wait(results).not_done == set()
    assert [int(each.result()) for each in results] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("wrong", [{"requests": 0}, {"requests": 1.5}, {"requests": True}, {"waiting": -1}])
def test_numbers_that_mean_nothing_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        Throughput(network(), **wrong)


def test_only_modules_are_taken() -> None:
    with pytest.raises(InputError, match="a module"):
        Throughput(lambda x: x)
