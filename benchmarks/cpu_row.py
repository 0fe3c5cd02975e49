"""One row of benchmarks/cpu.py, in a process of its own: every contender is built and checked, then all are called in turns.

After each contender the state is written to a file, so that a crash costs the contender that crashed and not the row.
"""

from __future__ import annotations

import gc
import importlib
import json
import logging
import os
import resource
import signal
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import torch
from cpu_contenders import EAGER, MEASURED, Built, Job, contenders, openvino_direct, ours
from cpu_models import Case
from measuring import medians
from torch import Tensor

from torch_tensorrt.tuning.measuring import rest

WRONG = {"float32": 1e-3, "bfloat16": 1e-1, "int8": 1.0}  # relative errors above these are no answers
IMPORTED_FIRST = ("openvino", "onnxruntime", "onnxscript", "nncf", "torch._inductor.compile_fx", "torch.onnx")


class TookTooLong(BaseException):
    """A contender's time is over. No Exception: what it interrupts must not take it for a failure of its own."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raises TookTooLong after so many seconds, as soon as Python runs again."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise TookTooLong

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def memory_mb(kind: str) -> float | None:
    """Of this process in MB: "VmRSS" what it holds, "VmHWM" the most since `restart_peak`; None where Linux doesn't tell."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(f"{kind}:"):
                return int(line.split()[1]) * 1024 / 1e6
    return None


def restart_peak() -> None:
    """The peak counts from here."""
    gc.collect()
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def first_tensor(result: object) -> Tensor:
    """The result, or the first of several, as a float32 tensor of its own."""
    while not hasattr(result, "dtype"):
        result = result[0]  # type: ignore[index]
    return torch.as_tensor(result).detach().float().clone()


def relative_error(result: Tensor, reference: Tensor) -> float:
    """||result - reference|| / ||reference||; infinite where the sizes differ."""
    if result.shape != reference.shape:
        return float("inf")
    return float((result - reference).double().norm() / reference.double().norm())


@dataclass(frozen=True)
class Limits:
    """Seconds: of building one contender, of timing a row, of measuring for optimization_level=5."""

    build: float
    timing: float
    tuning: float


class RowRun:
    """One row. given_up: contender -> why it isn't tried again."""

    def __init__(self, case: Case, tiny: bool, limits: Limits, given_up: Mapping[str, str]) -> None:
        self.case, self.limits = case, limits
        self.folder = tempfile.TemporaryDirectory(prefix="torch_tensorrt_benchmark_")
        self.job = Job(case, tiny, Path(self.folder.name), limits.tuning)
        self.failed: dict[str, str] = dict(given_up)
        self.facts: dict[str, dict[str, float | None]] = {}
        self.built: dict[str, Built] = {}
        with torch.no_grad():
            self.references = [
                first_tensor(self.job.exact(*inputs))
                for inputs in (self.job.inputs(exact=True), self.job.others(exact=True))
            ]

    def build(self, name: str, make: Callable[[Job], Built]) -> None:
        """Builds a contender and compares its answers. One that fails is shown as failed."""
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(self.job.folder / "".join(c for c in name if c.isalnum()))
        restart_peak()
        before, start = memory_mb("VmRSS"), time.perf_counter()
        try:
            with time_limit(self.limits.build):
                made = make(self.job)
                answer = first_tensor(made.call())
                seconds = time.perf_counter() - start - made.apart
                errors = [relative_error(answer, self.references[0])]
                errors += [relative_error(first_tensor(made.other()), self.references[1])] * self.case.dynamic
        except TookTooLong:
            self.failed[name] = f"not built after {self.limits.build:.0f} s"
        except Exception as error:  # whatever a contender raises is its result
            self.failed[name] = f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
        else:
            peak = memory_mb("VmHWM")
            more = peak - before if peak is not None and before is not None else None
            self.facts[name] = {"build": seconds, "load": made.load_seconds, "error": max(errors), "peak_mb": more}
            if all(error <= self._allowed(name) for error in errors):
                self.built[name] = made
            else:  # not a number is wrong too, and no JSON
                self.failed[name] = f"wrong: relative errors {errors}"
                self.facts[name]["error"] = None
        print(f"  {self.case.name}: {name}: {self.failed.get(name, 'built')}", flush=True)

    def _allowed(self, name: str) -> float:
        """PyTorch's own error in the row's precision, and half as much more, counts as right for all."""
        known = self.facts.get(EAGER, {}).get("error")
        return float("inf") if name == EAGER else max(WRONG[self.case.precision], 1.5 * (known or 0.0))

    def run(self, report: Callable[[Mapping[str, object]], None], only: list[str]) -> dict[str, object]:
        """The row. `report` is given what is known after each step."""
        start, load = time.perf_counter(), os.getloadavg()[0]
        wanted = {name: make for name, make in contenders(self.case).items() if not only or name in only}
        for name, make in wanted.items():
            if name not in self.failed:
                report({"building": name, "failed": self.failed})
                with torch.no_grad():
                    self.build(name, make)
        report({"failed": self.failed})
        _stop_compilers()
        gc.collect()
        calls = {name: made.call for name, made in self.built.items()}
        with torch.no_grad():
            times = medians(calls, 2000, self.limits.timing, rest) if calls else {}
        return {
            "row": self.case.name, "model": self.case.model, "precision": self.case.precision, "batch": self.case.batch,
            "dynamic": self.case.dynamic, "grows": self.case.grows, "size": self.case.size,
            "milliseconds": {name: 1e3 * times[name] for name in wanted if name in times},
            "facts": self.facts, "failed": self.failed, "chosen": self.built[MEASURED].chosen if MEASURED in self.built else None,
            "seconds": time.perf_counter() - start, "cpu_seconds": _cpu_seconds(), "load": [load, os.getloadavg()[0]],
        }  # fmt: skip


def _cpu_seconds() -> float:
    """Of this process and of those that it waited for: what an idle machine would have needed, times its cores at most."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def _stop_compilers() -> None:
    """Inductor's processes that wait for work."""
    from torch._inductor.async_compile import shutdown_compile_workers

    shutdown_compile_workers()


def _build_something() -> None:
    """What the first build of a process pays for (imports, caches of PyTorch and OpenVINO) counts for none of the contenders."""
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        job = Job(Case("MLP"), True, Path(folder))
        for make in (openvino_direct, ours):
            make(job)


def run_row(case: Case, tiny: bool, limits: Limits, given_up: Mapping[str, str], only: list[str], out: Path) -> None:
    """What the child process does: the state in `out` is replaced after each step; with "row" in it, it is the row."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    for name in IMPORTED_FIRST:
        with suppress(ImportError):
            importlib.import_module(name)
    _build_something()

    def report(state: Mapping[str, object]) -> None:
        new = out.with_suffix(".new")
        new.write_text(json.dumps(state))
        os.replace(new, out)

    report(RowRun(case, tiny, limits, given_up).run(report, only))
