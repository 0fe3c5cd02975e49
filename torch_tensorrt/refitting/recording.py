"""What a compilation with immutable_weights=False leaves behind, so that its weights can be changed."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor, fx
from torch.export import ExportedProgram

from torch_tensorrt.contracts.backend import EngineBackend
from torch_tensorrt.contracts.engine_bytes import read_origin
from torch_tensorrt.contracts.origin import Origin
from torch_tensorrt.lowering.decomposed import DecomposedGraph
from torch_tensorrt.refitting.description import describe
from torch_tensorrt.runtime.op import add_origin
from torch_tensorrt.spec.settings import CompilationSettings
from torch_tensorrt.spec.settings_record import record_settings


@dataclass(frozen=True)
class Record:
    """The origin of a module, and, while it lives in the process that compiled it, its decomposed graph."""

    origin: Origin
    decomposed: DecomposedGraph | None


# Lost when a module is copied or saved: then the origin is read from its engines, and programs are decomposed anew.
_records: weakref.WeakKeyDictionary[fx.GraphModule, Record] = weakref.WeakKeyDictionary()


def remember_program(program: ExportedProgram, decomposed: fx.GraphModule) -> DecomposedGraph | None:
    """To be called before `decomposed` is lowered, which edits it."""
    return DecomposedGraph.of(program, decomposed)


def make_record(
    lowered: fx.GraphModule, decomposed: DecomposedGraph | None, backend: EngineBackend, settings: CompilationSettings
) -> Record:
    """The record of what is compiled of `lowered` with `settings` for `backend`."""
    return Record(describe(lowered, record_settings(replace(settings, engine=backend.name))), decomposed)


def with_origin(built: Sequence[tuple[Tensor, str]], record: Record | None) -> list[tuple[Tensor, str]]:
    """`built`, (packed engine, spec) pairs; the smallest engine has the origin in its header, so that a saved file has it."""
    made = list(built)
    if record is not None and made:
        place = min(range(len(made)), key=lambda at: made[at][0].numel())
        made[place] = (add_origin(made[place][0], record.origin), made[place][1])
    return made


def keep_record(module: fx.GraphModule, record: Record | None) -> None:
    """Remembers `record` as long as `module` lives."""
    if record is not None:
        _records[module] = record


def record_of(module: fx.GraphModule, constants: Sequence[Tensor]) -> Record | None:
    """The record of `module` with the packed engines `constants`; None when it wasn't compiled to be refitted."""
    if module in _records:
        return _records[module]
    for constant in constants:
        origin = read_origin(memoryview(constant.detach().numpy()))  # type: ignore[arg-type]
        if origin is not None:
            return Record(origin, None)
    return None
