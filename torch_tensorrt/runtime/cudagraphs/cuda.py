"""What CUDA does for a captured call: turns on streams, warm-ups, the capture itself. The only file here that calls torch.cuda."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from typing import Protocol

import torch
from torch import Tensor

Run = Callable[[], Sequence[object]]
_BUILT = torch.backends.cuda.is_built()
_capturing = threading.Lock()  # one capture at a time in the process


class _Thread(threading.local):
    warms_up = False


_here = _Thread()


def is_capturing() -> bool:
    """Whether what this thread calls is to become part of a graph, be it of someone else's, or is a warm-up for that."""
    return _here.warms_up or (_BUILT and torch.cuda.is_current_stream_capturing())


class Graph(Protocol):
    """A captured run."""

    def replay(self) -> None:
        """Runs it again, on the current stream of its device."""

    def pool(self) -> object:
        """The memory that it runs in."""


class Device(Protocol):
    """A GPU, to the calls that are captured on it."""

    def holds(self, tensor: Tensor) -> bool:
        """Whether a graph can write to `tensor`."""

    def take_turn(self) -> None:
        """Makes the current stream wait for the turn before this one, which may have been on another stream."""

    def end_turn(self) -> None:
        """All of this turn has been enqueued."""

    def wait(self) -> None:
        """Until the last turn is over on the GPU."""

    def warm_up(self, run: Run, *, random: bool) -> Sequence[object]:
        """Runs it apart from other work, and gives its results. `random`: random numbers that it draws are put back."""

    def capture(self, run: Run, pool: object, *, random: bool) -> tuple[Graph, Sequence[object]]:
        """The graph of `run`, and the results that it writes to. `pool`: of a graph that runs never at the same time, or None.

        `random`: whether it draws random numbers. Raises RuntimeError for what can't be captured.
        """


class CudaDevice:
    """The GPU `index`."""

    def __init__(self, index: int) -> None:
        self._index = index
        self._side = torch.cuda.Stream(index)
        self._raw = -1
        self._stream = self._side
        self._done = torch.cuda.Event()

    def holds(self, tensor: Tensor) -> bool:
        """See Device."""
        return tensor.is_cuda

    def take_turn(self) -> None:
        """See Device."""
        raw = torch._C._cuda_getCurrentRawStream(self._index)
        if raw != self._raw:
            self._stream = torch.cuda.current_stream(self._index)
            self._stream.wait_event(self._done)
            self._raw = raw

    def end_turn(self) -> None:
        """See Device."""
        self._done.record(self._stream)

    def wait(self) -> None:
        """See Device."""
        self._done.synchronize()

    def warm_up(self, run: Run, *, random: bool) -> Sequence[object]:
        """See Device."""
        with torch.cuda.device(self._index):
            state = torch.cuda.get_rng_state(self._index) if random else None
            self._side.wait_stream(torch.cuda.current_stream())
            _here.warms_up = True
            try:
                with torch.cuda.stream(self._side):
                    results = run()
            finally:
                _here.warms_up = False
                self._side.synchronize()  # what it allocated may be used again, by any stream
                if state is not None:
                    torch.cuda.set_rng_state(state, self._index)
            return results

    def capture(self, run: Run, pool: object, *, random: bool) -> tuple[Graph, Sequence[object]]:
        """See Device."""
        graph, results = torch.cuda.CUDAGraph(), None
        with _capturing, torch.cuda.device(self._index), _without_collector():
            # cuBLAS has one workspace per stream. Allocated anew within the capture it belongs to this graph's memory; taken
            # away after it, no other graph that is captured on this stream can scribble in it while this one runs.
            torch._C._cuda_clearCublasWorkspaces()
            torch.cuda.synchronize()
            try:
                with torch.cuda.stream(self._side), self._random_numbers_of_others(graph, pool, random=random):
                    try:
                        results = run()
                    finally:
                        # After an error CUDA has another one here, which says less.
                        with nullcontext() if results is not None else suppress(RuntimeError):
                            graph.capture_end()
            finally:
                torch._C._cuda_clearCublasWorkspaces()
        return graph, results

    @contextmanager
    def _random_numbers_of_others(self, graph: torch.cuda.CUDAGraph, pool: object, *, random: bool) -> Iterator[None]:
        """Begins the capture. Other threads can draw random numbers inside, unless the graph draws some itself.

        While a graph is captured its generator serves nobody else, and after a capture that failed nobody at all.
        """
        generator = torch.cuda.default_generators[self._index]
        own = generator.graphsafe_get_state()
        spare = own.clone_state()
        if not random:
            generator.graphsafe_set_state(spare)
        try:
            graph.capture_begin(pool=pool, capture_error_mode="thread_local")  # type: ignore[arg-type]
            if not random:
                generator.graphsafe_set_state(own)
            yield
        except BaseException:
            generator.graphsafe_set_state(spare if random else own)
            raise


@contextmanager
def _without_collector() -> Iterator[None]:
    """What Python's garbage collector frees during a capture could be something that calls CUDA."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
