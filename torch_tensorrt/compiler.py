"""The pipeline on one screen: trace, lower, plan, cut, build, wrap."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext

import torch
from torch import fx, nn
from torch.export import ExportedProgram

from torch_tensorrt import engines
from torch_tensorrt.caching.reuse import place_for
from torch_tensorrt.contracts.backend import EngineBackend
from torch_tensorrt.contracts.partition import Partition, Plan
from torch_tensorrt.lowering.pipeline import decompose, lower_decomposed
from torch_tensorrt.observe.log import AtLevel, logger, warn_once
from torch_tensorrt.observe.progress import progress
from torch_tensorrt.observe.quiet import quiet_torch
from torch_tensorrt.partition.boundary import tensor_spec
from torch_tensorrt.partition.cutter import Call, cut
from torch_tensorrt.partition.planner import plan, require_everything_in_engines
from torch_tensorrt.refitting.recording import keep_record, make_record, remember_program, with_origin
from torch_tensorrt.runtime.module import CompiledModule
from torch_tensorrt.runtime.op import pack
from torch_tensorrt.spec.errors import BuildError, InputError
from torch_tensorrt.spec.settings import CompilationSettings
from torch_tensorrt.spec.tensor_spec import TensorSpec
from torch_tensorrt.trace.call_inputs import CallInputs, collect_inputs
from torch_tensorrt.trace.symbols import SymbolRange, symbol_ranges
from torch_tensorrt.trace.tracer import trace

_log = logger("compiler")
_AUTOMATIC = {"cpu": "openvino", "cuda": "inductor"}  # device of the inputs -> engine="auto"


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
    with quiet_torch(), AtLevel(logging.DEBUG) if settings.debug else nullcontext():
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
    return compile_program(program, call, settings)


def compile_program(program: ExportedProgram, call: CallInputs | None, settings: CompilationSettings) -> CompiledModule:
    """Lower, plan, cut, build, wrap. `call` gives the typical sizes; the ranges are the program's own."""
    start = time.perf_counter()
    backend, device, reason = choose_backend(program, settings)
    for told in backend.unhonoured(settings):
        warn_once(f"{backend.name}: {told}", told)
    ranges = symbol_ranges(program, call)
    decomposed = decompose(program, backend, settings)
    template = None if settings.immutable_weights else remember_program(program, decomposed)
    lowered = lower_decomposed(decomposed, backend, settings)
    planned = plan(lowered, backend, settings, device=device, reason=reason)
    if settings.require_full_compilation:
        require_everything_in_engines(planned)
    specs = _input_specs(lowered, ranges)
    if settings.dryrun:
        print(planned)
        return CompiledModule.wrap(lowered, specs, planned, settings, program.range_constraints)
    record = None if settings.immutable_weights else make_record(lowered, template, backend, settings)
    pieces = cut(lowered, planned, ranges)
    built = []
    with progress(f"Building {backend.name} engines", len(pieces.calls)) as steps:
        for piece in pieces.calls:
            built.append(_build(backend, piece, settings))
            steps.advance(piece.partition.name)
    for piece, (constant, spec) in zip(pieces.calls, with_origin(built, record), strict=True):
        pieces.install(piece, constant, spec)
    compiled = CompiledModule.wrap(pieces.outer, specs, planned, settings, program.range_constraints)
    compiled.partitions = {piece.attribute: piece.partition for piece in pieces.calls}
    keep_record(compiled, record)
    _summarise(planned, time.perf_counter() - start)
    return compiled


def choose_backend(program: ExportedProgram, settings: CompilationSettings) -> tuple[EngineBackend, torch.device, str]:
    """The backend, the device that it builds for, and why it was chosen.

    Raises InputError when the engine that was asked for is not available for the device.
    """
    device = settings.device.torch_device() if settings.device is not None else _device_of(program)
    capabilities = settings.device.compute_capabilities if settings.device is not None else ()
    name, reason = settings.engine, "engine= asked for it"
    if name == "auto" and os.environ.get("TORCH_TENSORRT_ENGINE"):
        name, reason = os.environ["TORCH_TENSORRT_ENGINE"], "TORCH_TENSORRT_ENGINE asked for it"
    elif name == "auto" and capabilities:
        name, reason = "tensorrt_rtx", "device= names a compute capability"
    elif name == "auto":
        if device.type not in _AUTOMATIC:
            raise InputError(
                f"No engine of this version builds for {device}; {' and '.join(_AUTOMATIC)} are what it compiles for. Move the "
                "model and its inputs there, or ask for engine='eager'."
            )
        name, reason = _AUTOMATIC[device.type], f"the inputs are on {device.type}"
    backend = engines.backend(name)
    if capabilities and backend.builds_for_capabilities:
        device = _device_of(program)  # the target needn't be here: the tensors are where they are
    available = backend.available(device)
    if not available:
        raise InputError(
            f"Engine {name!r} can't be used for {device}: {available.reason}. Known engines: {', '.join(engines.names())}."
        )
    return backend, device, reason


def _device_of(program: ExportedProgram) -> torch.device:
    for node in program.graph.nodes:
        value = node.meta.get("val")
        if isinstance(value, torch.Tensor):
            return value.device
    return torch.device("cpu")


def _input_specs(graph_module: fx.GraphModule, ranges: Mapping[str, SymbolRange]) -> Sequence[TensorSpec | None]:
    values = [(node.name, node.meta.get("val")) for node in graph_module.graph.nodes if node.op == "placeholder"]
    return [tensor_spec(name, value, ranges) if isinstance(value, torch.Tensor) else None for name, value in values]


def _build(backend: EngineBackend, piece: Call, settings: CompilationSettings) -> tuple[torch.Tensor, str]:
    place = place_for(piece.partition, backend, settings)  # in the engine cache
    kept = place.find() if place is not None else None
    if kept is not None:
        return kept
    try:
        engine = backend.build(piece.partition, settings)
    except BuildError as error:
        if settings.pass_through_build_failures and error.__cause__ is not None:
            raise error.__cause__ from None
        raise
    _log.info("built %s: %s", piece.partition.name, _described(piece.partition))
    constant = pack(engine)
    if place is not None:
        place.keep(constant)
    return constant, engine.spec.to_json()


def _described(partition: Partition) -> str:
    takes = ", ".join(f"{spec.name} {spec.sizes}" for spec in partition.inputs)
    gives = ", ".join(f"{spec.name} {spec.sizes}" for spec in partition.outputs)
    return f"({takes}) -> ({gives})"


def _summarise(planned: Plan, seconds: float) -> None:
    """One line; a warning when something stays in PyTorch, so that no fallback goes unseen."""
    line = (
        f"{planned.in_engines} of {planned.total} operations in {len(planned.groups)} {planned.backend} engine(s), "
        f"compiled in {seconds:.1f} s"
    )
    if not planned.refusals:
        _log.info("%s", line)
        return
    shown = [f"{name}: {why}" for name, why in list(planned.refusals.items())[:3]]
    more = f" and {len(planned.refusals) - 3} more" if len(planned.refusals) > 3 else ""
    _log.warning("%s; in PyTorch: %s%s. print(compiled.plan) lists all.", line, "; ".join(shown), more)
