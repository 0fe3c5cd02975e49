"""Weights in mapped files: the same values, no memory, never lost when they are written to, and memory where files can't be made."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from contracts.test_mapped import posix, resident
from torch import Tensor, nn

import torch_tensorrt
from torch_tensorrt.contracts import parked
from torch_tensorrt.contracts.mapped import LARGE


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few kilobytes are large."""
    monkeypatch.setattr(parked, "LARGE", 1000)
    monkeypatch.setattr(parked, "_LEAST", 100)


def some(dtype: torch.dtype, *shape: int) -> Tensor:
    return (torch.rand(shape) * 3).to(dtype)


@posix
def test_copies_have_the_values_of_all_dtypes_and_shapes(small: None) -> None:
    dtypes = (
        torch.float32,
        torch.bfloat16,
        torch.float16,
        torch.float64,
        torch.int8,
        torch.uint8,
        torch.int64,
        torch.bool,
    )
    given = [some(dtype, 3, 7, 31) for dtype in (*dtypes, torch.complex64)]
    for one, other in zip(given, parked.park(given), strict=True):
        assert other is not None
        assert other.data_ptr() != one.data_ptr()
        torch.testing.assert_close(other, one, rtol=0, atol=0)


class Special(Tensor):
    """A subclass, which keeps what it is."""


@posix
def test_what_is_small_or_of_another_kind_stays_where_it_is(small: None) -> None:
    large = some(torch.float32, 50, 50)
    others = [
        some(torch.float32, 3), torch.empty(0), large.t(), large.as_subclass(Special), large.to("meta"), large.to_sparse(),
        torch.complex(large, large).conj(), torch.tensor(2.0),
    ]  # fmt: skip
    found = parked.park([*others, large])
    assert found[:-1] == [None] * len(others)
    assert torch.equal(found[-1], large)  # type: ignore[arg-type]
    assert parked.park([some(torch.float32, 5, 5)]) == [None]


@posix
@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="the memory of a mapping is read from /proc")
def test_parked_weights_are_in_memory_while_they_are_read_and_keep_what_is_written_to_them() -> None:
    (weight,) = parked.park([torch.ones(LARGE // 4 + 100)])
    assert weight is not None
    shown = memoryview(weight.numpy())  # type: ignore[arg-type]
    assert resident(shown) == 0
    weight[1000] = 5.0
    assert weight.sum() == weight.numel() + 4
    assert resident(shown) >= LARGE
    parked.put_away()
    assert resident(shown) == 0
    assert weight[1000] == 5.0
    with parked.read_in_passing():
        weight.add_(1)
    assert resident(shown) == 0
    assert weight[1000] == 6.0
    assert weight[0] == 2.0


@posix
def test_weights_stay_in_memory_where_no_file_can_be_written(small: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(parked.tempfile, "TemporaryFile", refuse)
    assert parked.park([some(torch.float32, 50, 50)]) == [None]


class Counting(nn.Module):
    """A large weight, and a large buffer that forward writes to."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(2048, 2560)
        self.register_buffer("seen", torch.zeros(2048, 2560))

    def forward(self, x: Tensor) -> Tensor:
        self.seen.add_(1)
        return self.line(x) + self.seen.sum(0)


@pytest.mark.parametrize("engine", ["openvino", "eager"])
def test_a_compiled_model_keeps_its_weights_and_its_state(engine: str, tmp_path: Path) -> None:
    model, x = Counting().eval(), torch.randn(2, 2048)
    with torch.no_grad():
        wanted = model.line(x)
        compiled = torch_tensorrt.compile(model, inputs=[x], engine=engine, min_block_size=1)
        torch_tensorrt.save(compiled, tmp_path / "model.ep", arg_inputs=[x])
        twin = copy.deepcopy(compiled)
        model.line.weight.zero_()
        for run in (compiled, twin, torch_tensorrt.load(tmp_path / "model.ep").module()):
            for count in (1, 2):
                torch.testing.assert_close(run(x), wanted + 2048 * count, rtol=1e-5, atol=1e-3)
                parked.put_away()
    assert model.seen.count_nonzero() == 0
