"""What OpenVINO tells of the tensors of a compiled model, and of one that it placed itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol


class Range(Protocol):
    """A size of a model: from `min_length` to `max_length`, which is -1 where there is no bound."""

    is_dynamic: bool
    min_length: int
    max_length: int


class PartialShape(Protocol):
    """Sizes of a model. `rank`: how many there are, which may be open."""

    rank: Range

    def __iter__(self) -> Iterator[Range]: ...


class Found(Protocol):
    """A tensor in OpenVINO's own memory."""

    def get_shape(self) -> Sequence[int]:
        """Its sizes."""

    def copy_to(self, target: object) -> None:
        """Copies it to memory that OpenVINO is shown."""
