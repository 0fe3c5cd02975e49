"""TorchScript's named tuples as Python's: their type tells the name, and its text the fields."""

from __future__ import annotations

import collections
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch


def as_tuple(kind: torch._C.JitType, parts: Sequence[object]) -> tuple[object, ...]:
    """A tuple of the type `kind`, which is a tuple's; a named one if that is one."""
    told: Any = kind
    name = str(told.annotation_str).rpartition(".")[2]
    fields = _fields(told.str(), [part.str() for part in told.elements()])
    return tuple(parts) if fields is None else _named(name, fields)(*parts)


def _fields(text: str, types: Sequence[str]) -> tuple[str, ...] | None:
    """`NamedTuple(x : Tensor, y : int)` -> ("x", "y"); None for a plain tuple."""
    start, rest = "NamedTuple(", text
    if not rest.startswith(start):
        return None
    fields = []
    for kind in types:
        field, _, rest = rest[len(start) :].partition(" : ")
        fields.append(field)
        start, rest = ", ", rest.removeprefix(kind)
    return tuple(fields)


@lru_cache(maxsize=256)
def _named(name: str, fields: tuple[str, ...]) -> Any:
    return collections.namedtuple(name, fields)  # noqa: PYI024 - a type is known at run time only
