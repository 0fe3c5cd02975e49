"""The run-time side of TensorRT engines against a fake SDK that records calls: order, arguments, lifetimes. No GPU."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from torch_tensorrt.contracts.engine import EngineSpec
from torch_tensorrt.engines.tensorrt import engine, sdk
from torch_tensorrt.engines.tensorrt.engine import TensorRTEngine
from torch_tensorrt.spec.errors import BuildError, EngineNotRunnable
from torch_tensorrt.spec.tensor_spec import Dim, TensorSpec

INPUT, OUTPUT = object(), object()
SPEC = EngineSpec(
    name="part_0",
    backend="tensorrt_rtx",
    format_version=1,
    target="sm_89",
    settings_key="0",
    inputs=(TensorSpec("x", torch.float32, (Dim("s0", 1, 4, 8), 3)),),
    outputs=(TensorSpec("y", torch.float32, (Dim("2*s0", 2, 8, 16), 3)),),
    versions={"tensorrt_rtx": "1.7"},
)


class FakeContext:
    """Records what it is told."""

    def __init__(self, calls: list[tuple[Any, ...]], fails: str = "") -> None:
        self.calls, self.fails = calls, fails

    def _record(self, *call: Any) -> bool:
        self.calls.append((*call, id(self)))
        return call[0] != self.fails

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        return self._record("shape", name, shape)

    def set_tensor_address(self, name: str, address: int) -> bool:
        return self._record("address", name, address)

    def execute_async_v3(self, stream: int) -> bool:
        return self._record("execute", stream)


class FakeEngine:
    """One input x and one output output0."""

    num_io_tensors = 2

    def __init__(self, calls: list[tuple[Any, ...]], fails: str) -> None:
        self.calls, self.fails = calls, fails

    def get_tensor_name(self, place: int) -> str:
        return ("x", "output0")[place]

    def get_tensor_mode(self, name: str) -> object:
        return INPUT if name == "x" else OUTPUT

    def create_execution_context(self) -> FakeContext:
        return FakeContext(self.calls, self.fails)


class FakeGpu:
    """Stands for the SDK and for CUDA; tensors stay on the CPU."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.fails = ""
        self.readable = True
        runtime = SimpleNamespace(deserialize_cuda_engine=self._deserialize)
        fake = SimpleNamespace(
            runtime=lambda: runtime, member=lambda enum, name: INPUT, title="TensorRT-RTX", version="1.8"
        )
        monkeypatch.setattr(sdk, "load", lambda name: fake)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
        monkeypatch.setattr(torch.cuda, "device", lambda device: contextlib.nullcontext())
        monkeypatch.setattr(torch.cuda, "current_stream", self._stream)
        monkeypatch.setattr(engine, "_gpu", lambda inputs: torch.device("cpu"))

    def _stream(self) -> SimpleNamespace:
        number = threading.get_ident()
        return SimpleNamespace(
            cuda_stream=number,
            wait_event=lambda event: self.calls.append(("wait", event)),
            record_event=lambda: f"event of {number}",
        )

    def _deserialize(self, plan: bytes) -> FakeEngine | None:
        self.calls.append(("deserialize", plan))
        if not self.readable:
            sdk.hear("ERROR", "it was built for another GPU")
        return FakeEngine(self.calls, self.fails) if self.readable else None


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGpu]:
    yield FakeGpu(monkeypatch)


def test_shapes_are_set_before_addresses_and_both_before_the_run(gpu: FakeGpu) -> None:
    x = torch.ones(4, 3)
    (y,) = TensorRTEngine(SPEC, b"plan").run([x])
    assert [call[0] for call in gpu.calls] == ["deserialize", "shape", "address", "address", "execute"]
    assert gpu.calls[1][1:3] == ("x", (4, 3))
    assert gpu.calls[2][1:3] == ("x", x.data_ptr())
    assert gpu.calls[3][1:3] == ("output0", y.data_ptr())
    assert gpu.calls[4][1] == threading.get_ident()  # the current stream of the caller


def test_output_sizes_follow_from_the_inputs_and_each_call_gives_fresh_memory(gpu: FakeGpu) -> None:
    made = TensorRTEngine(SPEC, b"plan")
    (first,), (second,) = made.run([torch.ones(4, 3)]), made.run([torch.ones(2, 3)])
    assert (first.shape, second.shape) == ((8, 3), (4, 3))
    assert first.data_ptr() != second.data_ptr()


def test_a_context_is_used_again_after_its_last_run(gpu: FakeGpu) -> None:
    made = TensorRTEngine(SPEC, b"plan")
    made.run([torch.ones(4, 3)])
    made.run([torch.ones(4, 3)])
    contexts = {call[-1] for call in gpu.calls if call[0] == "execute"}
    assert len(contexts) == 1
    assert [call for call in gpu.calls if call[0] == "wait"] == [("wait", f"event of {threading.get_ident()}")]
    assert len([call for call in gpu.calls if call[0] == "deserialize"]) == 1


def test_an_input_that_is_not_contiguous_is_copied_first(gpu: FakeGpu) -> None:
    x = torch.ones(3, 4).t()
    TensorRTEngine(SPEC, b"plan").run([x])
    assert gpu.calls[2][2] != x.data_ptr()


@pytest.mark.parametrize("step", ["shape", "address", "execute"])
def test_a_step_that_the_sdk_refuses_is_an_error(gpu: FakeGpu, step: str) -> None:
    gpu.fails = step
    with pytest.raises(BuildError, match="could not run engine 'part_0'"):
        TensorRTEngine(SPEC, b"plan").run([torch.ones(4, 3)])


def test_a_plan_that_this_gpu_can_t_read_names_both_sides(gpu: FakeGpu) -> None:
    gpu.readable = False
    with pytest.raises(EngineNotRunnable, match=r"1\.7 for sm_89; TensorRT-RTX 1\.8 on a GPU \(sm_90\).*another GPU"):
        TensorRTEngine(SPEC, b"plan").run([torch.ones(4, 3)])
