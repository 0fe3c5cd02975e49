"""Layouts of convolutions: what torch.export predicted, with the fast libraries switched off, is not what kernels are made for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

import torch_tensorrt
from torch_tensorrt.graphs.predictions import fresh_predictions
from torch_tensorrt.package import confirming

aten = torch.ops.aten
LAST = torch.channels_last


class Patches(nn.Module):
    """A convolution of the input, what follows it number by number, and a view of it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.convolution, self.bias = nn.Conv2d(8, 12, 3, bias=False), nn.Parameter(torch.randn(12, 1, 1))
        self.last = nn.Linear(768, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = torch.nn.functional.silu(self.convolution(x) + self.bias)
        return y, self.last(torch.relu(self.convolution(x)).flatten(1))


@pytest.fixture
def model() -> nn.Module:
    return Patches().eval().requires_grad_(False).to(memory_format=LAST)


@pytest.fixture
def x() -> Tensor:
    return torch.randn(2, 8, 10, 10).to(memory_format=LAST)


@pytest.fixture
def _as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Results are said to be contiguous while oneDNN is off, as those of convolutions on a GPU are while cuDNN is."""
    determine = torch._C._conv_determine_backend_memory_format

    def said(*arguments: object) -> torch.memory_format:
        return determine(*arguments) if torch._C._get_mkldnn_enabled() else torch.contiguous_format

    monkeypatch.setattr(torch._C, "_conv_determine_backend_memory_format", said)
    FakeTensorMode.cache_clear()
    yield
    FakeTensorMode.cache_clear()


@pytest.mark.usefixtures("_as_on_a_gpu")
@pytest.mark.parametrize("way", ["engine", "refittable engine", "package"])
def test_results_are_right_though_export_predicted_another_layout(
    way: str, model: nn.Module, x: Tensor, tmp_path: Path
) -> None:
    program = torch.export.export(model, (x,), strict=False)
    convolution = program.graph.find_nodes(op="call_function", target=aten.conv2d.default)[0]
    assert convolution.meta["val"].is_contiguous(), "what is to be wrong is"
    engine = "eager" if way == "package" else "inductor"
    run: object = torch_tensorrt.compile(
        program, arg_inputs=[x], engine=engine, min_block_size=1, immutable_weights=way != "refittable engine"
    )
    if way == "package":
        torch_tensorrt.save(run, tmp_path / "model.pt2", output_format="aot_inductor", arg_inputs=[x])
        run = torch_tensorrt.load(tmp_path / "model.pt2")
    for given in (x, x.contiguous()):
        torch.testing.assert_close(tuple(run(given)), model(given), rtol=1e-4, atol=1e-5)  # type: ignore[operator]


def test_what_onednn_lays_out_otherwise_than_export_predicted_is_right() -> None:
    torch.manual_seed(0)
    layers = nn.Conv3d(3, 4, 3), nn.ReLU(), nn.Flatten(1), nn.Linear(256, 5)
    model = nn.Sequential(*layers).eval().requires_grad_(False).to(memory_format=torch.channels_last_3d)
    x = torch.randn(2, 3, 6, 6, 6).to(memory_format=torch.channels_last_3d)
    run = torch_tensorrt.compile(model, arg_inputs=[x], engine="inductor", min_block_size=1)
    torch.testing.assert_close(run(x), model(x), rtol=1e-4, atol=1e-5)


def test_a_program_whose_views_need_the_predicted_layout_can_be_compared(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv3d(3, 4, 3, bias=False), nn.Flatten(1)).eval().to(memory_format=torch.channels_last_3d)
    x = torch.randn(2, 3, 6, 6, 6).to(memory_format=torch.channels_last_3d)
    program = torch.export.export(model, (x,), strict=False).run_decompositions({})
    wrong = torch._inductor.aoti_compile_and_package(
        torch.export.export(nn.Sequential(nn.Flatten(1), nn.Tanh(), nn.Linear(648, 256)), (x,)),
        package_path=str(tmp_path / "wrong.pt2"),
    )
    assert confirming.disagreement(program, wrong) > 0.5


def test_nothing_is_looked_up_that_was_predicted_before(
    model: nn.Module, x: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    select = torch._C._select_conv_backend
    monkeypatch.setattr(
        torch._C, "_select_conv_backend", lambda *given, **named: asked.append(1) or select(*given, **named)
    )
    program = torch.export.export(model, (x,), strict=False)
    mode = next(iter(program.graph.nodes)).meta["val"].fake_mode

    def times_asked() -> int:
        before = len(asked)
        with mode:
            for _ in range(2):
                aten.convolution(
                    torch.empty(1, 8, 9, 9), torch.empty(12, 8, 3, 3), None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1
                )
        return len(asked) - before

    assert times_asked() == 1, "PyTorch keeps what it predicted"
    with fresh_predictions(program):
        assert times_asked() == 2
    assert times_asked() == 1


@pytest.mark.usefixtures("_as_on_a_gpu")
def test_the_program_is_the_same_afterwards(model: nn.Module, x: Tensor) -> None:
    program = torch.export.export(model, (x,), strict=False).run_decompositions({})
    before = str(program.graph)
    assert "aten.view.default" in before
    with pytest.raises(KeyError), fresh_predictions(program):
        assert "aten.view.default" not in str(program.graph)
        raise KeyError
    assert str(program.graph) == before


def test_programs_without_convolutions_are_left_alone() -> None:
    program = torch.export.export(nn.Flatten(), (torch.ones(2, 3, 4),)).run_decompositions({})
    before = str(program.graph)
    with fresh_predictions(program):
        assert str(program.graph) == before
