"""How a Throughput pool gets its calls run: by threads that call the module, or by an engine whose SDK runs several at once."""

# mypy: disable-error-code="type-abstract"
# (an ability is asked for with isinstance, never made)
from __future__ import annotations

import contextlib
import itertools
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol

import torch
from torch import Tensor, fx, nn
from torch._ops import OpOverload
from torch.utils import _pytree as pytree
from typing_extensions import Self

from torch_tensorrt.contracts.abilities import Run, RunsAhead
from torch_tensorrt.runtime import watching
from torch_tensorrt.runtime.calling import Door
from torch_tensorrt.runtime.direct import whole_engine
from torch_tensorrt.runtime.module import CompiledModule
from torch_tensorrt.runtime.op import LiveEngine
from torch_tensorrt.runtime.short_way import door_of

_GLANCE = (
    0.2  # seconds after which runs under way are asked whether they failed: SDKs only tell of those that went well
)


class Outcome:
    """What a block came to: the error that ended it, which goes no further, or the result that it set."""

    def __init__(self) -> None:
        self.result: object = None
        self.error: BaseException | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self.error = error
        return True

    def settle(self, future: Future[object]) -> None:
        """Tells the caller."""
        if self.error is None:
            future.set_result(self.result)
        else:
            future.set_exception(self.error)


@dataclass(eq=False)
class Job:
    """A call that was submitted. bounded: it takes a place among those that may wait. run: while an engine runs it."""

    args: tuple[object, ...]
    kwargs: Mapping[str, object]
    future: Future[object]
    bounded: bool
    run: Run | None = None

    def forget(self) -> None:
        """Lets go of the arguments: the caller may keep the future for long."""
        self.args, self.kwargs, self.run = (), {}, None


Done = Callable[[Job, Outcome], None]


class Lane(Protocol):
    """Runs calls, and says when they are done."""

    def start(self, job: Job) -> None:
        """Returns soon. Raises what is wrong with the call; the lane says nothing of it then."""

    def is_mine(self) -> bool:
        """Whether this is a thread that calls `done`, and so must not wait for other calls."""

    def close(self) -> None:
        """All calls are done, and there will be no others. May be called more than once."""


class ThreadLane:
    """Threads that call the module. On a CUDA device each has a stream of its own."""

    def __init__(self, module: nn.Module, threads: int, done: Done) -> None:
        self._module = module
        self._done = done
        self._own = threading.local()
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="torch_tensorrt_throughput")

    def start(self, job: Job) -> None:
        """Hands it to a thread that waits for one."""
        self._threads.submit(self._run, job, _streams_of(job))

    def _run(self, job: Job, streams: Sequence[torch.cuda.Stream]) -> None:
        self._own.works = True
        with Outcome() as outcome, torch.no_grad():
            outcome.result = self._run_on(job, streams) if streams else self._module(*job.args, **job.kwargs)
        self._done(job, outcome)

    def _run_on(self, job: Job, streams: Sequence[torch.cuda.Stream]) -> object:
        """On a stream of this thread's, after what the caller had queued; it is done when this returns."""
        device = streams[0].device
        known: dict[torch.device, torch.cuda.Stream] = self._own.__dict__.setdefault("streams", {})
        if device not in known:
            known[device] = torch.cuda.Stream(device)
        stream = known[device]
        for theirs in streams:
            stream.wait_stream(theirs)
        with torch.cuda.stream(stream):
            result = self._module(*job.args, **job.kwargs)
        stream.synchronize()
        for tensor in pytree.tree_leaves(result):
            if (
                isinstance(tensor, Tensor) and tensor.is_cuda
            ):  # its memory isn't for others while the caller's stream reads it
                for theirs in streams:
                    tensor.record_stream(theirs)
        return result

    def is_mine(self) -> bool:
        """Whether a call runs, or ended, in this thread."""
        return getattr(self._own, "works", False)

    def close(self) -> None:
        """The threads end."""
        self._threads.shutdown(wait=False)


def _streams_of(job: Job) -> list[torch.cuda.Stream]:
    """The caller's streams, one for each GPU that a tensor is on."""
    leaves = pytree.tree_leaves((job.args, job.kwargs))
    devices = dict.fromkeys(leaf.device for leaf in leaves if isinstance(leaf, Tensor) and leaf.is_cuda)
    return [torch.cuda.current_stream(device) for device in devices]


@dataclass(frozen=True)
class Route:
    """A module that is one engine which runs ahead, with what stands before and after it."""

    door: Door
    live: LiveEngine
    engine: RunsAhead  # that of `live`


def route_of(module: nn.Module) -> Route | None:
    """None where the module is more than that, is watched by hooks, or may get another engine."""
    if not isinstance(module, fx.GraphModule):
        return None
    if isinstance(module, CompiledModule):
        if not module.settings.immutable_weights or module._forward_hooks or module._forward_pre_hooks:
            return None
        door, call = Door(module.graph, module.input_specs, moves=True), whole_engine(module)
    else:
        found = door_of(module)
        if found is None:
            return None
        door, call = found[0], whole_engine(module, found[1])
    if call is None:
        return None
    live = call.live()
    return Route(door, live, live.engine) if isinstance(live.engine, RunsAhead) else None


def writes_state(module: nn.Module) -> bool:
    """Whether the graph of `module` writes to its buffers or inputs; a module without a graph doesn't tell."""
    nodes = module.graph.nodes if isinstance(module, fx.GraphModule) else ()
    return any(isinstance(node.target, OpOverload) and node.target._schema.is_mutable for node in nodes)


@dataclass(frozen=True)
class _WatchedRun:
    """A run that is shown to whoever watches engines: it is run by the thread that takes its results."""

    live: LiveEngine
    inputs: Sequence[Tensor]

    def poll(self) -> None:
        """It can't have failed yet."""

    def outputs(self) -> tuple[Tensor, ...]:
        """Runs it."""
        return tuple(self.live(self.inputs))


class AheadLane:
    """Starts runs of the engine itself; one thread takes the results, in the order in which the runs end."""

    def __init__(self, module: nn.Module, route: Route, done: Done) -> None:
        self._module = module  # keeps the engine's memory alive
        self._route = route
        self._done = done
        self._lock = threading.Lock()
        # By number: a request remembers whom to tell until it is used again, and must not keep a call's result as long.
        self._flying: dict[int, Job] = {}
        self._numbers = itertools.count()
        self._told: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._taker = threading.Thread(target=self._take, name="torch_tensorrt_throughput", daemon=True)
        self._taker.start()

    def start(self, job: Job) -> None:
        """Raises what is wrong with the arguments. While engines are watched, they run one after the other."""
        with torch.inference_mode(False), torch.no_grad():
            flat: Sequence[Tensor] = self._route.door.enter(job.args, job.kwargs)  # type: ignore[assignment]
            self._route.live.check(flat)
            number = next(self._numbers)
            with self._lock:  # it may end before this thread has noted it
                if watching.watchers:
                    job.run = _WatchedRun(self._route.live, flat)
                    self._told.put(number)
                else:
                    job.run = self._route.engine.start(flat, lambda: self._told.put(number))
                self._flying[number] = job

    def _take(self) -> None:
        looked = time.monotonic()
        while True:
            with contextlib.suppress(queue.Empty):
                number = self._told.get(timeout=_GLANCE)
                if number is None:
                    return
                self._finish(number)
            if time.monotonic() - looked > _GLANCE:
                self._look_for_failures()
                looked = time.monotonic()

    def _finish(self, number: int) -> None:
        with self._lock:
            job = self._flying.pop(number, None)
        if job is None or job.run is None:
            return
        run = job.run
        with Outcome() as outcome, torch.no_grad():
            outcome.result = self._route.door.result(run.outputs())
        self._done(job, outcome)

    def _look_for_failures(self) -> None:
        with self._lock:
            flying = [(number, job.run) for number, job in self._flying.items() if job.run is not None]
        for number, run in flying:
            with Outcome() as outcome:
                run.poll()
            if outcome.error is not None:
                self._finish(number)

    def is_mine(self) -> bool:
        """Whether this is the thread that takes the results."""
        return threading.current_thread() is self._taker

    def close(self) -> None:
        """The thread ends."""
        self._told.put(None)
