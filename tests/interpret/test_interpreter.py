"""The interpreter by itself: networks built by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

trt = pytest.importorskip("tensorrt_rtx")

from interpret.sandbox import Sandbox  # noqa: E402

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
