"""Sizes and numbers made of fractions of sizes: upsampling by a factor, and what models compute themselves."""

from __future__ import annotations

import io
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import torch_tensorrt
from torch_tensorrt import Input

MODES = {"nearest": {}, "bilinear": {"align_corners": False}, "bicubic": {"recompute_scale_factor": True}}
ENGINES = ["eager", "openvino"]


class Resized(nn.Module):
    def __init__(self, factor: float, mode: str) -> None:
        super().__init__()
        self.factor, self.mode = factor, mode

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.interpolate(x + 1, scale_factor=self.factor, mode=self.mode, **MODES[self.mode]).relu()


class Computed(nn.Module):
    def __init__(self, number: Callable[[int], float]) -> None:
        super().__init__()
        self.number = number

    def forward(self, x: Tensor) -> Tensor:
        return (x + 1) * self.number(x.shape[1])


NUMBERS: dict[str, Callable[[int], float]] = {
    "a quotient": lambda n: n / 4,
    "a root": lambda n: n**-0.5,
    "rounded up": lambda n: math.ceil(n / 4),
    "rounded": lambda n: round(n / 4),
    "a fraction of it": lambda n: torch.sym_int(n * 1.3),
    "a rest": lambda n: n % 3,
    "a power": lambda n: n**2,
    "the larger one": lambda n: torch.sym_max(n, 9),
    "a float": lambda n: torch.sym_float(n),
    "whole": lambda n: (n + 1) * (n - 3) // 2 - n,
    "below zero": lambda n: (n - 20) // 3,
}


def varying(*shape: int) -> Input:
    """Of the last two sizes: 4 to 40."""
    return Input(
        min_shape=(*shape[:-2], 4, 4), opt_shape=(*shape[:-2], 16, 16), max_shape=(*shape[:-2], 40, 40), name="x"
    )


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("factor", [0.3, 0.7, 1.3, 1.5, 2.0])
def test_images_of_any_size_are_resized_by_a_factor(factor: float, mode: str, engine: str) -> None:
    model = Resized(factor, mode)
    compiled = torch_tensorrt.compile(model, inputs=[varying(1, 2, 0, 0)], engine=engine, min_block_size=1)
    for size in range(4, 41):
        x = torch.randn(1, 2, size, 44 - size)
        torch.testing.assert_close(compiled(x), model(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "engine"),
    [
        (name, engine)
        for name in NUMBERS
        for engine in ENGINES
        if engine != "eager" or not name.startswith("rounded")  # PyTorch can't write those: a BuildError
    ],
)
def test_a_number_made_of_sizes_is_right_at_every_size(name: str, engine: str) -> None:
    model = Computed(NUMBERS[name])
    given = Input(min_shape=(1, 4), opt_shape=(1, 16), max_shape=(1, 40))
    compiled = torch_tensorrt.compile(model, inputs=[given], engine=engine, min_block_size=1)
    for size in range(4, 41):
        x = torch.randn(1, size)
        torch.testing.assert_close(compiled(x), model(x))


def saved_and_loaded(compiled: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch_tensorrt.save(compiled, file)
    return torch_tensorrt.load(io.BytesIO(file.getvalue())).module()


def test_an_engine_with_sizes_of_fractions_is_saved_and_loaded() -> None:
    model = Resized(1.3, "bilinear")
    compiled = torch_tensorrt.compile(model, inputs=[varying(1, 2, 0, 0)], engine="openvino", min_block_size=1)
    loaded = saved_and_loaded(compiled)
    for size in (4, 10, 39):
        x = torch.randn(1, 2, size, 20)
        torch.testing.assert_close(loaded(x), model(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", [name for name in NUMBERS if not name.startswith("rounded")])
def test_what_computes_with_sizes_in_pytorch_is_saved_and_loaded(name: str) -> None:
    model = Computed(NUMBERS[name])
    given = Input(min_shape=(1, 4), opt_shape=(1, 16), max_shape=(1, 40))
    loaded = saved_and_loaded(torch_tensorrt.compile(model, inputs=[given], engine="openvino", min_block_size=1))
    x = torch.randn(1, 13)
    torch.testing.assert_close(loaded(x), model(x))


class Folded(nn.Module):
    """sympy makes one factor of the two, which gives 91 where Python's gives 90."""

    def forward(self, x: Tensor) -> Tensor:
        size = torch.sym_int(x.shape[2] * 0.7 * 1.3)
        resized = nn.functional.interpolate(x + 1, size=(size, 8), mode="bilinear")
        return torch.cat([resized.relu().flatten(1), (x * 2).sigmoid().flatten(1)], 1)


@pytest.mark.parametrize("engine", ENGINES)
def test_fractions_that_sympy_joins_are_left_to_pytorch(engine: str) -> None:
    model = Folded()
    given = Input(min_shape=(1, 2, 8, 8), opt_shape=(1, 2, 64, 8), max_shape=(1, 2, 200, 8))
    ops = {"torch.ops.aten.upsample_bilinear2d"} if engine == "eager" else set()
    compiled = torch_tensorrt.compile(model, inputs=[given], engine=engine, min_block_size=1, torch_executed_ops=ops)
    for size in (8, 99, 100, 200):
        x = torch.randn(1, 2, size, 8)
        torch.testing.assert_close(compiled(x), model(x), rtol=1e-4, atol=1e-5)


class Halved(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.new_zeros(3) + (x.shape[1] - 1) // 2


def test_a_size_of_nothing_is_divided_down() -> None:
    given = Input(min_shape=(1, 0), opt_shape=(1, 16), max_shape=(1, 40))
    compiled = torch_tensorrt.compile(Halved(), inputs=[given], engine="openvino", min_block_size=1)
    for size in (0, 1, 7):
        x = torch.ones(1, size)
        torch.testing.assert_close(compiled(x), Halved()(x))
