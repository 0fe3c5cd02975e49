"""What users do with models on a GPU beside compiling them: quantize, profile, autocast, pass inputs of all kinds. Against PyTorch."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import torch_tensorrt
from torch_tensorrt.dynamo import Debugger
from torch_tensorrt.tools.coverage import relative_error

pytestmark = pytest.mark.gpu
DEVICE = "cuda"


class Net(nn.Module):
    """A convolution, a normalization, pooling, and linear layers wide enough for every quantization."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm = nn.Conv2d(3, 64, 3, padding=1), nn.BatchNorm2d(64)
        self.linear, self.last = nn.Linear(64, 128), nn.Linear(128, 64)

    def forward(self, x: Tensor) -> Tensor:
        seen = torch.relu(self.norm(self.conv(x))).mean((2, 3))
        return self.last(torch.nn.functional.gelu(self.linear(seen)))


def network() -> nn.Module:
    return Net().to(DEVICE).eval().requires_grad_(False)


def images(rows: int = 4) -> Tensor:
    return torch.randn(rows, 3, 16, 16, device=DEVICE)


def varying(low: int = 1) -> torch_tensorrt.Input:
    return torch_tensorrt.Input(min_shape=(low, 3, 16, 16), opt_shape=(4, 3, 16, 16), max_shape=(8, 3, 16, 16))


def in_one_engine(module: torch_tensorrt.CompiledModule) -> bool:
    plan = module.plan
    assert plan is not None
    return plan.backend == "inductor" and len(plan.groups) == 1 and not plan.refusals


@pytest.mark.parametrize("rows", [4, None], ids=["fixed", "varying"])
@pytest.mark.parametrize(
    ("options", "most"),
    [
        ({"data": True}, 0.05),
        ({"weight_only": True}, 0.02),
        ({"weight_only": True, "precision": "int4", "group_size": 64}, 0.2),
    ],
    ids=["int8", "int8 weights", "int4 weights"],
)
def test_quantized_models(options: dict[str, object], most: float, rows: int | None) -> None:
    model, given = network(), {name: value for name, value in options.items() if name != "data"}
    data = [(images(),) for _ in range(4)] if "data" in options else None
    inputs = [varying() if rows is None else images(rows)]
    if data is not None:
        pytest.importorskip("torchao")
    program = torch_tensorrt.quantize(model, data, inputs=inputs, **given)
    module = torch_tensorrt.compile(program, inputs=inputs)
    assert in_one_engine(module)
    for count in (4,) if rows else (1, 4, 8):
        x = images(count)
        assert relative_error(module(x), model(x)) < most
        assert relative_error(module(x), program.module()(x)) < 1e-2


def test_the_debugger_times_layers(tmp_path: Path) -> None:
    model, x = network(), images()
    with Debugger(save_layer_info=True, save_engine_profile=True, profile_format="trex", logging_dir=tmp_path):
        module = torch_tensorrt.compile(model, inputs=[x])
        assert relative_error(module(x), model(x)) < 1e-3
    head, *layers = json.loads((tmp_path / "engine_profiles/part_0.trex.json").read_text())
    assert head == {"count": 1}
    assert all(layer["timeMs"] > 0 for layer in layers)
    assert sum(layer["percentage"] for layer in layers) == pytest.approx(100)


@pytest.mark.parametrize("described", [False, True], ids=["fixed", "varying"])
def test_autocast_in_the_model(described: bool) -> None:
    class Casting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = Net()

        def forward(self, x: Tensor) -> Tensor:
            with torch.autocast(DEVICE, torch.bfloat16):
                seen = self.net(x)
            return seen.float() * 2

    model = Casting().to(DEVICE).eval().requires_grad_(False)
    module = torch_tensorrt.compile(model, inputs=[varying() if described else images()])
    x = images()
    assert relative_error(module(x), model(x)) < 1e-2


class Kinds(nn.Module):
    """Inputs by name and in a dict, of several dtypes; results in a tuple in a dict."""

    def forward(self, x: Tensor, *, table: dict[str, Tensor], keep: Tensor | None = None) -> dict[str, object]:
        picked = x[:, table["where"]] * table["scale"].to(x.dtype)
        seen = torch.where(table["mask"], picked, torch.zeros_like(picked))
        return {"both": (seen.softmax(-1), seen.argmax(-1)), "none": keep, "sum": seen.sum() > 0}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16], ids=str)
def test_inputs_and_results_of_all_kinds(dtype: torch.dtype) -> None:
    x = torch.randn(4, 16, device=DEVICE, dtype=dtype)
    table = {
        "where": torch.tensor([3, 1, 7], device=DEVICE),
        "scale": torch.tensor([2, 3, 4], device=DEVICE, dtype=torch.int32),
        "mask": torch.tensor([True, False, True], device=DEVICE),
    }
    module = torch_tensorrt.compile(Kinds(), arg_inputs=[x], kwarg_inputs={"table": table}, min_block_size=1)
    given, wanted = module(x, table=table), Kinds()(x, table=table)
    assert given["none"] is None
    torch.testing.assert_close(given, wanted, rtol=1e-2 if dtype.itemsize == 2 else 1e-5, atol=1e-3)


WAYS: dict[str, Callable[[Tensor], Tensor]] = {
    "channels last": lambda x: x.to(memory_format=torch.channels_last),
    "transposed": lambda x: x.transpose(2, 3),
    "a slice": lambda x: torch.cat([x, x], 3)[..., ::2],
    "expanded": lambda x: x[:1].expand_as(x),
    "a part of a buffer": lambda x: torch.cat([x, x])[2:6],
    "at an odd address": lambda x: torch.cat([x.new_zeros(1), x.flatten()])[1:].view_as(x),
    "with gradients": lambda x: x.requires_grad_(),
}


@pytest.mark.parametrize("half", [False, True], ids=["f32", "f16"])
@pytest.mark.parametrize("described", [False, True], ids=["fixed", "varying"])
@pytest.mark.parametrize("way", list(WAYS))
def test_inputs_in_any_memory(way: str, described: bool, half: bool) -> None:
    model = network().half() if half else network()
    dtype = torch.float16 if half else torch.float32
    size = torch_tensorrt.Input(
        min_shape=(1, 3, 16, 16), opt_shape=(4, 3, 16, 16), max_shape=(8, 3, 16, 16), dtype=dtype
    )
    module = torch_tensorrt.compile(model, inputs=[size if described else images().to(dtype)])
    assert in_one_engine(module)
    x = WAYS[way](images().to(dtype))
    assert relative_error(module(x), model(x)) < (1e-2 if half else 1e-3)


def test_no_rows_at_all() -> None:
    model = network()
    module = torch_tensorrt.compile(model, inputs=[varying(0)])
    for rows in (0, 4, 0, 1):
        x = images(rows)
        assert module(x).shape == (rows, 64)
        assert relative_error(module(x), model(x)) < 1e-3


@pytest.mark.parametrize("level", [0, 1, 2, 4])
def test_every_level_is_right(level: int) -> None:
    model, x = network(), images()
    module = torch_tensorrt.compile(model, inputs=[x], optimization_level=level)
    assert relative_error(module(x), model(x)) < 1e-3


def test_two_models_in_turns() -> None:
    models = [network(), network().half()]
    modules = [
        torch_tensorrt.compile(models[0], inputs=[images()]),
        torch_tensorrt.compile(models[1], inputs=[images().half()]),
    ]
    for _ in range(3):
        x = images()
        assert relative_error(modules[0](x), models[0](x)) < 1e-3
        assert relative_error(modules[1](x.half()), models[1](x.half())) < 1e-2
