"""Which way of building is the fastest on this machine: each is built, compared with PyTorch's results, and measured."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from torch_tensorrt.contracts.backend import EngineBackend
from torch_tensorrt.contracts.engine import Engine
from torch_tensorrt.contracts.partition import Partition, Plan, Trial, trial_table
from torch_tensorrt.graphs.agreement import allowed_error, relative_error
from torch_tensorrt.observe.log import logger
from torch_tensorrt.observe.progress import progress
from torch_tensorrt.partition.cutter import Call, Cut
from torch_tensorrt.spec.errors import BuildError, TorchTensorRTError
from torch_tensorrt.spec.settings import MEASURED_LEVEL, CompilationSettings
from torch_tensorrt.tuning.candidates import EAGER, Candidate, adapt, all_candidates
from torch_tensorrt.tuning.examples import record_inputs
from torch_tensorrt.tuning.measuring import Race
from torch_tensorrt.tuning.timing_cache import Measured, TimingCache, cache_path, partition_key

CHOSEN = "chosen"
FASTEST = "the fastest"
_WORDS = 160  # characters of an error that the table shows
_log = logger("tuning")


@dataclass(frozen=True)
class Order:
    """How the engine of a partition is to be built; `engine` where that is done already, `trials` what was measured."""

    partition: Partition
    backend: EngineBackend
    settings: CompilationSettings
    engine: Engine | None = None
    trials: tuple[Trial, ...] = ()


class Deadline:
    """`max_tuning_seconds` from now on."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    def is_over(self) -> bool:
        """Whether nothing further is to be built."""
        return time.monotonic() >= self._end


@dataclass(frozen=True)
class Tuner:
    """Chooses for partitions that are planned for `backend`. every_engine: other engines may take them, and PyTorch."""

    backend: EngineBackend
    settings: CompilationSettings
    device: torch.device
    every_engine: bool
    deadline: Deadline

    @property
    def cache(self) -> TimingCache:
        """What was measured before."""
        return TimingCache(cache_path(self.settings))

    def candidates(self) -> list[Candidate]:
        """What there is to choose from for one partition."""
        found = all_candidates(self.backend, self.settings, self.device, every_engine=self.every_engine)
        return [candidate for candidate in found if not candidate.relowered]

    def only(self, candidate: Candidate) -> Tuner:
        """The same with no other engine than the candidate's, and until the same time."""
        return dataclasses.replace(self, backend=candidate.backend, settings=candidate.settings, every_engine=False)

    def orders(self, pieces: Cut, values: Sequence[object]) -> list[Order]:
        """The fastest candidate for each partition, when the graph around them gets `values`. Raises what `order` raises."""
        partitions = {call.node.name: call.partition for call in pieces.calls}
        given = record_inputs(pieces.outer, partitions, values)
        return [self.order(partition, given[name]) for name, partition in partitions.items()]

    def order(self, partition: Partition, inputs: Sequence[Tensor]) -> Order:
        """The fastest candidate for `partition` on `inputs`.

        Raises what the usual one's build raises when no candidate can be built, BuildError when none gives PyTorch's results.
        """
        candidates = self.candidates()
        if len(candidates) <= 1:
            return Order(partition, self.backend, self.settings)
        key = partition_key(partition, candidates, self.device)
        known = self.cache.find(key, self.deadline.seconds) if key is not None else None
        if known is not None:
            winner = next(candidate for candidate in candidates if candidate.label == known.winner)
            _log.info("%s: %s was the fastest, the timing cache says", partition.name, winner.label)
            adapted = adapt(partition, winner, self.device)
            trials = tuple(dataclasses.replace(trial, place=partition.name) for trial in known.trials)
            return Order(adapted, winner.backend, winner.settings, None, trials)
        if key is not None:
            self.cache.prepare()
        contest = _Contest(self, partition, inputs)
        order = contest.run(candidates)
        if key is not None:
            seconds = self.deadline.seconds if contest.out_of_time else None
            self.cache.keep(key, Measured(contest.winner, order.trials, seconds))
        _log.info("%s", "\n".join(trial_table(order.trials)))
        return order


def is_tuned(settings: CompilationSettings, device: torch.device) -> bool:
    """Whether the fastest way is to be looked for: the level asks for it, and what is built for `device` runs here."""
    elsewhere = settings.enable_cross_compile_for_windows or (
        settings.device is not None and bool(settings.device.compute_capabilities)
    )
    runs_here = not elsewhere and (device.type == "cpu" or torch.cuda.is_available())
    return (settings.optimization_level or 0) >= MEASURED_LEVEL and runs_here and not settings.dryrun


class _Contest:
    """One partition, and the candidates one after the other; no more than two engines are in memory at a time."""

    def __init__(self, tuner: Tuner, partition: Partition, inputs: Sequence[Tensor]) -> None:
        self.tuner = tuner
        self.partition = partition
        self.inputs = inputs
        self.race = Race(tuner.device)
        self.trials: list[Trial] = []
        self.winner = ""
        self.out_of_time = False
        self.allowed = allowed_error(partition.module.graph, tuner.settings, tuner.device)
        self._best: Order | None = None
        self._failure: TorchTensorRTError | None = None
        with torch.no_grad():
            self.wanted = tuple(value.clone() for value in partition.module(*inputs))

    def run(self, candidates: Sequence[Candidate]) -> Order:
        """The fastest."""
        with progress(f"Measuring {self.partition.name}", len(candidates)) as steps:
            for candidate in candidates:
                self.trials.append(self._try(candidate))
                told = self.trials[-1]
                _log.info("%s", f"{told.place}: {told.label}: {told.note or f'{told.milliseconds:.4f} ms'}")
                steps.advance(candidate.label)
        if self._best is None:
            raise self._failure or BuildError(
                f"No engine gives PyTorch's results for partition {self.partition.name!r}:\n"
                + "\n".join(trial_table(self.trials))
                + "\nSay optimization_level=3 to have the usual one without a comparison."
            )
        return dataclasses.replace(self._best, trials=mark_winner(self.trials, self.winner))

    def _try(self, candidate: Candidate) -> Trial:
        trial = Trial(self.partition.name, candidate.label)
        if self._best is not None and candidate.backend.name != EAGER and self.tuner.deadline.is_over():
            self.out_of_time = True
            return dataclasses.replace(
                trial, note=f"not tried: max_tuning_seconds={self.tuner.deadline.seconds:g} are over"
            )
        try:
            order, seconds = self._build(candidate)
            trial = dataclasses.replace(trial, build_seconds=seconds)
            error = relative_error(_run(order, self.inputs), self.wanted)
        except TorchTensorRTError as failure:
            self._failure = self._failure or failure
            return dataclasses.replace(trial, note=why_not(failure))
        trial = dataclasses.replace(trial, error=error)
        if error > self.allowed and candidate.backend.name != EAGER:  # it is what the others are compared with
            _log.warning(
                "%s by %s is left out: its results differ from PyTorch's by %.1e, and %.1e is allowed.",
                self.partition.name, candidate.label, error, self.allowed,
            )  # fmt: skip
            return dataclasses.replace(trial, note=f"wrong: only {self.allowed:.0e} is allowed")
        assert order.engine is not None
        milliseconds, won = self.race.enter(_runner(order.engine, self.inputs))
        if won:
            self._best, self.winner = order, candidate.label
        return dataclasses.replace(trial, milliseconds=milliseconds)

    def _build(self, candidate: Candidate) -> tuple[Order, float]:
        adapted = adapt(self.partition, candidate, self.tuner.device)
        start = time.perf_counter()
        engine = candidate.backend.build(adapted, candidate.settings)
        return Order(adapted, candidate.backend, candidate.settings, engine), time.perf_counter() - start


def _run(order: Order, inputs: Sequence[Tensor]) -> Sequence[Tensor]:
    assert order.engine is not None
    try:
        return order.engine.run(inputs)
    except TorchTensorRTError:
        raise
    except Exception as error:  # of the SDK's own classes
        raise BuildError(f"it was built, and then did not run: {type(error).__name__}: {error}") from error


def _runner(engine: Engine, inputs: Sequence[Tensor]) -> Callable[[], object]:
    return lambda: engine.run(inputs)


def why_not(error: Exception) -> str:
    """The first words of `error`, for the table."""
    words = str(error).strip().partition("\n")[0]
    return f"can't be used: {words[:_WORDS]}" + ("..." if len(words) > _WORDS else "")


def mark_winner(trials: Iterable[Trial], winner: str) -> tuple[Trial, ...]:
    """`trials` with a note at the one labelled `winner`."""
    return tuple(dataclasses.replace(trial, note=CHOSEN) if trial.label == winner else trial for trial in trials)


def _reason(orders: Sequence[Order]) -> str:
    """Why a plan's engines are what they are, where any could be chosen."""
    known = all(order.engine is None for order in orders)
    return FASTEST + (" when this was measured before, says the timing cache" if known else "")


def ordered(pieces: Cut, orders: Sequence[Order]) -> Cut:
    """`pieces` with the partitions as they are built."""
    calls = zip(pieces.calls, orders, strict=True)
    return dataclasses.replace(pieces, calls=tuple(Call(order.partition, call.node) for call, order in calls))


def planned_as(plan: Plan, orders: Sequence[Order], tuner: Tuner) -> Plan:
    """`plan` with the engines that its groups, in order, are built with, why, and all that was measured."""
    groups = zip(plan.groups, orders, strict=True)
    chosen = tuner.every_engine and any(order.trials for order in orders)
    return dataclasses.replace(
        plan,
        groups=tuple(dataclasses.replace(group, backend=order.backend.name) for group, order in groups),
        backend_reason=_reason(orders) if chosen else plan.backend_reason,
        trials=(*plan.trials, *(trial for order in orders for trial in order.trials)),
    )
