"""Partitions with so little work that they run on one thread."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import torch_tensorrt
from torch_tensorrt.engines.openvino.engine import OpenVINOEngine
from torch_tensorrt.runtime.module import CompiledModule
from torch_tensorrt.runtime.op import live_engine


def mlp(width: int) -> nn.Module:
    return nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10))


def threads(compiled: CompiledModule) -> str | None:
    """What its engine was told."""
    (engine,) = (live_engine(b).engine for b in compiled.buffers() if b.dtype is torch.uint8)
    assert isinstance(engine, OpenVINOEngine)
    return engine._options.get("INFERENCE_NUM_THREADS")


def compiled(model: nn.Module, x: object, **options: object) -> CompiledModule:
    return torch_tensorrt.compile(model.eval(), inputs=[x], engine="openvino", min_block_size=1, **options)


class Attention(nn.Module):
    """An operator whose work isn't counted."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.scaled_dot_product_attention(x, x, x)


@pytest.mark.parametrize(
    ("model", "shape", "is_tiny"),
    [
        (mlp(256), (1, 64), True),
        (mlp(256), (8, 64), False),
        (mlp(512), (1, 64), False),
        (nn.ReLU(), (100, 100), True),
        (nn.ReLU(), (1000, 1000), False),
        (nn.Conv2d(3, 4, 3), (1, 3, 16, 16), True),
        (nn.Conv2d(3, 16, 3), (1, 3, 32, 32), False),
        (Attention(), (1, 1, 4, 4), False),
    ],
)
def test_little_work_is_for_one_thread(model: nn.Module, shape: tuple[int, ...], is_tiny: bool) -> None:
    x = torch.randn(shape)
    module = compiled(model, x)
    assert threads(module) == ("1" if is_tiny else None)
    torch.testing.assert_close(module(x), model(x))


def test_sizes_that_vary_and_options_of_the_user_count_more() -> None:
    varying = torch_tensorrt.Input(min_shape=(1, 64), opt_shape=(1, 64), max_shape=(64, 64))
    assert threads(compiled(mlp(16), varying)) is None
    assert threads(compiled(mlp(16), torch.randn(1, 64), num_threads=2)) == "2"
    assert threads(compiled(mlp(16), torch.randn(1, 64), engine_options={"performance_hint": "THROUGHPUT"})) is None
