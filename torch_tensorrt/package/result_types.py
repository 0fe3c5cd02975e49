"""The types of what a ScriptModule gives back. Lists and dicts need them to be one, and named tuples a class that has them."""

from __future__ import annotations

import collections
import hashlib
from collections.abc import Sequence
from functools import lru_cache

from torch import Tensor

from torch_tensorrt.spec.errors import UnsupportedError

_LEAVES: dict[str, object] = {
    "tensor": Tensor, "int": int, "float": float, "bool": bool, "str": str, "complex": complex, "None": type(None),
}  # fmt: skip


def leaf_type(kind: str) -> object:
    """The type of a leaf: "tensor", "int", ... as script_source.py names them."""
    return _LEAVES[kind]


def collection_type(kind: type, parts: Sequence[object], where: str) -> object:
    """The type of a tuple, list or dict of parts of these types.

    Raises UnsupportedError, naming `where` it is, for a list or dict of several types.
    """
    if kind is tuple:
        return tuple[tuple(parts) or ((),)]  # type: ignore[misc]
    if len(set(parts)) > 1:
        raise UnsupportedError(
            f"{where} is a {kind.__name__} of {', '.join(map(_shown, parts))}, but TorchScript's lists and dicts hold one type. Use "
            "output_format='exported_program', or let the model return a tuple."
        )
    part = parts[0] if parts else Tensor
    return list[part] if kind is list else dict[str, part]  # type: ignore[valid-type]


@lru_cache(maxsize=256)
def named_tuple_type(name: str, fields: tuple[str, ...], parts: tuple[object, ...]) -> type[tuple[object, ...]]:
    """The class of a named tuple, in a module of its own: TorchScript refuses two of one full name that differ."""
    made = collections.namedtuple(name, fields)  # type: ignore[misc]  # noqa: PYI024 - its fields are known here only
    made.__annotations__ = dict(zip(fields, parts, strict=True))
    digest = hashlib.sha256(repr((fields, parts)).encode()).hexdigest()[:12]
    made.__module__ = f"torch_tensorrt.named_{digest}"
    return made


def _shown(part: object) -> str:
    return next((name for name, known in _LEAVES.items() if known is part), str(part).replace("typing.", ""))
