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
    def load(self, hash: str) -> bytes | bytearray | None: ...


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
        blob = self.storage.load(self.key.hash)
        if blob is None:
            _log.info("%s: not in the engine cache", self.partition.name)
            return None
        if not isinstance(blob, (bytes, bytearray)):
            raise InputError(
                f"{self.storage!r:.200} loaded a {type(blob).__name__}; it must give the bytes it was given."
            )
        try:
            found = self._read(memoryview(blob))
        except (FileFormatError, EngineNotRunnable) as error:
            _log.warning(
                "An entry of the engine cache can't be used and is dropped; %s is built anew. Entry %s: %s",
                self.partition.name, self.key.hash, error,
            )  # fmt: skip
            discard = getattr(self.storage, "discard", None)
            if callable(discard):
                discard(self.key.hash)
            return None
        _log.info("%s: taken from the engine cache (%s)", self.partition.name, self.key.hash)
        return found

    def keep(self, constant: Tensor) -> None:
        """Puts the engine with the bytes `constant` (1-D, uint8) into the cache."""
        if self.settings.cache_built_engines:
            engine = memoryview(constant.numpy())  # type: ignore[arg-type]
            self.storage.save(self.key.hash, write_entry(self.key.description, engine))

    def _read(self, blob: memoryview) -> tuple[Tensor, str]:
        engine = read_entry(blob, self.key.description)
        spec = self._spec(decode_header(engine).spec)
        constant = _constant(relabel(engine, spec))
        verified(constant)
        text = spec.to_json()
        live_engine(constant, text)  # now, so that an SDK that refuses the bytes is heard while there is a remedy
        return constant, text

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


def place_for(partition: Partition, backend: EngineBackend, settings: CompilationSettings) -> Place | None:
    """The place of `partition`'s engine; None when the settings ask for no cache, or it can't be used for this engine."""
    if not (settings.cache_built_engines or settings.reuse_cached_engines):
        return None
    storage = _storage(settings)
    if storage is None:
        return None
    try:
        return Place(storage, key_of(partition, backend, settings), partition, settings)
    except UndescribableError as reason:
        _log.info("%s: the engine cache is not used: %s", partition.name, reason)
        return None


def _storage(settings: CompilationSettings) -> Storage | None:
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
