"""Execution contexts of an engine: each run has one to itself, and leaves it for the next."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from torch_tensorrt.engines.tensorrt.sdk import Native

_MOST_IDLE = 8  # contexts that no run has: each keeps memory on the GPU


@dataclass(eq=False)
class Slot:
    """A context, and what its last run left.

    stream, done: where that run was enqueued, and the event after it. profile: the one that the context is set to. spare:
    outputs for the next run of the same shapes on the same stream, allocated ahead.
    """

    context: Native
    stream: int = 0
    done: torch.cuda.Event | None = None
    profile: int = 0
    spare: tuple[tuple[object, ...], list[Tensor | None]] | None = None


class Contexts:
    """Lends contexts to runs, in any number of threads."""

    def __init__(self, make: Callable[[], Slot]) -> None:
        self._make = make
        self._free: list[Slot] = []
        self._captured: list[Slot] = []  # a CUDA graph runs in their memory whenever it is replayed
        self._lent = 0
        self._closed = False
        self._changed = threading.Condition()

    @contextmanager
    def lend(self, stream: torch.cuda.Stream, profile: int) -> Iterator[Slot]:
        """A context for one run that is enqueued on `stream`. Its last run is over, or comes before on that stream.

        A context whose run failed, or was captured in a CUDA graph, is not used again. Raises what making a context raises.
        """
        captured = torch.cuda.is_current_stream_capturing()
        with self._changed:
            self._changed.wait_for(lambda: not self._closed)
            self._lent += 1
            slot = self._choose(None if captured else stream.cuda_stream, profile)
        fine = False
        try:
            slot = slot or self._make()
            if slot.done is not None and slot.stream != stream.cuda_stream and not captured:
                stream.wait_event(slot.done)
            yield slot
            if captured:
                self._captured.append(slot)
            else:
                slot.done, slot.stream = stream.record_event(), stream.cuda_stream
                fine = True
        finally:
            with self._changed:
                self._lent -= 1
                if fine and slot is not None:
                    self._free.append(slot)
                self._changed.notify_all()

    @contextmanager
    def put_away(self) -> Iterator[None]:
        """No context exists inside: runs under way end first, and others wait."""
        with self._changed:
            self._changed.wait_for(lambda: not self._closed)
            self._closed = True
            self._changed.wait_for(lambda: not self._lent)
            gone, self._free = self._free, []
        try:
            for slot in gone:
                _destroy(slot)
            yield
        finally:
            with self._changed:
                self._closed = False
                self._changed.notify_all()

    def _choose(self, stream: int | None, profile: int) -> Slot | None:
        """A free context that needn't wait: its last run was on the same stream, or is over. The same profile and stream first.

        None: one is made, unless many are there already; then that whose run was enqueued first is waited for.

        stream: None while a graph is captured. All runs before are over then (torch.cuda.graph waits for them), and asking is
        not allowed.
        """
        ready = [
            slot
            for slot in self._free
            if stream is None or slot.stream == stream or slot.done is None or slot.done.query()
        ]
        if not ready and len(self._free) < _MOST_IDLE:
            return None
        chosen = min(ready or self._free[:1], key=lambda slot: (slot.profile != profile, slot.stream != stream))
        self._free.remove(chosen)
        return chosen


def _destroy(slot: Slot) -> None:
    """The context goes now, whoever still holds the slot: a run that has given it back may."""
    if slot.done is not None:
        slot.done.synchronize()
    del slot.context
