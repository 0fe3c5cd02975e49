"""Ranges become symbols; sizes are tied only when the model or the caller ties them."""

from __future__ import annotations

import linecache
import statistics
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import torch_tensorrt
from torch_tensorrt import Input
from torch_tensorrt.dynamo import trace


class Pair(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return x + 1, y + 1


class Sum(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y


def ranged(high: int = 8, **options: object) -> Input:
    return Input(min_shape=(1, 4), opt_shape=(2, 4), max_shape=(high, 4), **options)


def test_equal_ranges_are_not_tied() -> None:
    assert len(trace(Pair(), inputs=[ranged(), ranged()]).range_constraints) == 2


def test_sizes_that_the_model_needs_equal_are_one_symbol_from_the_lower_bound_on() -> None:
    program = trace(Sum(), inputs=[ranged(), ranged()])
    assert [(int(bounds.lower), int(bounds.upper)) for bounds in program.range_constraints.values()] == [(1, 8)]
    assert program.module()(torch.ones(1, 4), torch.ones(1, 4)).shape == (1, 4)


def test_shared_dims_tie_sizes_and_must_have_one_range() -> None:
    tied = trace(Pair(), inputs=[ranged(shared_dims={0: "batch"}), ranged(shared_dims={0: "batch"})])
    assert len(tied.range_constraints) == 1
    with pytest.raises(torch_tensorrt.InputError, match=r"'batch'.*another one"):
        trace(Pair(), inputs=[ranged(shared_dims={0: "batch"}), ranged(4, shared_dims={0: "batch"})])


def test_a_size_that_the_model_fixes_is_an_input_error() -> None:
    class Fixed(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + torch.ones(2, 4)

    with pytest.raises(torch_tensorrt.InputError, match="does not work at every size"):
        trace(Fixed(), inputs=[ranged()])


def test_options_that_the_engine_cannot_honour_are_named_once(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        torch_tensorrt.compile(Sum(), inputs=[(2, 4), (2, 4)], min_block_size=1, sparse_weights=True)
    assert len([record for record in caplog.records if "sparse_weights" in record.getMessage()]) == 1


def test_one_tensor_given_twice_is_two_inputs() -> None:
    twice = torch.ones(2, 4)
    a, b = torch.randn(2, 4), torch.randn(2, 4)
    assert torch.equal(trace(Sum(), inputs=[twice, twice]).module()(a, b), Sum()(a, b))


def test_a_weight_given_as_an_input_stays_an_input() -> None:
    class Scale(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(4))

        def forward(self, x: Tensor) -> Tensor:
            return x * self.weight

    model = Scale()
    assert torch.equal(trace(model, inputs=[model.weight]).module()(torch.full((4,), 3.0)), torch.full((4,), 3.0))


def test_a_number_taken_out_of_a_tensor_has_no_bounds_and_does_not_matter() -> None:
    class Times(nn.Module):
        def forward(self, x: Tensor, number: Tensor) -> Tensor:
            return x * number.item() + 1

    given = (torch.ones(4), torch.tensor(3))
    compiled = torch_tensorrt.compile(
        Times(), inputs=[torch.ones(4), torch.tensor(2)], engine="eager", min_block_size=1
    )
    assert torch.equal(compiled(*given), Times()(*given))


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 0:
            return x + 1
        return x - 1


class Sliced(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[: int(x.sum())]


class Leaving(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.from_numpy(x.numpy() * 2)


@pytest.mark.parametrize(
    ("model", "code", "advice"),
    [
        (Branching(), "if x.sum() > 0:", "torch.where"),
        (Sliced(), "return x[: int(x.sum())]", "torch._check"),
        (Leaving(), "return torch.from_numpy(x.numpy() * 2)", "PyTorch's operators"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_what_can_not_be_traced_is_named_with_its_line(
    model: nn.Module, code: str, advice: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(torch_tensorrt.UnsupportedError) as caught:
        trace(model, inputs=[(2, 4)])
    assert f"`{code}`" in str(caught.value)
    assert Path(__file__).name in str(caught.value)
    assert advice in str(caught.value)
    assert "For more information" not in str(caught.value)
    assert "def forward" not in capfd.readouterr().err, "PyTorch prints what it has traced so far"


def test_what_can_not_be_traced_strictly_is_explained_too(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(torch_tensorrt.UnsupportedError, match=r"torch\.where"):
        trace(Branching(), inputs=[(2, 4)], strict=True)
    assert "class GraphModule" not in capfd.readouterr().err


def test_a_line_typed_into_a_notebook_is_named() -> None:
    source = "class Cell(nn.Module):\n    def forward(self, x):\n        if x.sum() > 0:\n            return x\n        return -x\n"
    name = "<ipython-input-1>"
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    scope = {"nn": nn, "__name__": "__main__"}
    exec(compile(source, name, "exec"), scope)
    with pytest.raises(torch_tensorrt.UnsupportedError, match=r"<ipython-input-1>:3, in forward: `if x\.sum\(\) > 0:`"):
        trace(scope["Cell"](), inputs=[(2, 4)])  # type: ignore[operator]


def test_a_caller_of_pythons_own_library_is_named() -> None:
    class Mean(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + statistics.mean(x.sum(1))

    with pytest.raises(torch_tensorrt.UnsupportedError, match=Path(__file__).name):
        trace(Mean(), inputs=[(2, 4)])


def test_what_a_model_prints_while_it_is_traced_is_kept(capfd: pytest.CaptureFixture[str]) -> None:
    class Talking(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            print("def forward(self): a word", file=sys.stderr)
            return x + 1

    trace(Talking(), inputs=[(2, 4)])
    assert "a word" in capfd.readouterr().err


def test_a_recurrent_layer_whose_length_varies_is_an_input_error_that_says_why() -> None:
    with pytest.raises(torch_tensorrt.InputError, match="unrolled step by step"):
        trace(
            nn.LSTM(4, 4, batch_first=True),
            inputs=[torch_tensorrt.Input(min_shape=(1, 2, 4), opt_shape=(1, 5, 4), max_shape=(1, 9, 4))],
        )


@pytest.mark.parametrize("engine", ["eager", "openvino", "inductor"])
def test_autocast_around_compile_is_no_part_of_the_model(engine: str, caplog: pytest.LogCaptureFixture) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(16, 16)

        def forward(self, x: Tensor) -> Tensor:
            return self.linear(x).softmax(-1) @ x.T

    model, x = Net().eval(), torch.randn(4, 16)
    with torch.autocast("cpu", torch.bfloat16):
        compiled = torch_tensorrt.compile(model, inputs=[x], engine=engine, min_block_size=1)
    assert caplog.text.count("without the autocast") == 1
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), model(x), rtol=1e-4, atol=1e-5)
