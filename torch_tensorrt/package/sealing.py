"""Atomic writing, and the seal that tells whether a file is still as it was written. Described in FORMAT.md."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import re
import shutil
import struct
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from torch_tensorrt.spec.errors import FileFormatError, InputError

try:
    import fcntl
except ImportError:  # Windows: what a killed process left behind stays there
    fcntl = None  # type: ignore[assignment]

# A zip archive's last record: signature, 16 bytes of counts and offsets, the length of the comment that follows.
_LAST_RECORD = struct.Struct("<4s16sH")
_SEAL = b"torch_tensorrt 1 sha256 "
_SEAL_BYTES = len(_SEAL) + 64
_CHUNK = 2**20


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file object whose contents replace `path` when the block ends well; nothing is left behind when it doesn't. What a
    process that was killed in this left behind beside `path` is removed.

    Raises InputError naming the folder, and the system's own words, when it can't be written.
    """
    check_place(path)
    temporary, held = "", -1
    try:
        _remove_abandoned(path)
        handle, temporary, held = _make_temporary(path)
        with os.fdopen(handle, "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(_explain(path, error)) from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            if temporary:
                os.unlink(temporary)
        if held >= 0:
            os.close(held)


class _Telling(io.BufferedIOBase):
    """A file that remembers the system's error: PyTorch's writers raise something of their own in its place."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.error: OSError | None = None

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def write(self, data: bytes | memoryview) -> int:  # type: ignore[override]
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = error
            raise


@contextmanager
def told_by(file: BinaryIO) -> Iterator[BinaryIO]:
    """`file` for writers that hide the system's errors: what they raise becomes the error that `file` raised first."""
    telling = _Telling(file)
    try:
        yield cast("BinaryIO", telling)
    except Exception as error:
        if telling.error is not None and error is not telling.error:
            raise telling.error from error
        raise


def _make_temporary(path: Path) -> tuple[int, str, int]:
    """(descriptor, name, descriptor that holds the lock); the lock says that the process which writes the file is alive."""
    while True:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        if fcntl is None:
            return handle, temporary, -1
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(handle).st_nlink:  # it wasn't removed between the two
            return handle, temporary, os.dup(handle)
        os.close(handle)


def _remove_abandoned(path: Path) -> None:
    """Removes unfinished files of `path` whose writers are gone: nobody holds their locks."""
    if fcntl is None:
        return
    ours = re.compile(rf"\.{re.escape(path.name)}\.[a-z0-9_]{{8}}\.part")
    for found in [entry for entry in os.scandir(path.parent) if ours.fullmatch(entry.name)]:
        with contextlib.suppress(OSError):  # held by a living process, gone by now, or not ours to remove
            handle = os.open(found.path, os.O_RDWR | os.O_NOFOLLOW)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.unlink(found.path)
            finally:
                os.close(handle)


def check_place(path: Path) -> None:
    """Raises InputError when `path` is a folder, or its folder isn't there or takes no new files."""
    folder = path.parent
    if path.is_dir():
        raise InputError(f"{str(path)!r} is a folder; give the name of a file.")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{str(folder)!r} is a file, so {path.name!r} can't be saved in it; give another folder.")
    if not folder.is_dir():
        raise InputError(f"The folder {str(folder)!r} doesn't exist; create it before saving {path.name!r} there.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"The folder {str(folder)!r} can't be written to by this user; save {path.name!r} elsewhere.")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _explain(path: Path, error: OSError) -> str:
    free = shutil.disk_usage(path.parent).free
    if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        advice = f"{free:,} bytes are free there; free some space or save elsewhere"
    else:
        advice = "save where this user may write"
    return f"{str(path)!r} can't be written: {error.strerror or error}. Nothing was changed; {advice}."


def seal(file: BinaryIO) -> None:
    """Appends to a zip archive, as its comment, the SHA-256 of everything before its last record."""
    size = file.seek(0, os.SEEK_END)
    start = size - _LAST_RECORD.size
    digest = _digest(_reader(file), start)
    file.seek(start)
    signature, counts, _ = _LAST_RECORD.unpack(file.read(_LAST_RECORD.size))
    file.seek(start)
    file.write(_LAST_RECORD.pack(signature, counts, _SEAL_BYTES) + _SEAL + digest.encode())


def check_seal(file: BinaryIO, name: str) -> bool:
    """True when the seal is there and right, False when there is none. Raises FileFormatError when it is wrong."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(size - 2 * (_LAST_RECORD.size + _SEAL_BYTES), 0))
    tail = file.read()
    place = tail.rfind(b"PK\5\6")
    if place < 0 or place + _LAST_RECORD.size > len(tail):
        raise FileFormatError(f"{name} has no end of a zip archive: it was cut off, or something was added.")
    _, _, length = _LAST_RECORD.unpack_from(tail, place)
    comment = tail[place + _LAST_RECORD.size :]
    if len(comment) != length:
        raise FileFormatError(
            f"{name} ends with {len(comment)} bytes where {length} should be: it was cut off or changed."
        )
    if not comment:
        return False
    if not comment.startswith(_SEAL):
        raise FileFormatError(
            f"{name} ends with {bytes(comment[:40])!r}, which is no seal that this version reads ({_SEAL.decode()!r}): it was "
            "written by a newer version, or changed."
        )
    start = size - len(tail) + place
    if comment[len(_SEAL) :] != _digest(_reader(file), start).encode():
        raise FileFormatError(f"{name} was changed after it was saved (its SHA-256 is another one); save it again.")
    return True


def _reader(file: BinaryIO) -> Callable[[int], bytes]:
    file.seek(0)
    return file.read


def _digest(read: Callable[[int], bytes], count: int) -> str:
    digest = hashlib.sha256()
    while count > 0:
        chunk = read(min(_CHUNK, count))
        if not chunk:
            break
        digest.update(chunk)
        count -= len(chunk)
    return digest.hexdigest()
