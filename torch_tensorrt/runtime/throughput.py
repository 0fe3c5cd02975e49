"""Many calls under way at once: `Throughput(module).submit(x)` gives a Future, and keeps the engine busy meanwhile."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future
from types import TracebackType

from torch import nn
from typing_extensions import Self

from torch_tensorrt.runtime.lanes import AheadLane, Job, Lane, Outcome, ThreadLane, route_of, writes_state
from torch_tensorrt.spec.errors import InputError

_LEAST = 2  # requests: one is prepared while another runs


class Throughput:
    """Runs `module` for many callers: calls are submitted, and at most `requests` of them run at the same time.

    module: what `compile` returned, a loaded module, or any other nn.Module. A module that is one engine whose SDK starts runs
    itself (OpenVINO) takes no thread of Python's per request; others are called by `requests` threads, on a CUDA device each with a
    stream of its own. requests: None means as many as the engine has streams, at least 2. waiting: how many more calls may wait
    for their turn, None: 2 for each request; `submit` blocks while that many wait.

    Results are those of `module(x)`, without autograd history. Raises InputError for numbers below 1 (0 for `waiting`), and for
    more than one request at a time of a module that writes to its own state.
    """

    def __init__(self, module: nn.Module, requests: int | None = None, waiting: int | None = None) -> None:
        if not isinstance(module, nn.Module):
            raise InputError(f"Throughput takes a module, not a {type(module).__name__}; pass what compile returned.")
        _check("requests", requests, least=1)
        _check("waiting", waiting, least=0)
        route = route_of(module)
        most = 1 if writes_state(module) else None
        if most is not None and requests is not None and requests > most:
            raise InputError(
                f"requests={requests}: this module writes to its own state in every call, so that calls must run one after the other; "
                "give requests=1."
            )
        preferred = max(_LEAST, route.engine.preferred_runs()) if route is not None else _LEAST
        self.requests: int = requests or most or preferred
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._pending: deque[Job] = deque()
        self._room = threading.Semaphore(self.requests + (2 * self.requests if waiting is None else waiting))
        self._running = 0
        self._open = 0  # calls whose future isn't done
        self._closed = False
        self._lane: Lane = (
            ThreadLane(module, self.requests, self._done) if route is None else AheadLane(module, route, self._done)
        )

    @property
    def uses_threads(self) -> bool:
        """Whether threads call the module; False: its engine's SDK runs several requests itself."""
        return isinstance(self._lane, ThreadLane)

    def submit(self, *args: object, **kwargs: object) -> Future[object]:
        """The Future of `module(*args, **kwargs)`. Calls start in the order in which they were submitted.

        Blocks while too many wait, except where a callback of one of the pool's own futures submits. Tensors must not be changed
        until the Future is done. What the call raises, InputError for wrong arguments too, is raised by `result()`. `cancel()`
        takes a call back that hasn't started. Raises InputError after `shutdown`.
        """
        bounded = not self._lane.is_mine()
        if bounded:
            self._room.acquire()
        job = Job(args, kwargs, Future(), bounded)
        with self._lock:
            accepted = not self._closed
            if accepted:
                self._pending.append(job)
                self._open += 1
        if not accepted:
            self._leave(job)
            raise InputError("This Throughput was shut down; make another one for more calls.")
        self._pump()
        return job.future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """No more calls. `wait`: returns when all that were submitted are done. `cancel_futures`: those that wait are cancelled."""
        with self._lock:
            self._closed = True
            dropped = list(self._pending) if cancel_futures else []
            if cancel_futures:
                self._pending.clear()
        for job in dropped:
            job.future.cancel()
            job.future.set_running_or_notify_cancel()  # tells those who wait for it
            self._leave(job)
            self._settled()
        if not self._open:
            self._lane.close()
        if wait and not self._lane.is_mine():
            with self._idle:
                self._idle.wait_for(lambda: not self._open)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown(cancel_futures=kind is not None)

    def _pump(self) -> None:
        """Starts calls that wait, while there is a request for them."""
        while True:
            with self._lock:
                if self._running >= self.requests or not self._pending:
                    return
                job = self._pending.popleft()
                self._running += 1
            if not job.future.set_running_or_notify_cancel():
                self._end(job)
                self._settled()
                continue
            with Outcome() as outcome:
                self._lane.start(job)
            if outcome.error is not None:
                self._end(job)
                job.future.set_exception(outcome.error)
                self._settled()

    def _done(self, job: Job, outcome: Outcome) -> None:
        """What a lane calls, in a thread of its own, when a call has ended."""
        self._end(job)
        self._pump()  # before the caller is told, whose callbacks may take their time
        outcome.settle(job.future)
        job.forget()
        self._settled()

    def _end(self, job: Job) -> None:
        with self._lock:
            self._running -= 1
        self._leave(job)

    def _leave(self, job: Job) -> None:
        if job.bounded:
            self._room.release()

    def _settled(self) -> None:
        with self._idle:
            self._open -= 1
            ended = self._closed and not self._open
            self._idle.notify_all()
        if ended:
            self._lane.close()


def _check(name: str, given: object, least: int) -> None:
    if given is not None and (type(given) is not int or given < least):
        raise InputError(f"{name}={given!r}: a whole number from {least} on is needed.")
