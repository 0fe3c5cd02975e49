"""The engine_options that the ONNX Runtime engine knows."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from torch_tensorrt.spec.errors import InputError
from torch_tensorrt.spec.settings import CompilationSettings


@dataclass(frozen=True)
class _Knob:
    accepts: Callable[[object], bool]
    needed: str


KNOBS: Mapping[str, _Knob] = {
    "num_threads": _Knob(lambda value: type(value) is int and value >= 1, "a whole number from 1 on"),
    "allow_spinning": _Knob(lambda value: isinstance(value, bool), "True or False"),
}


def read_knobs(settings: CompilationSettings) -> dict[str, int]:
    """The options as given, and num_threads. Raises InputError for an unknown name or value."""
    for name, value in settings.engine_options:
        if name not in KNOBS:
            close = difflib.get_close_matches(name, KNOBS, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise InputError(
                f"engine_options holds {name!r}, which the 'onnxruntime' engine doesn't know.{hint} It knows {', '.join(KNOBS)}."
            )
        if not KNOBS[name].accepts(value):
            needed = KNOBS[name].needed
            raise InputError(f"engine_options={{{name!r}: {value!r}}}: {needed} is needed by the 'onnxruntime' engine.")
    general = {} if settings.num_threads is None else {"num_threads": settings.num_threads}
    return {**general, **dict(settings.engine_options)}  # type: ignore[arg-type]


def variants(most: int | None = None) -> dict[str, Mapping[str, object]]:
    """Ways to run that are worth measuring, with `most` threads at most."""
    ways: dict[str, Mapping[str, object]] = {"default": {}}
    if (most or torch.get_num_threads()) > 1:
        ways["1 thread"] = {"engine_options": {"num_threads": 1}}
        ways["without spinning"] = {"engine_options": {"allow_spinning": False}}
    return ways
