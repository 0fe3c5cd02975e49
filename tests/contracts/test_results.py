"""Large results are in memory for which the system was asked for huge pages."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import torch_tensorrt
from torch_tensorrt.contracts.results import LARGE, ask_for_huge_pages, new_result

MAPS = Path("/proc/self/smaps")
needs_huge_pages = pytest.mark.skipif(
    not (MAPS.exists() and Path("/sys/kernel/mm/transparent_hugepage").exists()), reason="a system without huge pages"
)


def asked(tensor: Tensor) -> bool:
    """Whether the memory in the middle of `tensor` has the flag of madvise."""
    wanted = tensor.data_ptr() + tensor.nbytes // 2
    inside = False
    for line in MAPS.read_text().splitlines():
        first, *_ = line.split()
        if not first.endswith(":"):
            start, end = (int(number, 16) for number in first.split("-"))
            inside = start <= wanted < end
        elif inside and first == "VmFlags:":
            return "hg" in line.split()
    raise AssertionError("the memory is in none of the system's areas")


@needs_huge_pages
def test_only_large_results_ask_for_them() -> None:
    large, small = new_result((LARGE // 4,), torch.float32), new_result((LARGE // 4 - 1,), torch.float32)
    assert asked(large)
    assert not asked(small)
    assert not asked(torch.empty(LARGE // 4))
    assert (large.shape, large.dtype, large.is_contiguous()) == ((LARGE // 4,), torch.float32, True)


@needs_huge_pages
def test_no_memory_around_it_is_asked_for() -> None:
    memory = torch.empty(3 * LARGE, dtype=torch.uint8)
    middle = memory[LARGE : LARGE + 3 * 2**20]
    ask_for_huge_pages(middle.data_ptr(), middle.nbytes)
    assert not asked(memory[:LARGE])
    assert not asked(memory[2 * LARGE :])


@needs_huge_pages
def test_less_than_a_page_is_left_alone() -> None:
    memory = torch.empty(LARGE, dtype=torch.uint8)
    ask_for_huge_pages(memory.data_ptr() + 1, 2**20)
    assert not asked(memory)


@needs_huge_pages
@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
@pytest.mark.parametrize("varying", [False, True], ids=["fixed", "varying"])
def test_engines_return_large_results_in_them(engine: str, varying: bool) -> None:
    if engine == "onnxruntime":
        pytest.importorskip("onnxruntime")
    shape = torch_tensorrt.Input(min_shape=(1, 2**20), opt_shape=(9, 2**20), max_shape=(16, 2**20))
    model, x = nn.ReLU(), torch.randn(9, 2**20)
    compiled = torch_tensorrt.compile(model, inputs=[shape if varying else x], engine=engine, min_block_size=1)
    result = compiled(x)
    assert asked(result)
    assert torch.equal(result, model(x))
