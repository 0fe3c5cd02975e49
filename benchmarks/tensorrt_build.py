"""What defining and building a TensorRT-RTX engine takes on this CPU: seconds of each stage, and memory at its peak.

`trace`: torch.export. `lower`: everything of ours up to the partition. `convert`: defining the network. `build`: the SDK's own builder.
Memory is the highest resident set above what the process had with the model loaded (the SDK imported), as a multiple of the weights:
`ours` until the builder starts, `all` over everything. One process per model.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from against_openvino import CASES
from measuring import Row, write_results

import torch_tensorrt
from torch_tensorrt import compiler
from torch_tensorrt.engines.tensorrt import backend as building
from torch_tensorrt.engines.tensorrt import sdk

MOST_SECONDS, MOST_MEMORY = 15.0, 2.5  # of ours: lowering and conversion
MODELS = ("resnet50", "bert_base")


def resident() -> int:
    """Bytes that this process holds in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


class Peak:
    """The highest resident set while it is watched."""

    def __init__(self) -> None:
        self.bytes = resident()
        self._stop = threading.Event()

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Looks every few milliseconds."""
        thread = threading.Thread(target=self._watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.003):
            self.bytes = max(self.bytes, resident())


def work(name: str, tiny: bool) -> Row:
    """Compiles the model once, in this process."""
    torch.manual_seed(0)
    case = CASES[name]
    model, inputs = case.make(tiny).eval(), case.sample(tiny)
    weights = sum(value.untyped_storage().nbytes() for value in [*model.parameters(), *model.buffers()])
    torch_tensorrt.compile(
        torch.nn.ReLU(), inputs=[torch.ones(2)], engine="tensorrt_rtx", device="sm_89", min_block_size=1
    )
    sdk.load("tensorrt_rtx")
    before, peak, taken = resident(), Peak(), {}

    def timed(module: object, function: str, stage: str, after: Callable[[], None] = lambda: None) -> None:
        original = getattr(module, function)

        def run(*given: object, **named: object) -> object:
            start = time.perf_counter()
            try:
                return original(*given, **named)
            finally:
                taken[stage] = taken.get(stage, 0.0) + time.perf_counter() - start
                after()

        setattr(module, function, run)

    ours: list[int] = []
    timed(compiler, "trace", "trace")
    timed(building, "define", "convert", lambda: ours.append(peak.bytes))
    timed(building, "serialize", "build")
    start = time.perf_counter()
    with peak.watched():
        compiled = torch_tensorrt.compile(
            model, inputs=list(inputs), engine="tensorrt_rtx", device="sm_89", require_full_compilation=True
        )
    whole = time.perf_counter() - start
    assert compiled.plan is not None and len(compiled.plan.groups) == 1
    lower = whole - sum(taken.values())
    return {
        "model": name,
        "weights MiB": weights / 2**20,
        "trace s": taken["trace"],
        "lower s": lower,
        "convert s": taken["convert"],
        "build s": taken["build"],
        "memory of ours / weights": (max(ours) - before) / weights,
        "memory of all / weights": (peak.bytes - before) / weights,
    }


def main() -> int:
    """The exit code is 1 when lowering and converting BERT-base takes more than the limits."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", choices=sorted(CASES), help="compile this model here")
    parser.add_argument("--tiny", action="store_true", help="small models, no results and no judgement")
    chosen = parser.parse_args()
    if chosen.work:
        print(json.dumps(work(chosen.work, chosen.tiny)))
        return 0
    rows = []
    for name in MODELS:
        command = [sys.executable, "-W", "ignore", __file__, "--work", name, *(["--tiny"] if chosen.tiny else [])]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
    if chosen.tiny:
        print(rows)
        return 0
    print(write_results("tensorrt_build", "Building TensorRT-RTX engines on a CPU", rows))
    bert = rows[-1]
    seconds = float(bert["lower s"]) + float(bert["convert s"])
    memory = float(bert["memory of ours / weights"])
    print(
        f"BERT-base: ours takes {seconds:.1f} s (limit {MOST_SECONDS:.0f}) and {memory:.2f} x the weights (limit {MOST_MEMORY})"
    )
    return 0 if seconds < MOST_SECONDS and memory < MOST_MEMORY else 1


if __name__ == "__main__":
    sys.exit(main())
