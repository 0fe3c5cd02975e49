"""Large bytes in files without a name, mapped: they take memory of the process only while they are read, and the system may take
it back.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, TypeAlias

from torch_tensorrt.observe.log import logger

Buffer: TypeAlias = "bytes | bytearray | mmap.mmap"
LARGE = 16 * 2**20  # bytes from which on a file is worth it
_CHUNK = 4 * 2**20
_PAUSE = 0.003  # seconds: some 3 MB are read in that time
_MAPS = Path("/proc/self/maps")
CAN_MAP = os.name == "posix"  # elsewhere a file can't be removed while it is mapped
_log = logger("memory")


class _Spool(BytesIO):
    """Memory until it is large, then a file without a name. Derived from BytesIO because some SDKs write to nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.file: BinaryIO | None = None
        self.error: OSError | None = None

    def write(self, data: bytes | memoryview) -> int:  # type: ignore[override]
        try:
            if self.file is None and super().tell() + len(data) >= LARGE:
                self.file = self._as_file()
            return self.file.write(data) if self.file is not None else super().write(data)
        except OSError as error:
            self.error = error  # SDKs raise something of their own in its place
            raise

    def _as_file(self) -> BinaryIO:
        file: BinaryIO = tempfile.TemporaryFile(prefix="torch_tensorrt_")  # noqa: SIM115
        file.write(self.getvalue())
        file.seek(super().tell())
        super().seek(0)
        super().truncate()
        return file

    def readinto(self, memory: bytearray | memoryview) -> int:  # type: ignore[override]
        return self.file.readinto(memory) if self.file is not None else super().readinto(memory)  # type: ignore[attr-defined]

    def seek(self, offset: int, whence: int = 0) -> int:
        return self.file.seek(offset, whence) if self.file is not None else super().seek(offset, whence)

    def tell(self) -> int:
        return self.file.tell() if self.file is not None else super().tell()

    def content(self) -> Buffer:
        """All that was written so far."""
        if self.file is None:
            return self.getvalue()
        self.file.flush()
        return mmap.mmap(self.file.fileno(), 0, access=mmap.ACCESS_COPY)


class Section(BytesIO):
    """The rest of a file, from where it is, as a file of its own: for SDKs that write where they are in it."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        self._file, self._start = file, file.tell()

    def write(self, data: bytes | memoryview) -> int:  # type: ignore[override]
        return self._file.write(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset + self._start if whence == 0 else offset, whence) - self._start

    def tell(self) -> int:
        return self._file.tell() - self._start


def spooled(write: Callable[[BytesIO], object]) -> Buffer:
    """What `write` writes: in a mapped file, or in memory where it is not large, with a warning where files can't be written.

    The buffer may be written to; that changes no file.
    """
    spool = _Spool() if CAN_MAP else BytesIO()
    try:
        write(spool)
        return written(spool)
    except (OSError, RuntimeError) as error:
        reason = getattr(spool, "error", None) or error
        if not isinstance(reason, OSError):
            raise
        _log.warning(
            "Large engines can't be written to the folder for temporary files, %s (%s); this one is kept in memory. TMPDIR names another.",
            tempfile.gettempdir(), reason,
        )  # fmt: skip
    finally:
        if isinstance(spool, _Spool) and spool.file is not None:
            spool.file.close()  # a mapping holds the file
    memory = BytesIO()
    write(memory)
    return memory.getvalue()


def written(file: BytesIO) -> Buffer:
    """What was written to a file of `spooled` so far."""
    return file.content() if isinstance(file, _Spool) else file.getvalue()


def write_parts(file: BinaryIO, parts: Iterable[Buffer | memoryview]) -> None:
    """One after the other; of a mapping no more than a piece is in memory at a time."""
    for part in parts:
        for chunk in chunks(part):
            file.write(chunk)


def read_mapped(path: Path) -> Buffer:
    """A file's content, mapped where it is large: the file may be removed, but not be written to."""
    if not CAN_MAP or path.stat().st_size < LARGE:
        return path.read_bytes()
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)


def chunks(part: Buffer | memoryview) -> Iterator[memoryview]:
    """`part` in pieces, one after the other; of a mapping no more than that is in memory at a time."""
    view = memoryview(part)
    for start in range(0, len(view), _CHUNK):
        yield view[start : start + _CHUNK]
        release(part)


def find(wanted: bytes | bytearray, part: Buffer, start: int, end: int) -> int:
    """Where `wanted` is in `part` from `start` to `end`, or -1."""
    for window in range(start, end, _CHUNK):
        place = part.find(wanted, window, min(window + _CHUNK + len(wanted) - 1, end))
        release(part)
        if place >= 0:
            return place
    return -1


def holds(made: Buffer, start: int, piece: memoryview) -> bool:
    """Whether the bytes of `made` from `start` on are those of `piece`."""
    for done in range(0, len(piece), _CHUNK):
        wanted = bytes(piece[done : done + _CHUNK])  # views would be compared byte by byte
        if made[start + done : start + done + len(wanted)] != wanted:
            return False
        release(made)
        release(piece)
    return True


def release(part: Buffer | memoryview) -> None:
    """Gives the memory of a mapping back to the system, which reads it from the file again where it is needed.

    Only for mappings of this package; of a private one what was written to it is lost. Does nothing for other memory.
    """
    owner = part.obj if isinstance(part, memoryview) else part
    if isinstance(owner, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        owner.madvise(mmap.MADV_DONTNEED)


@contextmanager
def read_once(part: memoryview) -> Iterator[None]:
    """Memory that the block reads through once: where it is a large mapped file, what was read goes back to the system meanwhile.

    For engines in a file that was loaded; nobody may have written to the memory. Linux only; does nothing elsewhere.
    """
    place = _file_pages(part)
    if place is None:
        yield
        return
    with repeatedly(lambda: _release_pages(*place)):
        yield


@contextmanager
def repeatedly(give_back: Callable[[], object]) -> Iterator[None]:
    """Calls `give_back` in a thread of its own while the block runs, and once at its end."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(_PAUSE):
            give_back()

    watcher = threading.Thread(target=watch, name="torch_tensorrt_memory", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()
        give_back()


def _release_pages(first: int, size: int) -> None:
    ctypes.CDLL(None).madvise(ctypes.c_void_p(first), ctypes.c_size_t(size), mmap.MADV_DONTNEED)


def _file_pages(part: memoryview) -> tuple[int, int] | None:
    """Address and size of the whole pages of `part`; None unless they are a large private mapping of a file."""
    if len(part) < LARGE or part.readonly or not _MAPS.exists() or not hasattr(mmap, "MADV_DONTNEED"):
        return None
    start = ctypes.addressof(ctypes.c_char.from_buffer(part))
    end, page = start + len(part), mmap.PAGESIZE
    for line in _MAPS.read_text().splitlines():
        places, _, _, _, inode, *_ = line.split()
        first, _, last = places.partition("-")
        if inode != "0" and int(first, 16) <= start and end <= int(last, 16):
            begin = -(-start // page) * page
            return begin, end // page * page - begin
    return None
