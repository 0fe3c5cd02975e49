"""Raw engines: a whole program as the bytes that an SDK reads, with nothing of ours in them."""

from __future__ import annotations

import base64
import io
import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

import torch_tensorrt
from torch_tensorrt import EngineNotRunnable, FileFormatError, InputError, UnsupportedError, engines
from torch_tensorrt.contracts.engine_bytes import MAGIC
from torch_tensorrt.contracts.partition import Partition
from torch_tensorrt.dynamo import (
    BindingNameMismatchError,
    convert_exported_program_to_serialized_trt_engine,
    convert_exported_program_to_trt_engine,
)
from torch_tensorrt.dynamo._refit import get_engine_from_encoded_engine
from torch_tensorrt.engine_choice import NVIDIA, choose_backend
from torch_tensorrt.lowering.pipeline import lower
from torch_tensorrt.partition.whole import partition_refusals, take_whole
from torch_tensorrt.spec.settings import CompilationSettings
from torch_tensorrt.trace.symbols import symbol_ranges


class Scorer(nn.Module):
    """Two arguments, one of them by keyword, two results, and a method beside forward."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 4)

    def forward(self, x: Tensor, *, shift: Tensor) -> dict[str, Tensor]:
        scores = self.layer(x) + shift
        return {"scores": scores, "best": scores.amax(-1)}

    def encode(self, words: Tensor) -> Tensor:
        return self.layer(words).relu()


def scorer() -> Scorer:
    return Scorer().eval()


def exported(model: nn.Module | None = None) -> torch.export.ExportedProgram:
    batch = torch.export.Dim("batch", min=1, max=16)
    return torch.export.export(
        model or scorer(),
        (torch.ones(4, 8),),
        {"shift": torch.ones(4)},
        dynamic_shapes={"x": {0: batch}, "shift": {}},
    )


def header(plan: bytes) -> tuple[bytes, int]:
    """(magic, size) of a plan of TensorRT-RTX."""
    return plan[:4], struct.unpack_from("<Q", plan, 16)[0]


@pytest.fixture
def trt() -> object:
    return pytest.importorskip("tensorrt_rtx")


def whole(model: nn.Module, args: tuple[Tensor, ...], dynamic: object = None) -> Partition:
    program = torch.export.export(model.eval(), args, dynamic_shapes=dynamic)  # type: ignore[arg-type]
    settings = CompilationSettings.from_options()
    lowered = lower(program, engines.backend("tensorrt_rtx"), settings)
    assert list(partition_refusals(lowered.graph)) == []
    return take_whole(lowered, "tensorrt_rtx", symbol_ranges(program, None))


def test_the_bytes_are_the_sdk_s_own_plan(trt: object) -> None:
    plan = convert_exported_program_to_serialized_trt_engine(exported())
    assert header(plan) == (b"vtrt", len(plan))
    assert MAGIC not in plan
    for name in (b"x", b"shift", b"output0", b"output1"):
        assert name in plan


def test_the_same_program_gives_the_same_bytes(trt: object) -> None:
    program = exported()
    first, second = (convert_exported_program_to_serialized_trt_engine(program, device="sm_89") for _ in range(2))
    assert first == second


def test_a_target_changes_the_plan(trt: object) -> None:
    program = exported()
    masks = {
        name: struct.unpack_from("<I", convert_exported_program_to_serialized_trt_engine(program, device=name), 32)[0]
        for name in ("sm_86", "sm_89", "sm_86,sm_89")
    }
    assert masks["sm_86,sm_89"] == masks["sm_86"] | masks["sm_89"]


def test_the_sdk_s_runtime_reads_the_bytes_as_far_as_it_gets_without_a_gpu(trt: object) -> None:
    """It says MALFORMED_ENGINE (32) of what is no plan, and 0 of what it can't run here."""
    plan = convert_exported_program_to_serialized_trt_engine(exported())
    sdk = pytest.importorskip("torch_tensorrt.engines.tensorrt.sdk").load("tensorrt_rtx")
    runtime = sdk.runtime()
    assert runtime.get_engine_validity(plan)[1] != 32
    assert runtime.get_engine_validity(b"TRTANYWH" + plan)[1] == 32


def test_inputs_may_be_given_and_are_called_after_the_arguments(trt: object) -> None:
    rows = torch_tensorrt.Input(min_shape=(1, 8), opt_shape=(4, 8), max_shape=(16, 8))
    plan = convert_exported_program_to_serialized_trt_engine(
        scorer(), arg_inputs=[rows], kwarg_inputs={"shift": torch.ones(4)}, device="sm_89"
    )
    assert plan[:4] == b"vtrt"


def test_names_of_bindings_are_those_that_were_asked_for(trt: object) -> None:
    plan = convert_exported_program_to_serialized_trt_engine(
        exported(),
        arg_input_binding_names=("the_rows",),
        kwarg_input_binding_names={"shift": "the_shift"},
        output_binding_names={"scores": "the_scores", "best": "the_best"},
    )
    for name in (b"the_rows", b"the_shift", b"the_scores", b"the_best"):
        assert name in plan
    assert b"output0" not in plan


@pytest.mark.parametrize(
    ("options", "role", "reason"),
    [
        ({"arg_input_binding_names": ["a", "b"]}, "arg_inputs", "spec_mismatch"),
        ({"arg_input_binding_names": [""]}, "arg_inputs", "not_a_name"),
        ({"arg_input_binding_names": [3]}, "arg_inputs", "not_a_name"),
        ({"kwarg_input_binding_names": {"other": "s"}}, "kwarg_inputs", "spec_mismatch"),
        ({"output_binding_names": {"scores": "s"}}, "outputs", "spec_mismatch"),
        ({"output_binding_names": ["s", "s"]}, "outputs", "duplicate"),
        ({"output_binding_names": ["s", "shift"]}, "outputs", "duplicate"),
    ],
)
def test_names_that_don_t_go_with_the_program_are_a_value_error(
    trt: object, options: dict[str, object], role: str, reason: str
) -> None:
    with pytest.raises(BindingNameMismatchError) as caught:
        convert_exported_program_to_serialized_trt_engine(exported(), **options)  # type: ignore[arg-type]
    assert isinstance(caught.value, ValueError)
    assert (caught.value.role, caught.value.reason) == (role, reason)


class Mixed(nn.Module):
    """Everything that stands against one engine."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(1))

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor, int]:
        self.count.add_(1)
        return x.nonzero(), torch.lgamma(y) + self.count, torch.fft.fft(y).real, 3


def test_everything_that_can_t_go_into_the_engine_is_in_one_error(trt: object) -> None:
    with pytest.raises(UnsupportedError) as caught:
        convert_exported_program_to_serialized_trt_engine(Mixed(), [torch.ones(2, 3), torch.ones(4)])
    words = str(caught.value)
    for part in (
        "aten.nonzero.default",
        "aten.lgamma.default",
        "aten._fft_r2c",
        "it writes 'count'",
        "its result 3 is 3",
    ):
        assert part in words
    assert "torch_tensorrt.compile runs what doesn't fit in PyTorch" in words


@pytest.mark.parametrize("option", [{"torch_executed_ops": {"aten.relu"}}, {"torch_executed_modules": {"Linear"}}])
def test_what_is_to_stay_in_pytorch_can_t_be_in_a_raw_engine(trt: object, option: dict[str, object]) -> None:
    with pytest.raises(UnsupportedError, match=r"listed in torch_executed"):
        torch_tensorrt.convert_method_to_trt_engine(scorer(), "encode", [torch.ones(2, 8)], **option)


def test_arguments_and_results_keep_their_order_also_when_they_are_not_used_or_passed_through() -> None:
    pytest.importorskip("tensorrt_rtx")
    interpreter = pytest.importorskip("interpret.interpreter").Interpreter
    build = pytest.importorskip("torch_tensorrt.engines.tensorrt.build")
    sdk = pytest.importorskip("torch_tensorrt.engines.tensorrt.sdk").load("tensorrt_rtx")

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("weight", torch.arange(3.0))

        def forward(self, unused: Tensor, b: Tensor, a: Tensor) -> tuple[Tensor | None, ...]:
            total = a + b
            return a, total, None, self.weight, total, total * 2

    part = whole(Model(), (torch.ones(2), torch.ones(3), torch.ones(3)))
    assert [spec.name for spec in part.inputs] == ["unused", "b", "a"]
    assert [spec.name for spec in part.outputs] == ["output0", "output1", "output2", "output3", "output4"]
    definition = build.define(sdk, part, CompilationSettings.from_options())
    network = definition.net.network
    assert [network.get_input(place).name for place in range(3)] == ["unused", "b", "a"]
    a, b = torch.randn(3), torch.randn(3)
    results = interpreter(network).run_all(torch.ones(2), b, a)
    for given, wanted in zip(results, (a, a + b, torch.arange(3.0), a + b, (a + b) * 2), strict=True):
        torch.testing.assert_close(given, wanted)
    assert build.serialize(definition, CompilationSettings.from_options())[:4] == b"vtrt"


def test_sizes_that_vary_are_in_one_engine() -> None:
    pytest.importorskip("tensorrt_rtx")
    interpreter = pytest.importorskip("interpret.interpreter").Interpreter
    build = pytest.importorskip("torch_tensorrt.engines.tensorrt.build")
    sdk = pytest.importorskip("torch_tensorrt.engines.tensorrt.sdk").load("tensorrt_rtx")

    class Model(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.reshape(x.shape[0], 2, 4).transpose(0, 1) * x.shape[0]

    part = whole(Model(), (torch.ones(4, 8),), ({0: torch.export.Dim("n", min=2, max=8)},))
    definition = build.define(sdk, part, CompilationSettings.from_options())
    for rows in (2, 5, 8):
        x = torch.randn(rows, 8)
        torch.testing.assert_close(interpreter(definition.net.network).run_all(x), [Model()(x)])


def test_a_method_is_converted_under_its_own_argument_names(trt: object) -> None:
    model = scorer()
    plan = torch_tensorrt.convert_method_to_trt_engine(model, "encode", inputs=[torch.ones(2, 8)], ir="dynamo")
    assert header(plan) == (b"vtrt", len(plan))
    assert b"words" in plan
    assert model.forward.__name__ == "forward"  # the model is as it was
    forward = torch_tensorrt.convert_method_to_trt_engine(
        model, inputs=[torch.ones(2, 8)], kwarg_inputs={"shift": torch.ones(4)}, enabled_precisions={torch.half}
    )
    assert b"shift" in forward


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (
            lambda: torch_tensorrt.convert_method_to_trt_engine(scorer(), "encod", [torch.ones(2, 8)]),
            InputError,
            "encod",
        ),
        (lambda: torch_tensorrt.convert_method_to_trt_engine(scorer(), ir="fx"), UnsupportedError, "ir='fx'"),
        (lambda: torch_tensorrt.convert_method_to_trt_engine(scorer(), ir="onnx"), InputError, "not known"),
        (
            lambda: torch_tensorrt.convert_method_to_trt_engine(exported(), "encode"),
            InputError,
            "ExportedProgram has no",
        ),
        (lambda: convert_exported_program_to_serialized_trt_engine(exported(), dryrun=True), InputError, "dryrun"),
        (
            lambda: convert_exported_program_to_serialized_trt_engine(exported(), lift_mutable_buffers=True),
            UnsupportedError,
            "lift_mutable_buffers",
        ),
        (
            lambda: convert_exported_program_to_serialized_trt_engine(
                exported(), engine="eager", output_binding_names=["a", "b"]
            ),
            InputError,
            "no names",
        ),
        (lambda: convert_exported_program_to_serialized_trt_engine(exported(), mini_block=1), InputError, "Unknown"),
    ],
)
def test_a_request_that_can_t_be_met_says_why(make: Callable[[], bytes], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        make()


def test_the_older_name_gives_the_same_and_says_that_it_is_older(trt: object) -> None:
    program = exported()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        old = convert_exported_program_to_trt_engine(program, device="sm_89")
    told = [str(warning.message) for warning in caught if warning.category is DeprecationWarning]
    assert any("convert_exported_program_to_serialized_trt_engine" in words for words in told)
    assert old == convert_exported_program_to_serialized_trt_engine(program, device="sm_89")


def test_openvino_s_raw_bytes_are_a_compiled_model_that_openvino_runs() -> None:
    openvino = pytest.importorskip("openvino")
    model, x, shift = scorer(), torch.randn(3, 8), torch.randn(4)
    raw = convert_exported_program_to_serialized_trt_engine(exported(model), engine="openvino")
    compiled = openvino.Core().import_model(io.BytesIO(raw), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    given = compiled({"engine_input_0": x.numpy(), "engine_input_1": shift.numpy()})
    for place, wanted in enumerate(model(x, shift=shift).values()):
        torch.testing.assert_close(torch.from_numpy(given[place]), wanted.detach())


def test_openvino_has_no_raw_form_of_a_result_that_stands_twice() -> None:
    class Twice(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            y = x.relu()
            return y, y

    program = torch.export.export(Twice(), (torch.ones(3),))
    with pytest.raises(UnsupportedError, match="one output of its OpenVINO model"):
        convert_exported_program_to_serialized_trt_engine(program, engine="openvino")


def test_eager_s_raw_bytes_are_an_exported_program() -> None:
    model, x, shift = scorer(), torch.randn(3, 8), torch.randn(4)
    raw = convert_exported_program_to_serialized_trt_engine(exported(model), engine="eager")
    results = torch.export.load(io.BytesIO(raw)).module()(x, shift)
    torch.testing.assert_close(list(results), list(model(x, shift=shift).values()))


@pytest.mark.slow
@pytest.mark.parametrize("wide", [False, True], ids=["weights in the code", "weights apart"])
def test_inductor_s_raw_bytes_are_a_package_that_pytorch_runs(wide: bool, tmp_path: Path) -> None:
    layers: list[nn.Module] = [nn.Linear(8, 4)] if wide else [nn.Conv1d(8, 4, 1)]
    model = nn.Sequential(*layers, nn.ReLU()).eval()
    x = torch.randn(*((3, 8) if wide else (3, 8, 5)))
    raw = convert_exported_program_to_serialized_trt_engine(torch.export.export(model, (x,)), engine="inductor")
    path = tmp_path / "raw.pt2"
    path.write_bytes(raw)
    results = torch._inductor.aoti_load_package(str(path))(x)
    torch.testing.assert_close(results[0] if isinstance(results, (tuple, list)) else results, model(x))


# ---- which engine ----


@pytest.mark.parametrize(
    ("options", "variable", "chosen"),
    [
        ({}, "", "tensorrt_rtx"),
        ({"device": "sm_89"}, "", "tensorrt_rtx"),
        ({"device": "cuda:0"}, "", "tensorrt_rtx"),
        ({}, "eager", "eager"),
        ({"engine": "openvino"}, "eager", "openvino"),
    ],
)
def test_a_raw_engine_is_tensorrt_s_unless_another_is_named(
    trt: object, options: dict[str, object], variable: str, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here, which `tensorrt` may build for")
    monkeypatch.setenv("TORCH_TENSORRT_ENGINE", variable)
    backend, _, _ = choose_backend(exported(), CompilationSettings.from_options(**options), NVIDIA)
    assert backend.name == chosen


def test_compiling_for_windows_on_a_gpu_takes_tensorrt(trt: object) -> None:
    settings = CompilationSettings.from_options(device="cuda:0", enable_cross_compile_for_windows=True)
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here, which `tensorrt` may build for")
    assert choose_backend(exported(), settings)[0].name == "tensorrt_rtx"


# ---- engines that come back ----


class FakeRuntime:
    """Takes what begins like a plan."""

    def deserialize_cuda_engine(self, plan: bytes) -> object:
        return SimpleNamespace(plan=plan) if plan[:4] == b"vtrt" else None


def test_an_encoded_engine_is_handed_to_the_runtime_as_the_plan_that_it_is() -> None:
    for encoded in (base64.b64encode(b"vtrt1"), base64.b64encode(b"vtrt1").decode()):
        engine = get_engine_from_encoded_engine(encoded, FakeRuntime())
        assert engine.plan == b"vtrt1"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("encoded", "error", "words"),
    [
        (base64.b64encode(b"something"), EngineNotRunnable, "can't read"),
        ("not base64!", FileFormatError, "base64"),
        (3, InputError, "base64 text"),
    ],
)
def test_what_is_no_encoded_engine_is_an_error(encoded: object, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        get_engine_from_encoded_engine(encoded, FakeRuntime())  # type: ignore[arg-type]


def test_without_a_gpu_the_runtime_s_none_is_our_error(trt: object) -> None:
    sdk = pytest.importorskip("torch_tensorrt.engines.tensorrt.sdk").load("tensorrt_rtx")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    plan = convert_exported_program_to_serialized_trt_engine(exported())
    with pytest.raises(EngineNotRunnable, match="can't read"):
        get_engine_from_encoded_engine(base64.b64encode(plan), sdk.runtime())


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (b"vtrt", r"raw TensorRT-RTX engine, which tensorrt_rtx\.Runtime\(logger\)\.deserialize_cuda_engine"),
        (b"ftrt", r"raw TensorRT engine"),
        (b"RR_UPCVO", r"compiled OpenVINO model, which openvino\.Core\(\)\.import_model"),
    ],
)
def test_load_and_inspect_say_what_a_raw_engine_is_and_how_to_run_it(start: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "model.engine"
    path.write_bytes(start + bytes(100))
    with pytest.raises(FileFormatError, match=words):
        torch_tensorrt.load(path)
    assert torch_tensorrt.inspect_file(path).kind == "foreign"


def test_the_start_of_a_real_raw_engine_is_known(tmp_path: Path) -> None:
    path = tmp_path / "model.engine"
    path.write_bytes(convert_exported_program_to_serialized_trt_engine(exported(), engine="openvino"))
    assert "OpenVINO" in torch_tensorrt.inspect_file(path).about
