"""The copies of an engine's code in the memory of one GPU: one for runs that are captured in a CUDA graph, one for all others.

A copy has a fixed number of runners; a run takes one, and its event says when the runner is free again. The event of a captured run
says nothing, and asking it is an error: its runner is lost. And while a graph is captured no event may be asked for. So
captured runs have a copy of their own, where there is a runner that was never used.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

import torch

from torch_tensorrt.spec.errors import EngineNotRunnable

Copy = TypeVar("Copy")
_FIRST_RUNS = 2  # on the copy for captures: a run before the capture makes its kernels known to CUDA


class Copies(Generic[Copy]):
    """The first runs are on the copy for captures, so that whoever runs an engine only a few times loads it once.

    name: of the engine. load: makes a copy, given one that is there. runners: how many a copy has; 0 on a CPU, where nothing is
    captured and one copy is all.
    """

    def __init__(self, name: str, load: Callable[[Copy | None], Copy], runners: int) -> None:
        self._name, self._load, self._runners = name, load, runners
        self._lock = threading.RLock()
        self._main: Copy | None = None
        self._spare: Copy | None = None
        self._first, self._left = 0, 0
        self._used_up: list[Copy] = []  # graphs run their code for as long as they are
        self.ready: Copy | None = None  # for runs that aren't captured, when the first ones are over

    def take(self) -> Copy:
        """The copy for a run on the current stream.

        Raises EngineNotRunnable when that is captured and there was no run before, and what loading raises.
        """
        with self._lock:
            if self._runners and torch.cuda.is_current_stream_capturing():
                return self._take_for_capture()
            if self._spare is None and self._runners:
                self._spare = self._load(self._main)
                self._first, self._left = 0, self._runners
            if self._spare is not None and self._left and self._first < _FIRST_RUNS:
                self._first += 1
                self._left -= 1
                return self._spare
            if self._main is None:
                self._main = self._load(self._spare)
            self.ready = self._main
            return self._main

    def _take_for_capture(self) -> Copy:
        if self._spare is None:
            raise EngineNotRunnable(
                f"Engine {self._name!r} was to be captured in a CUDA graph without a run before, in which it is loaded. Run it once "
                "before each capture; torch_tensorrt.runtime.enable_cudagraphs does."
            )
        taken, self._left = self._spare, self._left - 1
        if not self._left:
            self._used_up.append(taken)
            self._spare = self.ready = None  # the next run loads another
        return taken
