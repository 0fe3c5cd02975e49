"""Rows of benchmarks/cpu.py again as pairs: the row's best peer and ours as level 5 chose, with nothing else in the process.

    python benchmarks/cpu_pairs.py                               # every row of the file of results that is under its target
    python benchmarks/cpu_pairs.py --resume                      # those that the file of pairs lacks
    python benchmarks/cpu_pairs.py --exactly "MLP x1 float32"    # these rows
    python benchmarks/cpu_pairs.py --quick --exactly "MLP x1 float32"   # small networks, into a temporary folder

In the process of a row of cpu.py live up to eight contenders, with their memory and their threads, and each is built once. Here both
are built three times, who comes first changing, and called in turns after each time: the median of the three ratios counts, the
least and the most say how exact it is. Where both are OpenVINO, its own counters tell which kernels ran and what they took.
Results: results/cpu-<name>-pairs.json and .md. Run nothing else meanwhile.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from cpu import commit, machine, merged, slug
from cpu_contenders import CONTENDERS, OPENVINO, Built, Call, Job, compiled, openvino_model, openvino_options
from cpu_models import CASES
from cpu_report import MEASURED, TARGET, Row
from cpu_row import IMPORTED_FIRST
from kernels import Kernels, kernels_of_openvino, kernels_of_ours
from measuring import RESULTS, medians, processor

from torch_tensorrt import engines
from torch_tensorrt.spec.settings import CompilationSettings
from torch_tensorrt.tuning.measuring import rest

PEER, OURS = "peer", "ours"
TIMES = 3
SHOWN = 3  # kinds of kernels whose times differ most


def as_chosen(label: str) -> dict[str, object]:
    """The options of torch_tensorrt.compile that build what level 5 called `label`, "engine: way"."""
    engine, way = label.split(": ")
    changes = engines.backend(engine).variants(CompilationSettings(), torch.device("cpu"))[way]
    return {"engine": engine, **changes}


def build_ours(job: Job, label: str) -> Call:
    """Ours, ready to be called."""
    inputs, module = job.inputs(), compiled(job, **as_chosen(label))
    return lambda: module(*inputs)


def build_peer(job: Job, name: str) -> Call:
    """The peer, ready to be called."""
    made: Built = CONTENDERS[name](job)
    return made.call


def pair(job: Job, peer: str, label: str, seconds: float) -> list[dict[str, float]]:
    """Milliseconds of both, of each time that they were built."""
    makers = {PEER: lambda: build_peer(job, peer), OURS: lambda: build_ours(job, label)}
    found = []
    for time_ in range(TIMES):
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(job.folder / f"inductor{time_}")
        torch._dynamo.reset()
        names = [PEER, OURS] if time_ % 2 else [OURS, PEER]
        calls = {name: makers[name]() for name in names}
        found.append({name: 1e3 * taken for name, taken in medians(calls, 2000, seconds, rest).items()})
        del calls
        gc.collect()
    return found


def counted(job: Job, peer: str, label: str) -> dict[str, Kernels] | None:
    """The kernels of both, where both are OpenVINO."""
    if peer != OPENVINO or not label.startswith("openvino"):
        return None
    arrays = [x.numpy() for x in job.inputs(exact=True)]
    theirs = kernels_of_openvino(openvino_model(job), openvino_options(job.case), arrays)
    return {PEER: theirs, OURS: kernels_of_ours(compiled(job, **as_chosen(label)), job.inputs())}


def run_one(row: Row, tiny: bool, seconds: float, out: Path) -> None:
    """What the child process does."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    for name in IMPORTED_FIRST:
        with suppress(ImportError):
            importlib.import_module(name)
    start, load = time.perf_counter(), os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="torch_tensorrt_benchmark_") as folder, torch.no_grad():
        job = Job(CASES[row["row"]], tiny, Path(folder))
        peer, label = row["best_peer"], row["chosen"]
        found = {"pairs": pair(job, peer, label, seconds), "kernels": counted(job, peer, label)}
    ends = {"seconds": time.perf_counter() - start, "load": [load, os.getloadavg()[0]]}
    out.write_text(json.dumps({**found, **ends}))


def judged(row: Row, found: Mapping[str, Any]) -> dict[str, Any]:
    """The pair's row, with peer / ours: the median, the least and the most."""
    ratios = [pair[PEER] / pair[OURS] for pair in found.get("pairs", [])]
    medians = {name: statistics.median(pair[name] for pair in found["pairs"]) for name in (PEER, OURS) if ratios}
    return {
        "row": row["row"], "best_peer": row["best_peer"], "chosen": row["chosen"], "in_the_row": row["ratio_to_best_peer"],
        **medians, "ratio": statistics.median(ratios) if ratios else None, "least": min(ratios, default=None),
        "most": max(ratios, default=None), **found, "commit": commit(),
    }  # fmt: skip


def markdown(record: Mapping[str, Any]) -> str:
    """The table."""
    versions = ", ".join(f"{name} {number}" for name, number in record["versions"].items())
    lines = [
        f"# Pairs: {record['cpu']}, {record['cores']} cores, {record['threads']} threads of PyTorch",
        "",
        f"{versions}. A row's best peer and ours as level 5 chose, alone in a process; the peer's time / ours, median of {TIMES}",
        "times that both were built (least to most). Kernels: milliseconds in how many kernels, and the kinds that differ most.",
        "",
        "| row | best peer | chosen | peer / ours in the row | alone | peer ms | ours ms | kernels: peer, ours | differ most: peer, ours |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    return "\n".join([*lines, *map(_line, record["rows"])]) + "\n"


def _line(row: Mapping[str, Any]) -> str:
    first = f"| {row['row']} | {row['best_peer']} | {row['chosen']} | {row['in_the_row']:.2f} | "
    if row.get("ratio") is None:
        return f"{first}failed: {row.get('failed', '')} | | | | |"
    times = f"{row['ratio']:.2f} ({row['least']:.2f} to {row['most']:.2f}) | {row[PEER]:.3g} | {row[OURS]:.3g}"
    return f"{first}{times} | {' | '.join(_kernels(row.get('kernels')))} |"


def _kernels(kernels: Mapping[str, Kernels] | None) -> tuple[str, str]:
    if not kernels:
        return "-", "-"
    peer, ours = kernels[PEER], kernels[OURS]

    def of(found: Kernels, kind: str) -> tuple[float, float]:
        milliseconds, count = found.get(kind, (0.0, 0.0))
        return milliseconds, count

    def total(found: Kernels) -> str:
        return f"{sum(one[0] for one in found.values()):.3g} in {sum(one[1] for one in found.values()):.0f}"

    kinds = sorted({*peer, *ours}, key=lambda kind: -abs(of(peer, kind)[0] - of(ours, kind)[0]))[:SHOWN]
    told = [
        f"{kind} {of(peer, kind)[0]:.3g} in {of(peer, kind)[1]:.0f}, {of(ours, kind)[0]:.3g} in {of(ours, kind)[1]:.0f}"
        for kind in kinds
    ]
    return f"{total(peer)}, {total(ours)}", "; ".join(told)


def write(folder: Path, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """cpu-<name>-pairs.json and .md; each is replaced whole."""
    record = {"name": name, **machine(), "rows": list(rows)}
    folder.mkdir(parents=True, exist_ok=True)
    for kind, text in (("json", json.dumps(record, indent=1) + "\n"), ("md", markdown(record))):
        new = folder / f"cpu-{name}-pairs.{kind}.new"
        new.write_text(text)
        os.replace(new, new.with_suffix(""))


def in_a_process(row: Row, arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """What the child found, or why it failed."""
    out = folder / "pair.json"
    out.unlink(missing_ok=True)
    command = [
        sys.executable,
        __file__,
        "--one",
        json.dumps(row),
        "--out",
        str(out),
        "--seconds",
        str(arguments.seconds),
    ]
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder), "TOKENIZERS_PARALLELISM": "false"}
    try:
        done = subprocess.run(
            command + ["--quick"] * arguments.quick, env=environment, timeout=arguments.limit, check=False, stderr=subprocess.PIPE
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return {"failed": f"ended after {arguments.limit:.0f} s"}
    found: dict[str, Any] = json.loads(out.read_text()) if out.exists() else {}
    return found or {"failed": " ".join(done.stderr.decode(errors="replace").split())[-200:]}


def chosen_rows(rows: Sequence[Row], exactly: Sequence[str]) -> list[Row]:
    """Those asked for, or those under target."""
    known = [row for row in rows if row.get("ratio_to_best_peer") and MEASURED in row["milliseconds"]]
    if exactly:
        return [row for row in known if row["row"] in exactly]
    return [row for row in known if row["ratio_to_best_peer"] < TARGET]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exactly", nargs="*", default=[], help="rows with these names")
    parser.add_argument("--resume", action="store_true", help="measure only what the file of pairs lacks")
    parser.add_argument("--quick", action="store_true", help="small networks: shows that it runs, measures nothing")
    parser.add_argument("--seconds", type=float, default=8.0, help="of timing a pair, each time that it was built")
    parser.add_argument("--limit", type=float, default=900.0, help="seconds after which a row is ended")
    parser.add_argument(
        "--name", default=slug(f"{processor()} {len(os.sched_getaffinity(0))} cores"), help="of the files"
    )
    parser.add_argument("--out", help="folder of the results")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    trial = str(Path(tempfile.gettempdir()) / "cpu-benchmark")
    arguments.out = arguments.out or (trial if arguments.quick else str(RESULTS))
    if arguments.quick:
        arguments.seconds = min(arguments.seconds, 0.5)
    return arguments


def main() -> None:
    """One row when told which, else all that are chosen."""
    arguments = _arguments()
    if arguments.one:
        return run_one(json.loads(arguments.one), arguments.quick, arguments.seconds, Path(arguments.out))
    source = json.loads((RESULTS / f"cpu-{arguments.name}.json").read_text())
    path = Path(arguments.out) / f"cpu-{arguments.name}-pairs.json"
    rows: list[Row] = json.loads(path.read_text())["rows"] if path.exists() else []
    known = {row["row"] for row in rows if row.get("ratio")}
    for row in chosen_rows(source["rows"], arguments.exactly):
        if arguments.resume and row["row"] in known:
            continue
        told = {key: row[key] for key in ("row", "best_peer", "chosen", "ratio_to_best_peer")}
        with tempfile.TemporaryDirectory(prefix="torch_tensorrt_benchmark_") as folder:
            found = judged(told, in_a_process(told, arguments, Path(folder)))
        rows = merged(rows, found, list(CASES))
        write(Path(arguments.out), arguments.name, rows)
        print(_line(found), flush=True)
    return None


if __name__ == "__main__":
    main()
