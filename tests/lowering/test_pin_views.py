"""Views of what convolutions make, where PyTorch's result has another layout than torch.export says."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, fx, nn

import torch_tensorrt
from torch_tensorrt import engines
from torch_tensorrt.lowering.pipeline import lower
from torch_tensorrt.spec.settings import CompilationSettings

aten = torch.ops.aten
LAST = torch.channels_last_3d  # of which oneDNN makes channels-last results, and PyTorch without it contiguous ones


class Net(nn.Module):
    def __init__(self, *last: nn.Module) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.convolution, self.last = nn.Conv3d(3, 4, 3), nn.Sequential(*last)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.convolution(x)))


def example() -> Tensor:
    return torch.randn(2, 3, 6, 6, 6)


def lowered(model: nn.Module, x: Tensor) -> fx.GraphModule:
    program = torch_tensorrt.dynamo.trace(model.eval(), arg_inputs=[x])
    return lower(program, engines.backend("eager"), CompilationSettings.from_options())


def pinned(module: fx.GraphModule) -> int:
    views = module.graph.find_nodes(op="call_function", target=aten.view.default)
    return sum(isinstance(node.args[0], fx.Node) and node.args[0].target is aten.clone.default for node in views)


def test_a_view_that_channels_last_memory_has_not_reads_a_contiguous_copy() -> None:
    model = Net(nn.Flatten(1)).to(memory_format=LAST)
    x = example().to(memory_format=LAST)
    module = lowered(model, x)
    assert pinned(module) == 1
    torch.testing.assert_close(module(x), model(x))


@pytest.mark.parametrize("weights", [LAST, torch.contiguous_format], ids=str)
@pytest.mark.parametrize("inputs", [LAST, torch.contiguous_format], ids=str)
def test_it_needs_an_input_or_a_weight_in_that_layout(
    weights: torch.memory_format, inputs: torch.memory_format
) -> None:
    module = lowered(Net(nn.Flatten(1)).to(memory_format=weights), example().to(memory_format=inputs))
    assert pinned(module) == int(LAST in {weights, inputs})


@pytest.mark.parametrize("last", [(nn.Flatten(2),), (nn.AdaptiveAvgPool3d(1), nn.Flatten(1))], ids=str)
def test_views_that_it_has_are_left_alone(last: tuple[nn.Module, ...]) -> None:
    assert pinned(lowered(Net(*last).to(memory_format=LAST), example().to(memory_format=LAST))) == 0


PARTS = {f"torch.ops.aten.{name}.default" for name in ("convolution", "relu", "view")}


@pytest.mark.parametrize(
    "options",
    [
        {"engine": "eager"},
        {"engine": "openvino"},
        {"engine": "openvino", "torch_executed_ops": PARTS},
        {"optimization_level": 5, "max_tuning_seconds": 2},
    ],
    ids=str,
)
def test_models_compile_and_run_whoever_runs_the_view(options: dict[str, object]) -> None:
    model = Net(nn.Flatten(1), nn.Linear(256, 5)).eval().to(memory_format=LAST)
    x = example().to(memory_format=LAST)
    compiled = torch_tensorrt.compile(model, arg_inputs=[x], min_block_size=1, **options)
    for given in (x, x.contiguous()):
        torch.testing.assert_close(compiled(given), model(given), rtol=1e-4, atol=1e-5)


def test_sizes_that_vary_stay_so() -> None:
    model = Net(nn.Flatten(1), nn.Linear(256, 5)).eval().to(memory_format=LAST)
    batch = torch_tensorrt.Input(
        min_shape=(1, 3, 6, 6, 6), opt_shape=(2, 3, 6, 6, 6), max_shape=(8, 3, 6, 6, 6), dtype=torch.float32
    )
    compiled = torch_tensorrt.compile(model, inputs=[batch], min_block_size=1, engine="eager")
    for size in (1, 2, 7):
        x = torch.randn(size, 3, 6, 6, 6)
        torch.testing.assert_close(compiled(x), model(x), rtol=1e-4, atol=1e-5)


def test_it_works_where_pytorch_says_no_in_other_words() -> None:
    model = Net(nn.Flatten(1)).eval().requires_grad_(False).to(memory_format=LAST)
    x = example().to(memory_format=LAST)
    run = torch.compile(
        model, backend="torch_tensorrt", options={"min_block_size": 1, "pass_through_build_failures": True}
    )
    torch.testing.assert_close(run(x), model(x), rtol=1e-4, atol=1e-5)
