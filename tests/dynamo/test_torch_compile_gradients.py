"""Engines only infer: gradients of what torch.compile gives are right, or there is a clear error, or PyTorch runs the graph."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor, nn

from torch_tensorrt.contracts.partition import Plan
from torch_tensorrt.dynamo.backend import torch_tensorrt_backend


def compiled_by(model: Callable[..., object]) -> Callable[..., Tensor]:
    """`model` through torch.compile, with blocks of any size."""
    return torch.compile(model, backend=torch_tensorrt_backend, options={"min_block_size": 1})


def gradients(model: nn.Module, run: Callable[..., Tensor], x: Tensor) -> dict[str, Tensor | None]:
    """Of the sum of squares, with regard to the input and every parameter."""
    x = x.detach().clone().requires_grad_()
    model.zero_grad()
    run(x).square().sum().backward()
    return {"x": x.grad, **{name: parameter.grad for name, parameter in model.named_parameters()}}


def small() -> nn.Module:
    """Nothing random, nothing written."""
    return nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.LayerNorm(8), nn.Linear(8, 2))


MODELS: Mapping[str, tuple[Callable[[], nn.Module], int]] = {
    "eval": (lambda: small().eval(), 1),
    "train, nothing random": (lambda: small().train(), 1),
    "batch norm in eval": (lambda: nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU()).eval(), 1),
    "batch norm in train": (lambda: nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU()).train(), 0),
    "returns a view": (lambda: nn.Sequential(nn.Linear(4, 8), nn.Flatten(0)).eval(), 1),
}


@pytest.mark.parametrize("name", MODELS)
def test_gradients_are_those_of_pytorch(name: str, plans: list[Plan]) -> None:
    make, graphs = MODELS[name]
    model = make()
    reference, compiled = copy.deepcopy(model), compiled_by(model)
    for _ in range(3):
        x = torch.randn(3, 4)
        torch.testing.assert_close(gradients(model, compiled, x), gradients(reference, reference, x))
    assert len(plans) == graphs


def test_the_first_gradients_are_told_of_and_then_pytorch_runs_the_graph(caplog: pytest.LogCaptureFixture) -> None:
    model, x = small().eval(), torch.randn(3, 4, requires_grad=True)
    compiled = compiled_by(model)
    assert type(compiled(x).grad_fn).__name__ == "_RecomputedBackward"
    gradients(model, compiled, x)
    gradients(model, compiled, x)
    assert caplog.text.count("Gradients were asked for") == 1
    assert type(compiled(x).grad_fn).__name__ == "AddmmBackward0"


def test_a_graph_with_dropout_in_training_mode_runs_in_pytorch(
    plans: list[Plan], caplog: pytest.LogCaptureFixture
) -> None:
    model, x = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5)).train(), torch.randn(3, 4)
    compiled = compiled_by(model)
    torch.manual_seed(0)
    found = gradients(model, compiled, x)
    torch.manual_seed(0)
    torch.testing.assert_close(found, gradients(model, model, x))
    assert plans == []
    assert "it draws random numbers" in caplog.text


def test_training_a_compiled_model_gives_the_weights_of_training_it_in_pytorch() -> None:
    model = small().train()
    reference = copy.deepcopy(model)
    batches = [torch.randn(3, 4) for _ in range(4)]
    for module, run in ((model, compiled_by(model)), (reference, reference)):
        optimizer = torch.optim.Adam(module.parameters(), 0.05)
        for x in batches:
            optimizer.zero_grad()
            run(x).square().sum().backward()
            optimizer.step()
    torch.testing.assert_close(model.state_dict(), reference.state_dict())


def test_weights_that_start_to_need_gradients_later_get_them() -> None:
    model = small().eval().requires_grad_(requires_grad=False)
    compiled, x = compiled_by(model), torch.randn(3, 4)
    assert not compiled(x).requires_grad
    model.requires_grad_()
    found = gradients(model, compiled, x)
    torch.testing.assert_close(found, gradients(model, model, x))
    assert all(value is not None for value in found.values())


def test_a_weight_written_between_forward_and_backward_is_an_error() -> None:
    model = small().eval()
    answer = compiled_by(model)(torch.randn(3, 4))
    with torch.no_grad():
        model[0].weight.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        answer.sum().backward()


def test_second_derivatives_are_an_error() -> None:
    x = torch.randn(3, 4, requires_grad=True)
    (first,) = torch.autograd.grad(compiled_by(small().eval())(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


def test_gradients_flow_through_several_graphs() -> None:
    def run(x: Tensor) -> Tensor:
        y = (x * 2).sin()
        torch._dynamo.graph_break()
        return (y * x).exp()

    compiled = compiled_by(run)
    x = torch.randn(3, requires_grad=True)
    compiled(x).sum().backward()
    found, x.grad = x.grad, None
    run(x).sum().backward()
    torch.testing.assert_close(found, x.grad)


def test_results_that_need_no_gradients_have_none() -> None:
    x = torch.randn(3, requires_grad=True)
    value, index = compiled_by(lambda x: (x * 2, (x * 3).argmax()))(x)
    assert value.requires_grad
    assert not index.requires_grad


def test_autocast_with_gradients_runs_in_pytorch(plans: list[Plan], caplog: pytest.LogCaptureFixture) -> None:
    model, x = small().train(), torch.randn(3, 4)
    with torch.autocast("cpu", torch.bfloat16):
        answer = compiled_by(model)(x)
    answer.sum().backward()
    assert plans == []
    assert "autocast is on" in caplog.text
