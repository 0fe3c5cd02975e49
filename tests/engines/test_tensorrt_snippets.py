"""What the documented API shows on raw engines and partial compilation, with TensorRT-RTX engines built on this CPU.

Each test is one use of the public names, in the form in which documentation shows them; what a GPU is needed for ends in the
error that says so.
"""

from __future__ import annotations

import base64
import logging
from collections import Counter
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

trt = pytest.importorskip("tensorrt_rtx")

import torch_tensorrt  # noqa: E402
from torch_tensorrt.dynamo._refit import get_engine_from_encoded_engine  # noqa: E402

ENGINE = "tensorrt_rtx"
aten = torch.ops.aten


class Block(nn.Module):
    """A convolution with what usually follows it."""

    def __init__(self, given: int, made: int) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(given, made, 3, padding=1), nn.BatchNorm2d(made)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.norm(self.conv(x)))


class Network(nn.Module):
    """Two blocks, a pooling between them, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.pool, self.second = Block(3, 8), nn.AvgPool2d(2), Block(8, 16)
        self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.second(self.pool(self.first(x)))
        return self.head(x.mean((-1, -2))).softmax(-1)


def network() -> Network:
    return Network().eval()


IMAGES = torch_tensorrt.Input(min_shape=(1, 3, 16, 16), opt_shape=(2, 3, 16, 16), max_shape=(4, 3, 16, 16))


# ---- partial compilation ----


def test_compile_puts_all_that_it_can_into_engines() -> None:
    trt_model = torch_tensorrt.compile(network(), ir="dynamo", inputs=[IMAGES], engine=ENGINE)
    assert trt_model.plan.refusals == {}
    assert len(trt_model.plan.groups) == 1


@pytest.mark.parametrize(
    "operator",
    [
        "torch.ops.aten.avg_pool2d.default",
        "torch.ops.aten.avg_pool2d",
        "aten.avg_pool2d",
        aten.avg_pool2d.default,
        aten.avg_pool2d,
    ],
    ids=str,
)
def test_torch_executed_ops_stay_in_pytorch_in_every_form_of_their_name(operator: object) -> None:
    trt_model = torch_tensorrt.compile(
        network(), inputs=[IMAGES], engine=ENGINE, min_block_size=1, torch_executed_ops={operator}
    )
    (refused,) = trt_model.plan.refusals.values()
    assert "listed in torch_executed_ops" in refused
    assert len(trt_model.plan.groups) == 2  # before it and after it
    assert [str(node.target) for node in trt_model.graph.nodes if "avg_pool2d" in str(node.target)]


def test_min_block_size_leaves_small_blocks_to_pytorch() -> None:
    def engines(least: int) -> list[int]:
        trt_model = torch_tensorrt.compile(
            network(), inputs=[IMAGES], engine=ENGINE, min_block_size=least, torch_executed_ops={"aten.avg_pool2d"}
        )
        return [group.operations for group in trt_model.plan.groups]

    before, after = engines(1)
    assert before < after
    assert engines(before + 1) == [after]
    assert engines(after + 1) == []


def test_the_default_of_min_block_size_is_five() -> None:
    small = nn.Sequential(nn.ReLU(), nn.Sigmoid(), nn.Tanh(), nn.Softplus()).eval()
    trt_model = torch_tensorrt.compile(small, inputs=[torch.ones(2, 8)], engine=ENGINE)
    assert trt_model.plan.groups == ()
    assert all("smaller than min_block_size=5" in why for why in trt_model.plan.refusals.values())
    torch.testing.assert_close(trt_model(torch.ones(2, 8)), small(torch.ones(2, 8)))  # so it runs here


@pytest.mark.parametrize("named", [{Block}, {"Block"}, {"first", "second"}], ids=["class", "name", "paths"])
def test_torch_executed_modules_stay_in_pytorch_by_class_name_or_path(named: set[object]) -> None:
    trt_model = torch_tensorrt.compile(
        network(), inputs=[IMAGES], engine=ENGINE, min_block_size=1, torch_executed_modules=named
    )
    kept = Counter(str(node.target) for node in trt_model.graph.nodes if node.op == "call_function")
    assert kept["aten.relu.default"] == 2
    assert kept["aten.convolution.default"] == 2
    assert all("torch_executed_modules" in why for why in trt_model.plan.refusals.values())


def test_require_full_compilation_lists_every_operation_that_is_left() -> None:
    with pytest.raises(torch_tensorrt.UnsupportedError) as caught:
        torch_tensorrt.compile(
            network(),
            inputs=[IMAGES],
            engine=ENGINE,
            require_full_compilation=True,
            torch_executed_ops={"torch.ops.aten.relu.default"},
        )
    assert str(caught.value).count("aten.relu.default is listed in torch_executed_ops") == 2
    whole = torch_tensorrt.compile(network(), inputs=[IMAGES], engine=ENGINE, require_full_compilation=True)
    assert len(whole.plan.groups) == 1


def test_dryrun_shows_the_partitions_and_builds_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    trt_model = torch_tensorrt.compile(
        network(), inputs=[IMAGES], engine=ENGINE, min_block_size=1, torch_executed_ops={"aten.avg_pool2d"}, dryrun=True
    )
    shown = capsys.readouterr().out
    assert "2 'tensorrt_rtx' engine(s)" in shown
    assert "avg_pool2d" in shown
    x = torch.randn(2, 3, 16, 16)
    assert trt_model(x).shape == (2, 10)  # no engine: PyTorch runs it


def test_a_model_with_an_operator_that_no_engine_takes_is_compiled_in_part(caplog: pytest.LogCaptureFixture) -> None:
    class Partly(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network()

        def forward(self, x: Tensor) -> Tensor:
            return torch.lgamma(self.network(x))

    with caplog.at_level(logging.WARNING, logger="torch_tensorrt"):
        trt_model = torch_tensorrt.compile(Partly(), inputs=[IMAGES], engine=ENGINE)
    assert list(trt_model.plan.refusals) == ["lgamma"]
    assert any("in PyTorch: lgamma" in record.getMessage() for record in caplog.records)


def test_calling_what_was_compiled_for_a_gpu_says_what_it_needs() -> None:
    trt_model = torch_tensorrt.compile(network(), inputs=[IMAGES], engine=ENGINE, device="sm_89")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(torch_tensorrt.EngineNotRunnable, match="needs an NVIDIA GPU"):
        trt_model(torch.randn(2, 3, 16, 16))


# ---- raw engines ----


def test_an_exported_program_becomes_a_serialized_engine_in_a_file(tmp_path: Path) -> None:
    inputs = [torch.randn(2, 3, 16, 16)]
    exp_program = torch.export.export(network(), tuple(inputs))
    serialized_engine = torch_tensorrt.dynamo.convert_exported_program_to_serialized_trt_engine(
        exp_program, arg_inputs=inputs
    )
    path = tmp_path / "network.engine"
    path.write_bytes(serialized_engine)
    with open(path, "rb") as file:
        assert file.read() == serialized_engine
    assert serialized_engine[:4] == b"vtrt"


def test_the_options_of_compile_are_options_of_a_raw_engine_too() -> None:
    exp_program = torch_tensorrt.dynamo.trace(network(), arg_inputs=[IMAGES])
    small = torch_tensorrt.dynamo.convert_exported_program_to_serialized_trt_engine(
        exp_program, arg_inputs=[IMAGES], enabled_precisions={torch.half}, optimization_level=2, disable_tf32=True
    )
    large = torch_tensorrt.dynamo.convert_exported_program_to_serialized_trt_engine(exp_program, arg_inputs=[IMAGES])
    assert len(small) < len(large)  # float16 weights


def test_keyword_inputs_become_bindings_of_their_names() -> None:
    class Masked(nn.Module):
        def forward(self, tokens: Tensor, *, mask: Tensor) -> Tensor:
            return tokens * mask

    exp_program = torch.export.export(Masked(), (torch.ones(2, 4),), {"mask": torch.ones(4)})
    engine = torch_tensorrt.dynamo.convert_exported_program_to_serialized_trt_engine(
        exp_program, arg_inputs=(torch.ones(2, 4),), kwarg_inputs={"mask": torch.ones(4)}
    )
    assert b"tokens" in engine
    assert b"mask" in engine


def test_convert_method_to_trt_engine_takes_a_module_and_the_name_of_a_method() -> None:
    engine = torch_tensorrt.convert_method_to_trt_engine(network(), "forward", inputs=[IMAGES], ir="dynamo")
    assert engine[:4] == b"vtrt"
    assert b"output0" in engine


def test_an_encoded_engine_goes_to_the_sdk_s_runtime() -> None:
    engine = torch_tensorrt.convert_method_to_trt_engine(network(), inputs=[IMAGES])
    encoded = base64.b64encode(engine).decode()
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    runtime = trt.Runtime(_Silent())
    with pytest.raises(torch_tensorrt.EngineNotRunnable, match=f"engine of {len(engine)} bytes"):
        get_engine_from_encoded_engine(encoded, runtime)


class _Silent(trt.ILogger):  # type: ignore[misc]
    def __init__(self) -> None:
        trt.ILogger.__init__(self)

    def log(self, severity: object, message: str) -> None:
        """Says nothing."""
