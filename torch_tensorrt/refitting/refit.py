"""Other weights for a compiled module: the new program goes the way of the old one, and each engine takes its constants."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, fx
from torch.export import ExportedProgram

from torch_tensorrt import engines
from torch_tensorrt.contracts.backend import EngineBackend
from torch_tensorrt.contracts.origin import Origin
from torch_tensorrt.lowering.pipeline import decompose, lower_decomposed
from torch_tensorrt.observe.log import logger
from torch_tensorrt.refitting.description import match_constants
from torch_tensorrt.refitting.recording import Record, keep_record, record_of
from torch_tensorrt.refitting.swapping import engine_constants, put_attributes, swap_attributes, torch_constants
from torch_tensorrt.runtime.module import CompiledModule
from torch_tensorrt.runtime.op import live_engine, pack
from torch_tensorrt.spec.errors import InputError, UnsupportedError
from torch_tensorrt.spec.settings import CompilationSettings
from torch_tensorrt.spec.settings_record import settings_from_record

_log = logger("refitting")
_REMEDY = "Compile with immutable_weights=False to refit, or compile the new model."


def refit(module: fx.GraphModule, program: ExportedProgram, *, use_cache: bool = True) -> fx.GraphModule:
    """A module like `module` with the weights, buffers and constants of `program`; `module` stays as it is.

    `use_cache`: a program that is the one that was compiled, but for its weights, is not decomposed again.

    Raises InputError when the program differs in more than values (naming the first difference), UnsupportedError when the
    module, or one of its engines, was not made to be refitted.
    """
    packed = engine_constants(module)
    record = _record(module, packed)
    settings = settings_from_record(record.origin.options)
    backend = engines.backend(settings.engine)
    lowered = _lower(program, backend, settings, record if use_cache else Record(record.origin, None))
    weights = match_constants(record.origin, lowered)
    new = {**_new_constants(module, weights), **_new_engines(packed, weights, record.origin)}
    refitted = swap_attributes(module, new)
    keep_record(refitted, record)
    _log.info("refitted %d engine(s) with %d constants", len(packed), len(weights))
    return refitted


def take_over(module: fx.GraphModule, refitted: fx.GraphModule) -> None:
    """Gives `module` the engines and constants of `refitted`.

    For a CompiledModule this is one step: a call in another thread sees all old or all new weights. Any other module changes
    attribute by attribute.
    """
    if isinstance(module, CompiledModule) and isinstance(refitted, CompiledModule):
        module.run_as(refitted)
    put_attributes(module, {**engine_constants(refitted), **torch_constants(refitted)})


def _record(module: fx.GraphModule, packed: Mapping[str, Tensor]) -> Record:
    record = record_of(module, list(packed.values()))
    if record is None and isinstance(module, CompiledModule) and not module.settings.immutable_weights:
        raise UnsupportedError(f"This module has no engine that could say how it was made. {_REMEDY}")
    if record is None:
        what = "has no engines" if not packed else "was compiled with immutable_weights=True, the default"
        raise UnsupportedError(f"This module can't be refitted: it {what}. {_REMEDY}")
    return record


def _lower(
    program: ExportedProgram, backend: EngineBackend, settings: CompilationSettings, record: Record
) -> fx.GraphModule:
    known = record.decomposed.with_weights_of(program) if record.decomposed is not None else None
    decomposed = decompose(program, backend, settings) if known is None else known
    return lower_decomposed(decomposed, backend, settings, own=False)  # engines copy what they take


def _new_constants(module: fx.GraphModule, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What PyTorch itself reads; a tensor that stands under several names stays one."""
    found = torch_constants(module)
    unknown = sorted(set(found) - set(weights))
    if unknown:
        raise UnsupportedError(
            f"The module reads {unknown[0]!r}, which is no constant of the model that was compiled: refitting it would leave an old "
            f"value in place. It was changed after it was compiled, or saved in a way that renames its weights. {_REMEDY}"
        )
    copies: dict[int, Tensor] = {}
    for name in found:
        copies.setdefault(id(weights[name]), weights[name].detach().clone())
    return {name: copies[id(weights[name])] for name in found}


def _new_engines(packed: Mapping[str, Tensor], weights: Mapping[str, Tensor], origin: Origin) -> dict[str, Tensor]:
    made: dict[str, Tensor] = {}
    smallest = min(packed, key=lambda name: packed[name].numel(), default="")
    for name, constant in packed.items():
        engine = live_engine(constant).engine.refit(weights)
        made[name] = pack(engine, origin if name == smallest else None)
    return made


def require_program(given: object) -> ExportedProgram:
    """Raises InputError for anything but an ExportedProgram."""
    if isinstance(given, ExportedProgram):
        return given
    raise InputError(
        f"new_weight_module is a {type(given).__name__}; an ExportedProgram of the new model is needed: "
        "torch.export.export(model, args) or torch_tensorrt.dynamo.trace(model, inputs)."
    )
