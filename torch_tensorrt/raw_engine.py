"""The other pipeline: a whole program as one engine, in the bytes that the engine's own SDK reads, for use without this package.

And the way back: such bytes as an engine of ours.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace

from torch import fx, nn
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from torch_tensorrt import engines
from torch_tensorrt.contracts.engine import Engine
from torch_tensorrt.contracts.partition import Plan
from torch_tensorrt.contracts.raw import RawEngine, ReadsRawEngines
from torch_tensorrt.engine_choice import NVIDIA, choose_backend
from torch_tensorrt.lowering.pipeline import lower
from torch_tensorrt.observe.log import AtLevel, logger, warn_once
from torch_tensorrt.observe.quiet import quiet_torch
from torch_tensorrt.partition.planner import plan
from torch_tensorrt.partition.whole import partition_refusals, take_whole, tensor_arguments
from torch_tensorrt.spec.errors import InputError, UnsupportedError
from torch_tensorrt.spec.settings import CompilationSettings
from torch_tensorrt.spec.tensor_spec import TensorSpec
from torch_tensorrt.trace.call_inputs import CallInputs, collect_inputs
from torch_tensorrt.trace.symbols import symbol_ranges, tell_lowest
from torch_tensorrt.trace.tracer import trace

_log = logger("raw_engine")


class BindingNameMismatchError(InputError):
    """Names for an engine's inputs or outputs that don't go with those that the program has.

    role: "arg_inputs", "kwarg_inputs" or "outputs". expected_spec: the form of the program's. provided: the names that were
    given. provided_spec: their form. reason: "spec_mismatch" (another form or count), "not_a_name" or "duplicate".
    """

    def __init__(
        self,
        role: str,
        expected_spec: pytree.TreeSpec,
        provided: object = None,
        provided_spec: pytree.TreeSpec | None = None,
        reason: str = "spec_mismatch",
    ) -> None:
        self.role, self.expected_spec, self.reason = role, expected_spec, reason
        self.provided, self.provided_spec = provided, provided_spec
        words = {
            "spec_mismatch": f"have another form than the program's {role}: {expected_spec.num_leaves} names are needed, in a "
            "flat list or in the form of what they name",
            "not_a_name": "hold something other than texts with at least one character",
            "duplicate": "name two inputs or outputs of the engine alike",
        }[reason]
        super().__init__(
            f"The binding names {provided!r:.300} for {role} {words}. The program's {role}: {expected_spec}."
        )


@dataclass(frozen=True)
class BindingNames:
    """What the engine calls its inputs and outputs: names in the form of what they name, or in a flat list; None: as it is."""

    args: object = None
    kwargs: object = None
    outputs: object = None


def build_raw_engine(
    model: nn.Module | ExportedProgram,
    inputs: object,
    arg_inputs: object,
    kwarg_inputs: Mapping[str, object] | None,
    options: Mapping[str, object],
    names: BindingNames | None = None,
) -> bytes:
    """One engine of the whole `model`, as its SDK reads it. engine="auto" is TensorRT, or TensorRT-RTX where that isn't here.

    Raises InputError (also BindingNameMismatchError), UnsupportedError listing all that can't go into the engine, BuildError.
    """
    settings = CompilationSettings.from_options(**options)
    _check(settings)
    with quiet_torch(), AtLevel(logging.DEBUG) if settings.debug else nullcontext():
        if isinstance(model, ExportedProgram) and inputs is None and arg_inputs is None and not kwarg_inputs:
            return _build(model, None, settings, names or BindingNames())
        call = collect_inputs(inputs, arg_inputs, kwarg_inputs)
        program = trace(model, arg_inputs=call.args, kwarg_inputs=call.kwargs)
        return _build(program, call, settings, names or BindingNames())


def read_raw_engine(raw: RawEngine, settings: CompilationSettings) -> Engine:
    """The engine in bytes that an SDK wrote. engine="auto" is told by how they start.

    Raises InputError for bytes of no engine, or names that the engine doesn't have, UnsupportedError for engines whose bytes don't
    tell what they take, EngineNotRunnable where the SDK can't read them here.
    """
    name = settings.engine if settings.engine != "auto" else _writer(raw.data)
    backend = engines.backend(name)
    if not isinstance(backend, ReadsRawEngines):
        readers = [known for known in engines.names() if isinstance(engines.backend(known), ReadsRawEngines)]
        raise UnsupportedError(
            f"Raw engines of {name!r} don't tell what they take and give, so that they can't be embedded; those of "
            f"{', '.join(readers)} do. Use torch_tensorrt.compile(..., engine={name!r}), whose result can be saved."
        )
    return backend.read_raw(raw, settings)


def _writer(data: bytes) -> str:
    for name in engines.names():
        backend = engines.backend(name)
        if isinstance(backend, ReadsRawEngines) and backend.wrote(data):
            return name
    if data.startswith(b"PK\x03\x04"):
        raise UnsupportedError(
            "serialized_engine is a zip archive, as engine='inductor' and engine='eager' write them; what they take isn't told there. "
            "torch._inductor.aoti_load_package or torch.export.load read them."
        )
    raise InputError(
        f"serialized_engine starts with {data[:8]!r}, like no engine that is known here; say engine='tensorrt' (or another) if it is one."
    )


def _check(settings: CompilationSettings) -> None:
    if settings.dryrun:
        raise InputError(
            "dryrun=True builds nothing, and a raw engine is what was asked for; torch_tensorrt.compile(..., dryrun=True) plans."
        )
    if settings.enable_cross_compile_for_windows:
        raise InputError("A raw engine can't be cross-compiled; cross_compile_for_windows saves a whole module.")
    if settings.cache_built_engines or settings.reuse_cached_engines:
        warn_once(
            "raw engines", "The engine cache is not used for raw engines, whose bindings have names of their own."
        )


def _build(
    program: ExportedProgram, call: CallInputs | None, settings: CompilationSettings, names: BindingNames
) -> bytes:
    backend, device, reason = choose_backend(program, settings, preferred=NVIDIA)
    for told in backend.unhonoured(settings):
        warn_once(f"{backend.name}: {told}", told)
    ranges = symbol_ranges(program, call)
    tell_lowest(program)
    inputs, outputs = _named(program, names)
    if (inputs or outputs) and backend.name not in NVIDIA:
        raise InputError(f"Engine {backend.name!r} gives its inputs and outputs no names; leave the binding names out.")
    lowered = lower(program, backend, settings)
    planned = plan(lowered, backend, replace(settings, require_full_compilation=True), device=device, reason=reason)
    _require_whole(planned, lowered.graph)
    partition = take_whole(lowered, backend.name, ranges)
    placeholders = lowered.graph.find_nodes(op="placeholder")
    if inputs:  # one for each argument, and those that aren't tensors have no input
        tensors = set(tensor_arguments(lowered.graph))
        inputs = [name for name, node in zip(inputs, placeholders, strict=True) if node in tensors]
    named = replace(partition, inputs=_renamed(partition.inputs, inputs), outputs=_renamed(partition.outputs, outputs))
    taken = [spec.name for spec in (*named.inputs, *named.outputs)]
    if (inputs or outputs) and len(set(taken)) != len(taken):
        raise BindingNameMismatchError("outputs", program.call_spec.out_spec, taken, reason="duplicate")
    raw = backend.build(named, settings).raw_bytes()
    _log.info("a raw %s engine of %d operations: %d bytes", backend.name, planned.total, len(raw))
    return raw


def _require_whole(planned: Plan, graph: fx.Graph) -> None:
    """Raises UnsupportedError with everything that stands against one engine, not only the first."""
    rows = [f"  {name}: {why} ({planned.operators[name]})" for name, why in planned.refusals.items()]
    rows += [f"  {why}" for why in partition_refusals(graph)]
    if rows:
        listed = "\n".join(rows)
        raise UnsupportedError(
            f"A raw engine holds the whole program, but the {planned.backend!r} engine can't take all of it; {len(rows)} reason(s), "
            f"{planned.in_engines} of {planned.total} operations would fit:\n{listed}\n"
            "torch_tensorrt.compile runs what doesn't fit in PyTorch."
        )


def _named(program: ExportedProgram, names: BindingNames) -> tuple[Sequence[str | None], Sequence[str | None]]:
    """A name for each flattened argument and each flattened result (None: its own); nothing where none were given."""
    args, kwargs = program.call_spec.in_spec.children()
    flat_args = _flat("arg_inputs", args, names.args)
    flat_kwargs = _flat("kwarg_inputs", kwargs, names.kwargs)
    outputs = _flat("outputs", program.call_spec.out_spec, names.outputs)
    inputs = (*flat_args, *flat_kwargs)
    return inputs if any(inputs) else (), outputs if any(outputs) else ()


def _flat(role: str, spec: pytree.TreeSpec, provided: object) -> list[str | None]:
    """The names in flattening order; all None when none were given."""
    if provided is None:
        return [None] * spec.num_leaves
    leaves = [provided] if spec.is_leaf() and isinstance(provided, str) else _leaves(spec, provided)
    if leaves is None:
        raise BindingNameMismatchError(role, spec, provided, pytree.tree_structure(provided))
    if not all(isinstance(name, str) and name for name in leaves):
        raise BindingNameMismatchError(role, spec, provided, pytree.tree_structure(provided), "not_a_name")
    return [str(name) for name in leaves]


def _leaves(spec: pytree.TreeSpec, provided: object) -> list[object] | None:
    parts = list(provided) if isinstance(provided, (list, tuple)) else []
    if len(parts) == spec.num_leaves and not any(isinstance(part, (list, tuple, dict)) for part in parts):
        return parts
    if len(pytree.tree_leaves(provided)) != spec.num_leaves:
        return None
    try:
        return list(
            spec.flatten_up_to(tuple(provided) if isinstance(provided, list) and spec.type is tuple else provided)
        )
    except (ValueError, TypeError):
        return None


def _renamed(specs: Sequence[TensorSpec], names: Sequence[str | None]) -> tuple[TensorSpec, ...]:
    if names and len(names) != len(specs):  # results that are None have no output
        raise InputError(f"{len(names)} names were given for {len(specs)} tensors that the program gives: {names}.")
    pairs = zip(specs, names or [None] * len(specs), strict=True)
    return tuple(spec if name is None else replace(spec, name=name) for spec, name in pairs)
