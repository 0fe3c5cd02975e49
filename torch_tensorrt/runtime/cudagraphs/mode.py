"""Which CUDA graphs calls are replayed from: the process's mode, and how many graphs are kept."""

from __future__ import annotations

from enum import IntEnum

from torch_tensorrt.spec.errors import InputError

KEPT = 16


class CudaGraphsMode(IntEnum):
    """How engines run: without a CUDA graph, each in one, or the whole model in one."""

    STANDARD = 0
    SUBGRAPH_CUDAGRAPHS = 1
    WHOLE_GRAPH_CUDAGRAPHS = 2


# What every call asks, so plain values.
each_engine = False
whole = False
kept = KEPT


def choose(chosen: bool | CudaGraphsMode, *, keep: int = KEPT) -> None:
    """Sets the mode of the process; True is SUBGRAPH_CUDAGRAPHS. keep: graphs per engine or model, one per sizes of inputs.

    Raises InputError for anything else.
    """
    global each_engine, whole, kept
    if not isinstance(chosen, (bool, CudaGraphsMode)):
        names = ", ".join(f"CudaGraphsMode.{known.name}" for known in CudaGraphsMode)
        raise InputError(f"set_cudagraphs_mode({chosen!r}): True, False or one of {names} is needed.")
    kept = check_kept(keep)
    each_engine = chosen == CudaGraphsMode.SUBGRAPH_CUDAGRAPHS
    whole = chosen == CudaGraphsMode.WHOLE_GRAPH_CUDAGRAPHS


def check_kept(number: int) -> int:
    """`number`, if that many graphs can be kept. Raises InputError."""
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise InputError(f"kept={number!r}: how many CUDA graphs to keep is a whole number of at least 1.")
    return number
