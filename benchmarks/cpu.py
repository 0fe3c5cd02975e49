"""One run on a CPU, side by side: eager PyTorch, torch.compile, AOTInductor, OpenVINO, ONNX Runtime, and this package.

    python benchmarks/cpu.py                                  # every row: hours
    python benchmarks/cpu.py --resume                         # goes on where the file of results ends
    python benchmarks/cpu.py --resume --rows "x1 float32"     # rows whose name holds one of these
    python benchmarks/cpu.py --quick --rows MLP               # small networks, into a temporary folder: tries the program out
    python benchmarks/cpu.py --list                           # names of rows and contenders

A row is a network in a precision at a batch size, in a process of its own. First every contender is built and its answer compared
with the network in float32; then all are called in turns, and the median counts. Sizes of "dynamic" rows vary, for every contender.
What was measured is written after each row to results/cpu-<name>.json, .md and .svg. Run nothing else meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeAlias

import torch
from cpu_contenders import CONTENDERS, contenders
from cpu_models import CASES
from cpu_report import Row, judged, markdown, plots
from cpu_row import Limits, run_row
from measuring import RESULTS, processor

PACKAGES = ("torch", "openvino", "onnxruntime", "transformers", "torchao", "nncf")
ATTEMPTS = 3
# (row, contender -> why it is given up) -> the state that the child left, and how it ended ("" for well)
Child: TypeAlias = Callable[[str, Mapping[str, str]], "tuple[dict[str, Any], str]"]


def measured(row: str, child: Child) -> Row:
    """The row. A contender during which the process died is given up, and the row is tried again without it."""
    given_up: dict[str, str] = {}
    for _ in range(ATTEMPTS):
        state, ended = child(row, given_up)
        if "row" in state:
            return judged(state)
        culprit = state.get("building")
        given_up = {**given_up, **state.get("failed", {})}
        if culprit is None:
            break
        given_up[culprit] = f"the process {ended} while it was built"
    return judged({"row": row, **_said(row), "failed": {**given_up, "row": ended}})


def _said(row: str) -> Row:
    case = CASES[row]
    return {
        "model": case.model, "precision": case.precision, "batch": case.batch, "dynamic": case.dynamic, "grows": case.grows,
        "size": case.size,
    }  # fmt: skip


def still_to_do(names: Sequence[str], rows: Sequence[Row], *, resume: bool, again: bool) -> list[str]:
    """The chosen rows, less those that were measured."""
    done = {row["row"] for row in rows if "row" not in row.get("failed", {})}
    return [name for name in names if again or not resume or name not in done]


def merged(rows: Sequence[Row], new: Row, order: Sequence[str]) -> list[Row]:
    """The rows with `new` in place of an older one of its name, in the order of the list of rows."""
    kept = {row["row"]: row for row in (*rows, new)}
    place = {name: at for at, name in enumerate(order)}
    return sorted(kept.values(), key=lambda row: place.get(row["row"], len(place)))


def in_a_process(arguments: argparse.Namespace, folder: Path) -> Child:
    """Runs this file for one row, with a limit on its time."""

    def child(row: str, given_up: Mapping[str, str]) -> tuple[dict[str, Any], str]:
        out = folder / "row.json"
        out.unlink(missing_ok=True)
        command = [sys.executable, __file__, "--one", row, "--out", str(out), "--given-up", json.dumps(given_up)]
        command += [f"--{name}={getattr(arguments, name)}" for name in ("seconds", "build", "tuning")]
        command += ["--quick"] * arguments.quick + (["--only", *arguments.only] if arguments.only else [])
        environment = {**os.environ, "XDG_CACHE_HOME": str(folder), "TOKENIZERS_PARALLELISM": "false"}
        process = subprocess.Popen(command, env=environment, start_new_session=True)
        try:
            code = process.wait(arguments.limit)
            ended = "" if code == 0 else f"died with {signal.Signals(-code).name if code < 0 else f'exit code {code}'}"
        except subprocess.TimeoutExpired:
            ended = f"was ended after {arguments.limit:.0f} s"
        finally:
            _end(process)
        return (json.loads(out.read_text()) if out.exists() else {}), ended or "ended without a row"

    return child


def _end(process: subprocess.Popen[bytes]) -> None:
    """The row's process and the compilers that it started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)  # it leads a group of its own
    except ProcessLookupError:
        return
    process.wait()


def machine() -> dict[str, Any]:
    """What the results depend on."""
    cores, versions = len(os.sched_getaffinity(0)), {package: _version(package) for package in PACKAGES}
    return {"cpu": processor(), "cores": cores, "threads": torch.get_num_threads(), "versions": versions}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"


def commit() -> str:
    """Of the code that runs, with "+" where files were changed since."""
    told = os.environ.get("COMMIT")
    if told:
        return told
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty=+", "--exclude=*"]
    return subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()


def write(folder: Path, name: str, record: Mapping[str, Any]) -> None:
    """cpu-<name>.json, .md, and an .svg per plot; each is replaced whole."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = {f"cpu-{name}.json": json.dumps(record, indent=1) + "\n", f"cpu-{name}.md": markdown(record)}
    texts |= {f"cpu-{name}-{slug(model)}.svg": svg for model, svg in plots(record["rows"]).items()}
    for file, text in texts.items():
        new = folder / f"{file}.new"
        new.write_text(text)
        os.replace(new, folder / file)


def slug(text: str) -> str:
    """A piece of a file's name."""
    return re.sub("[^a-z0-9]+", "-", text.lower().replace("'", "")).strip("-")


def run_all(arguments: argparse.Namespace, names: Sequence[str], order: Sequence[str], child: Child) -> list[Row]:
    """Measures what is still to do, and writes after each row."""
    folder = Path(arguments.out)
    path = folder / f"cpu-{arguments.name}.json"
    kept = arguments.resume or arguments.again
    rows: list[Row] = json.loads(path.read_text())["rows"] if kept and path.exists() else []
    waiting = still_to_do(names, rows, resume=kept, again=arguments.again)
    for at, row in enumerate(waiting):
        print(f"{at + 1} of {len(waiting)}: {row}", flush=True)
        found = {**measured(row, child), "commit": commit()}
        rows = merged(rows, found, order)
        write(folder, arguments.name, {"name": arguments.name, **machine(), "rows": rows})
        print(f"  {found.get('seconds', 0):.0f} s, best peer / ours {found['ratio_to_best_peer']}", flush=True)
    return rows


def _arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="*", default=[""], help="rows whose name holds one of these")
    parser.add_argument("--exactly", nargs="*", default=[], help="rows with these names")
    parser.add_argument("--skip", nargs="*", default=[], help="but no rows whose name holds one of these")
    parser.add_argument("--only", nargs="*", default=[], help="these contenders")
    parser.add_argument("--resume", action="store_true", help="keep the rows of the file; measure only what it lacks")
    parser.add_argument("--again", action="store_true", help="keep the file's other rows; measure the chosen ones anew")
    parser.add_argument("--quick", action="store_true", help="small networks: shows that it runs, measures nothing")
    parser.add_argument("--list", action="store_true", help="only say what there is")
    parser.add_argument("--seconds", type=float, default=20.0, help="of timing a row (at least 5 rounds are made)")
    parser.add_argument("--build", type=float, default=600.0, help="seconds after which a contender isn't waited for")
    parser.add_argument("--tuning", type=float, default=300.0, help="max_tuning_seconds of level 5")
    parser.add_argument("--limit", type=float, default=2400.0, help="seconds after which a row is ended")
    parser.add_argument("--name", help="of the files of results; the machine's by default")
    parser.add_argument("--out", help="folder of the results")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--given-up", default="{}", help=argparse.SUPPRESS)
    arguments = parser.parse_args(given)
    for flag, known in (("exactly", CASES), ("only", CONTENDERS)):
        unknown = sorted({*getattr(arguments, flag)} - {*known})
        if unknown:
            parser.error(f"--{flag}: there is no {unknown}; --list says what there is")
    quick = arguments.quick
    arguments.out = arguments.out or (str(Path(tempfile.gettempdir()) / "cpu-benchmark") if quick else str(RESULTS))
    arguments.name = arguments.name or (
        "trial" if quick else slug(f"{processor()} {len(os.sched_getaffinity(0))} cores")
    )
    if quick:
        arguments.seconds, arguments.tuning = min(arguments.seconds, 1.0), min(arguments.tuning, 30.0)
    return arguments


def _one(arguments: argparse.Namespace) -> None:
    limits = Limits(arguments.build, arguments.seconds, arguments.tuning)
    given_up = json.loads(arguments.given_up)
    run_row(CASES[arguments.one], arguments.quick, limits, given_up, arguments.only, Path(arguments.out))


def main() -> None:
    """One row when told which, else all that are chosen."""
    arguments = _arguments()
    if arguments.one:
        return _one(arguments)
    chosen = arguments.exactly or [name for name in CASES if any(part in name for part in arguments.rows)]
    names = [name for name in chosen if not any(part in name for part in arguments.skip)]
    if arguments.list:
        print("\n".join(f"{name}: {', '.join(contenders(CASES[name]))}" for name in names))
        return None
    with tempfile.TemporaryDirectory(prefix="torch_tensorrt_benchmark_") as folder:
        run_all(arguments, names, list(CASES), in_a_process(arguments, Path(folder)))
    print((Path(arguments.out) / f"cpu-{arguments.name}.md").read_text())
    return None


if __name__ == "__main__":
    main()
