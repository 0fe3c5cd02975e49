"""Memory of large results is used again when nobody holds it any more, and never before."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import torch_tensorrt
from torch_tensorrt.contracts.results import LARGE, ResultMemory
from torch_tensorrt.runtime.modes import engines_in

NUMBERS = LARGE // 4


def used_again(leave: Callable[[Tensor], object]) -> bool:
    """Whether a second result has the memory of the first, of which what `leave` gives is left."""
    memory = ResultMemory()
    first = memory.new((NUMBERS,), torch.float32)
    storage, left = first.untyped_storage()._cdata, leave(first)
    del first
    again = memory.new((2, NUMBERS // 2), torch.int32).untyped_storage()._cdata == storage
    del left
    return again


def test_what_nobody_holds_is_used_again() -> None:
    assert used_again(lambda result: None)


HOLD: dict[str, Callable[[Tensor], object]] = {
    "the result": lambda result: result,
    "a view": lambda result: result[3:5],
    "detached": lambda result: result.detach(),
    "an array": lambda result: result.numpy()[1:],
    "the storage": lambda result: result.untyped_storage(),
    "a capsule": torch.utils.dlpack.to_dlpack,
    "a graph of gradients": lambda result: torch.ones(1, requires_grad=True) * result,
    "shared with processes": lambda result: (result.share_memory_(), None)[1],
}


@pytest.mark.parametrize("name", HOLD)
def test_what_somebody_holds_is_not(name: str) -> None:
    assert not used_again(HOLD[name])


def test_a_lazy_copy_keeps_its_values() -> None:
    memory = ResultMemory()
    first = memory.new((NUMBERS,), torch.float32).fill_(1)
    copy = first._lazy_clone()  # shares memory, not the storage, until one of them is written to
    del first
    ctypes.memset(memory.new((NUMBERS,), torch.float32).data_ptr(), 0, LARGE)
    assert bool((copy == 1).all())


def test_what_was_resized_is_not() -> None:
    memory = ResultMemory()
    first = memory.new((NUMBERS,), torch.float32)
    first.untyped_storage().resize_(8)
    del first
    second = memory.new((NUMBERS,), torch.float32).fill_(1)
    assert second.untyped_storage().nbytes() == LARGE
    assert float(second[-1]) == 1


def test_small_results_and_other_sizes_have_memory_of_their_own() -> None:
    memory = ResultMemory()
    assert memory.new((NUMBERS - 1,), torch.float32).untyped_storage().nbytes() == LARGE - 4
    assert not memory._kept
    first = memory.new((NUMBERS,), torch.float32)
    other = memory.new((NUMBERS + 1,), torch.float32)
    assert first.data_ptr() != other.data_ptr()
    assert len(memory._kept) == 2


def test_memory_of_other_sizes_goes_back_to_the_system() -> None:
    memory = ResultMemory()
    memory.new((NUMBERS,), torch.float32)
    memory.new((NUMBERS + 1,), torch.float32)
    assert [each.nbytes() for each in memory._kept] == [LARGE + 4]


def test_only_so_many_are_remembered() -> None:
    memory = ResultMemory(kept=2)
    for _ in range(3):
        held = [memory.new((NUMBERS,), torch.float32) for _ in range(3)]
    assert len(memory._kept) == 2
    assert len({each.data_ptr() for each in held}) == 3
    nothing = ResultMemory(kept=0)
    nothing.new((NUMBERS,), torch.float32)
    assert not nothing._kept


def test_made_in_inference_mode_it_serves_outside() -> None:
    memory = ResultMemory()
    with torch.inference_mode():
        memory.new((NUMBERS,), torch.float32)
    result = memory.new((NUMBERS,), torch.float32)
    assert not result.is_inference()
    assert not result._is_view()
    result.add_(torch.zeros(1, requires_grad=True)).sum().backward()


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
@pytest.mark.parametrize("varying", [False, True], ids=["fixed", "varying"])
def test_engines_use_it(engine: str, varying: bool) -> None:
    if engine == "onnxruntime":
        pytest.importorskip("onnxruntime")
    shape = torch_tensorrt.Input(min_shape=(1, 2**20), opt_shape=(9, 2**20), max_shape=(16, 2**20))
    model, x = nn.ReLU(), torch.randn(9, 2**20)
    compiled = torch_tensorrt.compile(model, inputs=[shape if varying else x], engine=engine, min_block_size=1)
    first = compiled(x)
    second = compiled(-x)
    assert torch.equal(first, model(x))
    assert torch.equal(second, model(-x))
    place = first.data_ptr()
    del first
    third = compiled(2 * x)
    assert third.data_ptr() == place
    assert torch.equal(third, model(2 * x))
    assert torch.equal(second, model(-x))


def test_threads_get_results_of_their_own() -> None:
    shape, wrong = (9, 2**20), []
    compiled = torch_tensorrt.compile(nn.ReLU(), inputs=[torch.randn(shape)], engine="openvino", min_block_size=1)

    def client(number: int) -> None:
        for turn in range(8):
            results = [compiled(torch.full(shape, float(10 * number + turn + at))) for at in range(2)]
            wrong.extend(at for at, each in enumerate(results) if not bool((each == 10 * number + turn + at).all()))

    threads = [threading.Thread(target=client, args=(number,)) for number in range(1, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_memory_goes_where_engines_keep_none() -> None:
    x = torch.randn(9, 2**20)
    compiled = torch_tensorrt.compile(nn.ReLU(), inputs=[x], engine="openvino", min_block_size=1)
    compiled(x)
    (engine,) = engines_in(compiled)
    assert len(engine._results._kept) == 1
    engine.release_memory(True)
    compiled(x)
    assert not engine._results._kept
