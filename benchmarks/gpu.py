"""One run on a GPU, side by side: eager PyTorch, its CUDA graph, torch.compile, max-autotune, AOTInductor, and this package.

    python benchmarks/gpu.py                          # every row, on all GPUs of this machine
    python benchmarks/gpu.py --rows ResNet BERT       # rows whose name holds one of these
    python benchmarks/gpu.py --device cpu --tiny      # tries the program out

A row is a process of its own on one GPU. Several rows of one GPU build at the same time, and max-autotune times its choices
meanwhile; contenders are timed while nobody else times anything on that GPU. All contenders of a row get the same module in the
same precision and the same inputs, and are called in turns; figures are medians. `latency`: milliseconds from the call to the
end of its work. `gpu`: milliseconds per call when calls follow each other without waiting. Errors are relative to the network
in float32, ||y - ref|| / ||ref||.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

import torch
from gpu_models import CASES
from gpu_row import RowRun

RESULTS = Path(__file__).parent / "results"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="*", default=[""], help="rows whose name holds one of these")
    parser.add_argument("--only", nargs="*", default=[], help="these contenders")
    parser.add_argument("--keep", default="", help="folder in which rows are kept: a later run takes them from there")
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
    parser.add_argument("--building", default="/tmp/torch_tensorrt_benchmark.building", help=argparse.SUPPRESS)
    parser.add_argument("--skip", nargs="*", default=[], help=argparse.SUPPRESS)
    parser.add_argument("--lock", default="/tmp/torch_tensorrt_benchmark.lock", help=argparse.SUPPRESS)
    return parser.parse_args()


def run_all(arguments: argparse.Namespace) -> None:
    """Every chosen row in a process of its own, the long ones first; the results are written whenever one ends."""
    names = [name for name in CASES if any(part in name for part in arguments.rows)]
    folder = Path(arguments.keep or tempfile.mkdtemp(prefix="torch_tensorrt_rows_"))
    folder.mkdir(parents=True, exist_ok=True)
    waiting = [name for name in names if not (folder / f"{_plain(name)}.done").exists()]
    gpus = range(torch.cuda.device_count()) if arguments.device == "cuda" else [0]
    running, start = dict[str, tuple[int, subprocess.Popen[bytes]]](), time.perf_counter()
    claims: dict[str, IO[str]] = {}
    while waiting or running:
        for gpu in gpus:
            if waiting and sum(at == gpu for at, _ in running.values()) < arguments.jobs:
                name = waiting.pop(0)
                claim = _claim(folder, name)
                if claim is not None:
                    claims[name] = claim
                    running[name] = (gpu, _start(name, gpu, arguments, folder))
        time.sleep(0.2)
        late = time.perf_counter() - start > arguments.limit
        for name, (_, process) in list(running.items()):
            if late:
                process.kill()
            if process.poll() is not None or late:
                gpu, _ = running.pop(name)
                crashed = folder / f"{_plain(name)}.building"
                if not late and crashed.exists():  # what was being built ended the process: once more, without it
                    with (folder / f"{_plain(name)}.skip").open("a") as skipped:
                        skipped.write(crashed.read_text() + "\n")
                    crashed.unlink()
                    running[name] = (gpu, _start(name, gpu, arguments, folder))
                else:
                    claims.pop(name).close()
                write(arguments, [_kept(folder, name) for name in names])
        if late:
            waiting.clear()
    write(arguments, [_kept(folder, name) for name in names])


def _claim(folder: Path, name: str) -> IO[str] | None:
    """What makes the row ours to run until it is closed; None where another run that keeps its rows there has it, or has done it."""
    claim = (folder / f"{_plain(name)}.claim").open("w")
    try:
        fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)  # goes with this process, however it ends
    except BlockingIOError:
        claim.close()
        return None
    if (folder / f"{_plain(name)}.done").exists():
        claim.close()
        return None
    return claim


def _plain(name: str) -> str:
    return "".join(character if character.isalnum() else "_" for character in name)


def _kept(folder: Path, name: str) -> dict[str, object]:
    path, log = folder / f"{_plain(name)}.json", folder / f"{_plain(name)}.log"
    if path.exists():
        return dict(json.loads(path.read_text()))
    return {"model": name, "failed": {"row": log.read_text()[-300:] if log.exists() else "not begun"}}


def _start(name: str, gpu: int, arguments: argparse.Namespace, folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, __file__, "--one", name, "--lock", f"/tmp/torch_tensorrt_benchmark_{gpu}.lock"]
    command += ["--keep", str(folder), "--device", arguments.device, "--seconds", str(arguments.seconds)]
    command += ["--options", arguments.options, *(["--tiny"] * arguments.tiny)]
    command += ["--only", *arguments.only] if arguments.only else []
    skipped, building = folder / f"{_plain(name)}.skip", folder / f"{_plain(name)}.building"
    building.unlink(missing_ok=True)
    command += [
        "--building",
        str(building),
        *(["--skip", *skipped.read_text().splitlines()] if skipped.exists() else []),
    ]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": str(gpu)}
    with (folder / f"{_plain(name)}.log").open("wb") as log:  # max-autotune writes tables of every choice
        return subprocess.Popen(command, env=environment, stderr=log)


def write(arguments: argparse.Namespace, rows: list[dict[str, object]]) -> None:
    """gpu-<card>.json and .md."""
    name = _card(arguments)
    commit = (
        os.environ.get("COMMIT")
        or subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
        ).stdout.strip()
    )
    rows = [{"commit": commit, **row} for row in rows]
    record = {"card": name, "torch": torch.__version__, "rows": rows}
    folder = Path(arguments.out)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"gpu-{name}.json").write_text(json.dumps(record, indent=1) + "\n")
    (folder / f"gpu-{name}.md").write_text(table(record))


def table(record: Mapping[str, object]) -> str:
    """The rows in Markdown: milliseconds of one call, and the ratio to the best peer."""
    rows = record["rows"]
    assert isinstance(rows, list)
    names = list(dict.fromkeys(name for row in rows for name in row.get("gpu_ms", {})))
    head = [
        "model",
        *names,
        "best peer / ours",
        "of the roofline",
        "error (float8, from data)",
        "build s (max-autotune)",
        "load s",
    ]
    commits = ", ".join(dict.fromkeys(str(row["commit"]) for row in rows))
    lines = [f"# {record['card']}, PyTorch {record['torch']}, commit {commits}", ""]
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
        *(f"- {row['model']}: {name}: {why}" for row in rows for name, why in row.get("failed", {}).items()),
    ]
    return "\n".join(lines) + "\n"


def _cells(row: Mapping[str, object], names: list[str]) -> list[str]:
    facts, failed = row.get("facts") or {}, row.get("failed") or {}
    assert isinstance(facts, dict)
    assert isinstance(failed, dict)
    mine = facts.get("ours", {})
    return [
        str(row["model"]),
        *(_number(row.get(name)) + f" {_trouble(failed.get(name))}".rstrip() for name in names),
        _number(row.get("ratio_to_best_peer")),
        _number(row.get("roofline_fraction")),
        _errors(mine, [facts[name] for name in ("ours float8", "ours float8, from data") if name in facts]),
        f"{_number(mine.get('build'))} ({_number(facts.get('max-autotune', {}).get('build'))})",
        _number(mine.get("load")),
    ]


def _errors(ours: Mapping[str, float], float8: Sequence[Mapping[str, float]]) -> str:
    others = ", ".join(f"{facts['error']:.0e}" for facts in float8)
    return (f"{ours['error']:.0e}" if ours else "-") + (f" ({others})" if others else "")


def _trouble(why: object) -> str:
    return "" if why is None else "wrong" if str(why).startswith("wrong") else "failed"


def _number(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, (int, float)) else "-"


def main() -> None:
    """One row when told which, else all."""
    arguments = _arguments()
    if not arguments.one:
        run_all(arguments)
        print((Path(arguments.out) / f"gpu-{_card(arguments)}.md").read_text())
        return
    path = Path(arguments.keep) / f"{_plain(arguments.one)}.json"
    for row in RowRun(arguments.one, arguments).run():
        path.with_suffix(".new").write_text(json.dumps(row))
        path.with_suffix(".new").replace(path)
    path.with_suffix(".done").touch()


def _card(arguments: argparse.Namespace) -> str:
    return torch.cuda.get_device_name().split()[-1].lower() if arguments.device == "cuda" else "trial-cpu"


if __name__ == "__main__":
    main()
