"""The documented switches for CUDA graphs. docs/cudagraphs.md says what is captured, and how."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from torch_tensorrt.runtime.cudagraphs import mode as state
from torch_tensorrt.runtime.cudagraphs.mode import KEPT, CudaGraphsMode
from torch_tensorrt.runtime.cudagraphs.module import CudaGraphsTorchTensorRTModule
from torch_tensorrt.spec.errors import UnsupportedError

__all__ = [
    "CudaGraphsMode",
    "enable_cudagraphs",
    "get_cudagraphs_mode",
    "get_whole_cudagraphs_mode",
    "set_cudagraphs_mode",
]


def set_cudagraphs_mode(mode: bool | CudaGraphsMode, *, kept: int = KEPT) -> None:
    """From now on every engine, or every compiled model, of the process is replayed from CUDA graphs, or none.

    mode: True is SUBGRAPH_CUDAGRAPHS, each engine in a graph of its own; False is STANDARD, none. kept: how many graphs an engine
    or model may have, one for each combination of sizes that it is called with; the one that was not used for longest goes.
    What can't be captured runs without, and a warning says why. Raises InputError for anything else.
    """
    state.choose(mode, keep=kept)


def get_cudagraphs_mode() -> bool:
    """Whether each engine runs in a CUDA graph of its own."""
    return state.each_engine


def get_whole_cudagraphs_mode() -> bool:
    """Whether whole models run in a CUDA graph."""
    return state.whole


@contextmanager
def enable_cudagraphs(
    compiled_module: nn.Module, *, cuda_graph_strategy: str | None = None, kept: int | None = None
) -> Iterator[CudaGraphsTorchTensorRTModule]:
    """`with enable_cudagraphs(compiled) as module: module(x)`: the whole model, with what runs in PyTorch, in one CUDA graph.

    kept: how many graphs, one for each combination of sizes; None: as many as set_cudagraphs_mode says. At the end of the block
    the graphs and their memory go, and `module` runs without. cuda_graph_strategy: None; an SDK's own graphs can't be part of one.
    Raises UnsupportedError, naming the operation, where the model can't be captured, InputError for what isn't a compiled model.
    """
    if cuda_graph_strategy not in (None, "disabled"):
        raise UnsupportedError(
            f"cuda_graph_strategy={cuda_graph_strategy!r}: an engine that captures its own CUDA graphs can't be part of the model's; "
            "leave it out."
        )
    module = CudaGraphsTorchTensorRTModule(compiled_module, kept=kept)
    try:
        yield module
    finally:
        module.close()
