"""The whole model by another engine, or lowered in another way: what can't be decided for one partition alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import fx
from torch.export import ExportedProgram
from torch.fx.graph import _PyTreeCodeGen
from torch.utils import _pytree as pytree

from torch_tensorrt import engines
from torch_tensorrt.caching.key import UndescribableError
from torch_tensorrt.caching.program_key import program_key
from torch_tensorrt.contracts.partition import Partition, Plan, Trial, trial_table
from torch_tensorrt.graphs.agreement import allowed_error, relative_error
from torch_tensorrt.observe.log import logger
from torch_tensorrt.observe.progress import progress
from torch_tensorrt.runtime.module import CompiledModule
from torch_tensorrt.spec.errors import TorchTensorRTError
from torch_tensorrt.trace.symbols import SymbolRange
from torch_tensorrt.tuning.candidates import Candidate, candidates_of
from torch_tensorrt.tuning.choosing import Tuner, mark_winner, why_not
from torch_tensorrt.tuning.measuring import Race
from torch_tensorrt.tuning.timing_cache import Measured, whole_key

WHOLE = "whole model"
PLANNED = "as planned"
_log = logger("tuning")


def routes(tuner: Tuner, plan: Plan | None) -> list[Candidate]:
    """What is compared with `plan`: other ways to lower the graph, and the other engines unless one engine has it all already.

    With no plan, all that could be compared with one.
    """
    found = [one for one in candidates_of(tuner.backend, tuner.settings, tuner.device) if one.relowered]
    if tuner.every_engine and (plan is None or plan.refusals or len(plan.groups) > 1):
        others = (engines.backend(name) for name in engines.names() if name != tuner.backend.name)
        for other in others:
            if other.available(tuner.device):
                found += list(candidates_of(other, tuner.settings, tuner.device, own=False))[:1]
    return found


def route_key(program: ExportedProgram, ranges: Mapping[str, SymbolRange], tuner: Tuner) -> str | None:
    """The whole model's key in the timing cache; None when it can't be described, or there is nothing to choose."""
    if not routes(tuner, None):
        return None
    whole = Partition("program", tuner.backend.name, program.graph_module, (), ())
    try:
        described = program_key(program, ranges, tuner.backend, tuner.settings)
    except UndescribableError as reason:
        _log.info("what is measured of the whole model isn't kept: %s", reason)
        return None
    return whole_key(described.hash, routes(tuner, None), whole, tuner.device)


def known_route(tuner: Tuner, key: str | None) -> tuple[Candidate | None, tuple[Trial, ...]]:
    """What won before, with all that the plan then told: a route, or None for the usual plan. No trials: nothing is known."""
    known = tuner.cache.find(key, tuner.deadline.seconds) if key is not None else None
    if known is None:
        return None, ()
    winner = next((one for one in routes(tuner, None) if one.label == known.winner), None)
    return winner, known.trials


class RouteContest:
    """The compiled model as planned, and other ways. Only for models that write to no state: measuring would change it."""

    def __init__(self, tuner: Tuner, program: ExportedProgram, values: Sequence[object]) -> None:
        self.tuner = tuner
        self.values = values
        self.race = Race(tuner.device)
        self.trials: list[Trial] = []
        reference = program.module(check_guards=False)
        assert isinstance(reference, fx.GraphModule)
        self.allowed = allowed_error(reference.graph, tuner.settings, tuner.device)
        with torch.no_grad():
            self.wanted = pytree.tree_leaves(fx.Interpreter(reference).run(*values, enable_io_processing=False))
        self.best: CompiledModule | None = None
        self.winner = PLANNED
        self.out_of_time = False

    def run(
        self,
        planned: CompiledModule,
        others: Sequence[Candidate],
        compile_with: Callable[[Candidate], CompiledModule | None],
        key: str | None,
    ) -> CompiledModule:
        """The fastest of `planned` and what `compile_with` makes of the others; None from it: that graph was there already."""
        with progress("Measuring the whole model", len(others) + 1) as steps:
            self._enter(PLANNED, planned, None)
            steps.advance(PLANNED)
            for candidate in others:
                self._try(candidate, compile_with)
                steps.advance(candidate.label)
        best = self.best or planned
        assert planned.plan is not None
        assert best.plan is not None
        own = (
            []
            if best is planned
            else [replace(trial, place=f"{PLANNED}: {trial.place}") for trial in planned.plan.trials]
        )
        trials = (*own, *best.plan.trials, *mark_winner(self.trials, self.winner))
        if key is not None:
            seconds = self.tuner.deadline.seconds if self.out_of_time else None
            self.tuner.cache.keep(key, Measured(self.winner, trials, seconds))
        _log.info("%s", "\n".join(trial_table(mark_winner(self.trials, self.winner))))
        best.plan = replace(best.plan, trials=trials)
        return best

    def _try(self, candidate: Candidate, compile_with: Callable[[Candidate], CompiledModule | None]) -> None:
        if self.tuner.deadline.is_over():
            self.out_of_time = True
            note = f"not tried: max_tuning_seconds={self.tuner.deadline.seconds:g} are over"
            self.trials.append(Trial(WHOLE, candidate.label, note=note))
            return
        start = time.perf_counter()
        try:
            compiled = compile_with(candidate)
        except TorchTensorRTError as error:
            self.trials.append(Trial(WHOLE, candidate.label, note=why_not(error)))
            return
        if compiled is None:
            self.trials.append(Trial(WHOLE, candidate.label, note="gives a graph that was measured already"))
            return
        self._enter(candidate.label, compiled, time.perf_counter() - start)

    def _enter(self, label: str, compiled: CompiledModule, seconds: float | None) -> None:
        codegen = compiled.graph._codegen
        assert isinstance(codegen, _PyTreeCodeGen)
        args, kwargs = pytree.tree_unflatten(self.values, codegen.pytree_info.in_spec)

        def run() -> object:
            return compiled(*args, **kwargs)

        error = relative_error(pytree.tree_leaves(run()), self.wanted)
        if error > self.allowed:
            _log.warning(
                "The whole model by %s: its results differ from PyTorch's by %.1e, and %.1e is allowed.",
                label, error, self.allowed,
            )  # fmt: skip
            if label != PLANNED:
                self.trials.append(
                    Trial(WHOLE, label, seconds, None, error, f"wrong: only {self.allowed:.0e} is allowed")
                )
                return
        milliseconds, won = self.race.enter(run)
        self.trials.append(Trial(WHOLE, label, seconds, milliseconds, error))
        if won:
            self.best, self.winner = compiled, label
