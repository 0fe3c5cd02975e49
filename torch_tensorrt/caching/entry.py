"""The bytes of one cache entry: what the engine was made from, in full, and then the engine. Written down in package/FORMAT.md."""

from __future__ import annotations

import hashlib
import struct

from torch_tensorrt.contracts.engine import EngineSpec
from torch_tensorrt.contracts.engine_bytes import decode, decode_header, encode_start
from torch_tensorrt.spec.errors import FileFormatError

MAGIC = b"TRTCACHE"
# Ledger: 1, 2026-11: first.
VERSION = 1
_PREFIX = struct.Struct(
    "<8sII32s"
)  # magic, format version, length of the description, SHA-256 of what follows but the payload
_LONGEST_DESCRIPTION = 256 * 2**20
_ALIGNMENT = 64


def write_entry(description: bytes, engine: memoryview) -> bytes:
    """Magic, format version, length, hash, description, zeros up to a multiple of 64, engine bytes."""
    start, payload = _split(engine)
    gap = bytes(-(_PREFIX.size + len(description)) % _ALIGNMENT)
    prefix = _PREFIX.pack(MAGIC, VERSION, len(description), _digest(description, gap, start))
    return b"".join((prefix, description, gap, start, payload))


def read_entry(blob: memoryview, description: bytes) -> memoryview:
    """The engine bytes (a view into `blob`) of the entry for `description`.

    Raises FileFormatError when it is for anything else, of another format version, cut off or changed.
    """
    if len(blob) < _PREFIX.size:
        raise FileFormatError(f"{len(blob)} bytes are too few for an entry of the engine cache.")
    magic, version, length, digest = _PREFIX.unpack(blob[: _PREFIX.size])
    if magic != MAGIC or version != VERSION:
        raise FileFormatError(f"It starts with {bytes(magic)!r} {version}, not with {MAGIC!r} {VERSION}.")
    end = _PREFIX.size + length
    if length > _LONGEST_DESCRIPTION or end > len(blob):
        raise FileFormatError(f"It should have a description of {length} bytes; {len(blob) - _PREFIX.size} are there.")
    if blob[_PREFIX.size : end] != description:
        raise FileFormatError("It holds the engine of another partition, or its description was changed.")
    place = end + -end % _ALIGNMENT
    engine = blob[place:]
    start, _ = _split(engine)
    if _digest(description, blob[end:place], start) != digest:
        raise FileFormatError("The engine's header in it was changed after it was written.")
    return engine


def relabel(engine: memoryview, spec: EngineSpec) -> memoryview:
    """Engine bytes with `spec` in the header: `engine` itself when that is there already. Its payload is checked.

    Raises FileFormatError as `decode` does.
    """
    found, payload = decode(engine)
    if found == spec:
        return engine
    return memoryview(encode_start(spec, len(payload), decode_header(engine).sha256) + payload)


def _split(engine: memoryview) -> tuple[memoryview, memoryview]:
    _, payload = decode(engine, verify=False)
    place = len(engine) - len(payload)
    return engine[:place], engine[place:]


def _digest(*parts: bytes | memoryview) -> bytes:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.digest()
