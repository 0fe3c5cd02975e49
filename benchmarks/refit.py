"""How long new weights take: `refit_module_weights` against a fresh compilation of the same program, which must give equal results.

Both start from an ExportedProgram. `fresh` is a compilation with immutable_weights=False, `immutable` one with the default;
`loaded` refits what was saved and loaded, where nothing is left in memory of the first compilation. Each step is
done in turns with the others, and the medians count.
"""

from __future__ import annotations

import argparse
import gc
import io
import statistics
import sys
import time
from collections.abc import Callable

import torch
from against_openvino import CASES
from measuring import Row, write_results
from torch.export import ExportedProgram

import torch_tensorrt
from torch_tensorrt.dynamo import refit_module_weights

LIMIT = 0.5  # of a fresh compilation
MODELS = ("mlp", "resnet50", "bert_base")


def exported(name: str, seed: int, tiny: bool) -> ExportedProgram:
    """The model called `name` with random weights."""
    torch.manual_seed(seed)
    case = CASES[name]
    return torch.export.export(case.make(tiny).eval(), case.sample(tiny), strict=False)


def seconds_of(step: Callable[[], object]) -> tuple[float, object]:
    """How long `step` takes, and what it gives; what the step before left in reference cycles is freed first."""
    gc.collect()
    start = time.perf_counter()
    result = step()
    return time.perf_counter() - start, result


def measure(name: str, engine: str, rounds: int, tiny: bool) -> Row:
    """One model: the medians in seconds."""
    old, new = (exported(name, seed, tiny) for seed in (0, 1))
    options = {"engine": engine, "min_block_size": 1}
    compiled = torch_tensorrt.dynamo.compile(old, immutable_weights=False, **options)
    file = io.BytesIO()
    torch_tensorrt.save(compiled, file, retrace=False)
    loaded = torch_tensorrt.load(io.BytesIO(file.getvalue()))
    steps: dict[str, Callable[[], object]] = {
        "immutable": lambda: torch_tensorrt.dynamo.compile(new, **options),
        "fresh": lambda: torch_tensorrt.dynamo.compile(new, immutable_weights=False, **options),
        "refit": lambda: refit_module_weights(compiled, new),
        "loaded": lambda: refit_module_weights(loaded, new),
    }
    times: dict[str, list[float]] = {step: [] for step in steps}
    inputs = CASES[name].sample(tiny)
    for _ in range(rounds):
        results = []
        for step, run in steps.items():
            seconds, module = seconds_of(run)
            times[step].append(seconds)
            results.append(module(*inputs))  # type: ignore[operator]
            del module
        assert all(torch.equal(result, results[1]) for result in results[1:]), (
            f"{name}: a refit is not a fresh compilation"
        )
    row: Row = {"model": name, "engine": engine}
    row.update({f"{step} s": statistics.median(taken) for step, taken in times.items()})
    return {**row, "refit / fresh": statistics.median(times["refit"]) / statistics.median(times["fresh"])}


def main() -> int:
    """The exit code is 1 when a refit with OpenVINO takes more than half of a fresh compilation."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=MODELS, choices=sorted(CASES))
    parser.add_argument("--engine", default="openvino")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--tiny", action="store_true", help="small models, to try this file out; writes no results")
    chosen = parser.parse_args()
    rows = [measure(name, chosen.engine, chosen.rounds, chosen.tiny) for name in chosen.models]
    if chosen.tiny:
        print(rows)
        return 0
    print(write_results("refit", "Seconds for new weights (medians)", rows))
    return 0 if all(float(row["refit / fresh"] or 0.0) < LIMIT for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
