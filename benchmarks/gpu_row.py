"""One row of benchmarks/gpu.py: its contenders are built, checked against float32, and timed in turns."""

from __future__ import annotations

import argparse
import fcntl
import json
import random
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from inspect import isclass
from pathlib import Path
from typing import TypeAlias

import gpu_contenders as known
import torch
import torch._inductor.runtime.benchmarking as benchmarking
from gpu_models import CASES, Case
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

FLOAT8 = "float8"
WRONG = 3e-2  # relative errors of float16 beyond this are no rounding
Inputs: TypeAlias = "tuple[Tensor, ...]"
Make: TypeAlias = "Callable[[nn.Module, Inputs], known.Built]"


_mine = threading.local()  # whether this thread holds the lock


@contextmanager
def using(lock: Path, *, alone: bool) -> Iterator[None]:
    """While one times contenders `alone`, nobody else of this run times anything on the GPU.

    Who waits to be alone is let in before others that needn't be.
    """
    if getattr(_mine, "held", False):
        yield
        return
    kind = fcntl.LOCK_EX if alone else fcntl.LOCK_SH
    with lock.open("w") as held:
        with lock.with_suffix(".gate").open("w") as gate:
            fcntl.flock(gate, kind)
            fcntl.flock(held, kind)
        _mine.held = True
        try:
            yield
        finally:
            _mine.held = False


def let_others_time(lock: Path) -> None:
    """Makes Inductor wait with timing a kernel while contenders are timed.

    Its rows don't wait for each other: with the timing comes compiling, minutes in all, and the GPU is idle most of them.
    """
    for kind in [
        each for each in vars(benchmarking).values() if isclass(each) and issubclass(each, benchmarking.Benchmarker)
    ]:
        for name in ("benchmark_gpu", "benchmark_gpu_with_cuda_graph"):
            if name in vars(kind):
                setattr(kind, name, _locked(vars(kind)[name], lock))


def _locked(method: Callable[..., object], lock: Path) -> Callable[..., object]:
    @wraps(method)
    def timed(*arguments: object, **named: object) -> object:
        with using(lock, alone=False):
            return method(*arguments, **named)

    return timed


def seconds_of(work: Callable[[], object], synchronize: Callable[[], None]) -> float:
    """How long it takes, to the end of its work on the GPU."""
    synchronize()
    start = time.perf_counter()
    work()
    synchronize()
    return time.perf_counter() - start


def card(device: str, tiny: bool) -> dict[str, float]:
    """TFLOP/s of a large float16 product of random matrices, and GB/s (read and written) of a large copy."""
    size, elements = (512, 1 << 20) if tiny else (8192, 1 << 31)
    dtype = torch.float32 if device == "cpu" else torch.float16
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    source = torch.empty(elements, device=device, dtype=torch.uint8)
    target, synchronize = torch.empty_like(source), _synchronizer(device)

    def several(work: Callable[[], object]) -> float:
        return min(seconds_of(lambda: [work() for _ in range(10)], synchronize) / 10 for _ in range(4))

    return {
        "matmul_tflops": 2 * size**3 / several(lambda: a @ b) / 1e12,
        "copy_gb_per_s": 2 * elements / several(lambda: target.copy_(source)) / 1e9,
    }


def _synchronizer(device: str) -> Callable[[], None]:
    return torch.cuda.synchronize if device == "cuda" else lambda: None


def first_tensor(result: object) -> Tensor:
    """The result, or the first of several."""
    return result[0] if isinstance(result, (tuple, list)) else result  # type: ignore[return-value]


def prepared(case: Case, device: str, tiny: bool, dtype: torch.dtype) -> tuple[nn.Module, Inputs]:
    """The network and its inputs on the device: the same numbers whatever the precision, rounded to what half floats hold."""
    torch.manual_seed(0)
    model, inputs = case.make(tiny).eval(), case.sample(tiny)
    if device == "cuda":
        model, inputs = model.half(), tuple(x.half() if x.is_floating_point() else x for x in inputs)
    model = model.to(device=device, dtype=dtype)
    inputs = tuple(x.to(device=device, dtype=dtype if x.is_floating_point() else None) for x in inputs)
    if case.images:
        model = model.to(memory_format=torch.channels_last)
        inputs = tuple(x.to(memory_format=torch.channels_last) if x.dim() == 4 else x for x in inputs)
    return model.requires_grad_(False), inputs


def _attention_flops(query: torch.Size, key: torch.Size, *_: object, out_shape: object = None, **__: object) -> int:
    """Two products per query, head and key; PyTorch's own count fails where keys have fewer heads."""
    batch, heads, queries, width = query
    return 4 * batch * heads * queries * key[-2] * width


_ATTENTION = {
    getattr(torch.ops.aten, f"_scaled_dot_product_{kind}_attention"): _attention_flops
    for kind in ("flash", "efficient", "cudnn")
}


def work_of(model: nn.Module, inputs: Inputs, result: object) -> dict[str, float]:
    """FLOPs of one call as PyTorch counts them, and the bytes that it can't avoid: weights, inputs and results once each."""
    with FlopCounterMode(display=False, custom_mapping=_ATTENTION) as counter, torch.no_grad():
        model(*inputs)
    results = result if isinstance(result, (tuple, list)) else (result,)
    tensors = {
        t.data_ptr(): t for t in (*model.parameters(), *model.buffers(), *inputs, *results) if isinstance(t, Tensor)
    }
    return {"gflop": counter.get_total_flops() / 1e9, "mbyte": sum(t.nbytes for t in tensors.values()) / 1e6}


def latencies(
    calls: Mapping[str, Callable[[], object]], synchronize: Callable[[], None], seconds: float
) -> dict[str, dict[str, float]]:
    """Median milliseconds per call: of one that is waited for, and of those that follow each other."""
    once: dict[str, list[float]] = {name: [] for name in calls}
    burst: dict[str, list[float]] = {name: [] for name in calls}
    order, start = list(calls.items()), time.perf_counter()
    while min(map(len, burst.values())) < 7 or time.perf_counter() - start < seconds:
        random.shuffle(order)
        for name, call in order:
            call()
            took = [seconds_of(call, synchronize) for _ in range(5)]
            once[name].append(statistics.median(took))
            many = max(3, min(50, int(0.05 / took[-1])))

            def several(call: Callable[[], object] = call, many: int = many) -> None:
                for _ in range(many):
                    call()

            burst[name].append(seconds_of(several, synchronize) / many)
        if min(map(len, burst.values())) >= 40:
            break
    return {
        name: {"latency": 1e3 * statistics.median(once[name]), "gpu": 1e3 * statistics.median(burst[name])}
        for name in calls
    }


class RowRun:
    """One row: its contenders are built, checked, and timed in turns."""

    def __init__(self, name: str, arguments: argparse.Namespace) -> None:
        self.name, self.arguments, self.case = name, arguments, CASES[name]
        self.device, self.lock = arguments.device, Path(arguments.lock)
        let_others_time(self.lock)
        self.synchronize = _synchronizer(self.device)
        self.dtype = torch.float32 if self.device == "cpu" else torch.float16
        self.model, self.inputs = prepared(self.case, self.device, arguments.tiny, self.dtype)
        exact, given = prepared(self.case, self.device, arguments.tiny, torch.float32)
        with torch.no_grad():
            self.reference = first_tensor(exact(*given)).detach().float().cpu()
        del exact
        self.failed: dict[str, str] = {}
        self.building = Path(
            arguments.building
        )  # holds the name of what is being built: it tells what ended the process
        self.skipped = arguments.skip
        self.facts: dict[str, dict[str, float | None]] = {}
        self.built: dict[str, known.Built] = {}

    def contenders(self) -> dict[str, Make]:
        """Name -> what builds it; those that take minutes last."""
        wanted = known.ON_CPU if self.device == "cpu" else tuple(known.PEERS)
        found: dict[str, Make] = {name: known.PEERS[name] for name in wanted}
        found["ours"] = lambda model, inputs: known.ours(model, inputs, **json.loads(self.arguments.options))
        if self.case.float8 and self.device == "cuda":
            found[f"ours {FLOAT8}"] = lambda model, inputs: known.ours(
                model,
                inputs,
                enabled_precisions={torch.float16, torch.float8_e4m3fn},
                **json.loads(self.arguments.options),
            )
            found[f"ours {FLOAT8}, from data"] = lambda model, inputs: known.ours_calibrated(
                model, inputs, self._data(), **json.loads(self.arguments.options)
            )
        found.update(known.SLOW if self.device == "cuda" else {})
        return {name: make for name, make in found.items() if not self.arguments.only or name in self.arguments.only}

    def _data(self) -> list[Inputs]:
        """Inputs to find scales with: others than those that are timed and compared."""
        torch.manual_seed(1)
        drawn = [self.case.sample(self.arguments.tiny) for _ in range(2)]
        return [
            tuple(x.to(self.device, self.dtype if x.is_floating_point() else None) for x in inputs) for inputs in drawn
        ]

    def build(self, name: str, make: Make) -> None:
        """Builds a contender and compares its first result. One that fails is shown as failed."""
        if name in self.skipped:
            self.failed[name] = "ended the process"
            return
        self.building.write_text(name)
        before = self._memory()
        try:
            start = time.perf_counter()
            with torch.no_grad():
                made = make(self.model, self.inputs)
                result = first_tensor(made.call()).detach().float().cpu()
            seconds = time.perf_counter() - start
        except Exception as error:  # whatever a peer raises is its result
            self.failed[name] = f"{type(error).__name__}: {error}"[:300]
            print(f"  {self.name}: {name} FAILED {self.failed[name]}", flush=True)
            return
        finally:
            self.building.unlink(missing_ok=True)
        self.built[name] = made
        peak = torch.cuda.max_memory_allocated() - before if self.device == "cuda" else 0
        error_ = float((result - self.reference).norm() / self.reference.norm())
        self.facts[name] = {"build": seconds, "load": made.load_seconds, "error": error_, "peak_mb": peak / 1e6 or None}
        print(f"  {self.name}: {name} built in {seconds:.0f} s, error {error_:.1e}", flush=True)

    def _memory(self) -> int:
        """Bytes that PyTorch's allocator has given out in this process; from here on it notes the most."""
        if self.device == "cpu":
            return 0
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()

    def run(self) -> Iterator[dict[str, object]]:
        """The row without what takes minutes, in case that doesn't end, then the row."""
        waiting = self.contenders()
        slow = {name: waiting.pop(name) for name in list(waiting) if name in known.SLOW}
        self._build_all(waiting)
        if slow:
            self.failed.update(dict.fromkeys(slow, "not ready when the run ended"))
            yield self._timed()
            for name in slow:
                del self.failed[name]
            self._build_all(slow)
        yield self._timed()

    def _build_all(self, makers: Mapping[str, Make]) -> None:
        for name, make in makers.items():
            self.build(name, make)

    def _timed(self) -> dict[str, object]:
        calls = {name: made.call for name, made in self.built.items()}
        with using(self.lock, alone=True), torch.no_grad():
            counted = work_of(self.model, self.inputs, self.model(*self.inputs))
            measured = card(self.device, self.arguments.tiny)
            times = latencies(calls, self.synchronize, self.arguments.seconds)
        return self._row(times, counted, measured)

    def _wrong(self) -> dict[str, str]:
        """Contenders whose answers are wrong in float16, and how far: they are timed, and don't count."""
        errors = {name: float(facts["error"] or 0) for name, facts in self.facts.items() if FLOAT8 not in name}
        limit = max(WRONG, 3 * errors.get("eager", 0))
        return {name: f"wrong: its error is {error:.1e}" for name, error in errors.items() if not error <= limit}

    def _row(
        self, times: Mapping[str, Mapping[str, float]], counted: Mapping[str, float], measured: Mapping[str, float]
    ) -> dict[str, object]:
        wrong = self._wrong()
        peers = {
            name: time["latency"] for name, time in times.items() if not name.startswith("ours") and name not in wrong
        }
        best = min(peers, key=peers.__getitem__) if peers else None
        least = 1e3 * max(
            counted["gflop"] / measured["matmul_tflops"] / 1e3, counted["mbyte"] / measured["copy_gb_per_s"] / 1e3
        )
        row: dict[str, object] = {
            "model": self.name, "precision": str(self.dtype).partition(".")[2], "batch": self.case.batch,
            **{name: time["latency"] for name, time in times.items()},
            "best_peer": best,
            "ratio_to_best_peer": peers[best] / times["ours"]["latency"] if best and "ours" in times and "ours" not in wrong else None,
            "throughput_per_s": 1e3 * self.case.batch / times["ours"]["gpu"] if "ours" in times else None,
            "roofline_ms": least,
            "roofline_fraction": least / times["ours"]["gpu"] if "ours" in times else None,
            "tflops": counted["gflop"] / times["ours"]["gpu"] if "ours" in times else None,
            "gpu_ms": {name: time["gpu"] for name, time in times.items()},
            "facts": self.facts, "failed": {**self.failed, **wrong}, "card": dict(measured), "work": dict(counted),
        }  # fmt: skip
        return row
