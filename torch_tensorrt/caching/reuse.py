"""The engine cache as the pipeline sees it: before a build, is there an engine already; after it, keep this one."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from torch_tensorrt.caching.disk import DiskEngineCache, default_folder
from torch_tensorrt.caching.entry import read_entry, relabel, write_entry
from torch_tensorrt.caching.key import Key, UndescribableError, key_of
from torch_tensorrt.contracts.backend import EngineBackend
from torch_tensorrt.contracts.engine import EngineSpec
from torch_tensorrt.contracts.engine_bytes import decode_header
from torch_tensorrt.contracts.partition import Partition
from torch_tensorrt.observe.log import logger, warn_once
from torch_tensorrt.runtime.op import live_engine, verified
from torch_tensorrt.spec.errors import EngineNotRunnable, FileFormatError, InputError
from torch_tensorrt.spec.settings import CompilationSettings
from torch_tensorrt.spec.tensor_spec import TensorSpec

_log = logger("caching")


class Storage(Protocol):
    """What is needed of a cache: BaseEngineCache has it."""

    def save(self, hash: str, blob: bytes) -> None: ...
    def load(self, hash: str) -> bytes | bytearray | memoryview | None: ...


@dataclass(frozen=True)
class Place:
    """Where in a cache the engine of one partition belongs."""

    storage: Storage
    key: Key
    partition: Partition
    settings: CompilationSettings

    def find(self) -> tuple[Tensor, str] | None:
        """The engine's constant and spec, ready to run; None when it must be built.

        An entry that is not exactly this engine is warned about and dropped.
        """
        if not self.settings.reuse_cached_engines:
            return None
        blob = find_blob(self.storage, self.key)
        if blob is None:
            _log.info("%s: not in the engine cache", self.partition.name)
            return None
        try:
            kept = decode_header(read_entry(blob, self.key.description)).spec
            found = load_engine(blob, self.key.description, self._spec(kept).to_json())
        except (FileFormatError, EngineNotRunnable) as error:
            drop(self.storage, self.key, self.partition.name, error)
            return None
        _log.info("%s: taken from the engine cache (%s)", self.partition.name, self.key.hash)
        return found

    def keep(self, constant: Tensor) -> None:
        """Puts the engine with the bytes `constant` (1-D, uint8) into the cache."""
        if self.settings.cache_built_engines:
            engine = memoryview(constant.numpy())  # type: ignore[arg-type]
            self.storage.save(self.key.hash, write_entry(self.key.description, engine))

    def _spec(self, kept: EngineSpec) -> EngineSpec:
        """The spec of the kept engine with the names that this partition uses."""
        ours = self.partition
        spec = replace(kept, name=ours.name, inputs=ours.inputs, outputs=ours.outputs)
        same = (
            (kept.backend, ours.backend),
            (kept.settings_key, self.settings.engine_key()),
            (_sizes(kept.inputs), _sizes(ours.inputs)),
            (_sizes(kept.outputs), _sizes(ours.outputs)),
        )
        for found, wanted in same:
            if found != wanted:
                raise FileFormatError(f"It describes an engine with {found!r:.200} where {wanted!r:.200} is needed.")
        return spec


def find_blob(storage: Storage, key: Key) -> memoryview | None:
    """What `storage` has under `key`, unchecked. Raises InputError when a cache of the user gives something else than bytes."""
    blob = storage.load(key.hash)
    if blob is None:
        return None
    if not isinstance(blob, (bytes, bytearray, memoryview)):
        raise InputError(f"{storage!r:.200} loaded a {type(blob).__name__}; it must give the bytes it was given.")
    return memoryview(blob)


def load_engine(blob: memoryview, description: bytes, spec: str) -> tuple[Tensor, str]:
    """The constant of the engine in the entry `blob`, with `spec` (JSON) in its header, and `spec`; ready to run.

    Raises FileFormatError when the entry is for anything else than `description`, or damaged, and EngineNotRunnable.
    """
    engine = read_entry(blob, description)
    constant = _constant(relabel(engine, EngineSpec.from_json(spec)))
    verified(constant)
    live_engine(constant, spec)  # now, so that an SDK that refuses the bytes is heard while there is a remedy
    return constant, spec


def drop(storage: Storage, key: Key, name: str, why: Exception) -> None:
    """Removes an entry that can't be used, with a warning; `name` is what has to be built instead."""
    _log.warning(
        "An entry of the engine cache can't be used and is dropped; %s is built anew. Entry %s: %s", name, key.hash, why
    )
    discard = getattr(storage, "discard", None)
    if callable(discard):
        discard(key.hash)


def place_for(partition: Partition, backend: EngineBackend, settings: CompilationSettings) -> Place | None:
    """The place of `partition`'s engine; None when the settings ask for no cache, or it can't be used for this engine."""
    storage = storage_for(settings)
    if storage is None:
        return None
    try:
        return Place(storage, key_of(partition, backend, settings), partition, settings)
    except UndescribableError as reason:
        _log.info("%s: the engine cache is not used: %s", partition.name, reason)
        return None


def storage_for(settings: CompilationSettings) -> Storage | None:
    """The cache that the settings ask for; None when they ask for none."""
    if not (settings.cache_built_engines or settings.reuse_cached_engines):
        return None
    if settings.custom_engine_cache is not None:
        return settings.custom_engine_cache  # type: ignore[return-value]  # checked by the option
    if settings.engine_cache_dir is not None:
        return DiskEngineCache(settings.engine_cache_dir, settings.engine_cache_size)
    problem = _foreign(default_folder())
    if problem:
        warn_once(problem, f"{problem}: engines are built without a cache; give an engine_cache_dir of your own.")
        return None
    return DiskEngineCache(default_folder(), settings.engine_cache_size)


def _foreign(folder: str) -> str:
    """Why a folder at a name that everybody knows is not to be trusted: an engine is code."""
    try:
        known = os.lstat(folder)
    except OSError:
        return ""
    if not stat.S_ISDIR(known.st_mode):
        return f"{folder!r} is not a folder"
    if os.name == "posix" and (known.st_uid != os.getuid() or known.st_mode & stat.S_IWOTH):
        return f"The folder {folder!r} can be written to by other users"
    return ""


def _sizes(specs: tuple[TensorSpec, ...]) -> list[tuple[object, ...]]:
    """What holds of tensors whatever they and their symbols are called."""
    return [(spec.dtype, spec.device, *(spec.shape_at(point) for point in ("min", "opt", "max"))) for spec in specs]


def _constant(engine: memoryview) -> Tensor:
    return torch.frombuffer(bytearray(engine) if engine.readonly else engine, dtype=torch.uint8)
