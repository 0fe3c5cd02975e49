"""Attention's first product is computed in int8: queries and keys are rounded, what softmax gives and values are not."""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Iterator, Sequence

import pytest
import torch
from quantization.models import relative
from torch import Tensor, fx, nn
from torch.export import ExportedProgram

import torch_tensorrt
from torch_tensorrt import Input, InputError
from torch_tensorrt.quantization import tools

pytestmark = pytest.mark.skipif(not tools.installed("torchao"), reason="torchao is not installed")
HEADS, WIDTH = 4, 64


class Fused(nn.Module):
    """By PyTorch's operator, with layers of its own for each operand."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (self.heads(each(x)) for each in (self.query, self.key, self.value))
        return self.out(self.attend(q, k, v).transpose(1, 2).flatten(2))

    def heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (HEADS, WIDTH // HEADS)).transpose(1, 2)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)


class Written(Fused):
    """The same as products, a mask and a softmax."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        hidden = torch.ones(q.shape[2], q.shape[2], dtype=torch.bool).triu(1)
        scores = (q @ k.transpose(-2, -1)) / math.sqrt(WIDTH // HEADS)
        return scores.masked_fill(hidden, -1e9).softmax(-1) @ v


class Alike(Fused):
    """Values are keys."""

    def forward(self, x: Tensor) -> Tensor:
        kept = self.key(x).tanh().unsqueeze(1)
        return self.out(nn.functional.scaled_dot_product_attention(self.query(x).unsqueeze(1), kept, kept).squeeze(1))


class Cached(Fused):
    """Keys are written into a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: Tensor
        self.register_buffer("kept", torch.zeros(2, 32, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        self.kept[:, :24] = self.key(x)
        values = nn.functional.pad(self.value(x), (0, 0, 0, 8))
        return nn.functional.scaled_dot_product_attention(self.query(x), self.kept, values)


class Sliced(Fused):
    """A part of the keys is written anew."""

    def forward(self, x: Tensor) -> Tensor:
        key = self.key(x)
        key[..., : WIDTH // 2] = key[..., : WIDTH // 2] * 3 + 1
        return nn.functional.scaled_dot_product_attention(self.query(x), key, self.value(x))


class Changed(Fused):
    """Keys are a buffer that each call changes."""

    def __init__(self) -> None:
        super().__init__()
        self.bank: Tensor
        self.register_buffer("bank", torch.randn(24, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        result = (self.query(x) @ self.bank.t()).softmax(-1) @ self.bank
        self.bank.add_(1.0)
        return result


class Classes(Fused):
    """A softmax of a product with a weight, and of one of two values, without a second product: no attention."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(WIDTH, 7))

    def forward(self, x: Tensor) -> Tensor:
        values = self.value(x)
        return (self.query(x) @ self.weight).softmax(-1).sum(-1) + (values @ values.mT).softmax(-1).sum(-1)


class Split(Fused):
    """The operands come from one layer, as GPT-2 has it."""

    def __init__(self) -> None:
        super().__init__()
        self.all = nn.Linear(WIDTH, 3 * WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (self.heads(each) for each in self.all(x).split(WIDTH, -1))
        return self.out(self.attend(q, k, v).transpose(1, 2).flatten(2))


def quantized(model: nn.Module, data: Sequence[Tensor]) -> ExportedProgram:
    varying = Input(min_shape=(1, 2, WIDTH), opt_shape=(2, 24, WIDTH), max_shape=(4, 64, WIDTH))
    return torch_tensorrt.quantize(model, data, inputs=[varying], method="torchao")


def rounded_around_zero(program: ExportedProgram) -> list[fx.Node]:
    """What is rounded to int8 with one scale and a zero point of 0: no weight is."""
    quantize = torch.ops.quantized_decomposed.quantize_per_tensor.default
    found = program.graph.find_nodes(op="call_function", target=quantize)
    return [node for node in found if node.args[2] == 0 and node.args[-1] is torch.int8]


LAYERS = {torch.ops.aten.linear.default, operator.getitem}
ATTENTION = torch.ops.aten.scaled_dot_product_attention.default
SECOND = {ATTENTION, torch.ops.aten.matmul.default}


def shown_by_the_values(program: ExportedProgram) -> list[object]:
    """What the last product multiplies with, back to the layer."""
    last = [node for node in program.graph.nodes if node.target in SECOND][-1]
    node, targets = last.args[2 if last.target is ATTENTION else 1], []
    while isinstance(node, fx.Node):
        targets.append(node.target)
        node = node.args[0] if node.target not in LAYERS else None
    return targets


@pytest.mark.parametrize("make", [Fused, Written, Split])
def test_queries_and_keys_are_rounded_and_nothing_else_of_attention(make: type[Fused]) -> None:
    torch.manual_seed(0)
    model, data = make().eval(), [torch.randn(2, 24, WIDTH) for _ in range(4)]
    program = quantized(model, data)
    rounded = rounded_around_zero(program)
    assert len(rounded) == 2
    assert all(node.args[0].target in LAYERS for node in rounded)
    seen = shown_by_the_values(program)
    assert seen[-1] in LAYERS
    assert "quantize" not in str(seen)
    x = torch.randn(3, 40, WIDTH)
    with torch.no_grad():
        assert relative(program.module()(x), model(x)) < 0.05


@pytest.mark.parametrize("make", [Alike, Cached, Sliced, Changed, Classes])
@pytest.mark.parametrize("symmetric", [False, True], ids=["", "symmetric"])
def test_what_would_be_rounded_at_the_wrong_time_or_is_no_attention_stays(make: type[Fused], symmetric: bool) -> None:
    torch.manual_seed(0)
    model, data = make().eval(), [torch.randn(2, 24, WIDTH) for _ in range(4)]

    def roundings(**options: bool) -> list[str]:
        program = torch_tensorrt.quantize(model, data, method="torchao", symmetric=symmetric, **options)
        quantize = torch.ops.quantized_decomposed.quantize_per_tensor.default
        return [str(node.args) for node in program.graph.find_nodes(op="call_function", target=quantize)]

    assert roundings() == roundings(attention=False)


def test_attention_can_be_left_in_float32() -> None:
    torch.manual_seed(0)
    model, data = Fused().eval(), [torch.randn(2, 24, WIDTH) for _ in range(4)]
    program = torch_tensorrt.quantize(model, data, attention=False)
    assert not rounded_around_zero(program)


def untouched() -> Iterator[Tensor]:
    raise AssertionError("the samples were read before the options")
    yield


@pytest.mark.parametrize("options", [{"method": "nncf"}, {"weight_only": True}, {"precision": "float8"}], ids=str)
def test_what_cannot_leave_attention_alone_says_so_at_once(options: dict[str, object]) -> None:
    with pytest.raises(InputError, match="attention=False"):
        torch_tensorrt.quantize(Fused().eval(), untouched(), attention=False, **options)


@pytest.mark.parametrize("make", [Fused, Split])
def test_openvino_attends_in_int8(make: type[Fused]) -> None:
    torch.manual_seed(0)
    model, data = make().eval(), [torch.randn(2, 24, WIDTH) for _ in range(4)]
    program = quantized(model, data)
    compiled = torch_tensorrt.compile(program, engine="openvino", require_full_compilation=True)
    (told,) = torch_tensorrt.runtime.get_layer_info(compiled).values()
    ran = [(layer["LayerType"], layer["Precision"]) for layer in json.loads(told)["Layers"]]
    assert ("Subgraph", "i8") in ran, ran
    for x in (data[0], torch.randn(3, 40, WIDTH)):
        with torch.no_grad():
            assert relative(compiled(x), program.module()(x)) < 1e-2


def test_operands_that_are_no_float32_stay() -> None:
    torch.manual_seed(0)

    class Narrow(Fused):
        def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return super().attend(q.bfloat16(), k.bfloat16(), v.bfloat16()).float()

    model, data = Narrow().eval(), [torch.randn(2, 24, WIDTH) for _ in range(4)]
    assert not rounded_around_zero(quantized(model, data))


def test_a_product_without_softmax_stays() -> None:
    class Product(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x @ x.transpose(-2, -1)).relu() @ x

    program = quantized(Product().eval(), [torch.randn(2, 24, WIDTH)])
    assert "quantize" not in str(program.graph)
