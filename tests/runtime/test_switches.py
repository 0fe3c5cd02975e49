"""Documented switches of the runtime that have one position here."""

from __future__ import annotations

import pytest

from torch_tensorrt import InputError, UnsupportedError, runtime
from torch_tensorrt.runtime import CudaGraphsMode


def test_engines_run_without_cuda_graphs_and_say_so() -> None:
    for mode in (False, CudaGraphsMode.STANDARD):
        runtime.set_cudagraphs_mode(mode)
    assert runtime.get_cudagraphs_mode() is False
    assert runtime.get_whole_cudagraphs_mode() is False


@pytest.mark.parametrize("mode", [True, CudaGraphsMode.SUBGRAPH_CUDAGRAPHS, CudaGraphsMode.WHOLE_GRAPH_CUDAGRAPHS])
def test_another_mode_of_cuda_graphs_is_refused_and_changes_nothing(mode: bool | CudaGraphsMode) -> None:
    with pytest.raises(UnsupportedError, match=r"set_cudagraphs_mode\(.* is not possible: .*without one"):
        runtime.set_cudagraphs_mode(mode)
    assert runtime.get_cudagraphs_mode() is False


def test_multi_device_safe_mode_is_a_function_and_a_context_manager() -> None:
    runtime.set_multi_device_safe_mode(False)
    with runtime.set_multi_device_safe_mode(True):
        pass
    with pytest.raises(InputError, match="'yes'"):
        runtime.set_multi_device_safe_mode("yes")  # type: ignore[arg-type]
