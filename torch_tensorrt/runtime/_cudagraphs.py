"""The documented switch for CUDA graphs. In this version engines don't run in CUDA graphs: the mode is STANDARD."""

from __future__ import annotations

from enum import IntEnum

from torch_tensorrt.spec.absent import Absent
from torch_tensorrt.spec.errors import UnsupportedError

_WHY = "engines don't run in CUDA graphs in this version; the compiled module runs without one"


class CudaGraphsMode(IntEnum):
    """How engines run: without a CUDA graph, each in one, or the whole model in one."""

    STANDARD = 0
    SUBGRAPH_CUDAGRAPHS = 1
    WHOLE_GRAPH_CUDAGRAPHS = 2


def set_cudagraphs_mode(mode: bool | CudaGraphsMode) -> None:
    """False is how it is. Raises UnsupportedError for another mode."""
    if mode:
        raise UnsupportedError(f"set_cudagraphs_mode({mode!r}) is not possible: {_WHY}.")


def get_cudagraphs_mode() -> bool:
    """Whether each engine runs in a CUDA graph: False."""
    return False


def get_whole_cudagraphs_mode() -> bool:
    """Whether whole models run in a CUDA graph: False."""
    return False


enable_cudagraphs = Absent("runtime.enable_cudagraphs", _WHY)
