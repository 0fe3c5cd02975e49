"""Whole compilations in the engine cache: a program that was compiled before is neither lowered nor planned nor cut again."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram

from torch_tensorrt.archives.reading import read_program
from torch_tensorrt.caching.key import Key, UndescribableError
from torch_tensorrt.caching.program_entry import CachedEngine, CachedProgram, read_program_entry, write_program
from torch_tensorrt.caching.program_key import program_key
from torch_tensorrt.caching.reuse import Place, Storage, drop, find_blob, load_engine, storage_for
from torch_tensorrt.contracts.backend import EngineBackend
from torch_tensorrt.contracts.partition import Partition
from torch_tensorrt.observe.log import logger
from torch_tensorrt.partition.boundary import input_specs
from torch_tensorrt.runtime.module import CompiledModule, Ranges
from torch_tensorrt.spec.errors import EngineNotRunnable, FileFormatError, InputError, UnsupportedError
from torch_tensorrt.spec.settings import CompilationSettings
from torch_tensorrt.trace.symbols import SymbolRange

_log = logger("caching")
# What lifting, torch.export.save and reading back raise for a graph that can't be written.
_UNWRITABLE = (RuntimeError, ValueError, TypeError, AssertionError, AttributeError, LookupError, NotImplementedError)


class LaterPartitions(Mapping[str, Partition]):
    """Attribute -> partition, found out by lowering the program again when somebody asks (a portable file is saved)."""

    def __init__(self, make: Callable[[], Mapping[str, Partition]]) -> None:
        self._make = make
        self._made: Mapping[str, Partition] | None = None

    def _all(self) -> Mapping[str, Partition]:
        if self._made is None:
            self._made = self._make()
        return self._made

    def __getitem__(self, attribute: str) -> Partition:
        return self._all()[attribute]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())


@dataclass(frozen=True)
class ProgramPlace:
    """Where in a cache the compilation of one program belongs."""

    storage: Storage
    make_key: Callable[[], Key]
    key: Key
    ranges: Mapping[str, SymbolRange]
    settings: CompilationSettings

    def find(self, pieces: Callable[[], Mapping[str, Partition]]) -> CompiledModule | None:
        """What was compiled before from the same; None when it, or one of its engines, isn't there or can't be used.

        `pieces` finds out again what its engines were built from; it is called when that is asked for, if ever.
        """
        if not self.settings.reuse_cached_engines:
            return None
        blob = find_blob(self.storage, self.key)
        if blob is None:
            return None
        try:
            entry = read_program_entry(blob, self.key.description)
            program = read_program(io.BytesIO(entry.archive), "The outer graph")
        except (FileFormatError, InputError) as error:
            drop(self.storage, self.key, "the model", error)
            return None
        engines = self._engines(entry.engines)
        if engines is None:
            return None
        module = program.module(check_guards=False)
        assert isinstance(module, fx.GraphModule)
        for attribute, constant in engines:
            module.register_buffer(attribute, constant)
        specs = input_specs(module, self.ranges)
        made = CompiledModule.wrap(module, specs, entry.plan, self.settings, program.range_constraints)
        made.partitions = LaterPartitions(lambda: self._unchanged(pieces))
        _log.info("the compiled program was taken from the engine cache (%s)", self.key.hash)
        return made

    def keep(
        self,
        module: CompiledModule,
        places: Mapping[str, Place | None],
        lift: Callable[[fx.GraphModule, Ranges], ExportedProgram],
    ) -> None:
        """Puts `module`, whose engines are at `places`, into the cache; `lift` makes the ExportedProgram of a graph module.

        Nothing happens when an engine isn't in the cache, or the outer graph can't be saved: the log says so.
        """
        if not self.settings.cache_built_engines or module.plan is None:
            return
        specs = _specs(module)
        rows = tuple(
            CachedEngine(attribute, place.key.description.decode(), specs[attribute])
            for attribute, place in places.items()
            if place is not None
        )
        if len(rows) < len(places):
            _log.info("the compiled program is not kept: one of its engines isn't either")
            return
        try:
            archive = _archive(lift(module, module.range_constraints), [row.attribute for row in rows])
            read_program(io.BytesIO(archive), "The outer graph")  # PyTorch writes some programs that it can't read
        except _UNWRITABLE as error:
            _log.info("the compiled program is not kept: %s: %s", type(error).__name__, error)
            return
        entry = CachedProgram(module.plan, rows, archive)
        self.storage.save(self.key.hash, write_program(self.key.description, entry))

    def _unchanged(self, pieces: Callable[[], Mapping[str, Partition]]) -> Mapping[str, Partition]:
        if self.make_key() != self.key:
            raise InputError(
                "The engines of this module came from the engine cache, and the weights of the model were changed since; what the "
                "engines compute can't be told any more. Compile the model again, and save that."
            )
        return pieces()

    def _engines(self, wanted: Sequence[CachedEngine]) -> list[tuple[str, Tensor]] | None:
        """Attribute and constant of each; None when one is missing or damaged, which is dealt with where it is built anew."""
        found = []
        for engine in wanted:
            blob = find_blob(self.storage, engine.key)
            if blob is None:
                _log.info("engine %s of a cached program is not in the engine cache any more", engine.attribute)
                return None
            try:
                constant, _ = load_engine(blob, engine.key.description, engine.spec)
            except (FileFormatError, EngineNotRunnable) as error:
                _log.info("engine %s of a cached program can't be used: %s", engine.attribute, error)
                return None
            found.append((engine.attribute, constant))
        return found


def program_place(
    program: ExportedProgram, ranges: Mapping[str, SymbolRange], backend: EngineBackend, settings: CompilationSettings
) -> ProgramPlace | None:
    """The place of a compilation; None when the settings ask for no cache, or it can't be used for this program.

    Modules whose weights can be changed later aren't kept whole: what their engines are refitted from is not in the cache.
    """
    storage = storage_for(settings)
    if storage is None or settings.dryrun or not settings.immutable_weights:
        return None

    def make_key() -> Key:
        return program_key(program, ranges, backend, settings)

    try:
        return ProgramPlace(storage, make_key, make_key(), ranges, settings)
    except UndescribableError as reason:
        _log.info("the program is lowered each time: %s", reason)
        return None


def _specs(module: CompiledModule) -> dict[str, str]:
    """Name of an engine's constant -> the spec with which it is called."""
    execute = torch.ops.tensorrt.execute_engine.default
    calls = [node for node in module.graph.nodes if node.target is execute]
    return {str(node.args[1].target): str(node.args[2]) for node in calls}


def _archive(program: ExportedProgram, engines: Sequence[str]) -> bytes:
    """`program` as torch.export.save writes it, with nothing in place of the engines."""
    state = program.state_dict
    for attribute in engines:
        if attribute not in state:
            raise UnsupportedError(f"The compiled program has no engine {attribute!r}.")
        state[attribute] = torch.empty(0, dtype=torch.uint8)
    content = io.BytesIO()
    torch.export.save(program, content)
    return content.getvalue()
