"""Seconds that compiling takes with and without the engine cache, each figure from a process of its own where it says so.

`no cache`: the first compilation of a process. `cold`: the same with an empty cache that keeps the engines. `warm`: the second
compilation of that process. `warm, new process`: the first of a process that finds the engines. `tracing` is the part of `warm` that
torch.export takes; what is left is describing the program, hashing the weights, reading and importing the engines.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping

import torch
from measuring import Row, write_results
from torch import nn

import torch_tensorrt
from torch_tensorrt import compiler

LIMIT = 0.25  # of the cold compilation


def resnet() -> tuple[nn.Module, torch.Tensor]:
    """ResNet-50 with random weights."""
    from transformers import ResNetConfig, ResNetForImageClassification

    return ResNetForImageClassification(ResNetConfig(return_dict=False)), torch.randn(1, 3, 224, 224)


def mlp() -> tuple[nn.Module, torch.Tensor]:
    """Three layers."""
    layers = (nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10))
    return nn.Sequential(*layers), torch.randn(1, 64)


MODELS: Mapping[str, Callable[[], tuple[nn.Module, torch.Tensor]]] = {"ResNet-50": resnet, "3-layer MLP": mlp}


def work(name: str, folder: str, times: int) -> None:
    """Compiles so often in this process, and prints [whole, tracing] seconds of each time. No folder: no cache."""
    torch.manual_seed(0)
    model, x = MODELS[name]()
    options = {"cache_built_engines": True, "reuse_cached_engines": True, "engine_cache_dir": folder} if folder else {}
    spent: list[float] = []
    trace = compiler.trace

    def timed(*given: object, **named: object) -> object:
        start = time.perf_counter()
        try:
            return trace(*given, **named)  # type: ignore[arg-type]
        finally:
            spent.append(time.perf_counter() - start)

    compiler.trace = timed  # type: ignore[assignment]
    measured = []
    for _ in range(times):
        spent.clear()
        start = time.perf_counter()
        torch_tensorrt.compile(model.eval(), inputs=[x], **options)  # type: ignore[arg-type]
        measured.append([time.perf_counter() - start, sum(spent)])
    print(json.dumps(measured))


def measure(name: str) -> Row:
    """One model."""
    with tempfile.TemporaryDirectory() as folder:
        (plain,) = _in_process(name, "", 1)
        cold, warm = _in_process(name, folder, 2)
        (later,) = _in_process(name, folder, 1)
    return {
        "model": name,
        "no cache": plain[0],
        "cold": cold[0],
        "warm": warm[0],
        "tracing": warm[1],
        "warm / cold": warm[0] / cold[0],
        "warm, new process": later[0],
        "new process / cold": later[0] / cold[0],
    }


def _in_process(name: str, folder: str, times: int) -> list[list[float]]:
    command = [sys.executable, "-W", "ignore", __file__, "--work", name, "--folder", folder, "--times", str(times)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> int:
    """The exit code is 1 when the warm compilation of ResNet-50 takes more than the limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", choices=MODELS, help="compile this model here and print the seconds")
    parser.add_argument("--folder", default="", help="of the cache, with --work")
    parser.add_argument("--times", type=int, default=1, help="how often to compile, with --work")
    parser.add_argument("--dry", action="store_true", help="write no results and judge nothing")
    chosen = parser.parse_args()
    if chosen.work:
        work(chosen.work, chosen.folder, chosen.times)
        return 0
    rows = [measure(name) for name in MODELS]
    if chosen.dry:
        print(rows)
        return 0
    print(write_results("engine_cache", "Seconds to compile", rows))
    share = float(rows[0]["warm / cold"] or 0.0)
    print(f"the second compilation of ResNet-50 takes {share:.0%} of the first (limit {LIMIT:.0%})")
    return 0 if share < LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
