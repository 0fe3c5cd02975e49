"""The interpreter by itself: networks built by hand, and NVIDIA's own evaluation of constants as an outside judge."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

trt = pytest.importorskip("tensorrt_rtx")

from interpret.interpreter import Interpreter  # noqa: E402

DTYPES = {torch.float32: trt.float32, torch.float16: trt.float16, torch.int64: trt.int64, torch.bool: trt.bool}


class Sandbox:
    """A network being built by hand, with what has to stay alive."""

    def __init__(self) -> None:
        class Silent(trt.ILogger):  # type: ignore[misc, name-defined]
            def __init__(self) -> None:
                trt.ILogger.__init__(self)

            def log(self, severity: object, message: str) -> None:
                pass

        self.logger = Silent()
        self.builder = trt.Builder(self.logger)
        self.network = self.builder.create_network(0)
        self.kept: list[Tensor] = []

    def input(self, value: Tensor) -> Any:
        name = f"input{self.network.num_inputs}"
        return self.network.add_input(name, DTYPES[value.dtype], (-1,) * value.dim())

    def weights(self, value: Tensor) -> Any:
        self.kept.append(value.contiguous())
        return trt.Weights(DTYPES[value.dtype], self.kept[-1].data_ptr(), value.numel())

    def constant(self, value: Tensor) -> Any:
        return self.network.add_constant(tuple(value.shape), self.weights(value)).get_output(0)

    def run(self, layer: Any, *inputs: Tensor) -> Tensor:
        self.network.mark_output(layer.get_output(0))
        (result,) = Interpreter(self.network).run_all(*inputs)
        return result


X = torch.randn(2, 6, 7, 5, generator=torch.Generator().manual_seed(1))
KERNEL, BIAS = torch.randn(8, 3, 3, 3, generator=torch.Generator().manual_seed(2)), torch.arange(8.0)
ROWS: Sequence[tuple[str, Callable[[Sandbox, Any], Any], Callable[[Tensor], Tensor]]] = (
    ("relu", lambda box, x: box.network.add_activation(x, trt.ActivationType.RELU), F.relu),
    ("gelu", lambda box, x: box.network.add_activation(x, trt.ActivationType.GELU_ERF), F.gelu),
    ("exp", lambda box, x: box.network.add_unary(x, trt.UnaryOperation.EXP), torch.exp),
    ("softmax", lambda box, x: box.network.add_softmax(x), lambda x: x.softmax(1)),
    ("mean", lambda box, x: box.network.add_reduce(x, trt.ReduceOperation.AVG, 12, False), lambda x: x.mean((2, 3))),
    ("x * x", lambda box, x: box.network.add_elementwise(x, x, trt.ElementWiseOperation.PROD), lambda x: x * x),
    (
        "x @ x.mT",
        lambda box, x: box.network.add_matrix_multiply(x, trt.MatrixOperation.NONE, x, trt.MatrixOperation.TRANSPOSE),
        lambda x: x @ x.mT,
    ),
    ("cumsum", lambda box, x: box.network.add_cumulative(x, box.constant(torch.tensor(2)), trt.CumulativeOperation.SUM, False, False), lambda x: x.cumsum(2)),  # noqa: E501
    ("gather", lambda box, x: box.network.add_gather(x, box.constant(torch.tensor([-1, 0])), 1), lambda x: x[:, [-1, 0]]),
)  # fmt: skip


@pytest.mark.parametrize(("name", "add", "wanted"), ROWS, ids=[row[0] for row in ROWS])
def test_a_layer_gives_what_pytorch_gives(name: str, add: Callable[..., Any], wanted: Callable[..., Tensor]) -> None:
    box = Sandbox()
    layer = add(box, box.input(X))
    torch.testing.assert_close(box.run(layer, X), wanted(X), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("padding", [0, 1])
def test_a_convolution_reads_its_parameters_from_the_network(stride: int, padding: int) -> None:
    box = Sandbox()
    x = box.network.add_input("x", trt.float32, (-1, 6, -1, -1))
    layer = box.network.add_convolution_nd(x, 8, (3, 3), box.weights(KERNEL), box.weights(BIAS))
    layer.stride_nd, layer.padding_nd, layer.num_groups = (stride, stride), (padding, padding), 2
    torch.testing.assert_close(
        box.run(layer, X), F.conv2d(X, KERNEL, BIAS, stride, padding, 1, 2), rtol=1e-4, atol=1e-4
    )


def test_half_precision_is_computed_in_float32_and_rounded_once() -> None:
    box, x = Sandbox(), X.half()
    layer = box.network.add_activation(box.input(x), trt.ActivationType.SIGMOID)
    assert torch.equal(box.run(layer, x), x.float().sigmoid().half())


def test_a_wrong_dtype_is_found() -> None:
    box = Sandbox()
    layer = box.network.add_activation(box.input(X), trt.ActivationType.RELU)
    with pytest.raises(AssertionError, match="TensorRT says"):
        box.run(layer, X.double())


# NVIDIA's library evaluates constants when a shape depends on them: a judge of our reading that is not ourselves.
FOLDED: Sequence[tuple[str, Callable[[Sandbox, Any], Any]]] = (
    ("activation GELU_TANH", lambda box, x: box.network.add_activation(x, trt.ActivationType.GELU_TANH)),
    ("activation SOFTPLUS", lambda box, x: box.network.add_activation(x, trt.ActivationType.SOFTPLUS)),
    ("unary ROUND", lambda box, x: box.network.add_unary(x, trt.UnaryOperation.ROUND)),
    ("unary ERF", lambda box, x: box.network.add_unary(x, trt.UnaryOperation.ERF)),
    ("elementwise POW", lambda box, x: box.network.add_elementwise(box.network.add_unary(x, trt.UnaryOperation.ABS).get_output(0), x, trt.ElementWiseOperation.POW)),  # noqa: E501
    ("elementwise FLOOR_DIV", lambda box, x: box.network.add_elementwise(x, box.constant(torch.full((6,), 0.7)), trt.ElementWiseOperation.FLOOR_DIV)),  # noqa: E501
)  # fmt: skip


@pytest.mark.parametrize(("name", "add"), FOLDED, ids=[row[0] for row in FOLDED])
def test_nvidias_evaluation_of_constants_agrees(name: str, add: Callable[..., Any]) -> None:
    box = Sandbox()
    values = torch.tensor([-1.5, -0.5, 0.5, 1.25, 2.5, 3.0])
    result = add(box, box.constant(values)).get_output(0)
    scaled = box.network.add_elementwise(result, box.constant(torch.full((6,), 1e4)), trt.ElementWiseOperation.PROD)
    moved = box.network.add_elementwise(
        scaled.get_output(0), box.constant(torch.full((6,), 1e6)), trt.ElementWiseOperation.SUM
    )
    counts = box.network.add_cast(moved.get_output(0), trt.int64).get_output(0)
    fill = box.network.add_fill((1,) * 6, trt.FillOperation.LINSPACE)
    fill.set_input(0, counts)
    said = (torch.tensor(tuple(fill.get_output(0).shape)).double() - 1e6) / 1e4
    box.network.mark_output(result)
    (ours,) = Interpreter(box.network).run_all()
    torch.testing.assert_close(ours.double(), said, rtol=1e-3, atol=2e-4)
