"""torch.compile with our backend: how long the first call takes against Inductor, and a warm call against the AOT path.

Cold start: a new process and empty caches for each measurement; from the call of torch.compile to the first result. Both
backends pay for Dynamo. Warm: the same model and input through `torch.compile(backend="torch_tensorrt")` and through
`torch_tensorrt.compile`, in turns, in one process; what torch.compile itself takes for a call is measured beside them.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from measuring import Row, medians, write_results
from torch.utils import _pytree as pytree

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import torch_tensorrt  # noqa: E402
from tests.zoo.models import ROWS  # noqa: E402  (found by the line above)

COLD_LIMIT = 1.2  # times Inductor's
WARM_LIMIT = 30.0  # microseconds more than the AOT path


def prepared(name: str, size: str) -> tuple[torch.nn.Module, tuple[torch.Tensor, ...], dict[str, torch.Tensor]]:
    """A network of the zoo, and a call with one example."""
    row = next(row for row in ROWS if row.name == name)
    torch.manual_seed(0)
    args, kwargs = row.sample(1)
    return row.build(size), args, kwargs


def first_call(name: str, size: str, backend: str) -> float:
    """Seconds until the first result, in this process."""
    model, args, kwargs = prepared(name, size)
    start = time.perf_counter()
    with torch.no_grad():
        torch.compile(model, backend=backend)(*args, **kwargs)
    return time.perf_counter() - start


def cold(name: str, size: str, backend: str, rounds: int) -> float:
    """The median over new processes whose caches are empty."""
    found = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": folder, "TMPDIR": folder}
            command = [sys.executable, __file__, "--first-call", backend, "--models", name, "--size", size]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(done.stderr)
            found.append(float(json.loads(done.stdout.splitlines()[-1])))
    return statistics.median(found)


def warm(name: str, size: str, rounds: int, seconds: float) -> dict[str, float]:
    """Microseconds of a call through the AOT path, through torch.compile with our backend, and through torch.compile with a backend
    that does nothing but call the AOT path: what that adds is what torch.compile itself takes for its guards, whoever compiles.
    """
    model, args, kwargs = prepared(name, size)
    ahead = torch_tensorrt.compile(model, arg_inputs=list(args), kwarg_inputs=kwargs)

    def call_ahead(*_: object) -> Callable[..., list[object]]:
        return lambda *_: [leaf for leaf in pytree.tree_leaves(ahead(*args, **kwargs)) if leaf is not None]

    compiled = torch.compile(model, backend="torch_tensorrt")
    guarded = torch.compile(copy.deepcopy(model), backend=call_ahead)
    calls = {
        "ahead": lambda: ahead(*args, **kwargs),
        "compile": lambda: compiled(*args, **kwargs),
        "guards": lambda: guarded(*args, **kwargs),
    }
    with torch.no_grad():
        return {who: 1e6 * median for who, median in medians(calls, rounds, seconds).items()}


def measure(options: argparse.Namespace) -> Sequence[Row]:
    """A row for each model."""
    rows: list[Row] = []
    for name in options.models.split(","):
        ours, inductor = (cold(name, options.size, backend, options.cold) for backend in ("torch_tensorrt", "inductor"))
        found = warm(name, options.size, options.rounds, options.seconds)
        rows.append(
            {
                "model": f"{name} ({options.size})",
                "first call, ours (s)": ours,
                "first call, Inductor (s)": inductor,
                f"ratio (limit {COLD_LIMIT})": ours / inductor,
                "warm, AOT path (us)": found["ahead"],
                "warm, torch.compile (us)": found["compile"],
                f"difference (us, limit {WARM_LIMIT:.0f})": found["compile"] - found["ahead"],
                "of which torch.compile itself (us)": found["guards"] - found["ahead"],
            }
        )
        print(rows[-1], flush=True)
    return rows


def main() -> int:
    """Measures, prints, writes results/torch_compile.md and .json; 1 when a limit is passed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default="resnet,bert", help="rows of tests/zoo/models.py")
    parser.add_argument("--size", default="full", choices=["tiny", "full"])
    parser.add_argument("--cold", type=int, default=3, help="processes for each backend and model")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60.0, help="the most for the warm calls of a model")
    parser.add_argument("--first-call", help="measure one first call with this backend in this process, and print it")
    parser.add_argument("--no-write", action="store_true", help="print only")
    options = parser.parse_args()
    if options.first_call:
        print(json.dumps(first_call(options.models, options.size, options.first_call)))
        return 0
    rows = measure(options)
    if not options.no_write:
        print(write_results("torch_compile", "torch.compile: first call and warm call", rows))
    over = [row for row in rows if float(row[f"ratio (limit {COLD_LIMIT})"] or 0) > COLD_LIMIT]
    over += [row for row in rows if float(row[f"difference (us, limit {WARM_LIMIT:.0f})"] or 0) > WARM_LIMIT]
    return int(bool(over))


if __name__ == "__main__":
    sys.exit(main())
