"""The engine cache in a folder: one file per entry, shared by any number of processes without locks.

A file appears whole, under its final name, by a rename, and is never written to again. Processes that read while another one
replaces or removes a file go on reading what they opened.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import re
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from torch_tensorrt.caching.cache import BaseEngineCache
from torch_tensorrt.observe.log import logger, warn_once
from torch_tensorrt.spec.errors import InputError

SUFFIX = ".trtengine"
_PART = re.compile(r"\.[0-9a-f]{64}\.(?P<host>.+)\.(?P<pid>\d+)\.[^.]+\.part")
_MAPPED = 1 << 20  # bytes: larger entries are mapped, not read
_HASH = re.compile(r"[0-9a-f]{64}")
_ABANDONED = 24 * 3600  # seconds after which an unfinished file is nobody's, whoever wrote it
_log = logger("caching")


def default_folder() -> str:
    """The documented place: a folder beside other temporary files."""
    return os.path.join(tempfile.gettempdir(), "torch_tensorrt_engine_cache")


class DiskEngineCache(BaseEngineCache):
    """Keeps entries in the folder `engine_cache_dir`, at most `engine_cache_size` bytes of them.

    When an entry needs room, those that were not used for longest leave. A folder that can't be read or written is warned about
    once and does without: nothing here makes a compilation fail.
    """

    def __init__(self, engine_cache_dir: str | os.PathLike[str], engine_cache_size: int) -> None:
        self.engine_cache_dir = os.fspath(engine_cache_dir)
        self.total_engine_cache_size = engine_cache_size
        self._folder = Path(engine_cache_dir)

    def save(self, hash: str, blob: bytes, *args: object, **kwargs: object) -> None:
        """Keeps `blob`; others see all of it or nothing. One that is larger than the whole cache is not kept."""
        path = self._path(hash)
        if len(blob) > self.total_engine_cache_size:
            message = (
                f"An engine of {len(blob):,} bytes is larger than engine_cache_size={self.total_engine_cache_size:,}"
            )
            _log.warning("%s and is not kept.", message)
            return
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._remove_abandoned()
            self.clear_cache(len(blob))
            self._write(path, blob)
            self.clear_cache(0)  # others may have written meanwhile
        except OSError as error:
            self._warn("written to", error)

    def load(self, hash: str, *args: object, **kwargs: object) -> bytes | bytearray | memoryview | None:
        """The entry, which counts as used now."""
        path = self._path(hash)
        try:
            blob = _read(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._warn("read", error)
            return None
        with contextlib.suppress(OSError):  # a folder that may only be read
            os.utime(path)
        return blob

    def discard(self, hash: str) -> None:
        """Removes the entry."""
        with contextlib.suppress(OSError):
            self._path(hash).unlink(missing_ok=True)

    def has_available_cache_size(self, needed_size: int) -> bool:
        """Whether `needed_size` more bytes fit without removing anything."""
        return sum(size for _, size, _ in self._entries()) + needed_size <= self.total_engine_cache_size

    def clear_cache(self, needed_min_size: int) -> bool:
        """Removes entries, least recently used first, until `needed_min_size` more bytes fit; True if they do."""
        entries = sorted(self._entries())
        total = sum(size for _, size, _ in entries)
        for _, size, path in entries:
            if total + needed_min_size <= self.total_engine_cache_size:
                break
            with contextlib.suppress(OSError):  # another process was faster, or has it mapped (on Windows)
                path.unlink()
                _log.info("removed %s from the engine cache to make room", path.name)
            total -= size
        return total + needed_min_size <= self.total_engine_cache_size

    def _path(self, hash: str) -> Path:
        if _HASH.fullmatch(hash) is None:
            raise InputError(f"{hash!r:.100} names no entry of the engine cache; 64 hexadecimal digits do.")
        return self._folder / f"{hash}{SUFFIX}"

    def _entries(self) -> Iterator[tuple[int, int, Path]]:
        """(time of last use, bytes, path) of each entry."""
        if not self._folder.is_dir():
            return
        for path in self._folder.glob(f"*{SUFFIX}"):
            with contextlib.suppress(FileNotFoundError):
                known = path.stat()
                yield known.st_mtime_ns, known.st_size, path

    def _write(self, path: Path, blob: bytes) -> None:
        prefix = f".{path.stem}.{_host()}.{os.getpid()}."
        handle, temporary = tempfile.mkstemp(dir=self._folder, prefix=prefix, suffix=".part")
        try:
            with os.fdopen(handle, "wb", buffering=0) as file:
                left = memoryview(blob)
                while left:
                    left = left[file.write(left) or 0 :]
            os.replace(temporary, path)  # not synced: what a power cut leaves half written is found by its hash
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)

    def _remove_abandoned(self) -> None:
        """Unfinished files of processes that are gone."""
        for path in self._folder.glob(".*.part"):
            found = _PART.fullmatch(path.name)
            with contextlib.suppress(OSError):
                if found and (_is_gone(found.groupdict()) or time.time() - path.stat().st_mtime > _ABANDONED):
                    path.unlink()

    def _warn(self, verb: str, error: OSError) -> None:
        warn_once(
            f"engine cache {verb} {self.engine_cache_dir}",
            f"The engine cache in {self.engine_cache_dir!r} can't be {verb} ({error.strerror or error}), so engines are built "
            "without it; give another engine_cache_dir.",
        )


def _read(path: Path) -> bytearray | memoryview:
    with path.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        if size >= _MAPPED:  # files here are replaced or removed, never written to: what is mapped stays what it is
            return memoryview(mmap.mmap(file.fileno(), size, access=mmap.ACCESS_COPY))
        blob = bytearray(size)
        left = memoryview(blob)
        while left and (count := file.readinto(left)):
            left = left[count:]
    return blob  # zeros at its end, if somebody cut the file off meanwhile: not what was hashed


def _host() -> str:
    return re.sub(r"[^\w-]", "_", socket.gethostname()) or "_"


def _is_gone(writer: Mapping[str, str]) -> bool:
    if os.name != "posix" or writer["host"] != _host():
        return False
    try:
        os.kill(int(writer["pid"]), 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    return False
