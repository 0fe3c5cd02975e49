"""Resizing by OpenVINO and ONNX Runtime takes the neighbours that PyTorch takes, at every pair of sizes, or is left to PyTorch."""

from __future__ import annotations

from collections.abc import Callable

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
        made = compiled(engine, model, x)
        torch.testing.assert_close(made(x), model(x), rtol=0, atol=0)
        if engine == "openvino" and before % after == 0 and size[0] == size[1]:
            assert engines(made)


def test_one_dimension_may_be_taken_in_steps() -> None:
    model, x = To("nearest", size=(2, 3)), torch.randn(1, 2, 4, 5)
    made = torch_tensorrt.compile(model, inputs=[x], engine="openvino", min_block_size=1, require_full_compilation=True)
    torch.testing.assert_close(made(x), model(x), rtol=0, atol=0)


@pytest.mark.parametrize("factor", [0.1, 0.25, 0.3, 0.5, 1.5, 1.7, 2.0, 3.0, 41.0, (2.0, 0.5)])
@pytest.mark.parametrize("height", [10, 13, 40])
def test_the_nearest_neighbour_by_a_factor_is_pytorchs(engine: str, factor: float, height: int) -> None:
    model, x = To("nearest", scale_factor=factor), torch.randn(1, 2, height, 30)
    made = compiled(engine, model, x)
    torch.testing.assert_close(made(x), model(x), rtol=0, atol=0)
    if factor in (2.0, 3.0) or (engine == "openvino" and factor == 0.5):
        assert engines(made)


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
            assert engines(made) == (align or least > 1)
        for before, after in ((5, least), (9, 4), (least, least)):
            x, like = torch.randn(1, 1, before, 7), torch.zeros(1, 1, after, 7)
            torch.testing.assert_close(made(x, like), model(x, like), rtol=1e-4, atol=1e-5)


def test_lines_and_volumes_of_one_element_are_pytorchs(engine: str) -> None:
    for model, x in (
        (To("linear", size=1), torch.randn(1, 2, 6)),
        (To("trilinear", size=(2, 2, 1)), torch.randn(1, 2, 4, 4, 6)),
    ):
        torch.testing.assert_close(compiled(engine, model, x)(x), model(x))


def double(x: Tensor, factor: float = 2.0) -> Tensor:
    return nn.functional.interpolate(x, scale_factor=factor)


AFTER: dict[str, Callable[[Tensor], Tensor]] = {
    "another": lambda x: double(double(x, 0.5)),
    "half of a half": lambda x: double(double(x, 0.5), 0.5),
    "a variance": lambda x: double(torch.var_mean(x, 1, keepdim=True)[0]),
    "attention": lambda x: double(nn.functional.scaled_dot_product_attention(x, x, x, attn_mask=x[:, :1] > -9)),
    "an index of it": lambda x: double(x, 0.5)[:, :, torch.tensor([0, -1])[:, None], torch.tensor([1, 2])],
}


class Calls(nn.Module):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.function = AFTER[name]

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


@pytest.mark.parametrize("name", AFTER)
def test_resizing_stands_beside_what_else_is_rewritten(engine: str, name: str) -> None:
    model, x = Calls(name), torch.randn(1, 2, 16, 16)
    torch.testing.assert_close(compiled(engine, model, x)(x), model(x))


class OfWhatIsTrue(nn.Module):
    def __init__(self, times: int | None) -> None:
        super().__init__()
        self.times = times

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        y = x[:, :, mask]
        size = (8, 8) if self.times is None else (y.shape[2] * self.times, 32)
        return nn.functional.interpolate(y, size=size) + 1


@pytest.mark.parametrize("times", [None, 2])
def test_sizes_that_only_a_run_tells_are_left_to_pytorch(engine: str, times: int | None) -> None:
    model, x, mask = OfWhatIsTrue(times), torch.randn(1, 2, 6, 16), torch.arange(6) > 1
    torch.testing.assert_close(compiled(engine, model, x, mask)(x, mask), model(x, mask))


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
def test_another_default_device_changes_nothing(engine: str, mode: str) -> None:
    model, x = To(mode, size=(14, 8)), torch.randn(1, 2, 28, 16)
    with torch.device("meta"):
        made = compiled(engine, model, x)
    torch.testing.assert_close(made(x), model(x))


class Net(nn.Module):
    """The upper half of a U-Net."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = nn.functional.max_pool2d(self.down(x), 2)
        return self.up(nn.functional.interpolate(y, size=x.shape[-2:], mode="bilinear")) + x


def test_a_network_that_goes_up_again_is_one_engine() -> None:
    torch._dynamo.reset()
    model = Net().eval()
    given = Input(min_shape=(1, 3, 4, 4), opt_shape=(1, 3, 16, 16), max_shape=(1, 3, 64, 64))
    made = torch_tensorrt.compile(model, inputs=[given], engine="openvino", min_block_size=1)
    assert engines(made) == 1
    options = {"engine": "openvino", "min_block_size": 1, "require_full_compilation": True}
    run = torch.compile(model, backend="torch_tensorrt", dynamic=True, options=options)
    with torch.no_grad():
        for size in (9, 16, 32):
            x = torch.randn(1, 3, size, 20)
            for call in (made, run):
                torch.testing.assert_close(call(x), model(x), rtol=1e-4, atol=1e-5)
