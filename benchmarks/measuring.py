"""Times calls in turns, so that a slow moment of the machine hits them all, and writes what was measured to results/."""

from __future__ import annotations

import json
import os
import platform
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TypeAlias

RESULTS = Path(__file__).parent / "results"
_TURN = 3_000_000  # nanoseconds
Row: TypeAlias = "dict[str, str | int | float | None]"


def medians(
    calls: Mapping[str, Callable[[], object]], rounds: int, seconds: float, rest: Callable[[], object] | None = None
) -> dict[str, float]:
    """The median seconds of each call over at most `rounds` rounds, fewer (at least 5) when `seconds` are over.

    The order changes from round to round. Each is called twice in its turn and the second call counts: the first still pays for
    what ran before it (caches). rest: called before each turn, which then begins with one call more, and short calls go on for
    3 milliseconds, of which the median counts: single ones of a few microseconds vary by half of that.
    """
    for call in calls.values():
        for _ in range(3):
            call()
    times: dict[str, list[float]] = {name: [] for name in calls}
    order, shuffle = list(calls.items()), random.Random(0).shuffle
    start = time.perf_counter()
    for done in range(rounds):
        if done >= 5 and time.perf_counter() - start > seconds:
            break
        shuffle(order)
        for name, call in order:
            if rest is not None:
                rest()
                call()
            call()
            times[name].append(_turn(call, 0 if rest is None else _TURN))
    return {name: statistics.median(values) / 1e9 for name, values in times.items()}


def _turn(call: Callable[[], object], least: int) -> float:
    """The median nanoseconds of calls that go on until `least` have passed, of one at least."""
    taken: list[int] = []
    start = before = time.perf_counter_ns()
    while not taken or before - start < least:
        call()
        after = time.perf_counter_ns()
        taken.append(after - before)
        before = after
    return statistics.median(taken)


def processor() -> str:
    """The CPU's name as the system gives it."""
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def write_results(name: str, title: str, rows: Sequence[Row]) -> str:
    """Writes results/<name>.json (`rows` and the machine) and results/<name>.md; gives the Markdown."""
    versions = {package: version(package) for package in ("torch", "openvino", "transformers")}
    cores, load = len(os.sched_getaffinity(0)), os.getloadavg()[0]
    record = {"cpu": processor(), "cores": cores, "load": load, "versions": versions, "rows": list(rows)}
    columns = list(dict.fromkeys(column for row in rows for column in row))
    told = ", ".join(f"{package} {number}" for package, number in versions.items())
    lines = [f"# {title}", "", f"{record['cpu']}, {cores} cores, load {load:.1f} at the end; {told}.", ""]
    lines += ["| " + " | ".join(columns) + " |", "| " + " | ".join("---" for _ in columns) + " |"]
    lines += ["| " + " | ".join(_shown(row.get(column)) for column in columns) + " |" for row in rows]
    text = "\n".join(lines) + "\n"
    RESULTS.mkdir(exist_ok=True)
    _replace(RESULTS / f"{name}.json", json.dumps(record, indent=2) + "\n")
    _replace(RESULTS / f"{name}.md", text)
    return text


def _shown(value: str | int | float | None) -> str:
    if value is None:
        return "-"
    return (
        f"{value:.3g}"
        if isinstance(value, float) and abs(value) < 100
        else f"{value:.0f}"
        if isinstance(value, float)
        else str(value)
    )


def _replace(path: Path, text: str) -> None:
    new = path.with_suffix(f"{path.suffix}.new")
    new.write_text(text)
    os.replace(new, path)
