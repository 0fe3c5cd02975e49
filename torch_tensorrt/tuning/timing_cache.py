"""The file that keeps what was measured, so that the next build of the same builds only the winner.

JSON: {"format": 1, "entries": {key: {"winner": label, "seconds": null or number, "trials": [[...], ...]}}}. "seconds" is the time
that was allowed where it did not suffice for all candidates. A file that can't be read is warned about and written anew.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import platform
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

from torch_tensorrt.caching.key import GraphDescription, UndescribableError, own_version
from torch_tensorrt.contracts.partition import Partition, Trial
from torch_tensorrt.observe.log import logger, warn_once
from torch_tensorrt.spec.json_text import not_deep
from torch_tensorrt.spec.settings import CompilationSettings
from torch_tensorrt.spec.tensor_spec import Json
from torch_tensorrt.tuning.candidates import Candidate

# Ledger: 1, 2026-11: first.
FORMAT = 1
_LARGEST = 2000  # entries; the oldest leave first
_log = logger("tuning")


@dataclass(frozen=True)
class Measured:
    """What came of measuring. seconds: the bound, where it left candidates out."""

    winner: str
    trials: tuple[Trial, ...]
    seconds: float | None = None

    def to_json(self) -> Json:
        """As the file has it."""
        return {
            "winner": self.winner,
            "seconds": self.seconds,
            "trials": [list(dataclasses.astuple(trial)) for trial in self.trials],
        }

    @classmethod
    def from_json(cls, record: Json) -> Measured:
        """The inverse of `to_json`. Raises ValueError for anything else."""
        if not isinstance(record, dict) or not isinstance(record.get("winner"), str):
            raise ValueError(f"{record!r:.80} is no entry")
        rows, seconds = record.get("trials"), record.get("seconds")
        if not isinstance(rows, list) or not isinstance(seconds, (int, float, type(None))):
            raise ValueError(f"{record!r:.80} is no entry")
        return cls(str(record["winner"]), tuple(map(_trial, rows)), seconds)


def _trial(row: Json) -> Trial:
    if not isinstance(row, list) or len(row) != 6:
        raise ValueError(f"{row!r:.80} is not what came of a candidate")
    place, label, seconds, milliseconds, error, note = row
    if not (isinstance(place, str) and isinstance(label, str) and isinstance(note, str)):
        raise ValueError(f"{row!r:.80} is not what came of a candidate")
    return Trial(place, label, _number(seconds), _number(milliseconds), _number(error), note)


def _number(value: Json) -> float | None:
    if value is not None and not isinstance(value, (int, float)):
        raise ValueError(f"{value!r:.80} is no number")
    return value


class TimingCache:
    """The file at `path`, read each time that something is looked up: other processes write it too."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def find(self, key: str, seconds: float) -> Measured | None:
        """What is known for `key`, unless more time is allowed now than sufficed then."""
        record = self._entries().get(key)
        if record is None:
            return None
        try:
            found = Measured.from_json(record)
        except ValueError as error:
            _log.warning(
                "The timing cache %s has an entry that can't be used, and is measured anew: %s", self.path, error
            )
            return None
        return found if found.seconds is None or found.seconds >= seconds else None

    def keep(self, key: str, measured: Measured) -> None:
        """Adds an entry; a folder that can't be written to is warned about once."""
        entries = self._entries()
        entries.pop(key, None)
        entries[key] = measured.to_json()
        for old in list(entries)[: max(0, len(entries) - _LARGEST)]:
            del entries[old]
        text = json.dumps({"format": FORMAT, "entries": entries}, indent=1, allow_nan=True)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}.")
            try:
                with os.fdopen(handle, "w") as file:
                    file.write(text)
                os.replace(temporary, self.path)
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(temporary)
        except OSError as error:
            self._refused(error)

    def prepare(self) -> None:
        """Warns before anything is measured where the folder can't be made or written to."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.path.parent):
                return
        except OSError as error:
            self._refused(error)

    def _refused(self, error: OSError) -> None:
        told = f"The timing cache {self.path} can't be written: {error}. What is measured is measured again next time."
        warn_once(f"timing cache {self.path}", told)

    def _entries(self) -> dict[str, Json]:
        try:
            record = json.loads(not_deep(self.path.read_text()))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, RecursionError) as error:
            return self._nothing(f"can't be read ({error})")
        entries = record.get("entries") if isinstance(record, dict) and record.get("format") == FORMAT else None
        if not isinstance(entries, dict):
            return self._nothing(f"is not of format {FORMAT}")
        return entries

    def _nothing(self, why: str) -> dict[str, Json]:
        warn_once(f"timing cache {self.path} {why}", f"The timing cache {self.path} {why} and is written anew.")
        return {}


def cache_path(settings: CompilationSettings) -> Path:
    """timing_cache_path, with .json at its end since an SDK may keep a file of its own there; else in the user's cache folder."""
    if settings.timing_cache_path is not None:
        given = Path(settings.timing_cache_path)
        return given if given.suffix == ".json" else given.with_name(given.name + ".json")
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "torch_tensorrt" / "timing_cache.json"


def partition_key(partition: Partition, candidates: Sequence[Candidate], device: torch.device) -> str | None:
    """What a measurement depends on: the graph with its weights and sizes, the candidates with their SDKs, and this machine.

    None when something in the graph can't be described.
    """
    graph = GraphDescription(partition.module, names=False)
    try:
        boundary = [graph.boundary(spec) for spec in (*partition.inputs, *partition.outputs)]
        described: dict[str, Json] = {"boundary": boundary, **graph.record()}
    except UndescribableError as reason:
        _log.info("%s: what is measured isn't kept: %s", partition.name, reason)
        return None
    return _hash({"graph": described, "candidates": _described(candidates, partition), "machine": machine(device)})


def whole_key(program: str, candidates: Sequence[Candidate], whole: Partition, device: torch.device) -> str:
    """The same for a whole program, of which `program` is the description's hash."""
    return _hash({"program": program, "candidates": _described(candidates, whole), "machine": machine(device)})


def _described(candidates: Sequence[Candidate], partition: Partition) -> list[Json]:
    return [
        [
            candidate.label,
            candidate.backend.format_version,
            dict(candidate.backend.fingerprint(partition, candidate.settings) or {}),
            dict(candidate.settings.shaping_options()),
        ]
        for candidate in candidates
    ]


@cache
def _processor() -> str:
    path = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*:\s*(.*)$", path.read_text(), re.MULTILINE) if path.exists() else None
    return found[1] if found else platform.processor() or platform.machine()


def machine(device: torch.device) -> dict[str, Json]:
    """What runs here: the processor, its threads, the GPU, and the versions of PyTorch and of this package."""
    record: dict[str, Json] = {
        "cpu": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "torch_tensorrt": own_version(),
    }
    if device.type == "cuda":
        record["gpu"] = f"{torch.cuda.get_device_name(device)} {torch.cuda.get_device_capability(device)}"
    return record


def _hash(record: Mapping[str, Json]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
