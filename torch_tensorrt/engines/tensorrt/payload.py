"""A plan and what has to be known beside it, as bytes. Where nothing has to be known, the bytes are the plan alone."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from torch_tensorrt.spec.errors import FileFormatError
from torch_tensorrt.spec.json_text import not_deep
from torch_tensorrt.spec.tensor_spec import Json, dtype_from_name, dtype_name

MAGIC = b"TRTPLAN+"
_PREFIX = struct.Struct("<8sI")  # magic, length of the JSON
_ALIGNMENT = 64
_FIELDS = {"weights": list, "refittable": bool, "stripped": bool, "identical": bool, "host_code": bool, "dla_core": int}


@dataclass(frozen=True)
class Weight:
    """A constant of the partition. `name`: the SDK's for it; None: its values went into others, so that it can't change."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    digest: str  # SHA-256 of its elements
    name: str | None

    @classmethod
    def of(cls, value: Tensor, name: str | None) -> Weight:
        """What holds of `value`."""
        return cls(value.dtype, tuple(value.shape), digest_of(value), name)


@dataclass(frozen=True)
class Payload:
    """A plan and its facts.

    weights: the constants of a refittable engine by name. stripped: the plan has no weights yet. identical: it takes only the
    weights that it was built with. host_code: it holds code for the CPU (it is version-compatible). dla_core: -1 for a GPU.
    """

    plan: bytes | memoryview
    refittable: bool = False
    weights: Mapping[str, Weight] = field(default_factory=dict)
    stripped: bool = False
    identical: bool = False
    host_code: bool = False
    dla_core: int = -1

    def parts(self) -> tuple[bytes | memoryview, ...]:
        """The bytes, in parts: the plan alone, or magic, length, JSON, zeros up to a multiple of 64 bytes, plan."""
        if not (self.refittable or self.stripped or self.host_code or self.dla_core >= 0):
            return (self.plan,)
        weights: list[Json] = [
            [name, dtype_name(known.dtype), list(known.shape), known.digest, known.name]
            for name, known in self.weights.items()
        ]
        record: dict[str, Json] = {
            "weights": weights,
            "refittable": self.refittable,
            "stripped": self.stripped,
            "identical": self.identical,
            "host_code": self.host_code,
            "dla_core": self.dla_core,
        }
        text = json.dumps(record, separators=(",", ":")).encode()
        start = _PREFIX.pack(MAGIC, len(text)) + text
        return (start + b"\0" * (-len(start) % _ALIGNMENT), self.plan)


def read_payload(data: memoryview) -> Payload:
    """The inverse of `Payload.parts`. Raises FileFormatError."""
    if bytes(data[: len(MAGIC)]) != MAGIC:
        return Payload(data)
    if len(data) < _PREFIX.size:
        raise FileFormatError("The facts beside a TensorRT plan were cut off.")
    end = _PREFIX.size + _PREFIX.unpack(data[: _PREFIX.size])[1]
    try:
        record = json.loads(not_deep(bytes(data[_PREFIX.size : end]))) if end <= len(data) else None
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"The facts beside a TensorRT plan are not JSON: {error}") from error
    if not isinstance(record, dict) or set(record) != set(_FIELDS):
        raise FileFormatError(f"The facts beside a TensorRT plan need exactly the fields {sorted(_FIELDS)}.")
    for key, kind in _FIELDS.items():
        if type(record[key]) is not kind:
            raise FileFormatError(
                f"Field {key!r} beside a TensorRT plan is {record[key]!r:.80}, not a {kind.__name__}."
            )
    weights = dict(_weight(row) for row in record.pop("weights"))
    return Payload(data[end + -end % _ALIGNMENT :], weights=weights, **record)


def digest_of(value: Tensor) -> str:
    """The SHA-256 of the elements in order, in hexadecimal."""
    plain = value.detach().resolve_conj().resolve_neg().cpu().contiguous()
    return hashlib.sha256(memoryview(plain.reshape(-1).view(torch.uint8).numpy())).hexdigest()  # type: ignore[arg-type]


def _weight(row: Json) -> tuple[str, Weight]:
    if isinstance(row, list) and len(row) == 5:
        name, dtype, shape, digest, known_as = row
        sizes = [size for size in shape if type(size) is int] if isinstance(shape, list) else []
        texts = isinstance(name, str) and isinstance(digest, str) and isinstance(known_as, (str, type(None)))
        if texts and sizes == shape:
            return str(name), Weight(
                dtype_from_name(dtype), tuple(sizes), str(digest), None if known_as is None else str(known_as)
            )
    raise FileFormatError(f"{row!r:.200} describes no weight of a TensorRT engine.")
