"""cuDNN chooses its kernels by rules of thumb unless it is told to measure, which it does once per sizes and thread."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, fx

aten = torch.ops.aten
_CONVOLUTIONS = frozenset(
    {aten.convolution.default, aten.cudnn_convolution_relu.default, aten.cudnn_convolution_add_relu.default}
)
# Multiplications of an average convolution from which cuDNN's measuring finds faster kernels; below, it is misled by the time
# that a launch takes (ResNet-50 on an H200: slower with batches of 1 and 32, up to 1.8 times as fast with 256).
_LARGE = 5e9
_MOST = 16  # sizes per thread: measuring takes up to seconds, and sizes that vary could be new in every run


def worth_measuring(graph: fx.Graph) -> bool:
    """Whether the graph has convolutions, large ones on average at the typical sizes."""
    work = [_multiplications(node) for node in graph.nodes if node.target in _CONVOLUTIONS]
    return sum(work) > _LARGE * max(1, len(work))


def _multiplications(node: fx.Node) -> float:
    weight, result = node.all_input_nodes[1].meta["val"], node.meta["val"]
    sizes = [size.node.hint if isinstance(size, torch.SymInt) else size for size in (*result.shape, *weight.shape[1:])]
    return float(math.prod(sizes))


class FirstRuns:
    """The sizes that an engine has run with, per thread: PyTorch keeps what cuDNN measured per thread."""

    def __init__(self) -> None:
        self._local = threading.local()

    def is_first(self, inputs: Sequence[Tensor]) -> bool:
        """Whether this thread should measure with these inputs; says so once. False while a CUDA graph is recorded."""
        known: set[object] | None = getattr(self._local, "known", None)
        if known is None:
            known = self._local.known = set()
        sizes = tuple([(tensor.shape, tensor.device) for tensor in inputs])
        if sizes in known or len(known) >= _MOST or torch.cuda.is_current_stream_capturing():
            return False
        known.add(sizes)
        return True


class _Switch:
    """PyTorch's switch for measuring, which is the process's: on for as long as anyone asks; the last to leave restores it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._before = False

    def enter(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._before = torch.backends.cudnn.benchmark
                torch.backends.cudnn.benchmark = not torch.backends.cudnn.deterministic or self._before
            self._inside += 1

    def leave(self) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                torch.backends.cudnn.benchmark = self._before


_switch = _Switch()


@contextmanager
def measuring() -> Iterator[None]:
    """cuDNN measures, unless the program wants deterministic kernels (`torch.backends.cudnn.deterministic`)."""
    _switch.enter()
    try:
        yield
    finally:
        _switch.leave()
