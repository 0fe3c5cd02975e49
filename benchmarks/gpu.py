"""One run on a GPU, side by side: eager PyTorch, its CUDA graph, torch.compile, max-autotune, AOTInductor, and this package.

    python benchmarks/gpu.py                          # every row, on all GPUs of this machine
    python benchmarks/gpu.py --rows ResNet BERT       # rows whose name holds one of these
    python benchmarks/gpu.py --device cpu --tiny      # tries the program out

A row is a process of its own on one GPU. Several rows of one GPU build at the same time; whatever is timed (also the choices of
max-autotune) holds the GPU alone. All contenders of a row get the same module in the same precision and the same inputs, and are
called in turns; figures are medians. `latency`: milliseconds from the call to the end of its work. `gpu`: milliseconds per call
when calls follow each other without waiting. Errors are relative to the network in float32, ||y - ref|| / ||ref||.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from gpu_models import CASES, Case
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

RESULTS = Path(__file__).parent / "results"
FLOAT8 = "float8"


@contextmanager
def alone(lock: Path) -> Iterator[None]:
    """Nobody else of this run uses the GPU meanwhile."""
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


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


def prepared(case: Case, device: str, tiny: bool, dtype: torch.dtype) -> tuple[nn.Module, tuple[Tensor, ...]]:
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


def work_of(model: nn.Module, inputs: tuple[Tensor, ...], result: object) -> dict[str, float]:
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
        self.synchronize = _synchronizer(self.device)
        self.dtype = torch.float32 if self.device == "cpu" else torch.float16
        self.model, self.inputs = prepared(self.case, self.device, arguments.tiny, self.dtype)
        exact, given = prepared(self.case, self.device, arguments.tiny, torch.float32)
        with torch.no_grad():
            self.reference = first_tensor(exact(*given)).detach().float().cpu()
        del exact
        self.failed: dict[str, str] = {}
        self.facts: dict[str, dict[str, float | None]] = {}
        self.built: dict[str, object] = {}

    def contenders(self) -> dict[str, Callable[[nn.Module, tuple[Tensor, ...]], object]]:
        """Name -> what builds it."""
        import gpu_contenders as known

        wanted = known.ON_CPU if self.device == "cpu" else tuple(known.PEERS)
        found: dict[str, Callable[..., object]] = {name: known.PEERS[name] for name in wanted}
        found["ours"] = lambda model, inputs: known.ours(model, inputs, **json.loads(self.arguments.options))
        if self.case.float8 and self.device == "cuda":
            found[f"ours {FLOAT8}"] = lambda model, inputs: known.ours(
                model,
                inputs,
                enabled_precisions={torch.float16, torch.float8_e4m3fn},
                **json.loads(self.arguments.options),
            )
        return {name: make for name, make in found.items() if not self.arguments.only or name in self.arguments.only}

    def build(self, name: str, make: Callable[[nn.Module, tuple[Tensor, ...]], object]) -> None:
        """Builds a contender and compares its first result. One that fails is shown as failed."""
        before = torch.cuda.mem_get_info()[0] if self.device == "cuda" else 0
        try:
            start = time.perf_counter()
            with torch.no_grad():
                made = make(self.model, self.inputs)
                result = first_tensor(made.call()).detach().float().cpu()  # type: ignore[attr-defined]
            seconds = time.perf_counter() - start
        except Exception as error:  # whatever a peer raises is its result
            self.failed[name] = f"{type(error).__name__}: {error}"[:300]
            print(f"  {self.name}: {name} FAILED {self.failed[name]}", flush=True)
            return
        self.built[name] = made
        used = (before - torch.cuda.mem_get_info()[0]) / 1e6 if self.device == "cuda" else None
        error_ = float((result - self.reference).norm() / self.reference.norm())
        self.facts[name] = {"build": seconds, "load": made.load_seconds, "error": error_, "memory_mb": used}  # type: ignore[attr-defined]
        print(f"  {self.name}: {name} built in {seconds:.0f} s, error {error_:.1e}", flush=True)

    def run(self) -> dict[str, object]:
        """The row."""
        for name, make in self.contenders().items():
            if name == "max-autotune" or "graph" in name:
                with alone(self.lock):
                    self.build(name, make)
            else:
                self.build(name, make)
        calls = {name: made.call for name, made in self.built.items()}  # type: ignore[attr-defined]
        with alone(self.lock), torch.no_grad():
            counted = work_of(self.model, self.inputs, self.model(*self.inputs))
            measured = card(self.device, self.arguments.tiny)
            times = latencies(calls, self.synchronize, self.arguments.seconds)
        return self._row(times, counted, measured)

    def _row(
        self, times: Mapping[str, Mapping[str, float]], counted: Mapping[str, float], measured: Mapping[str, float]
    ) -> dict[str, object]:
        peers = {name: time["latency"] for name, time in times.items() if not name.startswith("ours")}
        best = min(peers, key=peers.__getitem__) if peers else None
        least = 1e3 * max(
            counted["gflop"] / measured["matmul_tflops"] / 1e3, counted["mbyte"] / measured["copy_gb_per_s"] / 1e3
        )
        row: dict[str, object] = {
            "model": self.name, "precision": str(self.dtype).partition(".")[2], "batch": self.case.batch,
            **{name: time["latency"] for name, time in times.items()},
            "best_peer": best,
            "ratio_to_best_peer": peers[best] / times["ours"]["latency"] if best and "ours" in times else None,
            "throughput_per_s": 1e3 * self.case.batch / times["ours"]["gpu"] if "ours" in times else None,
            "roofline_ms": least,
            "roofline_fraction": least / times["ours"]["gpu"] if "ours" in times else None,
            "tflops": counted["gflop"] / times["ours"]["gpu"] if "ours" in times else None,
            "gpu_ms": {name: time["gpu"] for name, time in times.items()},
            "facts": self.facts, "failed": self.failed, "card": dict(measured), "work": dict(counted),
        }  # fmt: skip
        return row


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="*", default=[""], help="rows whose name holds one of these")
    parser.add_argument("--only", nargs="*", default=[], help="these contenders")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--tiny", action="store_true", help="small networks, to try it out")
    parser.add_argument("--seconds", type=float, default=6.0, help="of timing per row")
    parser.add_argument("--options", default="{}", help="compile options of ours, as JSON")
    parser.add_argument("--jobs", type=int, default=3, help="rows that build at the same time on one GPU")
    parser.add_argument(
        "--limit", type=float, default=900.0, help="seconds after which rows that aren't done are given up"
    )
    parser.add_argument("--out", default=str(RESULTS), help="folder of the results")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--lock", default="/tmp/torch_tensorrt_benchmark.lock", help=argparse.SUPPRESS)
    return parser.parse_args()


def run_all(arguments: argparse.Namespace) -> list[dict[str, object]]:
    """Every chosen row in a process of its own; long ones first."""
    names = [name for name in CASES if any(part in name for part in arguments.rows)]
    gpus = list(range(torch.cuda.device_count())) if arguments.device == "cuda" else [0]
    waiting, running, rows = (
        list(names),
        dict[str, tuple[int, subprocess.Popen[bytes], Path]](),
        list[dict[str, object]](),
    )
    out, start = Path(arguments.out), time.perf_counter()
    out.mkdir(parents=True, exist_ok=True)
    while waiting or running:
        for gpu in gpus:
            while waiting and sum(at == gpu for at, _, _ in running.values()) < arguments.jobs:
                name = waiting.pop(0)
                running[name] = (gpu, *_start(name, gpu, arguments, out))
                break
        time.sleep(0.2)
        late = time.perf_counter() - start > arguments.limit
        for name, (_, process, path) in list(running.items()):
            if late:
                process.kill()
            if process.poll() is not None:
                del running[name]
                rows.append(
                    json.loads(path.read_text()) if path.exists() else {"model": name, "failed": {"row": "no result"}}
                )
                path.unlink(missing_ok=True)
                write(arguments, sorted(rows, key=lambda row: names.index(str(row["model"]))))
        if late:
            waiting.clear()
    return rows


def _start(name: str, gpu: int, arguments: argparse.Namespace, out: Path) -> tuple[subprocess.Popen[bytes], Path]:
    path = out / f"row-{''.join(c if c.isalnum() else '_' for c in name)}.json"
    path.unlink(missing_ok=True)
    command = [
        sys.executable,
        __file__,
        "--one",
        name,
        "--lock",
        f"/tmp/torch_tensorrt_benchmark_{gpu}.lock",
        "--out",
        str(path),
    ]
    command += ["--device", arguments.device, "--seconds", str(arguments.seconds), "--options", arguments.options]
    command += ["--tiny"] * arguments.tiny + (["--only", *arguments.only] if arguments.only else [])
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": str(gpu)}
    return subprocess.Popen(command, env=environment), path


def write(arguments: argparse.Namespace, rows: list[dict[str, object]]) -> None:
    """gpu-<card>.json and .md."""
    name = torch.cuda.get_device_name().split()[-1].lower() if arguments.device == "cuda" else "trial-cpu"
    commit = (
        os.environ.get("COMMIT")
        or subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
        ).stdout.strip()
    )
    record = {"card": name, "torch": torch.__version__, "commit": commit, "rows": rows}
    folder = Path(arguments.out)
    (folder / f"gpu-{name}.json").write_text(json.dumps(record, indent=1) + "\n")
    (folder / f"gpu-{name}.md").write_text(table(record))


def table(record: Mapping[str, object]) -> str:
    """The rows in Markdown: milliseconds of one call, and the ratio to the best peer."""
    rows = record["rows"]
    assert isinstance(rows, list)
    names = list(dict.fromkeys(name for row in rows for name in row.get("gpu_ms", {})))
    head = ["model", *names, "best peer / ours", "of the roofline", "error", "build s (max-autotune)", "load s"]
    lines = [f"# {record['card']}, PyTorch {record['torch']}, commit {record['commit']}", ""]
    lines += ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    lines += ["| " + " | ".join(_cells(row, names)) + " |" for row in rows]
    ratios = [row["ratio_to_best_peer"] for row in rows if row.get("ratio_to_best_peer")]
    if ratios:
        lines += [
            "",
            f"Geometric mean of best peer / ours over {len(ratios)} rows: {statistics.geometric_mean(ratios):.2f}.",
        ]
    lines += [
        "",
        *(f"- {row['model']}: {name} failed: {why}" for row in rows for name, why in row.get("failed", {}).items()),
    ]
    return "\n".join(lines) + "\n"


def _cells(row: Mapping[str, object], names: list[str]) -> list[str]:
    facts, failed = row.get("facts") or {}, row.get("failed") or {}
    assert isinstance(facts, dict)
    assert isinstance(failed, dict)
    mine = facts.get("ours", {})
    return [
        str(row["model"]),
        *("failed" if name in failed else _number(row.get(name)) for name in names),
        _number(row.get("ratio_to_best_peer")),
        _number(row.get("roofline_fraction")),
        f"{mine['error']:.0e}" if mine else "-",
        f"{_number(mine.get('build'))} ({_number(facts.get('max-autotune', {}).get('build'))})",
        _number(mine.get("load")),
    ]


def _number(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, (int, float)) else "-"


def main() -> None:
    """One row when told which, else all."""
    arguments = _arguments()
    if arguments.one:
        Path(arguments.out).write_text(json.dumps(RowRun(arguments.one, arguments).run()))
        return
    rows = run_all(arguments)
    print(
        (Path(arguments.out) / f"gpu-{'trial-cpu' if arguments.device == 'cpu' else rows and _card()}.md").read_text()
    )


def _card() -> str:
    return torch.cuda.get_device_name().split()[-1].lower()


if __name__ == "__main__":
    main()
