"""A built engine as bytes: a header that says what it is, then the backend's payload. Written down in package/FORMAT.md."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO

import torch

from torch_tensorrt.contracts.engine import Engine, EngineSpec
from torch_tensorrt.contracts.mapped import Buffer, spooled
from torch_tensorrt.contracts.origin import Origin
from torch_tensorrt.spec.errors import FileFormatError
from torch_tensorrt.spec.json_text import not_deep
from torch_tensorrt.spec.tensor_spec import Json

MAGIC = b"TRTANYWH"
# Ledger: 1, 2026-11: first.
VERSION = 1
_PREFIX = struct.Struct("<8sII")  # magic, format version, length of the JSON header
_LONGEST_HEADER = 16 * 2**20
LONGEST_START = _PREFIX.size + _LONGEST_HEADER + 64  # bytes that hold every header
_ALIGNMENT = 64  # SDKs map the payload in place
_MOST = 10**15  # bytes of a payload: as long a number as there will be
_FIELDS = {"spec": dict, "python": str, "torch": str, "payload_bytes": int, "sha256": str}
_ORIGIN = "origin"  # a field that one engine of a refittable module has beside these
_PROGRAM = "program"  # and one that an engine in a portable file has


def encode(spec: EngineSpec, payload: bytes) -> bytes:
    """Magic, format version, header length, JSON header, zeros up to a multiple of 64 bytes, payload."""
    return encode_start(spec, len(payload), hashlib.sha256(payload).hexdigest()) + payload


def encode_engine(engine: Engine, origin: Origin | None = None) -> Buffer:
    """The same of an engine, with `origin` in the header; in a mapped file where it is large: see mapped.py.

    The engine writes its payload where it stays, behind a header with room for a length and a hash that are known afterwards.
    May be written to, as bytes may not.
    """

    def write(file: BytesIO) -> None:
        room = encode_start(engine.spec, _MOST, "0" * 64, origin)
        file.write(room)
        engine.write_payload(file)
        size = file.seek(0, os.SEEK_END) - len(room)
        digest = _digest(file, len(room))
        file.seek(0)
        file.write(encode_start(engine.spec, size, digest, origin, len(room)))

    made = spooled(write)
    return bytearray(made) if isinstance(made, bytes) else made


def _digest(file: BytesIO, start: int) -> str:
    """Of all from `start` on."""
    file.seek(start)
    digest, memory = hashlib.sha256(), memoryview(bytearray(2**20))
    while count := file.readinto(memory):
        digest.update(memory[:count])
    return digest.hexdigest()


def encode_start(
    spec: EngineSpec, payload_bytes: int, sha256: str, origin: Origin | None = None, room: int = 0
) -> bytes:
    """All that stands before a payload of that length and hash. room: how long it is made with spaces, a multiple of 64."""
    header: dict[str, Json] = {
        "spec": json.loads(spec.to_json()),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "payload_bytes": payload_bytes,
        "sha256": sha256,
    }
    return _start(header if origin is None else {**header, _ORIGIN: origin.to_record()}, room)


def decode(data: memoryview, *, verify: bool = True) -> tuple[EngineSpec, memoryview]:
    """The spec and the payload, which is a view into `data`. `verify=False`: the payload's hash is known to be right.

    Raises FileFormatError when the bytes are not an engine, are of another format version, truncated, longer than they
    say, or changed.
    """
    header, start = _read_header(data)
    spec = EngineSpec.from_record(header["spec"])
    size = header["payload_bytes"]
    assert isinstance(size, int)
    program, length = _program_place(header, start, size)
    if size < 0 or len(data) != program + length:
        raise FileFormatError(
            f"Engine {spec.name!r} should have {program + length - start} bytes after its header of {start}; {len(data) - start} "
            "are there. The file was cut off or something was added; save the model again."
        )
    payload = data[start : start + size]
    if verify and hashlib.sha256(payload).hexdigest() != header["sha256"]:
        raise FileFormatError(
            f"The bytes of engine {spec.name!r} were changed after they were written; save the model again."
        )
    return spec, payload


@dataclass(frozen=True)
class Header:
    """An engine's header: its spec, the versions that wrote it, and the length and hash that its payload should have.

    program: in a portable file, `bytes`, `sha256` and `options` of the program behind the payload.
    """

    spec: EngineSpec
    python: str
    torch: str
    payload_bytes: int
    sha256: str
    program: Mapping[str, Json] | None = None


def decode_header(data: memoryview) -> Header:
    """The header alone; `data` is at least the engine's start. The payload is not looked at.

    Raises FileFormatError when the bytes are not the start of an engine that this version reads.
    """
    record, start = _read_header(data)
    spec = EngineSpec.from_record(record["spec"])
    size, program = record["payload_bytes"], record.get(_PROGRAM)
    assert isinstance(size, int)
    _program_place(record, start, size)
    assert program is None or isinstance(program, dict)
    return Header(spec, str(record["python"]), str(record["torch"]), size, str(record["sha256"]), program)


def read_origin(data: memoryview) -> Origin | None:
    """How the model was made, if this engine's header tells. Raises FileFormatError as `decode_header` does."""
    record, _ = _read_header(data)
    return Origin.from_record(record[_ORIGIN]) if _ORIGIN in record else None


def with_origin(data: memoryview, origin: Origin) -> bytearray:
    """The same engine with `origin` in its header; the payload is not looked at."""
    record, start = _read_header(data)
    return bytearray().join((_start({**record, _ORIGIN: origin.to_record()}), data[start:]))


def with_program(data: memoryview, program: bytes, options: Mapping[str, Json]) -> bytearray:
    """The same engine followed by the program that it computes, for machines that the engine doesn't fit.

    `program`: a payload of the eager backend. `options`: those that the engine was built with, as settings_record.py has them.
    """
    record, start = _read_header(data)
    size = record["payload_bytes"]
    assert isinstance(size, int)
    about: dict[str, Json] = {
        "bytes": len(program),
        "sha256": hashlib.sha256(program).hexdigest(),
        "options": dict(options),
    }
    gap = b"\0" * (-size % _ALIGNMENT)
    return bytearray().join((_start({**record, _PROGRAM: about}), data[start : start + size], gap, program))


def read_program(data: memoryview) -> tuple[memoryview, Mapping[str, Json]] | None:
    """The program and the options that `with_program` added; None when it didn't. Raises FileFormatError for a changed one."""
    record, start = _read_header(data)
    if _PROGRAM not in record:
        return None
    size, about = record["payload_bytes"], record[_PROGRAM]
    assert isinstance(size, int)
    assert isinstance(about, dict)
    place, length = _program_place(record, start, size)
    program = data[place : place + length]
    if len(program) != length or hashlib.sha256(program).hexdigest() != about["sha256"]:
        raise FileFormatError("The program in a portable engine was cut off or changed; save the model again.")
    options = about["options"]
    assert isinstance(options, dict)
    return program, options


def _program_place(header: Mapping[str, Json], start: int, size: int) -> tuple[int, int]:
    """Where the program begins, and its length; the engine's end and 0 when there is none. Raises FileFormatError."""
    about = header.get(_PROGRAM)
    if _PROGRAM not in header:
        return start + size, 0
    fields = {"bytes": int, "sha256": str, "options": dict}
    if not isinstance(about, dict) or set(about) != set(fields):
        raise FileFormatError(f"Field 'program' of the engine's header needs exactly the fields {sorted(fields)}.")
    for key, kind in fields.items():
        if type(about[key]) is not kind:
            raise FileFormatError(f"Field {key!r} of the program in the engine's header is not a {kind.__name__}.")
    length = about["bytes"]
    assert isinstance(length, int)
    if length < 0:
        raise FileFormatError(f"The program in the engine's header has {length} bytes.")
    return start + size + (-size % _ALIGNMENT), length


def _start(header: dict[str, Json], room: int = 0) -> bytes:
    text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode().ljust(room - _PREFIX.size)
    start = _PREFIX.pack(MAGIC, VERSION, len(text)) + text
    return start + b"\0" * (-len(start) % _ALIGNMENT)


def _read_header(data: memoryview) -> tuple[dict[str, Json], int]:
    if len(data) < _PREFIX.size:
        raise FileFormatError(f"{len(data)} bytes are too few for an engine.")
    magic, version, length = _PREFIX.unpack(data[: _PREFIX.size])
    if magic != MAGIC:
        raise FileFormatError(
            f"This is not an engine of torch_tensorrt: it starts with {bytes(magic)!r}, not {MAGIC!r}."
        )
    if version != VERSION:
        raise FileFormatError(
            f"The engine has format {version}; this version of torch_tensorrt reads format {VERSION}. "
            "Load it with the version that wrote it, or compile and save the model again."
        )
    end = _PREFIX.size + length
    if length > _LONGEST_HEADER or end > len(data):
        raise FileFormatError(f"The engine's header should have {length} bytes; {len(data) - _PREFIX.size} are there.")
    header = _parse(bytes(data[_PREFIX.size : end]))
    padding = -end % _ALIGNMENT
    if any(data[end : end + padding]):
        raise FileFormatError("The padding after the engine's header is not zero; the file was changed.")
    return header, end + padding


def _parse(text: bytes) -> dict[str, Json]:
    try:
        header = json.loads(not_deep(text))
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"The engine's header is not JSON: {error}") from error
    if not isinstance(header, dict) or set(header) - {_ORIGIN, _PROGRAM} != set(_FIELDS):
        raise FileFormatError(f"The engine's header needs exactly the fields {sorted(_FIELDS)}.")
    for key, kind in _FIELDS.items():
        if type(header[key]) is not kind:
            raise FileFormatError(f"Field {key!r} of the engine's header is not a {kind.__name__}.")
    return header
