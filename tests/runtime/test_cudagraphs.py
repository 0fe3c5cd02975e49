"""CUDA graphs: what is captured when, what a replay reads and gives, and what is said where nothing can be captured."""

from __future__ import annotations

import copy
import gc
import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from runtime.fake_cuda import FakeDevice
from torch import Tensor, nn

import torch_tensorrt
from torch_tensorrt import InputError, UnsupportedError, runtime
from torch_tensorrt.observe import log
from torch_tensorrt.runtime import CudaGraphsMode, op
from torch_tensorrt.runtime.cudagraphs import calls, mode, whole
from torch_tensorrt.runtime.cudagraphs.calls import GraphCalls, Options, UncapturedError
from torch_tensorrt.runtime.cudagraphs.contents import Contents

Run = Callable[[Sequence[Any]], Sequence[object]]


@pytest.fixture(autouse=True)
def devices(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[FakeDevice]]:
    """The devices that calls were captured on."""
    made: list[FakeDevice] = []

    def make(index: int) -> FakeDevice:
        made.append(FakeDevice(index))
        return made[-1]

    monkeypatch.setattr(calls, "CudaDevice", make)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(log, "_said", set())
    yield made
    runtime.set_cudagraphs_mode(False)


def graphs_of(
    run: Run,
    *,
    refusal: str = "",
    on_gpu: bool = False,
    random: bool = False,
    state: Sequence[Tensor] = (),
    **options: Any,
) -> GraphCalls:
    return GraphCalls("The model", run, Contents(refusal, on_gpu, random, lambda: state), Options(**options))


def doubled(flat: Sequence[Any]) -> Sequence[object]:
    return [flat[0] * 2]


def steps(device: FakeDevice, kind: str) -> int:
    return device.calls.count(kind)


def test_a_call_is_captured_after_warm_ups_and_replayed_from_then_on(devices: list[FakeDevice]) -> None:
    graphs = graphs_of(doubled)
    for turn in range(3):
        x = torch.full((4,), float(turn))
        assert torch.equal(graphs([x])[0], x * 2)
    assert devices[0].calls == ["warm-up", "warm-up", "capture", "replay", "replay", "replay"]


def test_results_stay_as_they_are_when_others_are_computed() -> None:
    graphs = graphs_of(doubled)
    results = [graphs([torch.full((4,), float(turn))])[0] for turn in range(5)]
    assert [float(y[0]) for y in results] == [0, 2, 4, 6, 8]  # type: ignore[index]
    assert len({y.data_ptr() for y in results}) == 5  # type: ignore[attr-defined]


def test_results_that_are_not_the_callers_own_are_written_over() -> None:
    graphs = graphs_of(doubled, own=False)
    first, second = (graphs([torch.full((4,), float(turn))])[0] for turn in range(2))
    assert first is second
    assert torch.equal(first, torch.full((4,), 2.0))  # type: ignore[arg-type]


X = torch.arange(12.0).view(3, 4)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([X], [X[:2]]),
        ([X], [X.t()]),
        ([X], [X.int()]),
        ([X, 1], [X, 2]),
        ([X, 1], [X, True]),
        ([X, 1], [X, 1.0]),
        ([X, None], [X, "a"]),
        ([X], [X, X]),
    ],
    ids=["sizes", "strides", "dtypes", "numbers", "true", "kinds of numbers", "other values", "how many"],
)
def test_other_inputs_have_a_graph_of_their_own(
    devices: list[FakeDevice], one: list[object], other: list[object]
) -> None:
    graphs = graphs_of(doubled)
    for flat in (one, other, one, other):
        assert torch.equal(graphs(flat)[0], flat[0] * 2)  # type: ignore[arg-type,operator]
    assert steps(devices[0], "capture") == 2


def test_the_graph_that_was_not_used_for_longest_goes_when_it_is_over(devices: list[FakeDevice]) -> None:
    graphs = graphs_of(doubled, kept=2)
    for size in (1, 2, 1, 3, 1):
        graphs([torch.ones(size)])
    assert len(graphs) == 2
    assert steps(devices[0], "capture") == 3
    assert steps(devices[0], "wait") == 1
    graphs([torch.ones(2)])
    assert steps(devices[0], "capture") == 4


def test_how_many_are_kept_is_the_process_s_choice_where_the_caller_makes_none() -> None:
    runtime.set_cudagraphs_mode(False, kept=3)
    graphs = graphs_of(doubled)
    for size in range(1, 6):
        graphs([torch.ones(size)])
    assert len(graphs) == 3


def test_the_graphs_of_a_model_share_their_memory(devices: list[FakeDevice]) -> None:
    graphs = graphs_of(doubled)
    for size in (1, 2, 3):
        graphs([torch.ones(size)])
    first, second, third = devices[0].pools
    assert first is None
    assert second is third is not None


def test_forgotten_graphs_are_captured_again(devices: list[FakeDevice]) -> None:
    graphs = graphs_of(doubled)
    graphs([X])
    graphs.forget()
    assert len(graphs) == 0
    graphs([X])
    assert devices[0].calls[4:] == ["wait", "warm-up", "warm-up", "capture", "replay"]


@pytest.mark.parametrize("count", [1, 2, 3, 9])
def test_any_number_of_inputs_and_results(count: int) -> None:
    graphs = graphs_of(lambda flat: [x + 1 for x in flat])
    for turn in range(3):
        flat = [torch.full((2,), float(turn * 10 + place)) for place in range(count)]
        given = graphs(flat)
        assert all(torch.equal(y, x + 1) for x, y in zip(flat, given, strict=True))  # type: ignore[arg-type]


def test_inputs_that_are_the_graph_s_own_tensors_are_not_copied() -> None:
    graphs = graphs_of(lambda flat: [x + 1 for x in flat])
    (own,) = graphs.prepare([torch.zeros(2)])
    assert isinstance(own, Tensor)
    own.fill_(7.0)
    version = own._version
    assert torch.equal(graphs([own])[0], torch.full((2,), 8.0))  # type: ignore[arg-type]
    assert own._version == version


def test_graphs_that_nobody_has_any_more_go_when_they_are_over(devices: list[FakeDevice]) -> None:
    graphs = graphs_of(doubled)
    graphs([X])
    del graphs
    gc.collect()
    assert devices[0].calls[-1] == "wait"


def test_a_result_that_is_an_input_is_the_callers_tensor() -> None:
    graphs = graphs_of(lambda flat: [flat[1], flat[0] * 2, flat[0]])
    for _ in range(2):
        x, z = torch.randn(3), torch.randn(3)
        same_z, y, same_x = graphs([x, z])
        assert same_x is x
        assert same_z is z
        assert torch.equal(y, x * 2)  # type: ignore[arg-type]


def test_a_result_that_shows_an_input_shows_the_callers() -> None:
    graphs = graphs_of(lambda flat: [flat[0].t(), flat[0][1:]])
    base = torch.randn(10, 4)
    for x in (base[:3], base[4:7]):
        turned, rest = graphs([x])
        assert isinstance(turned, Tensor)
        assert isinstance(rest, Tensor)
        assert torch.equal(turned, x.t())
        assert torch.equal(rest, x[1:])
        x[2, 2] = 99.0
        assert float(turned[2, 2]) == float(rest[1, 2]) == 99.0


def test_a_result_that_is_the_model_s_own_tensor_is_that_and_numbers_are_numbers() -> None:
    weight = torch.randn(3)
    graphs = graphs_of(lambda flat: [weight, flat[0].shape[0], None, flat[0] + weight])
    for _ in range(2):
        own, size, nothing, y = graphs([X[0, :3]])
        assert own is weight
        assert (size, nothing) == (3, None)
        assert torch.equal(y, X[0, :3] + weight)  # type: ignore[arg-type]


def test_a_result_given_twice_is_one_tensor() -> None:
    def run(flat: Sequence[Any]) -> Sequence[object]:
        y = flat[0] + 1
        return [y, y]

    one, two = graphs_of(run)([X])
    assert one is two


@pytest.mark.parametrize(
    "x",
    [X.t(), X[:, ::2], torch.ones(1, 4).expand(3, 4), torch.empty(0, 4), torch.randn(3, 4, requires_grad=True)],
    ids=["turned", "with gaps", "expanded", "empty", "with gradients"],
)
def test_inputs_of_any_layout(x: Tensor) -> None:
    graphs = graphs_of(lambda flat: [flat[0] * 2, flat[0].t(), flat[0]])
    for _ in range(2):
        y, turned, same = graphs([x])
        assert isinstance(y, Tensor)
        assert torch.equal(y, x.detach() * 2)
        assert not y.requires_grad
        assert torch.equal(turned, x.detach().t())  # type: ignore[arg-type]
        assert same is x


def test_a_graph_captured_in_inference_mode_serves_outside_of_it_and_the_other_way_round() -> None:
    graphs = graphs_of(doubled)
    with torch.inference_mode():
        graphs([torch.ones(2)])
    assert torch.equal(graphs([torch.ones(2)])[0], torch.full((2,), 2.0))  # type: ignore[arg-type]
    with torch.inference_mode():
        assert torch.equal(graphs([torch.ones(2)])[0], torch.full((2,), 2.0))  # type: ignore[arg-type]


def test_what_the_model_writes_to_its_inputs_reaches_the_callers() -> None:
    def run(flat: Sequence[Any]) -> Sequence[object]:
        flat[0].add_(1)
        return [flat[0] * 2]

    graphs = graphs_of(run)
    for _ in range(3):
        x = torch.zeros(2)
        assert torch.equal(graphs([x])[0], torch.full((2,), 2.0))  # type: ignore[arg-type]
        assert torch.equal(x, torch.ones(2))


def test_what_the_model_writes_to_its_buffers_is_written_once_a_call() -> None:
    count = torch.zeros(1)

    def run(flat: Sequence[Any]) -> Sequence[object]:
        count.add_(1)
        return [flat[0] * count]

    graphs = graphs_of(run, state=[count])
    device = graphs._devices[-1] = FakeDevice(-1)
    device.state = [count]
    for turn in range(1, 4):
        assert torch.equal(graphs([torch.ones(2)])[0], torch.full((2,), float(turn)))  # type: ignore[arg-type]
    assert float(count) == 3.0


def test_numbers_on_the_cpu_are_part_of_what_is_captured(devices: list[FakeDevice]) -> None:
    graphs = graphs_of(lambda flat: [flat[0] * float(flat[1])], on_gpu=True)
    for value in (2.0, 3.0, 2.0):
        x = torch.randn(3)
        assert torch.equal(graphs([x, torch.tensor(value)])[0], x * value)  # type: ignore[arg-type]
    assert steps(devices[0], "capture") == 2


def test_random_numbers_of_warm_ups_are_put_back(devices: list[FakeDevice]) -> None:
    graphs_of(doubled, random=True)([X])
    assert devices[0].calls[:2] == ["warm-up, random"] * 2


def test_within_a_capture_of_the_callers_the_model_itself_runs(
    devices: list[FakeDevice], monkeypatch: pytest.MonkeyPatch
) -> None:
    graphs = graphs_of(doubled)
    graphs([X])
    monkeypatch.setattr(calls, "is_capturing", lambda: True)
    assert torch.equal(graphs([X])[0], X * 2)  # type: ignore[arg-type]
    assert torch.equal(graphs([X[:1]])[0], X[:1] * 2)  # type: ignore[arg-type]
    assert steps(devices[0], "replay") == 1
    assert steps(devices[0], "capture") == 1


def test_threads_take_turns(devices: list[FakeDevice]) -> None:
    graphs = graphs_of(doubled, kept=3)

    def call(seed: int) -> bool:
        flat = [torch.randn(1 + (seed + turn) % 5) for turn in range(20)]
        return all(torch.equal(graphs([x])[0], x * 2) for x in flat)  # type: ignore[arg-type]

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(call, range(8)))
    assert len(devices) == 1


def test_a_reason_against_it_is_told_with_what_to_do_instead() -> None:
    graphs = graphs_of(doubled, refusal="'nonzero' (aten.nonzero.default) waits for data", on_gpu=True)
    with pytest.raises(UncapturedError, match=r"The model can't be captured .*'nonzero' .*set_cudagraphs_mode"):
        graphs([X])


def failing(graphs: GraphCalls, reason: str = "operation not permitted when stream is capturing") -> GraphCalls:
    device = graphs._devices[-1] = FakeDevice(-1)
    device.fails = RuntimeError(reason)
    return graphs


def test_a_capture_that_fails_is_one_error_with_cuda_s_words() -> None:
    graphs = failing(graphs_of(doubled))
    with pytest.raises(UncapturedError, match=r"can't be captured .*not permitted when stream is capturing") as caught:
        graphs([X])
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert len(graphs) == 0


def test_what_may_run_without_a_graph_does_so_and_says_why_once(caplog: pytest.LogCaptureFixture) -> None:
    graphs = failing(graphs_of(doubled))
    for _ in range(3):
        assert torch.equal(graphs.or_run([X])[0], X * 2)  # type: ignore[arg-type]
    (told,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "without a CUDA graph" in told.message
    assert "not permitted" in told.message


def test_an_error_of_the_model_itself_is_that_error_and_leaves_its_tensors_alone() -> None:
    count = torch.zeros(1)

    def run(flat: Sequence[Any]) -> Sequence[object]:
        count.add_(1)
        raise RuntimeError("index out of range")

    with pytest.raises(RuntimeError, match="index out of range") as caught:
        graphs_of(run, state=[count]).or_run([X])
    assert not isinstance(caught.value, UnsupportedError)
    assert float(count) == 0.0


def test_a_result_elsewhere_is_named() -> None:
    with pytest.raises(UncapturedError, match="its result 1 is on cpu"):
        graphs_of(lambda flat: [flat[0], flat[0].double()])([X])


# --- whole models, and engines one by one ---


class Model(nn.Module):
    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        with torch.no_grad():
            self.layer.weight.copy_(torch.eye(4) * scale)
            self.layer.bias.zero_()

    def forward(self, x: Tensor, *, more: Tensor) -> dict[str, Tensor]:
        return {"sum": self.layer(x) + more, "x": x}


def compiled(**options: Any) -> torch_tensorrt.CompiledModule:
    sizes = torch_tensorrt.Input(min_shape=(1, 4), opt_shape=(2, 4), max_shape=(8, 4))
    return torch_tensorrt.compile(
        Model().eval(),
        arg_inputs=[sizes],
        kwarg_inputs={"more": torch.zeros(4)},
        engine="eager",
        min_block_size=1,
        **options,
    )


@pytest.fixture
def on_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models and engines for the CPU pass for ones that a GPU runs."""
    contents = Contents("", on_gpu=True, random=False, state=tuple)
    monkeypatch.setattr(whole, "contents_of_graph", lambda module: contents)
    monkeypatch.setattr(op, "contents_of_engine", lambda spec: contents)


def check(module: Callable[..., Any], scale: float = 1.0, size: int = 3) -> None:
    x, more = torch.randn(size, 4), torch.randn(4)
    given = module(x, more=more)
    torch.testing.assert_close(given["sum"], x * scale + more)
    assert given["x"] is x


@pytest.mark.usefixtures("on_gpu")
def test_a_whole_model_is_called_with_its_own_arguments_and_results(devices: list[FakeDevice]) -> None:
    module = compiled()
    with runtime.enable_cudagraphs(module) as graphs:
        for size in (3, 3, 5):
            check(graphs, size=size)
        assert steps(devices[0], "capture") == 2
        assert steps(devices[0], "replay") == 3
        with pytest.raises(InputError, match="dimension 0"):
            graphs(torch.randn(9, 4), more=torch.randn(4))
    check(graphs)
    check(module)
    assert steps(devices[0], "replay") == 3
    assert len(module.whole_calls().calls) == 0


@pytest.mark.usefixtures("on_gpu")
@pytest.mark.parametrize(
    ("chosen", "whole_model"),
    [
        (True, False),
        (CudaGraphsMode.SUBGRAPH_CUDAGRAPHS, False),
        (CudaGraphsMode.WHOLE_GRAPH_CUDAGRAPHS, True),
    ],
)
def test_a_mode_holds_for_every_model_until_it_is_changed(
    devices: list[FakeDevice], chosen: bool | CudaGraphsMode, whole_model: bool
) -> None:
    module = compiled()
    runtime.set_cudagraphs_mode(chosen)
    assert runtime.get_cudagraphs_mode() is not whole_model
    assert runtime.get_whole_cudagraphs_mode() is whole_model
    for _ in range(2):
        check(module)
    assert steps(devices[0], "replay") == 2
    assert len(module.whole_calls().calls) == whole_model
    runtime.set_cudagraphs_mode(False)
    check(module)
    assert steps(devices[0], "replay") == 2


@pytest.mark.usefixtures("on_gpu")
def test_new_weights_are_captured_anew_and_the_choices_stay(devices: list[FakeDevice]) -> None:
    module = compiled(immutable_weights=False)
    sizes = {"x": {0: torch.export.Dim("n", min=1, max=8)}, "more": None}
    program = torch.export.export(
        Model(3.0).eval(), (torch.randn(2, 4),), {"more": torch.zeros(4)}, dynamic_shapes=sizes
    )
    with runtime.enable_cudagraphs(module, kept=5) as graphs:
        check(graphs)
        torch_tensorrt.dynamo.refit_module_weights(module, program, in_place=True)
        check(graphs, scale=3.0)
        check(graphs, scale=3.0)
        assert graphs.options.kept == 5
    assert sum(steps(device, "capture") for device in devices) == 2


@pytest.mark.usefixtures("on_gpu")
def test_a_loaded_program_is_replayed_and_captured_anew_when_its_engines_are_exchanged(
    devices: list[FakeDevice], tmp_path: Any
) -> None:
    torch_tensorrt.save(compiled(), str(tmp_path / "model.ep"))
    module = torch_tensorrt.load(str(tmp_path / "model.ep")).module()
    with runtime.enable_cudagraphs(module) as graphs:
        for size in (3, 3, 5):
            check(graphs, size=size)
        assert steps(devices[0], "replay") == 3
        assert graphs.validate_input_shapes([torch.randn(3, 4)]) is True  # of another form: without `more`
        constant = module.engine_part_0.clone()
        module.register_buffer("engine_part_0", constant)
        check(graphs)
    assert sum(steps(device, "capture") for device in devices) == 3


class Fails(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cumsum(torch.relu(x) * 2, 0)


@pytest.mark.usefixtures("on_gpu")
def test_the_operation_at_which_a_capture_stopped_is_named(
    devices: list[FakeDevice], monkeypatch: pytest.MonkeyPatch
) -> None:
    operations = {"torch.ops.aten.cumsum.default"}
    module = torch_tensorrt.compile(
        Fails().eval(), inputs=[torch.ones(3)], engine="eager", min_block_size=1, torch_executed_ops=operations
    )
    graphs = runtime._cudagraphs.CudaGraphsTorchTensorRTModule(module)
    device = module.whole_calls().calls._devices[0] = FakeDevice(0)
    device.stops_at = torch.ops.aten.cumsum.default
    with pytest.raises(UnsupportedError, match=r"at 'cumsum = torch\.ops\.aten\.cumsum\.default"):
        graphs(torch.ones(3))


@pytest.mark.usefixtures("on_gpu")
def test_a_copied_module_has_graphs_of_its_own(devices: list[FakeDevice]) -> None:
    module = compiled()
    with runtime.enable_cudagraphs(module, kept=2) as graphs:
        check(graphs)
        for copied in (copy.deepcopy(graphs), runtime._cudagraphs.CudaGraphsTorchTensorRTModule(copy.deepcopy(module))):
            assert copied.compiled_module is not module
            check(copied)
            check(copied)
    assert [steps(device, "replay") for device in devices] == [1, 2, 2]


@pytest.mark.usefixtures("on_gpu")
def test_the_typical_sizes_are_captured_ahead(devices: list[FakeDevice]) -> None:
    graphs = runtime._cudagraphs.CudaGraphsTorchTensorRTModule(compiled())
    graphs.warm_up()
    assert devices[0].calls == ["warm-up", "warm-up", "capture"]
    check(graphs, size=2)
    assert devices[0].calls[3:] == ["replay"]
    own = graphs.input_buffers(torch.randn(2, 4), more=torch.randn(4))
    assert [tensor.shape for tensor in own] == [(2, 4), (4,)]
    assert steps(devices[0], "capture") == 1


@pytest.mark.usefixtures("on_gpu")
def test_preallocated_outputs_are_the_graph_s_own_within_the_block() -> None:
    x, more = torch.randn(3, 4), torch.zeros(4)
    with runtime.enable_cudagraphs(compiled()) as graphs:
        with runtime.enable_pre_allocated_outputs(graphs):
            first, second = graphs(x, more=more)["sum"], graphs(x + 1, more=more)["sum"]
            assert first is second
        assert graphs(x, more=more)["sum"].data_ptr() != first.data_ptr()


@pytest.mark.usefixtures("on_gpu")
def test_a_module_with_hooks_runs_them_without_a_graph(
    devices: list[FakeDevice], caplog: pytest.LogCaptureFixture
) -> None:
    module, seen = compiled(), []
    with runtime.enable_cudagraphs(module) as graphs:
        handle = module.register_forward_hook(lambda *_: seen.append(1))
        check(graphs)
        handle.remove()
        check(graphs)
    assert seen == [1]
    assert "hooks" in caplog.text
    assert steps(devices[0], "replay") == 1


@pytest.mark.usefixtures("on_gpu")
def test_a_module_with_hooks_is_not_captured_by_the_mode_either(
    devices: list[FakeDevice], caplog: pytest.LogCaptureFixture
) -> None:
    module, seen = compiled(), []
    module.register_forward_hook(lambda *_: seen.append(1))
    runtime.set_cudagraphs_mode(CudaGraphsMode.WHOLE_GRAPH_CUDAGRAPHS)
    check(module)
    assert (seen, devices) == ([1], [])
    assert "hooks" in caplog.text


def test_a_model_on_the_cpu_runs_as_ever_and_a_warning_says_so_once(
    devices: list[FakeDevice], caplog: pytest.LogCaptureFixture
) -> None:
    module = compiled()
    for chosen in (True, CudaGraphsMode.WHOLE_GRAPH_CUDAGRAPHS):
        caplog.clear()
        runtime.set_cudagraphs_mode(chosen)
        check(module)
        check(module)
        (told,) = [record.message for record in caplog.records if record.levelno == logging.WARNING]
        assert "CPU" in told
    runtime.set_cudagraphs_mode(False)
    with runtime.enable_cudagraphs(module) as graphs:
        check(graphs)
    assert not devices


def test_what_is_no_compiled_model_is_refused() -> None:
    with pytest.raises(InputError, match="A Linear can't be captured"), runtime.enable_cudagraphs(nn.Linear(1, 1)):
        pass


@pytest.mark.parametrize("wrong", ["whole", 1, None, 2.0])
def test_another_mode_is_refused_and_changes_nothing(wrong: Any) -> None:
    runtime.set_cudagraphs_mode(True)
    with pytest.raises(InputError, match=r"CudaGraphsMode\.WHOLE_GRAPH_CUDAGRAPHS"):
        runtime.set_cudagraphs_mode(wrong)
    assert mode.each_engine


@pytest.mark.parametrize("wrong", [0, -1, True, "3"])
def test_a_number_of_graphs_that_can_t_be_is_refused(wrong: Any) -> None:
    with pytest.raises(InputError, match="at least 1"):
        runtime.set_cudagraphs_mode(False, kept=wrong)


def test_strategies_of_an_sdk_and_memory_asked_for_in_a_run_are_refused() -> None:
    with (
        pytest.raises(UnsupportedError, match="whole_graph"),
        runtime.enable_cudagraphs(compiled(), cuda_graph_strategy="whole_graph"),
    ):
        pass
    with runtime.enable_cudagraphs(compiled()) as graphs:
        graphs.set_use_output_allocator(False)
        with pytest.raises(UnsupportedError, match="enable_output_allocator"):
            graphs.set_use_output_allocator(True)
