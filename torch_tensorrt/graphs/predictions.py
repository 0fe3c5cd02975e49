"""What PyTorch predicts of the memory of a convolution's result, which is wrong after torch.export: it has cuDNN and oneDNN off then.

Without them results are contiguous (on a GPU, and three-dimensional ones on a CPU); with them they are channels-last where the input or the
weight is. PyTorch keeps what was predicted for the whole process, so that AOTInductor found the wrong layout there, and its kernels read
the right numbers in the wrong order: on a GPU (PyTorch 2.11) whatever read a convolution of a channels-last input was off by more than
its size, without a word.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import fx
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.export import ExportedProgram

aten = torch.ops.aten


class _Predicting:
    """Dynamo's own lock, which a thread may take again: torch.compile holds it when it calls us, and torch.export takes it for control
    flow, so that another lock besides would sooner or later be waited for by two threads for ever.
    """

    def __enter__(self) -> None:
        self._lock().acquire()

    def __exit__(self, *_: object) -> None:
        self._lock().release()

    @staticmethod
    def _lock() -> threading.RLock:
        lock: threading.RLock = importlib.import_module(
            "torch._dynamo.convert_frame"
        ).compile_lock  # takes time to import
        return lock


# torch.export switches the libraries off for the whole process: what we export waits for what we compile, and the other way round.
PREDICTING = _Predicting()


@contextmanager
def fresh_predictions(program: ExportedProgram) -> Iterator[None]:
    """Within, PyTorch predicts anew for a program with convolutions, and looks nothing up. One thread is within at a time.

    There view(x) is reshape(x): a view of the layout that was predicted may be none of the one that is. The caller's own
    torch.export, in another thread meanwhile, makes predictions wrong nevertheless.
    """
    calls = [node for graph in _graphs(program) for node in graph.nodes if node.op == "call_function"]
    if not any("conv" in str(node.target) and "convert" not in str(node.target) for node in calls):
        yield
        return
    with PREDICTING:
        modes, views = fake_modes(program), [node for node in calls if node.target is aten.view.default]
        before = [mode.cache_enabled for mode in modes]
        FakeTensorMode.cache_clear()
        for mode in modes:
            mode.cache_enabled = False
        for view in views:
            view.target = aten.reshape.default
        try:
            yield
        finally:
            for view in views:
                view.target = aten.view.default
            for mode, enabled in zip(modes, before, strict=True):
                mode.cache_enabled = enabled


def _graphs(program: ExportedProgram) -> list[fx.Graph]:
    return [module.graph for module in program.graph_module.modules() if isinstance(module, fx.GraphModule)]


def fake_modes(program: ExportedProgram) -> list[FakeTensorMode]:
    """What made the values that the program's nodes are described with."""
    values = (node.meta.get("val") for graph in _graphs(program) for node in graph.nodes)
    return list({id(mode := value.fake_mode): mode for value in values if isinstance(value, FakeTensor)}.values())
