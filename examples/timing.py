"""Latencies of several callables, measured in turns, so that a slow moment of the machine hits them all."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping


def median_milliseconds(calls: Mapping[str, Callable[[], object]], seconds: float = 6.0) -> dict[str, float]:
    """The median time of each call in milliseconds, over the rounds that fit into `seconds` (5 to 300 of them)."""
    for call in calls.values():
        call()
        call()
    times: dict[str, list[float]] = {name: [] for name in calls}
    start = time.perf_counter()
    for rounds in range(300):
        if rounds >= 5 and time.perf_counter() - start > seconds:
            break
        for name, call in calls.items():
            before = time.perf_counter()
            call()
            times[name].append(1e3 * (time.perf_counter() - before))
    return {name: statistics.median(values) for name, values in times.items()}
