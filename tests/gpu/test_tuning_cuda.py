"""Choosing by measurement on a CUDA GPU: real engines, timed as they are called and in a CUDA graph."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import torch_tensorrt
from torch_tensorrt import engines
from torch_tensorrt.tuning.measuring import measure

pytestmark = pytest.mark.gpu


def _network() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 32, 3), nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 32, 3), nn.ReLU(), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(32 * 28 * 28, 16)).eval().cuda().half()


def test_the_choice_is_no_slower_than_any_candidate_and_the_second_build_measures_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, x = _network(), torch.randn(8, 3, 32, 32, device="cuda", dtype=torch.float16)
    monkeypatch.setattr(engines, "names", lambda: ("eager", "inductor"))
    options = {"optimization_level": 4, "min_block_size": 1, "max_tuning_seconds": 60}
    given = {**options, "timing_cache_path": str(tmp_path / "timings")}
    compiled = torch_tensorrt.compile(model, inputs=[x], **given)
    measured = [trial for trial in compiled.plan.trials if trial.milliseconds is not None]
    for place in {trial.place for trial in measured}:
        here = [trial for trial in measured if trial.place == place]
        (chosen,) = [trial for trial in here if trial.note == "chosen"]
        assert chosen.milliseconds <= min(trial.milliseconds for trial in here) / 0.98, place
    assert {"inductor: default", "eager: default"} <= {trial.label for trial in measured}
    with torch.no_grad():
        assert float((compiled(x) - model(x)).norm() / model(x).norm()) < 1e-2
    again = torch_tensorrt.compile(model, inputs=[x], **given)
    assert again.plan.trials == compiled.plan.trials
    with torch.no_grad():
        assert float((again(x) - model(x)).norm() / model(x).norm()) < 1e-2


def test_a_function_that_can_not_be_captured_is_measured_all_the_same() -> None:
    x = torch.ones(1 << 20, device="cuda")

    def asks() -> float:
        return float(x.sum())  # waits for the GPU, which a capture can't

    device = torch.device("cuda", torch.cuda.current_device())
    asking, plain = measure([asks, lambda: x + 1], device)
    assert 0 < plain < 10
    assert 0 < asking < 10
    assert float((x + 1).sum()) == 2 * x.numel()  # the failed capture left nothing behind
