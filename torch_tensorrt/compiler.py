"""The pipeline on one screen: trace, lower, plan, cut, build, wrap."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace

import torch
from torch import fx, nn
from torch.export import ExportedProgram

from torch_tensorrt.caching.programs import ProgramPlace, program_place
from torch_tensorrt.caching.reuse import Place, place_for
from torch_tensorrt.contracts.backend import EngineBackend
from torch_tensorrt.contracts.partition import Partition, Plan
from torch_tensorrt.engine_choice import Choice, choose_backend, is_automatic
from torch_tensorrt.lowering.decomposed import DecomposedGraph
from torch_tensorrt.lowering.pipeline import decompose, lower, lower_decomposed
from torch_tensorrt.observe.log import AtLevel, logger, warn_once
from torch_tensorrt.observe.progress import progress
from torch_tensorrt.observe.quiet import quiet_torch
from torch_tensorrt.package.lifting import lift
from torch_tensorrt.partition.boundary import input_specs
from torch_tensorrt.partition.cutter import Cut, cut
from torch_tensorrt.partition.planner import plan, require_everything_in_engines
from torch_tensorrt.refitting.recording import keep_record, make_record, remember_program, with_origin
from torch_tensorrt.runtime.module import CompiledModule
from torch_tensorrt.runtime.op import pack
from torch_tensorrt.spec.errors import BuildError
from torch_tensorrt.spec.settings import CompilationSettings
from torch_tensorrt.trace.call_inputs import CallInputs, collect_inputs
from torch_tensorrt.trace.own_inputs import warn_of_other_inputs
from torch_tensorrt.trace.symbols import SymbolRange, symbol_ranges, tell_lowest
from torch_tensorrt.trace.tracer import trace, without_autocast
from torch_tensorrt.tuning.candidates import Candidate
from torch_tensorrt.tuning.choosing import FASTEST, Deadline, Order, Tuner, is_tuned, ordered, planned_as
from torch_tensorrt.tuning.examples import flat_examples, made_up
from torch_tensorrt.tuning.routes import PLANNED, RouteContest, known_route, route_key, routes

_log = logger("compiler")


def compile_model(
    model: nn.Module | ExportedProgram,
    inputs: object,
    arg_inputs: object,
    kwarg_inputs: Mapping[str, object] | None,
    options: Mapping[str, object],
) -> CompiledModule:
    """What every front door calls: `options` are checked first, then the model is traced and compiled.

    Raises InputError, UnsupportedError or BuildError.
    """
    settings = CompilationSettings.from_options(**options)
    with quiet_torch(), AtLevel(logging.DEBUG) if settings.debug else nullcontext(), without_autocast():
        return _compile(model, inputs, arg_inputs, kwarg_inputs, settings)


def _compile(
    model: nn.Module | ExportedProgram,
    inputs: object,
    arg_inputs: object,
    kwarg_inputs: Mapping[str, object] | None,
    settings: CompilationSettings,
) -> CompiledModule:
    if isinstance(model, ExportedProgram) and inputs is None and arg_inputs is None and not kwarg_inputs:
        return compile_program(model, None, settings)
    call = collect_inputs(inputs, arg_inputs, kwarg_inputs)
    program = trace(model, arg_inputs=call.args, kwarg_inputs=call.kwargs)
    if program is model:
        warn_of_other_inputs(program, call)
    return compile_program(program, call, settings)


@dataclass(frozen=True)
class _Job:
    """What is compiled, for what, and how."""

    program: ExportedProgram
    settings: CompilationSettings
    backend: EngineBackend
    device: torch.device
    reason: str  # why this backend
    ranges: Mapping[str, SymbolRange]
    call: CallInputs | None


def compile_program(program: ExportedProgram, call: CallInputs | None, settings: CompilationSettings) -> CompiledModule:
    """Lower, plan, cut, build, wrap. `call` gives the typical sizes; the ranges are the program's own."""
    start = time.perf_counter()
    backend, device, reason = choose_backend(program, settings)
    for told in backend.unhonoured(settings):
        warn_once(f"{backend.name}: {told}", told)
    job = _Job(program, settings, backend, device, reason, symbol_ranges(program, call), call)
    tell_lowest(program)
    if is_tuned(settings, device):
        compiled = _compile_fastest(job)
    else:
        place = program_place(program, job.ranges, backend, settings)
        kept = place.find(lambda: _pieces_again(job)) if place is not None else None
        compiled = _compile_lowered(job, _lower(job), place) if kept is None else kept
    if not settings.dryrun and compiled.plan is not None:
        _summarise(compiled.plan, time.perf_counter() - start)
    return compiled


def _compile_fastest(job: _Job) -> CompiledModule:
    """Measures: ways to build each partition, and then to compile the whole model. It is not kept whole in the engine cache."""
    tuner = Tuner(
        job.backend, job.settings, job.device, is_automatic(job.settings), Deadline(job.settings.max_tuning_seconds)
    )
    seen: set[str] = set()

    def compile_with(candidate: Candidate) -> CompiledModule | None:
        reason = job.reason if candidate.label == PLANNED else FASTEST
        other = replace(job, backend=candidate.backend, settings=candidate.settings, reason=reason)
        lowered = _lower(other)
        text = f"{candidate.backend.name} {lowered.module.graph}"
        if text in seen:
            return None
        seen.add(text)
        return _compile_lowered(other, lowered, None, tuner if candidate.label == PLANNED else tuner.only(candidate))

    winner, trials = known_route(tuner, key := route_key(job.program, job.ranges, tuner))
    compiled = compile_with(winner or Candidate(PLANNED, job.backend, job.settings))
    assert compiled is not None
    assert compiled.plan is not None
    if trials:
        compiled.plan = replace(compiled.plan, trials=trials)
        return compiled
    others = routes(tuner, compiled.plan)
    if not others or compiled.plan.notes:  # measuring a model that writes to its state would change that
        return compiled
    values = flat_examples(job.program, compiled.graph, compiled.input_specs, job.call, job.device)
    return RouteContest(tuner, job.program, values).run(compiled, others, compile_with, key)


@dataclass(frozen=True)
class _Lowered:
    """A lowered program with its plan; `template` is what its weights can be exchanged by."""

    module: fx.GraphModule
    plan: Plan
    template: DecomposedGraph | None


def _lower(job: _Job) -> _Lowered:
    backend, settings = job.backend, job.settings
    decomposed = decompose(job.program, backend, settings)
    template = None if settings.immutable_weights else remember_program(job.program, decomposed)
    lowered = lower_decomposed(decomposed, backend, settings)
    planned = plan(lowered, backend, settings, device=job.device, reason=job.reason)
    if settings.require_full_compilation:
        require_everything_in_engines(planned)
    return _Lowered(lowered, planned, template)


def _compile_lowered(
    job: _Job, known: _Lowered, place: ProgramPlace | None, tuner: Tuner | None = None
) -> CompiledModule:
    backend, settings, lowered, planned = job.backend, job.settings, known.module, known.plan
    specs = input_specs(lowered, job.ranges)
    if settings.dryrun:
        print(planned)
        return CompiledModule.wrap(lowered, specs, planned, settings, job.program.range_constraints)
    record = None if settings.immutable_weights else make_record(lowered, known.template, backend, settings)
    pieces = cut(lowered, planned, job.ranges)
    orders = [Order(call.partition, backend, settings) for call in pieces.calls]
    if tuner is not None:
        values = flat_examples(job.program, lowered.graph, specs, job.call, job.device)
        orders = tuner.orders(pieces, values)
        pieces, planned = ordered(pieces, orders), planned_as(planned, orders, tuner)
    places = {
        call.attribute: place_for(order.partition, order.backend, order.settings)
        for call, order in zip(pieces.calls, orders, strict=True)
    }  # in the engine cache
    built = _build_all(pieces, places, orders)
    for piece, (constant, spec) in zip(pieces.calls, with_origin(built, record), strict=True):
        pieces.install(piece, constant, spec)
    compiled = CompiledModule.wrap(pieces.outer, specs, planned, settings, job.program.range_constraints)
    compiled.partitions = pieces.partitions()
    keep_record(compiled, record)
    if place is not None:
        place.keep(compiled, places, lift)
    return compiled


def compile_graph(
    graph: fx.GraphModule, choice: Choice, ranges: Mapping[str, SymbolRange], settings: CompilationSettings
) -> tuple[fx.GraphModule, Plan]:
    """What runs in place of `graph`, a functional graph in core ATen with the weights as attributes, and the plan.

    `ranges`: of the symbols in its sizes. Raises what `compile_model` raises.
    """
    start, (backend, device, reason) = time.perf_counter(), choice
    lowered = lower_decomposed(graph, backend, settings)
    planned = plan(lowered, backend, settings, device=device, reason=reason)
    if settings.require_full_compilation:
        require_everything_in_engines(planned)
    if settings.dryrun:
        print(planned)
        return lowered, planned
    pieces = cut(lowered, planned, ranges)
    orders = [Order(call.partition, backend, settings) for call in pieces.calls]
    if is_tuned(settings, device):
        deadline = Deadline(settings.max_tuning_seconds)
        tuner = Tuner(backend, settings, device, is_automatic(settings), deadline)
        orders = tuner.orders(pieces, made_up(lowered.graph, input_specs(lowered, ranges)))
        pieces, planned = ordered(pieces, orders), planned_as(planned, orders, tuner)
    places = {
        call.attribute: place_for(order.partition, order.backend, order.settings)
        for call, order in zip(pieces.calls, orders, strict=True)
    }
    for piece, (constant, spec) in zip(pieces.calls, _build_all(pieces, places, orders), strict=True):
        pieces.install(piece, constant, spec)
    _summarise(planned, time.perf_counter() - start, "The option dryrun=True prints all.")
    return pieces.outer, planned


def _pieces_again(job: _Job) -> Mapping[str, Partition]:
    """What the engines of a compilation that was taken from the cache were built from."""
    lowered = lower(job.program, job.backend, job.settings)
    planned = plan(lowered, job.backend, job.settings, device=job.device, reason=job.reason)
    return cut(lowered, planned, job.ranges).partitions()


def _build_all(
    pieces: Cut, places: Mapping[str, Place | None], orders: Sequence[Order]
) -> list[tuple[torch.Tensor, str]]:
    built = []
    names = ", ".join(dict.fromkeys(order.backend.name for order in orders))
    with progress(f"Building {names} engines", len(orders)) as steps:
        for piece, order in zip(pieces.calls, orders, strict=True):
            built.append(_build(order, places[piece.attribute]))
            steps.advance(piece.partition.name)
    return built


def _build(order: Order, place: Place | None) -> tuple[torch.Tensor, str]:
    kept = place.find() if place is not None and order.engine is None else None
    if kept is not None:
        return kept
    try:
        engine = order.engine or order.backend.build(order.partition, order.settings)
    except BuildError as error:
        if order.settings.pass_through_build_failures and error.__cause__ is not None:
            raise error.__cause__ from None
        raise
    _log.info("built %s: %s", order.partition.name, _described(order.partition))
    constant = pack(engine)
    if place is not None:
        place.keep(constant)
    return constant, engine.spec.to_json()


def _described(partition: Partition) -> str:
    takes = ", ".join(f"{spec.name} {spec.sizes}" for spec in partition.inputs)
    gives = ", ".join(f"{spec.name} {spec.sizes}" for spec in partition.outputs)
    return f"({takes}) -> ({gives})"


def _summarise(planned: Plan, seconds: float, more: str = "print(compiled.plan) lists all.") -> None:
    """One line; a warning when something stays in PyTorch, so that no fallback goes unseen."""
    line = (
        f"{planned.in_engines} of {planned.total} operations in {len(planned.groups)} {planned.engines} engine(s), "
        f"compiled in {seconds:.1f} s"
    )
    if not planned.refusals:
        _log.info("%s", line)
        return
    shown = [f"{name}: {why}" for name, why in list(planned.refusals.items())[:3]]
    others = f" and {len(planned.refusals) - 3} more" if len(planned.refusals) > 3 else ""
    _log.warning("%s; in PyTorch: %s%s. %s", line, "; ".join(shown), others, more)
