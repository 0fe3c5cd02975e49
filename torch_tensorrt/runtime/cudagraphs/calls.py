"""Calls of a model, or of one engine, that are captured in a CUDA graph the first time, and replayed from then on."""

from __future__ import annotations

import sys
import threading
import traceback
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from torch_tensorrt.observe.log import logger, warn_once
from torch_tensorrt.runtime.cudagraphs import mode
from torch_tensorrt.runtime.cudagraphs.buffers import Inputs, Key, Results, key_of
from torch_tensorrt.runtime.cudagraphs.contents import Contents
from torch_tensorrt.runtime.cudagraphs.cuda import CudaDevice, Device, Graph, is_capturing
from torch_tensorrt.spec.errors import UnsupportedError

Run = Callable[[Sequence[Any]], Sequence[object]]
_log = logger("runtime")
_WARM_UPS = 2  # what is compiled, tuned or loaded at a first run is not part of a graph
_REMEDY = (
    "Run it without CUDA graphs, or each engine in a graph of its own: "
    "torch_tensorrt.runtime.set_cudagraphs_mode(CudaGraphsMode.SUBGRAPH_CUDAGRAPHS)."
)


class UncapturedError(UnsupportedError):
    """What was to be captured in a CUDA graph can't be."""


@dataclass
class Options:
    """How calls are replayed. kept: how many graphs, None for the process's choice. own: whether results are the caller's."""

    kept: int | None = None
    own: bool = True

    def give(self, *, own: bool) -> bool:
        """Sets `own`, and returns what it was."""
        before, self.own = self.own, own
        return before


@dataclass
class _Captured:
    """A graph, with the tensors that it reads and writes."""

    device: Device
    graph: Graph
    inputs: Inputs
    results: Results


class GraphCalls:
    """Flat inputs in, flat results out, as `run` gives them. Safe to call from several threads and on any stream.

    name: for messages.
    """

    def __init__(self, name: str, run: Run, contents: Contents, options: Options) -> None:
        self.contents = contents
        self.options = options
        self._name, self._run = name, run
        self._devices: dict[int, Device] = {}
        self._captured: OrderedDict[Key, _Captured] = OrderedDict()
        self._lock = threading.RLock()
        self._why = ""

    @property
    def refusal(self) -> str:
        """What is said where `contents` has a reason against it."""
        return self._told(self.contents.refusal)

    def _told(self, reason: str) -> str:
        remedy = f" {_REMEDY}" if self.contents.on_gpu else ""
        return f"{self._name} can't be captured in a CUDA graph: {reason}.{remedy}"

    def __call__(self, flat: Sequence[object]) -> Sequence[object]:
        """Replays the graph for inputs like these; captures it when there is none.

        Results are fresh tensors; with `options.own` False those that the next call writes over. A result that is an input, or
        shows one, is the caller's tensor, or a view of it. While the caller captures a graph, `run` becomes part of that. Raises
        UncapturedError, naming the operation, for what can't be captured.
        """
        if is_capturing():
            return self._run(flat)
        if torch.is_grad_enabled():
            with torch.no_grad():
                return self(flat)
        key = key_of(flat)
        with self._lock:
            captured = self._captured.get(key) or self._captured.get(key := self._full_key(key, flat))
            if captured is None:
                if self.contents.refusal:
                    raise UncapturedError(self.refusal)
                captured = self._capture(key, flat, self._device(flat))
            self._captured.move_to_end(key)
            return self._replay(captured, flat)

    def or_run(self, flat: Sequence[object]) -> Sequence[object]:
        """The same, except that what can't be captured runs without a graph: a warning says so once, with the reason."""
        if not self._why:
            try:
                return self(flat)
            except UncapturedError as error:
                self._why = str(error)
                warn_once(f"cuda graph: {self._name}: {error}", f"It runs without a CUDA graph: {error}")
        with torch.no_grad():
            return self._run(flat)

    def prepare(self, flat: Sequence[object]) -> Sequence[object]:
        """Captures the graph for inputs like these, unless it is there. Raises what a call raises.

        Returns the graph's own inputs: a call that passes them copies nothing.
        """
        key = self._full_key(key_of(flat), flat)
        with self._lock, torch.no_grad():
            if self.contents.refusal:
                raise UncapturedError(self.refusal)
            captured = self._captured.get(key) or self._capture(key, flat, self._device(flat))
            return [*captured.inputs.fixed]

    def has(self, flat: Sequence[object]) -> bool:
        """Whether a call with inputs like these needs no capture."""
        return self._full_key(key_of(flat), flat) in self._captured

    def forget(self) -> None:
        """Drops all graphs, and the memory that they run in, when the last replay is over."""
        with self._lock:
            for device in self._devices.values():
                device.wait()
            self._captured.clear()

    def __len__(self) -> int:
        return len(self._captured)

    def __del__(self) -> None:
        if self._captured and not sys.is_finalizing() and not is_capturing():
            self.forget()  # its memory must not be used by others before the last replay is over

    def _replay(self, captured: _Captured, flat: Sequence[object]) -> Sequence[object]:
        device, inputs = captured.device, captured.inputs
        device.take_turn()
        try:
            inputs.fill(flat)
            captured.graph.replay()
            if inputs.written:
                inputs.hand_back(flat)
            return captured.results.give(flat, own=self.options.own)
        finally:
            device.end_turn()

    def _full_key(self, key: Key, flat: Sequence[object]) -> Key:
        """With the values of those tensors on the CPU that a graph would keep as they are when it is captured."""
        scalars = [(at, x.item()) for at in self._scalars(flat) if isinstance(x := flat[at], Tensor)]
        return (*key, *scalars) if scalars else key

    def _scalars(self, flat: Sequence[object]) -> list[int]:
        if not self.contents.on_gpu:
            return []
        return [at for at, x in enumerate(flat) if isinstance(x, Tensor) and x.is_cpu and x.dim() == 0]

    def _device(self, flat: Sequence[object]) -> Device:
        index = next((x.get_device() for x in flat if isinstance(x, Tensor) and not x.is_cpu), None)
        if index is None:
            index = torch.cuda.current_device() if self.contents.on_gpu else -1
        if index not in self._devices:
            self._devices[index] = CudaDevice(index)
        return self._devices[index]

    def _capture(self, key: Key, flat: Sequence[object], device: Device) -> _Captured:
        self._make_room()
        pool = next((known.graph.pool() for known in self._captured.values() if known.device is device), None)
        device.take_turn()
        try:
            captured = self._captured[key] = self._record(flat, device, pool)
        finally:
            device.end_turn()
        _log.debug("%s: captured in a CUDA graph for %s", self._name, key)
        return captured

    def _record(self, flat: Sequence[object], device: Device, pool: object) -> _Captured:
        with torch.inference_mode(False), torch.no_grad():
            inputs = Inputs(flat, self._scalars(flat))
            earlier = self._warm_up(flat, inputs, device)
            try:
                graph, results = device.capture(lambda: self._run(inputs.fixed), pool, random=self.contents.random)
            except RuntimeError as error:
                raise UncapturedError(self._told(f"{_where(error)}{type(error).__name__}: {error}")) from error
            for at, (x, old) in enumerate(zip(results, earlier, strict=True)):
                if isinstance(x, Tensor) and x is not old and not device.holds(x):
                    raise UncapturedError(self._told(f"its result {at} is on {x.device}"))
        return _Captured(device, graph, inputs, Results(results, earlier, inputs))

    def _warm_up(self, flat: Sequence[object], inputs: Inputs, device: Device) -> Sequence[object]:
        """The results that are the same objects in each run; None for others. Leaves the model's own tensors as they were."""
        state = [(tensor, tensor.clone()) for tensor in self.contents.state()]
        kept: list[object] | None = None
        for _ in range(_WARM_UPS):
            inputs.fill(flat)
            versions = inputs.versions()
            try:
                found = device.warm_up(lambda: self._run(inputs.fixed), random=self.contents.random)
            finally:
                for tensor, before in state:
                    tensor.copy_(before)
            inputs.note_writes(versions)
            old = found if kept is None else kept
            kept = [x if x is before else None for x, before in zip(found, old, strict=True)]
        return kept or ()

    def _make_room(self) -> None:
        """Before a capture, so that it may use the memory; the oldest goes when it runs no more."""
        most = self.options.kept or mode.kept
        while len(self._captured) >= most:
            oldest = next(iter(self._captured.values()))
            oldest.device.wait()
            self._captured.popitem(last=False)


def _where(error: BaseException) -> str:
    """The line of the compiled graph at which it stopped."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if frame.filename.startswith(("<compiled graph", "<eval_with_key")) and frame.line:
            return f"at {frame.line.partition(';')[0]!r}, "
    return ""
