"""Resizing by OpenVINO and ONNX Runtime takes the neighbours that PyTorch takes, at every pair of sizes, or is left to PyTorch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import torch_tensorrt
from torch_tensorrt import Input
from torch_tensorrt.engines import backend

EXECUTE = torch.ops.tensorrt.execute_engine.default


class To(nn.Module):
    def __init__(self, mode: str, **options: object) -> None:
        super().__init__()
        self.options = {"mode": mode, **options}

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.interpolate(x, **self.options)  # type: ignore[arg-type]


class Like(To):
    def forward(self, x: Tensor, like: Tensor) -> Tensor:
        return nn.functional.interpolate(x, size=like.shape[-2:], **self.options)  # type: ignore[arg-type]


@pytest.fixture(params=["openvino", "onnxruntime"])
def engine(request: pytest.FixtureRequest) -> str:
    if not backend(request.param).available(torch.device("cpu")):
        pytest.skip(f"{request.param} is not here")
    return str(request.param)


def compiled(engine: str, model: nn.Module, *inputs: object) -> nn.Module:
    return torch_tensorrt.compile(model, inputs=list(inputs), engine=engine, min_block_size=1)


def varying(least: int, like: bool = False) -> Input:
    return Input(min_shape=(1, 1, least, least), opt_shape=(1, 1, 16, 16), max_shape=(1, 1, 64, 64), name=f"x{like}")


def engines(module: nn.Module) -> int:
    return len(module.graph.find_nodes(op="call_function", target=EXECUTE))  # type: ignore[union-attr, operator]


SIZES = [
    (14, 2),
    (14, 7),
    (28, 4),
    (20, 12),
    (20, 24),
    (21, 3),
    (26, 2),
    (25, 15),
    (13, 25),
    (7, 14),
    (3, 123),
    (2, 94),
    (6, 6),
]


@pytest.mark.parametrize(("before", "after"), SIZES)
def test_the_nearest_neighbour_is_pytorchs(engine: str, before: int, after: int) -> None:
    for size, shape in (
        ((after, 4), (2, 3, before, 8)),
        ((5, after), (2, 3, 5, before)),
        ((after, after), (1, 1, before, before)),
    ):
        model, x = To("nearest", size=size), torch.randn(shape)
        torch.testing.assert_close(compiled(engine, model, x)(x), model(x), rtol=0, atol=0)


@pytest.mark.parametrize("factor", [0.1, 0.25, 0.3, 0.5, 1.5, 2.0, 3.0, 41.0, (2.0, 0.5)])
@pytest.mark.parametrize("height", [10, 13, 40])
def test_the_nearest_neighbour_by_a_factor_is_pytorchs(engine: str, factor: float, height: int) -> None:
    model, x = To("nearest", scale_factor=factor), torch.randn(1, 2, height, 30)
    torch.testing.assert_close(compiled(engine, model, x)(x), model(x), rtol=0, atol=0)


@pytest.mark.parametrize("factor", [2.0, 3.0, 0.5, 1.5])
def test_the_nearest_neighbour_is_pytorchs_at_sizes_that_vary(engine: str, factor: float) -> None:
    model = To("nearest", scale_factor=factor)
    made = compiled(engine, model, varying(4))
    assert engines(made) == (factor >= 2)
    for height in range(4, 65, 3):
        x = torch.randn(1, 1, height, 68 - height)
        torch.testing.assert_close(made(x), model(x), rtol=0, atol=0)


def test_a_size_that_another_input_has_is_pytorchs(engine: str) -> None:
    model = Like("nearest")
    made = compiled(engine, model, varying(2), varying(2, like=True))
    for before, after in SIZES:
        if after <= 64:
            x, like = torch.randn(1, 1, before, 20), torch.zeros(1, 1, after, 12)
            torch.testing.assert_close(made(x, like), model(x, like), rtol=0, atol=0)


@pytest.mark.parametrize("align", [False, True])
@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_images_of_one_row_are_pytorchs(engine: str, mode: str, align: bool) -> None:
    for size, shape in (((1, 4), (1, 2, 5, 8)), ((3, 1), (1, 2, 5, 8)), ((3, 1), (1, 2, 5, 1)), ((4, 4), (1, 2, 1, 1))):
        model, x = To(mode, size=size, align_corners=align), torch.randn(shape)
        torch.testing.assert_close(compiled(engine, model, x)(x), model(x), rtol=1e-4, atol=1e-5)
    model = Like(mode, align_corners=align)
    for least in (1, 2, 3):
        made = compiled(engine, model, varying(least), varying(least, like=True))
        if engine == "openvino":
            assert engines(made) == (align or least > 2)
        for before, after in ((5, least), (9, 4), (least, least)):
            x, like = torch.randn(1, 1, before, 7), torch.zeros(1, 1, after, 7)
            torch.testing.assert_close(made(x, like), model(x, like), rtol=1e-4, atol=1e-5)


def test_lines_and_volumes_of_one_element_are_pytorchs(engine: str) -> None:
    for model, x in (
        (To("linear", size=1), torch.randn(1, 2, 6)),
        (To("trilinear", size=(2, 2, 1)), torch.randn(1, 2, 4, 4, 6)),
    ):
        torch.testing.assert_close(compiled(engine, model, x)(x), model(x))
