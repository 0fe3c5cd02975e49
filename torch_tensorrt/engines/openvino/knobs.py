"""The engine_options that OpenVINO knows, and the ways of compiling that are worth measuring."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence

import torch

from torch_tensorrt.spec.coercion import Knob
from torch_tensorrt.spec.errors import FileFormatError, InputError
from torch_tensorrt.spec.settings import CompilationSettings
from torch_tensorrt.spec.tensor_spec import Json

_HINTS = ("LATENCY", "THROUGHPUT")


def _hint(value: Knob) -> str | None:
    return value.upper() if isinstance(value, str) and value.upper() in _HINTS else None


def _count(value: Knob) -> str | None:
    return str(value) if type(value) is int and value >= 1 else None


def _switch(value: Knob) -> str | None:
    return {True: "YES", False: "NO"}[value] if isinstance(value, bool) else None


# engine_options -> OpenVINO's property, its value as text (None: not one), and what is needed, in words
KNOBS: Mapping[str, tuple[str, Callable[[Knob], str | None], str]] = {
    "performance_hint": ("PERFORMANCE_HINT", _hint, "'LATENCY' or 'THROUGHPUT'"),
    "num_threads": ("INFERENCE_NUM_THREADS", _count, "a whole number from 1 on"),
    "num_streams": ("NUM_STREAMS", _count, "a whole number from 1 on"),
    "num_requests": ("PERFORMANCE_HINT_NUM_REQUESTS", _count, "a whole number from 1 on"),
    "enable_cpu_pinning": ("ENABLE_CPU_PINNING", _switch, "True or False"),
    "enable_hyper_threading": ("ENABLE_HYPER_THREADING", _switch, "True or False"),
}
_PROPERTIES = frozenset(name for name, _, _ in KNOBS.values())


def properties(settings: CompilationSettings) -> dict[str, str]:
    """What engine_options and num_threads ask for, as OpenVINO's properties. Raises InputError for an unknown name or value."""
    found = {} if settings.num_threads is None else {KNOBS["num_threads"][0]: str(settings.num_threads)}
    for name, value in settings.engine_options:
        if name not in KNOBS:
            close = difflib.get_close_matches(name, KNOBS, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise InputError(
                f"engine_options holds {name!r}, which the 'openvino' engine doesn't know.{hint} It knows {', '.join(KNOBS)}."
            )
        key, check, needed = KNOBS[name]
        text = check(value)
        if text is None:
            raise InputError(f"engine_options={{{name!r}: {value!r}}}: {needed} is needed by the 'openvino' engine.")
        found[key] = text
    return found


def properties_from(record: Json) -> dict[str, str]:
    """Those in a file. Raises FileFormatError for any that `properties` doesn't give: some write files."""
    known = record if isinstance(record, dict) else {"": record}
    for name, value in known.items():
        if name not in _PROPERTIES or not isinstance(value, str):
            raise FileFormatError(
                f"An OpenVINO engine asks for {name!r:.60}={value!r:.60}, which is none of its options."
            )
    return {name: str(value) for name, value in known.items()}


def variants(dtypes: Sequence[torch.dtype], most: int | None = None) -> dict[str, dict[str, object]]:
    """Ways to compile; `dtypes` are those that OpenVINO may compute in, the usual one first; `most`: threads."""
    threads = most or torch.get_num_threads()
    ways: dict[str, dict[str, object]] = {
        "latency": {},
        "throughput": {"engine_options": {"performance_hint": "THROUGHPUT"}},
    }
    for count in sorted({1, threads // 2} - {0, threads}, reverse=True):
        ways[f"{count} thread{'s' * (count > 1)}"] = {"engine_options": {"num_threads": count}}
    for dtype in dtypes[1:]:
        ways[f"computing in {str(dtype).removeprefix('torch.')}"] = {"enabled_precisions": frozenset({dtype})}
    return ways
