"""What torch.export takes for granted about sizes that vary is told."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import torch_tensorrt
from torch_tensorrt import Input
from torch_tensorrt.trace.tracer import trace


class Shorter(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.diagonal(-1) + 1


class Square(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[: x.shape[1]] * 2


def test_a_size_taken_for_one_is_refused() -> None:
    rows = Input(min_shape=(2, 8), opt_shape=(2, 8), max_shape=(5, 8))
    with pytest.raises(torch_tensorrt.InputError, match=r"took Min\(8, s\d+ - 1\) for 1.*another opt_shape"):
        trace(Shorter(), inputs=[rows])


def test_with_another_typical_size_it_is_not(caplog: pytest.LogCaptureFixture) -> None:
    model, rows = Shorter(), Input(min_shape=(2, 8), opt_shape=(4, 8), max_shape=(5, 8))
    compiled = torch_tensorrt.compile(model, inputs=[rows], engine="eager", min_block_size=1)
    for size in (3, 4, 5):
        x = torch.randn(size, 8)
        torch.testing.assert_close(compiled(x), model(x))


def test_an_order_of_sizes_that_does_not_always_hold_is_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    trace(Square(), inputs=[Input(min_shape=(2, 2), opt_shape=(4, 6), max_shape=(9, 9))])
    assert "traced for sizes where" in caplog.text


def test_ranges_on_one_side_are_not_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    trace(Square(), inputs=[Input(min_shape=(2, 6), opt_shape=(4, 7), max_shape=(5, 9))])
    assert "traced for sizes where" not in caplog.text


@pytest.mark.parametrize("least", [1, 2])
def test_a_range_that_ends_at_two_varies(least: int) -> None:
    model = nn.Linear(4, 3)
    rows = Input(min_shape=(least, 4), opt_shape=(least, 4), max_shape=(2 if least == 1 else 3, 4))
    compiled = torch_tensorrt.compile(model.eval(), inputs=[rows], engine="eager", min_block_size=1)
    for size in range(least, 3 if least == 1 else 4):
        x = torch.randn(size, 4)
        torch.testing.assert_close(compiled(x), model(x))
    with pytest.raises(torch_tensorrt.InputError, match="range"):
        compiled(torch.randn(4, 4))


class FromFour(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if x.shape[0] < 4:
            raise ValueError("too few rows")
        return x * 2


def test_a_range_that_the_model_narrows_is_told_with_the_reason(caplog: pytest.LogCaptureFixture) -> None:
    rows = Input(min_shape=(1, 8), opt_shape=(5, 8), max_shape=(8, 8))
    compiled = torch_tensorrt.compile(FromFour(), inputs=[rows], engine="eager", min_block_size=1)
    assert "Input 'x' asks for sizes from 1 to 8 in dimension 0; the model as traced takes 4 to 8" in caplog.text
    assert ">= 4" in caplog.text
    assert "test_guards.py" in caplog.text
    with pytest.raises(torch_tensorrt.InputError, match="size 3"):
        compiled(torch.randn(3, 8))


def test_ranges_that_are_as_asked_are_not_told_of(caplog: pytest.LogCaptureFixture) -> None:
    trace(nn.Linear(8, 4).eval(), inputs=[Input(min_shape=(0, 8), opt_shape=(5, 8), max_shape=(8, 8))])
    trace(nn.Linear(8, 4).eval(), inputs=[Input(min_shape=(1, 8), opt_shape=(1, 8), max_shape=(8, 8))])
    assert "asks for sizes" not in caplog.text


def test_ranges_of_sizes_that_follow_from_others_are_not_told_of(caplog: pytest.LogCaptureFixture) -> None:
    class Twice(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return x + y.repeat(2)

    inputs = [
        Input(min_shape=(2,), opt_shape=(8,), max_shape=(16,)),
        Input(min_shape=(1,), opt_shape=(4,), max_shape=(8,)),
    ]
    compiled = torch_tensorrt.compile(Twice().eval(), inputs=inputs, engine="eager", min_block_size=1)
    assert "asks for sizes" not in caplog.text
    x, y = torch.randn(2), torch.randn(1)
    torch.testing.assert_close(compiled(x, y), x + y.repeat(2))


class ScaleOfSizes(nn.Module):
    """The scale of attention is a number that torch.export makes a constant."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.scaled_dot_product_attention(x, x, x, scale=x.shape[1] ** -0.5)


class EpsOfSizes(nn.Module):
    """So is the eps of a norm."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.layer_norm(x, (8,), eps=1 / x.shape[1])


class WindowOfSizes(nn.Module):
    """So is the window of a pooling."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.max_pool1d(x, x.shape[1] // 2)


class NearlyConstant(nn.Module):
    """What is computed of sizes is the same number but for its last digit; what the model asserts, PyTorch asserts too."""

    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[1] * 0.5 <= x.shape[1]
        return nn.functional.layer_norm(x, (8,), eps=(x.shape[1] * 0.7) / x.shape[1])


class AtLeastOne(nn.Module):
    """Which of the two is larger, torch.export decides for the typical size."""

    def forward(self, x: Tensor) -> Tensor:
        return x * max(1.0, x.shape[1] / 4)


class ScaledBySizes(nn.Module):
    """Multiplied, the number is computed at each call."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.scaled_dot_product_attention(x * x.shape[1] ** -0.5, x, x, scale=1.0) + x / x.shape[1]


@pytest.mark.parametrize("model", [ScaleOfSizes(), EpsOfSizes(), WindowOfSizes()])
def test_a_number_of_sizes_that_became_a_constant_is_an_error(model: nn.Module) -> None:
    varying = torch_tensorrt.Input(min_shape=(2, 2, 8), opt_shape=(2, 4, 8), max_shape=(2, 8, 8))
    with pytest.raises(torch_tensorrt.InputError, match=r"takes this number as a constant.*multiply a tensor"):
        torch_tensorrt.compile(model, inputs=[varying], engine="eager", min_block_size=1)
    x = torch.randn(2, 4, 8)
    fixed = torch_tensorrt.compile(model, inputs=[x], engine="eager", min_block_size=1)
    torch.testing.assert_close(fixed(x), model(x))


@pytest.mark.parametrize("model", [ScaledBySizes(), NearlyConstant()])
def test_a_number_of_sizes_that_is_computed_at_each_call_varies(model: nn.Module) -> None:
    varying = torch_tensorrt.Input(min_shape=(2, 3, 8), opt_shape=(2, 4, 8), max_shape=(2, 7, 8))
    compiled = torch_tensorrt.compile(model, inputs=[varying], engine="eager", min_block_size=1)
    for size in (3, 4, 7):
        x = torch.randn(2, size, 8)
        torch.testing.assert_close(compiled(x), model(x))


def test_a_condition_on_a_fraction_of_sizes_must_hold_at_all_of_them() -> None:
    def inputs(least: int) -> list[torch_tensorrt.Input]:
        return [torch_tensorrt.Input(min_shape=(2, least), opt_shape=(2, 8), max_shape=(2, 16))]

    with pytest.raises(torch_tensorrt.InputError, match=r"one side of it"):
        torch_tensorrt.compile(AtLeastOne(), inputs=inputs(2), engine="eager", min_block_size=1)
    compiled = torch_tensorrt.compile(AtLeastOne(), inputs=inputs(5), engine="eager", min_block_size=1)
    for size in (5, 8, 16):
        x = torch.randn(2, size)
        torch.testing.assert_close(compiled(x), AtLeastOne()(x))


class Exactly(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 100 if x.shape[1] / 8 == 1.0 else x + 1


class Even(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[1] / 2 == x.shape[1] // 2
        return x + 1


def test_a_condition_that_fails_between_the_ends_is_found() -> None:
    given = torch_tensorrt.Input(min_shape=(2, 4), opt_shape=(2, 16), max_shape=(2, 40))
    with pytest.raises(torch_tensorrt.InputError, match=r"one side of it"):
        torch_tensorrt.compile(Exactly(), inputs=[given], engine="eager", min_block_size=1)


def test_what_the_model_asserts_of_fractions_is_told(caplog: pytest.LogCaptureFixture) -> None:
    given = torch_tensorrt.Input(min_shape=(2, 3), opt_shape=(2, 16), max_shape=(2, 64))
    compiled = torch_tensorrt.compile(Even(), inputs=[given], engine="eager", min_block_size=1)
    assert "not for others" in caplog.text
    torch.testing.assert_close(compiled(torch.ones(2, 8)), torch.full((2, 8), 2.0))
