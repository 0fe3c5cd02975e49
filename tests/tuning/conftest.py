"""A world of three engines whose speeds are known, with a clock of its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import nn

import torch_tensorrt
from torch_tensorrt import engines
from torch_tensorrt.runtime.module import CompiledModule
from torch_tensorrt.tuning import choosing, measuring, routes
from tuning.fakes import Clock, FakeBackend


@dataclass
class World:
    """The engines that there are, and where timings are kept."""

    clock: Clock
    backends: dict[str, FakeBackend]
    path: Path

    def compile(self, model: nn.Module, *inputs: object, **options: object) -> CompiledModule:
        """Compiled at the level where the fastest is found by measuring."""
        given = {"optimization_level": 4, "min_block_size": 1, "timing_cache_path": str(self.path), **options}
        return torch_tensorrt.compile(model.eval(), arg_inputs=list(inputs), **given)

    def built(self) -> dict[str, list[str]]:
        """What each engine was asked to build since the last call."""
        found = {name: list(backend.built) for name, backend in self.backends.items()}
        for backend in self.backends.values():
            backend.built.clear()
        return {name: builds for name, builds in found.items() if builds}


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[World]:
    """eager takes 8 ms, openvino (the usual one on a CPU) 6 or 5, quick 3."""
    clock = Clock()
    backends = {
        "eager": FakeBackend("eager", clock, {"": 8.0}),
        "openvino": FakeBackend("openvino", clock, {"": 6.0, "brisk": 5.0}),
        "quick": FakeBackend("quick", clock, {"": 3.0}),
    }
    monkeypatch.setattr(engines, "names", lambda: tuple(backends))
    monkeypatch.setattr(engines, "backend", backends.__getitem__)
    for module in (choosing, measuring, routes):
        monkeypatch.setattr(module, "time", clock)
    yield World(clock, backends, tmp_path / "timings.json")


class Small(nn.Module):
    """Three operations."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.linear(x)) + 1
