"""LayerType name -> the function that runs such a layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])
RUNS: dict[str, Callable[..., Any]] = {}


class NotInterpretedError(NotImplementedError):
    """A layer, or a form of one, that has no reference here."""


def runs(*kinds: str) -> Callable[[F], F]:
    """Decorator: `function(layer, *tensors)` gives the output of a layer of these kinds, or a tuple of them."""

    def register(function: F) -> F:
        for kind in kinds:
            assert kind not in RUNS, kind
            RUNS[kind] = function
        return function

    return register
