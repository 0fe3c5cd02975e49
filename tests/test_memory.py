"""Memory of compiling and of loaded engines, in multiples of the weights: what benchmarks/memory.py measured, and a tenth more."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.append(str(BENCHMARKS))

import memory  # noqa: E402

# model -> peak of compiling over the caller's model, peak of loading and first run; both measured, in weights
MEASURED = {"bert_base": (2.12, 0.91), "vit_b16": (2.23, 1.15), "resnet50": (2.62, 1.36)}
SLACK = 1.1

linux = pytest.mark.skipif(not memory._CLEAR.exists(), reason="the peak is read from /proc")


@pytest.mark.slow
@linux
@pytest.mark.parametrize("name", MEASURED)
def test_compiling_and_loading_take_no_more_memory_than_they_did(name: str) -> None:
    row = memory.measure(name)
    compiling, loading = MEASURED[name]
    assert float(row["compile: peak / weights"]) < compiling * SLACK, row
    assert float(row["load and run: peak / weights"]) < loading * SLACK, row


@linux
def test_growth_is_that_of_the_step_alone() -> None:
    program = (
        "import memory\n"
        "kept = bytearray(200_000_000)\n"
        "def step():\n"
        "    gone = bytearray(60_000_000)\n"
        "    for at in range(0, len(gone), 4096): gone[at] = 1\n"
        "    del gone\n"
        "    made = bytearray(20_000_000)\n"
        "    for at in range(0, len(made), 4096): made[at] = 1\n"
        "    return made\n"
        "_, peak, now = memory.grown(step)\n"
        "print(peak, now)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=BENCHMARKS, stdout=subprocess.PIPE, text=True, check=True
    )
    peak, now = map(int, done.stdout.split()[-2:])
    assert 58e6 < peak < 75e6
    assert 18e6 < now < 35e6


def test_limits_judge_both_figures() -> None:
    sizes = {"model": "m", "weights MB": 10.0, "activations MB": 0.5}
    row = {**sizes, "compile: peak / weights": 2.3, "load and run: peak / weights": 1.4}
    assert len(memory.judge([row])) == 2
    assert memory.judge([{**row, "compile: peak / weights": 2.1, "load and run: peak / weights": 1.34}]) == []


def test_activations_are_what_lives_at_once() -> None:
    class Model(torch.nn.Module):
        """Two tensors live at once, three are made; a view is none."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return ((x + 1).exp().view(-1) * 2).sum()

    assert memory.activations(Model(), (torch.ones(100, 10),)) == 8000
