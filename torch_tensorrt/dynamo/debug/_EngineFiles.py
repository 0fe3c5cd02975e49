"""What the Debugger writes about engines: their layers when they come into being, and what these took when they were run."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from torch import Tensor

from torch_tensorrt.contracts.abilities import DescribesLayers, LayerTime, TimesLayers
from torch_tensorrt.contracts.engine import Engine
from torch_tensorrt.observe.log import logger
from torch_tensorrt.package.sealing import replacing
from torch_tensorrt.runtime.native import in_python
from torch_tensorrt.spec.errors import BuildError, EngineNotRunnable, UnsupportedError
from torch_tensorrt.spec.tensor_spec import Json

LAYERS, PROFILES = "engine_layer_information", "engine_profiles"  # folders
RUNS_DRAWN = 100  # of one engine in a trace; the others count in the means only
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]")
_log = logger("debugger")


class _Profile:
    """The runs of one engine."""

    def __init__(self, name: str, engine: Engine) -> None:
        self.name = name
        self.engine = in_python(engine)
        self.watched = engine  # kept, so that no later engine gets its id
        self.runs: list[tuple[float, Sequence[LayerTime]]] = []  # seconds since the block began; layers
        self.whole = not isinstance(self.engine, TimesLayers)  # its layers can't be timed


class EngineFiles:
    """Watches engines, and writes into `folder`. Names of files are made of the engines' names and differ from each other.

    profiles: "perfetto", "trex", or None for none. layers: whether layers are described.
    """

    def __init__(self, folder: Path, *, profiles: str | None, layers: bool) -> None:
        self._folder, self._form, self._layers = folder, profiles, layers
        self._begin = time.perf_counter()
        self._profiles: dict[int, _Profile] = {}
        self._names: dict[str, int] = {}
        self._lock = threading.RLock()

    def made(self, engine: Engine) -> None:
        """Writes the layers of `engine`; a warning where they can't be told."""
        if not self._layers:
            return
        try:
            known = in_python(engine)
            if not isinstance(known, DescribesLayers):
                raise UnsupportedError(f"engines of the {engine.spec.backend!r} backend don't tell them")
            text = known.layer_information()
        except (EngineNotRunnable, UnsupportedError) as error:
            _log.warning("The layers of engine %r are not written: %s", engine.spec.name, error)
            return
        with self._lock:
            self._write(LAYERS, f"{self._name('layers', engine)}.json", text)

    def run(self, engine: Engine, inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        """The outputs of `engine`, which is timed; a warning where its layers can't be, and only the whole is."""
        if self._form is None:
            return engine.run(inputs)
        with self._lock:
            profile = self._profiles.get(id(engine))
            if profile is None:
                profile = self._profiles[id(engine)] = _Profile(self._name("profiles", engine), engine)
        outputs, start, layers = self._run_timed(profile, inputs)
        with self._lock:
            profile.runs.append((start - self._begin, layers))
        return outputs

    def _run_timed(
        self, profile: _Profile, inputs: Sequence[Tensor]
    ) -> tuple[Sequence[Tensor], float, Sequence[LayerTime]]:
        if not profile.whole and isinstance(profile.engine, TimesLayers):
            try:
                outputs, layers = profile.engine.run_timed(inputs)
                return outputs, time.perf_counter() - sum(layer.milliseconds for layer in layers) / 1000, layers
            except (EngineNotRunnable, BuildError) as error:
                profile.whole = True
                _log.warning("The layers of engine %r can't be timed, the whole is: %s", profile.name, error)
        start = time.perf_counter()
        outputs = profile.watched.run(inputs)
        spec = profile.engine.spec
        return outputs, start, [LayerTime(spec.name, spec.backend, (time.perf_counter() - start) * 1000)]

    def close(self) -> None:
        """Writes the profiles of all engines that were run."""
        for profile in self._profiles.values():
            content = _trace(profile) if self._form == "perfetto" else _summary(profile)
            self._write(PROFILES, f"{profile.name}.{self._form}.json", json.dumps(content, indent=1))

    def _name(self, kind: str, engine: Engine) -> str:
        """Safe as a file's name, whatever the engine's is."""
        name = _UNSAFE.sub("_", engine.spec.name)[:100] or "engine"
        count = self._names[f"{kind} {name}"] = self._names.get(f"{kind} {name}", 0) + 1
        return name if count == 1 else f"{name}.{count}"

    def _write(self, folder: str, name: str, text: str) -> None:
        place = self._folder / folder
        place.mkdir(parents=True, exist_ok=True)
        with replacing(place / name) as file:
            file.write(text.encode())


def _trace(profile: _Profile) -> Json:
    """Trace events as chrome://tracing and Perfetto read them, in microseconds: a bar per run, and below it its layers."""
    spec = profile.engine.spec
    events: list[Json] = [
        {"name": "process_name", "ph": "M", "pid": 1, "args": {"name": f"{spec.name} ({spec.backend}, {spec.target})"}},
        {"name": "thread_name", "ph": "M", "pid": 1, "tid": 1, "args": {"name": "layers"}},
    ]
    end = 0.0
    for number, (seconds, layers) in enumerate(profile.runs[:RUNS_DRAWN]):
        at = start = max(seconds * 1e6, end)  # runs of several threads are drawn one after the other
        end = start + sum(layer.milliseconds for layer in layers) * 1000
        events.append(_event(f"run {number}", spec.backend, start, end - start))
        for layer in layers:  # engines tell how long, not when
            events.append(_event(layer.name, layer.kind, at, layer.milliseconds * 1000))
            at += layer.milliseconds * 1000
    return {"displayTimeUnit": "ms", "traceEvents": events}


def _event(name: str, kind: str, start: float, length: float) -> Json:
    return {"name": name, "cat": kind, "ph": "X", "pid": 1, "tid": 1, "ts": round(start, 3), "dur": round(length, 3)}


def _summary(profile: _Profile) -> Json:
    """How often the engine ran, then each layer's milliseconds: the form in which TensorRT's tools exchange profiles."""
    times: dict[tuple[str, str], list[float]] = {}
    for _, layers in profile.runs:
        for layer in layers:
            times.setdefault((layer.name, layer.kind), []).append(layer.milliseconds)
    total = sum(map(sum, times.values())) or 1.0
    found: list[Json] = [{"count": len(profile.runs)}]
    for (name, kind), taken in times.items():
        record: Mapping[str, Json] = {
            "name": name,
            "kind": kind,
            "timeMs": sum(taken),
            "averageMs": sum(taken) / len(profile.runs),
            "medianMs": median(taken),
            "percentage": 100 * sum(taken) / total,
        }
        found.append(dict(record))
    return found
