"""CUDA graphs without a GPU: a graph remembers what it was captured of, runs it again when it is replayed, and keeps its results
where they were. What a real GPU does later is done at once; what would go wrong there is counted.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

Run = Callable[[], Sequence[object]]


class FakeGraph:
    """Replays a run into the results of its capture."""

    def __init__(self, device: FakeDevice, run: Run, results: Sequence[object], pool: object) -> None:
        self._device, self._run, self._results = device, run, results
        self._pool = object() if pool is None else pool

    def replay(self) -> None:
        self._device.calls.append("replay")
        assert self._device.inside.locked(), "a graph is replayed in its turn"
        for kept, new in zip(self._results, self._run(), strict=True):
            if isinstance(kept, Tensor) and isinstance(new, Tensor) and kept is not new:
                kept.copy_(new)

    def pool(self) -> object:
        return self._pool


class FakeDevice:
    """Counts what is done, in `calls`; `fails` is raised by captures."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.calls: list[str] = []
        self.pools: list[object] = []
        self.fails: RuntimeError | None = None
        self.stops_at: object = None  # the operator that can't be captured
        self.state: Sequence[Tensor] = ()  # what a run writes beside its results
        self.inside = threading.Lock()

    def holds(self, tensor: Tensor) -> bool:
        return tensor.dtype != torch.float64  # stands for tensors elsewhere

    def take_turn(self) -> None:
        assert self.inside.acquire(blocking=False), "turns don't overlap"

    def end_turn(self) -> None:
        self.inside.release()

    def wait(self) -> None:
        self.calls.append("wait")

    def warm_up(self, run: Run, *, random: bool) -> Sequence[object]:
        self.calls.append("warm-up, random" if random else "warm-up")
        return run()

    def capture(self, run: Run, pool: object, *, random: bool) -> tuple[FakeGraph, Sequence[object]]:
        self.calls.append("capture")
        self.pools.append(pool)
        if self.fails is not None:
            raise self.fails
        before = [(tensor, tensor.clone()) for tensor in self.state]
        with _Stops(self.stops_at):
            results = run()
        for tensor, value in before:  # a capture computes nothing
            tensor.copy_(value)
        return FakeGraph(self, run, results, pool), results


class _Stops(TorchDispatchMode):
    """Raises what CUDA does where one operator is called."""

    def __init__(self, operator: object) -> None:
        super().__init__()
        self._operator = operator

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is self._operator:
            raise RuntimeError("operation not permitted when stream is capturing")
        return func(*args, **(kwargs or {}))
