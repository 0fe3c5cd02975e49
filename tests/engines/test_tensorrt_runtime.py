"""How TensorRT engines run, against a fake of the SDK that keeps its rules: order, addresses, lifetimes, streams, threads."""

from __future__ import annotations

import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as TimedOut
from pathlib import Path

import pytest
import torch
from torch import Tensor

from engines.fake_tensorrt import POSITIVE_ROWS, RANGE, SPEC, Gpu, made
from torch_tensorrt.contracts import abilities
from torch_tensorrt.engines.tensorrt import contexts, kernels
from torch_tensorrt.engines.tensorrt.outputs import FoundMemory
from torch_tensorrt.spec.errors import BuildError, EngineNotRunnable, FileFormatError, InputError, InternalError
from torch_tensorrt.spec.tensor_spec import TensorSpec

DECODE_AND_PREFILL = [[[1, 3], [1, 3], [1, 3]], [[1, 3], [4, 3], [6, 3]]]
GAP = [[[1, 3], [1, 3], [2, 3]], [[6, 3], [6, 3], [8, 3]]]


@pytest.fixture(autouse=True)
def _kernels_of_the_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(kernels, "_open", {})


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Gpu:
    return Gpu(monkeypatch)


def at_a_good_address(x: Tensor) -> Tensor:
    """`x` where CUDA's allocators could have put it, so that it needn't be copied."""
    memory = torch.empty(x.numel() + 64)
    start = -memory.data_ptr() % 256 // 4
    return memory[start : start + x.numel()].view(x.shape).copy_(x)


def wanted(x: Tensor) -> Tensor:
    return torch.cat([x, x])


def test_shapes_are_set_before_addresses_and_both_before_the_run(gpu: Gpu) -> None:
    x = at_a_good_address(torch.randn(4, 3))
    (y,) = made().run([x])
    assert gpu.steps() == ["deserialize", "shape", "address", "address", "execute"]
    assert gpu.calls[1:] == [
        ("shape", "x", (4, 3)),
        ("address", "x", x.data_ptr()),
        ("address", "y", y.data_ptr()),
        ("execute", 7),  # the caller's current stream
    ]
    assert torch.equal(y, wanted(x))


@pytest.mark.parametrize(
    "view",
    [lambda x: x.t().contiguous().t(), lambda x: torch.cat([x.new_zeros(1, 3), x])[1:], lambda x: x.clone()],
    ids=["not contiguous", "at an address of no allocator", "plain"],
)
def test_inputs_arrive_whatever_their_memory_looks_like(gpu: Gpu, view: object) -> None:
    x = torch.randn(4, 3)
    assert callable(view)
    (y,) = made().run([view(x)])
    assert torch.equal(y, wanted(x))


def test_copies_of_inputs_live_until_the_run_is_enqueued(gpu: Gpu) -> None:
    x = torch.randn(3, 8).t()  # copied; the fake writes over memory that was freed before the run
    assert torch.equal(made().run([x])[0], wanted(x))


def test_output_sizes_follow_from_the_inputs_and_each_call_gives_fresh_memory(gpu: Gpu) -> None:
    engine = made()
    (first,), (second,) = engine.run([torch.ones(4, 3)]), engine.run([torch.ones(2, 3)])
    assert (first.shape, second.shape) == ((8, 3), (4, 3))
    assert first.data_ptr() != second.data_ptr()


def test_a_context_serves_the_next_run_on_its_stream_without_waiting(gpu: Gpu) -> None:
    engine = made()
    for _ in range(3):
        engine.run([torch.ones(4, 3)])
    (live,) = engine._lives.values()
    assert live.engine.contexts == 1
    assert gpu.steps().count("deserialize") == 1
    assert gpu.streams[0].waited == []


def test_a_run_on_another_stream_gets_another_context_while_the_first_may_be_busy(gpu: Gpu) -> None:
    engine = made()
    engine.run([torch.ones(4, 3)])
    (live,) = engine._lives.values()
    with gpu.on_another_stream() as stream:
        engine.run([torch.ones(4, 3)])
        assert live.engine.contexts == 2
        assert gpu.calls[-1] == ("execute", stream.cuda_stream)


def test_a_context_whose_last_run_is_over_is_taken_and_waited_for_all_the_same(gpu: Gpu) -> None:
    engine = made()
    engine.run([torch.ones(4, 3)])
    (live,) = engine._lives.values()
    (slot,) = live.contexts._free
    assert slot.done is not None
    slot.done.synchronize()
    with gpu.on_another_stream() as stream:
        engine.run([torch.ones(4, 3)])
    assert live.engine.contexts == 1
    assert len(stream.waited) == 1


def test_many_streams_share_a_few_contexts_and_wait_for_the_oldest(gpu: Gpu) -> None:
    engine = made()
    streams = []
    for _ in range(20):
        with gpu.on_another_stream() as stream:
            engine.run([torch.ones(4, 3)])
            streams.append(stream)
    (live,) = engine._lives.values()
    assert live.engine.contexts == contexts._MOST_IDLE
    first, ninth = streams[0], streams[contexts._MOST_IDLE]
    assert [event.stream for event in ninth.waited] == [first]


def test_threads_run_one_engine_at_once_each_with_a_context_of_its_own(gpu: Gpu) -> None:
    engine = made()
    inputs = [torch.randn(size, 3) for size in (1, 2, 3, 4, 5, 6, 7, 8) * 8]
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda x: engine.run([x])[0], inputs))
    assert all(torch.equal(ours, wanted(x)) for ours, x in zip(results, inputs, strict=True))
    assert gpu.steps().count("deserialize") == 1


def test_a_captured_run_keeps_its_context_for_the_graph(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = made()
    engine.run([torch.ones(4, 3)])
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    engine.run([torch.ones(4, 3)])
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    engine.run([torch.ones(4, 3)])
    (live,) = engine._lives.values()
    assert live.engine.contexts == 2
    assert len(live.contexts._captured) == 1


@pytest.mark.parametrize("step", ["shape", "address", "execute", "profile"])
def test_a_step_that_the_sdk_refuses_is_an_error_and_its_context_is_not_used_again(gpu: Gpu, step: str) -> None:
    engine = made(profiles=DECODE_AND_PREFILL)
    gpu.fails = step
    with pytest.raises(BuildError, match=rf"could not .*'part_0'.*: {step} did not work"):
        engine.run([torch.ones(4, 3)])
    gpu.fails = ""
    x = torch.ones(4, 3)
    assert torch.equal(engine.run([x])[0], wanted(x))
    (live,) = engine._lives.values()
    assert live.engine.contexts == 1


def test_no_context_is_an_error_and_blocks_nobody(gpu: Gpu) -> None:
    engine = made()
    gpu.fails = "context"
    for _ in range(2):
        with pytest.raises(EngineNotRunnable, match="no execution context for 'part_0'"):
            engine.run([torch.ones(4, 3)])
    engine.set_streaming_budget(0)  # waits for all runs


def test_a_plan_that_this_gpu_can_t_read_names_both_sides_and_the_sdk_s_reason(gpu: Gpu) -> None:
    gpu.fails = "deserialize"
    says = r"1\.7 for sm_89; TensorRT-RTX 1\.8 can't.*a GPU/1 \(sm_90\).*for another GPU \(UNSUPPORTED_CC\)"
    with pytest.raises(EngineNotRunnable, match=says):
        made().run([torch.ones(4, 3)])
    with pytest.raises(EngineNotRunnable, match="another GPU"):
        made().require_machine()


def test_without_a_gpu_it_is_said_what_the_engine_targets_and_what_is_here(
    gpu: Gpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(EngineNotRunnable, match=r"TensorRT-RTX 1\.7 for sm_89; .*GPU, and PyTorch .* sees none here"):
        made().run([torch.ones(4, 3)])


def test_a_plan_with_other_inputs_than_its_description_is_a_changed_file(gpu: Gpu) -> None:
    other = dataclasses.replace(SPEC, inputs=(TensorSpec("z", torch.float32, (4, 3)),))
    with pytest.raises(FileFormatError, match=r"should take \['z'\] and give \['y'\]; its plan takes \['x'\]"):
        made(other).run([torch.ones(4, 3)])


def test_an_engine_has_every_ability_but_running_ahead() -> None:
    known = [value for value in vars(abilities).values() if getattr(value, "_is_protocol", False)]
    known = [ability for ability in known if ability.__module__ == abilities.__name__]
    known.remove(abilities.Run)  # what RunsAhead gives
    missing = [ability for ability in known if not isinstance(made(), ability)]
    assert len(known) > len(missing)
    assert missing == [abilities.RunsAhead]  # its runs are enqueued as it is


# Profiles


@pytest.mark.parametrize(("batch", "profile"), [(1, 0), (2, 1), (6, 1)])
def test_the_first_profile_that_the_sizes_are_in_is_used(gpu: Gpu, batch: int, profile: int) -> None:
    x = torch.randn(batch, 3)
    assert torch.equal(made(profiles=DECODE_AND_PREFILL).run([x])[0], wanted(x))
    assert [call[1:] for call in gpu.calls if call[0] == "profile"] == ([(profile, 7)] if profile else [])
    assert gpu.steps()[-4:] == ["shape", "address", "address", "execute"]


def test_a_context_that_is_set_to_a_profile_already_is_not_switched(gpu: Gpu) -> None:
    engine = made(profiles=DECODE_AND_PREFILL)
    for batch in (4, 5, 1, 1, 4):
        engine.run([torch.ones(batch, 3)])
    assert [call[1] for call in gpu.calls if call[0] == "profile"] == [1, 0, 1]


def test_a_chosen_profile_is_used_though_another_one_fits(gpu: Gpu) -> None:
    engine = made(profiles=DECODE_AND_PREFILL)
    assert engine.choose_profile(1) is None
    engine.run([torch.ones(1, 3)])
    assert ("profile", 1, 7) in gpu.calls
    assert engine.choose_profile(None) == 1


@pytest.mark.parametrize(("chosen", "batch"), [(None, 4), (0, 7), (1, 1)])
def test_sizes_within_no_profile_are_an_input_error_that_lists_them(gpu: Gpu, chosen: int | None, batch: int) -> None:
    engine = made(profiles=GAP)
    engine.choose_profile(chosen)
    with pytest.raises(InputError, match=rf"\({batch}, 3\).*profile 0: x \(1, 3\) to \(2, 3\); profile 1: x \(6, 3\)"):
        engine.run([torch.ones(batch, 3)])


def test_a_profile_that_there_isn_t_can_t_be_chosen(gpu: Gpu) -> None:
    with pytest.raises(InputError, match="no profile 2; it has profile 0"):
        made(profiles=GAP).choose_profile(2)


# Outputs


@pytest.mark.parametrize("rows", [0, 2, 4])
def test_an_output_whose_size_depends_on_the_data_gets_its_memory_during_the_run(gpu: Gpu, rows: int) -> None:
    x = torch.rand(4, 3) + 1
    x[rows:] *= -1
    (y,) = made(POSITIVE_ROWS, rows=True).run([x])
    assert torch.equal(y, x[:rows])
    assert gpu.steps()[1:] == ["shape", "address", "allocator", "execute", "allocator"]
    assert [call[2] for call in gpu.calls if call[0] == "allocator"] == [True, False]  # and is let go afterwards


def test_all_outputs_can_be_asked_for_by_the_engine(gpu: Gpu) -> None:
    engine, x = made(), torch.randn(5, 3)
    assert engine.place_outputs(by_engine=True) == (False, False)
    assert torch.equal(engine.run([x])[0], wanted(x))
    assert engine.place_outputs(by_engine=False) == (False, True)
    assert torch.equal(engine.run([x])[0], wanted(x))
    assert gpu.steps().count("allocator") == 2


def test_no_memory_for_an_output_is_the_error_that_pytorch_raised(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = made(POSITIVE_ROWS, rows=True)
    plain = torch.empty

    def fails(*size: object, dtype: torch.dtype, **options: object) -> Tensor:
        if dtype is torch.uint8:
            raise torch.OutOfMemoryError("none left")
        return plain(*size, dtype=dtype, **options)  # type: ignore[call-overload, no-any-return]

    monkeypatch.setattr(torch, "empty", fails)
    with pytest.raises(BuildError, match="none left") as caught:
        engine.run([torch.ones(4, 3)])
    assert isinstance(caught.value.__cause__, torch.OutOfMemoryError)


def test_memory_that_the_sdk_asks_for_is_aligned_as_it_wants() -> None:
    memory = FoundMemory(torch.device("cpu"))
    for alignment in (1, 256, 4096):
        assert memory.reallocate("y", 100, alignment) % alignment == 0
    with pytest.raises(InternalError, match="no sizes for its output 'y'"):
        memory.tensor("y", torch.float32)


def test_outputs_allocated_ahead_are_used_once_and_only_for_the_same_shapes_and_stream(gpu: Gpu) -> None:
    engine = made()
    engine.place_outputs(ahead=True)
    (live,) = [engine._live(torch.device("cpu"))]
    inputs = [torch.randn(size, 3) for size in (4, 4, 2, 2)]
    results, used = [], []
    for x in inputs:
        slot = next(iter(live.contexts._free), None)
        ahead = None if slot is None or slot.spare is None else slot.spare[1][0]
        results.append(engine.run([x])[0])
        used.append(ahead is not None and results[-1].data_ptr() == ahead.data_ptr())
    assert used == [False, True, False, True]
    assert all(torch.equal(ours, wanted(x)) for ours, x in zip(results, inputs, strict=True))
    assert len({result.data_ptr() for result in results}) == 4
    with gpu.on_another_stream():
        ahead = live.contexts._free[0].spare
        assert ahead is not None
        assert ahead[1][0] is not None
        assert engine.run([inputs[-1]])[0].data_ptr() != ahead[1][0].data_ptr()
    (slot,) = [slot for slot in live.contexts._free if slot.spare is ahead]
    assert slot.done is not None
    slot.done.synchronize()  # so that another stream takes this very context
    with gpu.on_another_stream():
        assert engine.run([inputs[-1]])[0].data_ptr() != ahead[1][0].data_ptr()
        assert not [slot for slot in live.contexts._free if slot.spare is ahead]
    engine.place_outputs(ahead=False)
    engine.run([inputs[0]])
    assert any(slot.spare is None for slot in live.contexts._free)


# Weight streaming


def test_the_streaming_budget_is_set_while_no_context_exists_and_later_runs_work(gpu: Gpu) -> None:
    engine = made(streamable=1000)
    x = torch.randn(4, 3)
    engine.run([x])
    assert (engine.streamable_weights(), engine.streaming_budget(), engine.automatic_streaming_budget()) == (
        1000,
        1000,
        500,
    )
    engine.set_streaming_budget(300)  # the fake refuses it beside a context
    assert engine.streaming_budget() == 300
    assert torch.equal(engine.run([x])[0], wanted(x))


def test_no_run_begins_while_contexts_are_put_away(gpu: Gpu) -> None:
    engine = made()
    engine.run([torch.ones(4, 3)])
    (live,) = engine._lives.values()
    with ThreadPoolExecutor(1) as pool:
        with live.contexts.put_away():
            waiting = pool.submit(engine.run, [torch.ones(4, 3)])
            with pytest.raises(TimedOut):
                waiting.result(timeout=0.2)
            assert live.engine.contexts == 0
        assert waiting.result(timeout=10)[0].shape == (8, 3)


def test_setting_the_budget_waits_for_runs_in_other_threads(gpu: Gpu) -> None:
    engine = made(streamable=1000)
    engine.run([torch.ones(4, 3)])
    stop = threading.Event()

    def work() -> int:
        count = 0
        while not stop.is_set():
            x = torch.randn(1 + count % 8, 3)
            assert torch.equal(engine.run([x])[0], wanted(x))
            count += 1
        return count

    with ThreadPoolExecutor(3) as pool:
        counts = [pool.submit(work) for _ in range(3)]
        try:
            for budget in (100, 700, 0, 1000) * 10:
                engine.set_streaming_budget(budget)
                assert engine.streaming_budget() == budget
        finally:
            stop.set()
    assert all(count.result() > 0 for count in counts)


def test_a_budget_that_the_sdk_refuses_is_an_error_with_its_words(gpu: Gpu) -> None:
    with pytest.raises(NotImplementedError, match=r"5000 bytes of the weights of 'part_0'.*the budget can't be set"):
        made(streamable=1000).set_streaming_budget(5000)


def test_layers_are_described_by_the_sdk_s_inspector_as_json(gpu: Gpu) -> None:
    assert made().layer_information() == '{"Layers": ["cat"], "form": "JSON"}'


# Kernels that are compiled at run time


def test_kernels_are_kept_in_the_user_s_cache_folder_and_found_by_the_next_process(
    gpu: Gpu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made().run([torch.ones(4, 3)])
    (file,) = (tmp_path / "torch_tensorrt" / "kernels").iterdir()
    assert file.name == "tensorrt_rtx-1.8-a-GPU-1.bin"
    assert file.read_bytes() == b"compiled"
    monkeypatch.setattr(kernels, "_open", {})  # as in another process
    made().run([torch.ones(4, 3)])
    assert ("kernels", b"compiled") in gpu.calls


def test_kernels_of_another_gpu_are_replaced(gpu: Gpu, tmp_path: Path) -> None:
    path = tmp_path / "kernels.bin"
    path.write_bytes(b"of another GPU")
    engine = made()
    assert engine.keep_kernels(str(path)) is None
    engine.run([torch.ones(4, 3)])
    assert path.read_bytes() == b"compiled"


def test_the_file_of_kernels_is_written_whole_or_not_at_all(
    gpu: Gpu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "kernels.bin"
    path.write_bytes(b"of another GPU")
    engine = made()
    engine.keep_kernels(str(path))

    def fails(source: object, target: object) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr("torch_tensorrt.engines.tensorrt.files.os.replace", fails)
    engine.run([torch.ones(4, 3)])  # the results are there all the same
    assert path.read_bytes() == b"of another GPU"
    monkeypatch.undo()
    assert [found.name for found in tmp_path.iterdir() if found.is_file()] == ["kernels.bin"]


def test_engines_share_the_kernels_of_one_file_and_nothing_new_writes_nothing(gpu: Gpu, tmp_path: Path) -> None:
    engines = [made(), made()]
    for engine in engines:
        engine.keep_kernels(str(tmp_path / "kernels.bin"))
        engine.run([torch.ones(4, 3)])
    caches = {id(slot.context.config.cache) for engine in engines for slot in _slots(engine)}
    assert len(caches) == 1
    written = (tmp_path / "kernels.bin").stat().st_mtime_ns
    engines[0].save_kernels()
    assert (tmp_path / "kernels.bin").stat().st_mtime_ns == written


def test_no_file_and_tensorrt_itself_keep_no_kernels(gpu: Gpu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = made()
    engine.keep_kernels("")
    engine.run([torch.ones(4, 3)])
    Gpu(monkeypatch, "tensorrt")
    other = made(dataclasses.replace(SPEC, backend="tensorrt"))
    other.run([torch.ones(4, 3)])
    assert [slot.context.config for slot in (*_slots(engine), *_slots(other))] == [None, None]
    assert list(tmp_path.iterdir()) == []


def _slots(engine: object) -> list[object]:
    (live,) = engine._lives.values()  # type: ignore[attr-defined]
    return live.contexts._free  # type: ignore[no-any-return]


def test_the_range_of_the_fake_is_that_of_the_description() -> None:
    assert [list(SPEC.inputs[0].shape_at(point)) for point in ("min", "opt", "max")] == RANGE[0]


def test_a_timed_run_gives_the_results_and_the_time_of_each_layer_from_a_context_of_its_own(gpu: Gpu) -> None:
    engine, x = made(profiles=DECODE_AND_PREFILL), torch.randn(4, 3)
    outputs, times = engine.run_timed([x])
    assert torch.equal(outputs[0], wanted(x))
    assert [(known.name, known.milliseconds) for known in times] == [("cat", 0.5), ("scale", 0.5)]
    assert isinstance(engine, abilities.TimesLayers)
    engine.run([x])
    assert gpu.steps().count("profile") == 2  # a new context for the run that isn't timed
