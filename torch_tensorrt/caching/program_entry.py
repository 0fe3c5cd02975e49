"""The bytes of a cached program: what it was compiled from, its plan, its engines by their keys, and its outer graph.

Written down in package/FORMAT.md. The engines themselves are entries of their own.
"""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import dataclass

from torch_tensorrt.caching.key import Key
from torch_tensorrt.contracts.partition import Group, Plan
from torch_tensorrt.spec.errors import FileFormatError
from torch_tensorrt.spec.json_text import not_deep
from torch_tensorrt.spec.tensor_spec import Json

MAGIC = b"TRTPROGR"
# Ledger: 1, 2026-11: first.
VERSION = 1
_PREFIX = struct.Struct(
    "<8sIII32s"
)  # magic, format version, lengths of description and record, SHA-256 of all that follows


@dataclass(frozen=True)
class CachedEngine:
    """An engine of a program: where the outer graph holds it, the entry that it is in, and its spec as JSON."""

    attribute: str
    description: str
    spec: str

    @property
    def key(self) -> Key:
        """The name and description of its own entry."""
        text = self.description.encode()
        return Key(text, hashlib.sha256(text).hexdigest())


@dataclass(frozen=True)
class CachedProgram:
    """What compiling gave. archive: the outer graph, as torch.export.save writes it, with empty tensors for engines."""

    plan: Plan
    engines: tuple[CachedEngine, ...]
    archive: bytes


def write_program(description: bytes, program: CachedProgram) -> bytes:
    """Magic, format version, two lengths, hash, description, record (JSON), archive."""
    record: Json = {
        "plan": _plan_record(program.plan),
        "engines": [[engine.attribute, engine.description, engine.spec] for engine in program.engines],
    }
    text = json.dumps(record, separators=(",", ":")).encode()
    rest = description + text + program.archive
    return _PREFIX.pack(MAGIC, VERSION, len(description), len(text), hashlib.sha256(rest).digest()) + rest


def read_program_entry(blob: memoryview, description: bytes) -> CachedProgram:
    """The program that was compiled from what `description` says.

    Raises FileFormatError when it is another one, of another format version, cut off or changed.
    """
    if len(blob) < _PREFIX.size:
        raise FileFormatError(f"{len(blob)} bytes are too few for a program of the engine cache.")
    magic, version, first, second, digest = _PREFIX.unpack(blob[: _PREFIX.size])
    if magic != MAGIC or version != VERSION:
        raise FileFormatError(f"It starts with {bytes(magic)!r} {version}, not with {MAGIC!r} {VERSION}.")
    rest = blob[_PREFIX.size :]
    if hashlib.sha256(rest).digest() != digest:
        raise FileFormatError("It was changed or cut off after it was written.")
    if rest[:first] != description:
        raise FileFormatError("It holds another program.")
    try:
        record = json.loads(not_deep(bytes(rest[first : first + second])))
        plan = _plan_from(record["plan"])
        engines = tuple(CachedEngine(*map(str, row)) for row in record["engines"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise FileFormatError(f"Its record can't be read: {type(error).__name__}: {error}") from error
    return CachedProgram(plan, engines, bytes(rest[first + second :]))


def _plan_record(plan: Plan) -> Json:
    return {
        "groups": [[group.name, group.backend, list(group.nodes), dict(group.operators)] for group in plan.groups],
        "refusals": dict(plan.refusals),
        "operators": dict(plan.operators),
        "total": plan.total,
        "backend": plan.backend,
        "backend_reason": plan.backend_reason,
        "notes": list(plan.notes),
    }


def _plan_from(record: dict[str, Json]) -> Plan:
    groups = record["groups"]
    return Plan(  # its hash was checked: it is as _plan_record made it
        groups=tuple(Group(name, backend, tuple(nodes), operators) for name, backend, nodes, operators in groups),  # type: ignore
        refusals=record["refusals"],  # type: ignore[arg-type]
        operators=record["operators"],  # type: ignore[arg-type]
        total=record["total"],  # type: ignore[arg-type]
        backend=str(record["backend"]),
        backend_reason=str(record["backend_reason"]),
        notes=tuple(record["notes"]),  # type: ignore[arg-type]
    )
