"""torch.compile with inductor engines, which PyTorch's compiler builds while PyTorch's compiler is at work."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from torch_tensorrt.contracts.partition import Plan
from torch_tensorrt.dynamo.backend import torch_tensorrt_backend
from torch_tensorrt.tools.coverage import relative_error


class Net(nn.Module):
    """A convolution, a normalization and a linear layer, and a constant that isn't a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.last = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Linear(8, 4)
        self.register_buffer("shift", torch.randn(8))

    def forward(self, x: Tensor) -> Tensor:
        """Class scores (rows, 4) of images (rows, 3, height, width)."""
        seen = torch.relu(self.norm(self.conv(x))).mean((2, 3))
        return self.last(seen + self.shift) * torch.tensor([1.0, 2.0, 3.0, 4.0])


def compiled_by(
    model: Callable[..., object], *, dynamic: bool | None = None, **options: object
) -> Callable[..., Tensor]:
    return torch.compile(
        model,
        backend=torch_tensorrt_backend,
        dynamic=dynamic,
        options={"engine": "inductor", "min_block_size": 1, **options},
    )


def whole(plans: list[Plan], graphs: int) -> None:
    """Every graph's nodes are in inductor engines."""
    assert [plan.backend for plan in plans] == ["inductor"] * graphs
    assert [plan.in_engines for plan in plans] == [plan.total for plan in plans]


@pytest.mark.parametrize("dynamic", [False, True], ids=["fixed", "varying"])
@pytest.mark.parametrize("level", [2, 3])
def test_a_network_runs_in_engines_alone(dynamic: bool, level: int, plans: list[Plan]) -> None:
    torch.manual_seed(0)
    model = Net().eval()
    run = compiled_by(model, dynamic=dynamic, optimization_level=level)
    with torch.no_grad():
        for rows, side in ((2, 8), (3, 8), (3, 9)) if dynamic else ((2, 8),):
            x = torch.randn(rows, 3, side, side)
            assert relative_error(run(x), model(x)) < 1e-5
    whole(plans, 1)


def test_weights_that_were_written_are_built_in_anew(plans: list[Plan]) -> None:
    torch.manual_seed(0)
    model, x = Net().eval(), torch.randn(2, 3, 8, 8)
    run = compiled_by(model)
    with torch.no_grad():
        for _ in range(2):
            assert relative_error(run(x), model(x)) < 1e-5
            model.last.weight.mul_(2)
            model.conv.bias.add_(1)  # type: ignore[union-attr]
            assert relative_error(run(x), model(x)) < 1e-5
    whole(plans, 3)


def test_each_graph_of_a_function_with_a_break_has_its_engine(plans: list[Plan]) -> None:
    torch.manual_seed(0)
    model = Net().eval()

    def broken(x: Tensor) -> Tensor:
        scores = model(x)
        torch._dynamo.graph_break()
        return scores.softmax(-1)

    x = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        assert relative_error(compiled_by(broken)(x), broken(x)) < 1e-5
    whole(plans, 2)


def test_what_inductor_itself_compiles_beside_is_right(plans: list[Plan]) -> None:
    torch.manual_seed(0)
    model, x = Net().eval(), torch.randn(2, 3, 8, 8)
    run, theirs = compiled_by(model), torch.compile(model)
    with torch.no_grad():
        assert relative_error(run(x), model(x)) < 1e-5
        assert relative_error(theirs(x), model(x)) < 1e-5
    whole(plans, 1)


@pytest.mark.parametrize("dynamic", [False, True], ids=["fixed", "varying"])
def test_convolutions_come_in_the_layout_that_is_read(dynamic: bool, plans: list[Plan]) -> None:
    """oneDNN, which is off while AOTAutograd traces, gives other layouts than PyTorch without it: see `graphs/predictions.py`."""
    torch.manual_seed(0)
    last = torch.channels_last_3d
    model = nn.Sequential(nn.Conv3d(3, 4, 3), nn.SiLU(), nn.Conv3d(4, 4, 1), nn.SiLU()).eval().to(memory_format=last)
    run = compiled_by(model, dynamic=dynamic)
    with torch.no_grad():
        for rows in (2, 3) if dynamic else (2,):
            x = torch.randn(rows, 3, 6, 6, 6).to(memory_format=last)
            assert relative_error(run(x), model(x)) < 1e-5
    whole(plans, 1)
