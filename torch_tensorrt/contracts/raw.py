"""Raw engines, the bytes of an engine's own SDK, on their way back: what their readers are given, and what a backend does."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch_tensorrt.contracts.engine import Engine
from torch_tensorrt.spec.errors import InputError
from torch_tensorrt.spec.settings import CompilationSettings

_NUMBERED = re.compile(r"(?P<stem>.*?)[._]?(?P<place>\d+)")


@dataclass(frozen=True)
class RawEngine:
    """Bytes that an SDK wrote.

    name: for messages. inputs, outputs: what the engine calls its tensors, in the order in which they are passed and given;
    None: see `in_order`.
    """

    data: bytes
    name: str = "engine"
    inputs: tuple[str, ...] | None = None
    outputs: tuple[str, ...] | None = None

    @classmethod
    def named(cls, data: bytes, name: str, inputs: Sequence[str] | None, outputs: Sequence[str] | None) -> RawEngine:
        """The same from what a caller gave. Raises InputError for what is no list of names, or no bytes."""
        if not isinstance(data, bytes) or not data:
            raise InputError(f"serialized_engine is {data!r:.60}; the bytes of an engine are needed.")
        return cls(data, name, _names("input_binding_names", inputs), _names("output_binding_names", outputs))


@runtime_checkable
class ReadsRawEngines(Protocol):
    """A backend whose SDK can tell of its raw engines what they take and give."""

    def wrote(self, raw: bytes) -> bool:
        """Whether the bytes start like those of this SDK."""

    def read_raw(self, raw: RawEngine, settings: CompilationSettings) -> Engine:
        """The engine, whose `spec` has what the SDK tells of its tensors.

        Raises InputError for names that the engine doesn't have, UnsupportedError for an engine that takes or gives something else
        than plain tensors, EngineNotRunnable where the SDK can't read it here.
        """


def in_order(role: str, names: Sequence[str], asked: Sequence[str] | None) -> tuple[str, ...]:
    """The engine's `names` as they were `asked` for; where nothing was, by number if they are numbered, else as they are.

    Numbered are `x.0, x.1, ...`, `output0, output1, ...`: the same before the number, and all numbers from 0. Raises InputError,
    which lists both, unless `asked` has each of the names once. `role`: "inputs" or "outputs".
    """
    if asked is None:
        return _by_number(names)
    if sorted(asked) != sorted(names):
        raise InputError(
            f"The engine's {role} are called {', '.join(map(repr, names)) or '(there are none)'}; each has to be named once, and the "
            f"names that were given are {', '.join(map(repr, asked)) or '(none)'}."
        )
    return tuple(asked)


def _names(role: str, given: object) -> tuple[str, ...] | None:
    if given is None:
        return None
    if not isinstance(given, (list, tuple)) or not all(isinstance(name, str) for name in given):
        raise InputError(f"{role}={given!r:.200}: a list of the names that the engine has is needed, or None.")
    return tuple(given)


def _by_number(names: Sequence[str]) -> tuple[str, ...]:
    found = [_NUMBERED.fullmatch(name) for name in names]
    places = {int(match["place"]): match.string for match in found if match is not None}
    stems = {match["stem"] for match in found if match is not None}
    if len(stems) != 1 or sorted(places) != list(range(len(names))):
        return tuple(names)
    return tuple(places[place] for place in range(len(names)))
