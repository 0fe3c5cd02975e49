"""Times of functions that do the same, taken in turns, so that a busy machine is busy for each of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import TypeAlias

import torch

from torch_tensorrt.observe.log import logger

Run: TypeAlias = Callable[[], object]
_RUNS, _SECONDS = 20, 0.1  # for each: at least so many, for at least so long
_MOST_SECONDS, _LEAST = 1.5, 3  # unless they are slow
_MOST_RUNS = 20_000
_TURN_SECONDS = 0.02
_LOOK_SECONDS, _MOST_REST, _QUIET = 0.02, 0.12, 0.25  # the system counts the time of running threads every 10 ms or so
_ROUNDS, _HOPELESS = 3, 1.25  # one round is enough for who takes so many times as long
_WARM_UP, _WARM_SECONDS = 3, 0.3
_LONG = 0.05  # a run that takes so many seconds is not made longer by threads that were asleep
_CLEAR, _CLEAR_SECONDS = (
    1.5,
    0.2,
)  # who takes so many times as long as another needs no more turns than these seconds hold
_log = logger("tuning")


def measure(runs: Sequence[Run], device: torch.device) -> list[float]:
    """The median milliseconds of each.

    On a CUDA device the mean of two medians: as it is called, until its result is there, and replayed from a CUDA graph, since it
    may be run either way; one that can't be captured counts as it is called twice.
    """
    for run in runs:
        _warm_up(run)
    if device.type != "cuda":
        return [seconds * 1000 for seconds in _in_turns(runs)]
    called = _in_turns([_until_done(run, device) for run in runs])
    graphs = [_captured(run, device) or run for run in runs]
    replayed = _in_turns([_until_done(run, device) for run in graphs])
    return [(first + second) * 500 for first, second in zip(called, replayed, strict=True)]


def _warm_up(run: Run) -> None:
    start = time.perf_counter()
    for _ in range(_WARM_UP):
        run()
        if time.perf_counter() - start > _WARM_SECONDS:
            return


def _in_turns(runs: Sequence[Run]) -> list[float]:
    times: list[list[float]] = [[] for _ in runs]
    while not all(map(_enough, times)) and not _is_clear(times):
        for run, taken in zip(runs, times, strict=True):
            _take_turn(run, taken)
    return [median(taken) for taken in times]


def _enough(taken: Sequence[float]) -> bool:
    spent = sum(taken)
    if len(taken) >= _MOST_RUNS:
        return True
    return (len(taken) >= _RUNS and spent >= _SECONDS) or (len(taken) >= _LEAST and spent >= _MOST_SECONDS)


def _is_clear(times: Sequence[Sequence[float]]) -> bool:
    if min(map(len, times)) < _LEAST or sum(map(sum, times)) < _CLEAR_SECONDS:
        return False
    medians = [*map(median, times)]
    return max(medians) > _CLEAR * min(medians)


def rest() -> None:
    """Returns when the threads of this process have gone to sleep, or after an eighth of a second.

    Threads of libraries wait busily for more work: ONNX Runtime's were seen to do so for 50 ms, OpenMP's for 10, OpenVINO's for 1.
    On as many cores as there are threads, whoever runs next would run with fewer.
    """
    used, end = time.process_time(), time.perf_counter() + _MOST_REST
    while time.perf_counter() < end:
        time.sleep(_LOOK_SECONDS)
        before, used = used, time.process_time()
        if used - before < _QUIET * _LOOK_SECONDS:
            return


def _take_turn(run: Run, taken: list[float]) -> None:
    """Several runs one after the other; the first, which finds other data in the caches and threads asleep, isn't counted.

    Unless it is a long one: then it is the only one.
    """
    rest()
    start = time.perf_counter()
    run()
    first = time.perf_counter() - start
    if first > _LONG:
        taken.append(first)
        return
    while True:
        before = time.perf_counter()
        run()
        after = time.perf_counter()
        taken.append(after - before)
        if after - start > _TURN_SECONDS:
            return


def _until_done(run: Run, device: torch.device) -> Run:
    def run_and_wait() -> None:
        run()
        torch.cuda.synchronize(device)

    return run_and_wait


def _captured(run: Run, device: torch.device) -> Run | None:
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.device(device):
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(_WARM_UP):
                    run()
            torch.cuda.current_stream().wait_stream(side)
            with torch.cuda.graph(graph):
                run()
    except RuntimeError as error:
        _log.debug("a candidate can't be captured in a CUDA graph: %s", error)
        torch.cuda.synchronize(device)
        return None
    return graph.replay


class Race:
    """Who is fastest so far. A newcomer wins when it takes less than 98% of the winner's time.

    Both are measured in turns, in several rounds, and the median of the rounds' ratios counts: the pace of a machine that others
    use too changes from second to second, by more than what is to be told apart, but then it does so for both. Milliseconds are
    told at the pace that the machine had when the first was measured, so that they can be compared.
    """

    TIE = 0.98

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.milliseconds = 0.0  # of the fastest
        self._fastest: Run | None = None

    def enter(self, run: Run) -> tuple[float, bool]:
        """Its milliseconds, and whether it is the fastest now."""
        if self._fastest is None:
            self._fastest = run
            self.milliseconds = measure([run], self.device)[0]
            return self.milliseconds, True
        ratio = self._ratio(self._fastest, run)
        milliseconds = ratio * self.milliseconds
        if ratio < self.TIE:
            self._fastest, self.milliseconds = run, milliseconds
        return milliseconds, ratio < self.TIE

    def _ratio(self, fastest: Run, run: Run) -> float:
        ratios: list[float] = []
        while len(ratios) < _ROUNDS and not (ratios and ratios[0] > _HOPELESS):
            before, taken = measure([fastest, run], self.device)
            ratios.append(taken / before)
        return median(ratios)
