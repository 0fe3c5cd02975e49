"""Quantized weights in the forms that tools write: each becomes PyTorch's own operator, and stays in eight bits."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, fx, nn

import torch_tensorrt
from torch_tensorrt import engines
from torch_tensorrt.graphs.quantized import arguments, constant, kind_of, quantized_operator
from torch_tensorrt.lowering.pipeline import lower
from torch_tensorrt.spec.settings import CompilationSettings

aten = torch.ops.aten
WEIGHT = torch.randint(-127, 128, (6, 8), dtype=torch.int8)
ROWS, COLUMNS, GROUPS = torch.rand(6, 1) + 0.1, torch.rand(8) + 0.1, torch.rand(6, 4, 1) + 0.1
ZEROS = torch.randint(-3, 4, (6, 1)).float()


class Weighted(nn.Module):
    """A linear layer whose weight is computed from constants of eight bits."""

    def __init__(self, weight: Callable[..., Tensor], *constants: Tensor) -> None:
        super().__init__()
        self.weight, self.count = weight, len(constants)
        for place, tensor in enumerate(constants):
            self.register_buffer(f"constant{place}", tensor)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.weight(*(getattr(self, f"constant{at}") for at in range(self.count))))


def lowered(model: nn.Module, *args: Tensor) -> fx.GraphModule:
    program = torch_tensorrt.dynamo.trace(model.eval(), arg_inputs=args)
    return lower(program, engines.backend("eager"), CompilationSettings.from_options())


def dequantized(module: fx.GraphModule) -> fx.Node:
    (node,) = [node for node in module.graph.nodes if kind_of(node).startswith("dequantize")]
    return node


FORMS: dict[str, tuple[Callable[..., Tensor], tuple[Tensor, ...]]] = {
    "a scale for each row": (lambda w, s: w * s, (WEIGHT, ROWS)),
    "the scale first": (lambda w, s: s * w, (WEIGHT, ROWS)),
    "a scale for each column": (lambda w, s: w * s, (WEIGHT, COLUMNS)),
    "one scale": (lambda w, s: w.float() * s, (WEIGHT, torch.tensor(0.5))),
    "a zero before the scale": (lambda w, z, s: (w.float() - z) * s, (WEIGHT, ZEROS, ROWS)),
    "a shift after the scale": (lambda w, s, z: w * s - z, (WEIGHT, ROWS, ZEROS * ROWS)),
    "a scale for each group": (lambda w, s: (w.view(6, 4, 2) * s).reshape(6, 8), (WEIGHT, GROUPS)),
    "groups in three dimensions": (lambda w, s: (w * s).reshape(6, 8), (WEIGHT.reshape(6, 4, 2).clone(), GROUPS)),
}
NOT_SEEN = {"a scale for each group"}  # the view of a constant is folded later


@pytest.mark.parametrize("form", [name for name in FORMS if name not in NOT_SEEN])
def test_a_weight_in_eight_bits_stays_so(form: str) -> None:
    weight, constants = FORMS[form]
    model, x = Weighted(weight, *constants), torch.randn(3, 8)
    module = lowered(model, x)
    found = constant(arguments(dequantized(module))["input"])
    assert found is not None and found.dtype is torch.int8
    torch.testing.assert_close(module(x), model(x), rtol=1e-4, atol=1e-4)


LEFT: dict[str, tuple[Callable[..., Tensor], tuple[Tensor, ...]]] = {
    "a zero that is no whole number": (lambda w, z, s: (w.float() - z) * s, (WEIGHT, ZEROS + 0.5, ROWS)),
    "a subtraction in eight bits, which wraps around": (lambda w, z, s: (w - z) * s, (WEIGHT, WEIGHT, ROWS)),
    "a scale for each number": (lambda w, s: w * s, (WEIGHT, torch.rand(6, 8))),
    "numbers of another type": (lambda w, s: w * s, (WEIGHT.int(), ROWS)),
    "a scale for each group, of a view": FORMS["a scale for each group"],
}


@pytest.mark.parametrize("form", LEFT)
def test_other_arithmetic_is_left_as_it_is(form: str) -> None:
    weight, constants = LEFT[form]
    model, x = Weighted(weight, *constants), torch.randn(3, 8)
    module = lowered(model, x)
    assert not any(kind_of(node) for node in module.graph.nodes)
    torch.testing.assert_close(module(x), model(x), rtol=1e-4, atol=1e-4)


def test_scales_that_are_tensors_become_numbers() -> None:
    quantize, back = (quantized_operator(f"{way}quantize_per_tensor", "tensor") for way in ("", "de"))

    class Rounded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("scale", torch.tensor([0.25]))
            self.register_buffer("zero", torch.tensor([3]))

        def forward(self, x: Tensor) -> Tensor:
            number = quantize(x, self.scale, self.zero, -128, 127, torch.int8)
            return back(number, self.scale, self.zero, -128, 127, torch.int8)

    module, x = lowered(Rounded(), torch.randn(3, 8)), torch.randn(3, 8)
    assert arguments(dequantized(module))["scale"] == 0.25
    assert torch.equal(module(x), Rounded()(x))


@pytest.mark.parametrize(("blocks", "scales"), [((6, 8), (1, 1)), ((1, 8), (6, 1)), ((6, 1), (1, 8)), ((1, 2), (6, 4))])
def test_torchaos_own_operator_is_understood(blocks: tuple[int, int], scales: tuple[int, int]) -> None:
    pytest.importorskip("torchao.quantization.pt2e.quantize_pt2e")
    back = torch.ops.torchao.dequantize_affine

    def weight(numbers: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
        return back(numbers, blocks, scale, zero, torch.int8, -128, 127)

    model = Weighted(weight, WEIGHT, torch.rand(scales) + 0.1, torch.randint(-3, 4, scales))
    x = torch.randn(3, 8)
    module = lowered(model, x)
    found = constant(arguments(dequantized(module))["input"])
    assert found is not None and found.dtype is torch.int8
    torch.testing.assert_close(module(x), model(x), rtol=1e-4, atol=1e-4)
