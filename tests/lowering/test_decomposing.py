"""Taking operators apart node by node: the same operators as PyTorch's own way, and PyTorch's own way where this can't serve."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import torch_tensorrt
from torch_tensorrt import engines
from torch_tensorrt.lowering.decomposing import decompose_nodes
from torch_tensorrt.lowering.decompositions import decomposition_table
from torch_tensorrt.lowering.pipeline import decompose
from torch_tensorrt.spec.settings import CompilationSettings

BACKEND, SETTINGS = engines.backend("openvino"), CompilationSettings.from_options()
TABLE = decomposition_table(BACKEND.keep_whole(SETTINGS))


class Function(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        self.norm = nn.BatchNorm1d(3)

    def forward(self, x: Tensor) -> object:
        return self.function(x)


def written(x: Tensor) -> Tensor:
    y = x + 1
    before = y * 2
    y.mul_(3)
    y += before
    return y.relu_() - before


def written_twice(x: Tensor) -> Tensor:
    y = x.sin()
    y.add_(y)
    y.add_(y)
    return y


def through_a_view(x: Tensor) -> Tensor:
    y = x + 1
    y.view(-1).mul_(2)
    return y


def with_a_view(x: Tensor) -> tuple[Tensor, Tensor]:
    y = x + 1
    flat = y.flatten()
    y.mul_(2)
    return flat, y


def piece(x: Tensor) -> Tensor:
    y = x + 1
    y[0] = 5
    return y


def other_dtype(x: Tensor) -> Tensor:
    y = (x * 10).int()
    y.mul_(2)
    return y + x


SERVED = {"written": written, "written twice": written_twice}
LEFT = {
    "through a view": through_a_view,
    "with a view": with_a_view,
    "a piece": piece,
}


@pytest.mark.parametrize("name", [*SERVED, *LEFT, "other dtype"])
def test_writes_to_intermediate_results_give_what_eager_gives(name: str) -> None:
    function = {**SERVED, **LEFT, "other dtype": other_dtype}[name]
    x = torch.randn(2, 3)
    program = torch_tensorrt.dynamo.trace(Function(function).eval(), arg_inputs=(x,))
    module = decompose_nodes(program, TABLE)
    if name in LEFT:
        assert module is None
    elif name in SERVED:
        assert module is not None
    result = decompose(program, BACKEND, SETTINGS)(x.clone())
    torch.testing.assert_close(result, function(x.clone()))


def test_the_same_operators_as_pytorch_with_their_lines_of_code() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolutions = nn.ModuleList(nn.Conv2d(4, 4, 3, padding=1) for _ in range(3))
            self.norm = nn.BatchNorm2d(4)
            self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

        def forward(self, x: Tensor) -> tuple[Tensor, ...]:
            for convolution in self.convolutions:
                x = nn.functional.silu(self.norm(convolution(x)))
            tokens = x.flatten(2).transpose(1, 2)
            mixed, weights = self.attention(tokens, tokens, tokens)
            return mixed.std(-1), weights, *x.chunk(2)

    x = torch.randn(2, 4, 5, 5)
    net = Net().eval()
    program = torch_tensorrt.dynamo.trace(net, arg_inputs=(x,))
    ours, theirs = decompose_nodes(program, TABLE), program.run_decompositions(TABLE).module(check_guards=False)
    assert ours is not None
    assert counts(ours) == counts(theirs)
    torch.testing.assert_close(ours(x), net(x))
    assert all("in forward" in node.meta["stack_trace"] for node in ours.graph.nodes if node.op == "call_function")


def counts(module: torch.fx.GraphModule) -> Counter[str]:
    return Counter(str(node.target) for node in module.graph.nodes if node.op == "call_function")


def test_programs_with_varying_sizes_or_state_are_left_to_pytorch() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("count", torch.zeros(1))

        def forward(self, x: Tensor) -> Tensor:
            self.count += 1
            return x + self.count

    varying = torch_tensorrt.Input(min_shape=(1, 3), opt_shape=(2, 3), max_shape=(4, 3))
    assert decompose_nodes(torch_tensorrt.dynamo.trace(Function(written), arg_inputs=(varying,)), TABLE) is None
    assert decompose_nodes(torch_tensorrt.dynamo.trace(Counting(), arg_inputs=(torch.ones(1),)), TABLE) is None


def test_settings_of_pytorch_are_as_before() -> None:
    before = torch.backends.mkldnn.enabled, torch.backends.cudnn.enabled
    decompose_nodes(torch_tensorrt.dynamo.trace(Function(written), arg_inputs=(torch.ones(2, 3),)), TABLE)
    assert (torch.backends.mkldnn.enabled, torch.backends.cudnn.enabled) == before


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad, torch.enable_grad])
def test_the_mode_that_the_caller_is_in_makes_no_difference(mode: Callable[[], object]) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).eval()
    x = torch.randn(2, 3, 5, 5)
    with mode():
        compiled = torch_tensorrt.compile(net, inputs=[x], min_block_size=1)
        result = compiled(x)
    assert str(compiled.plan).count("aten.") == 2  # the batch norm is folded into the convolution
    torch.testing.assert_close(result, net(x), rtol=1e-4, atol=1e-5)
