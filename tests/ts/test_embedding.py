"""Engines that were built elsewhere, around which a ScriptModule or an nn.Module is made."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from engines.fake_tensorrt import Gpu, plan
from torch import Tensor, nn

from torch_tensorrt import EngineNotRunnable, FileFormatError, InputError, UnsupportedError, ts
from torch_tensorrt.contracts.raw import in_order
from torch_tensorrt.dynamo import CompilationSettings, convert_exported_program_to_serialized_trt_engine
from torch_tensorrt.dynamo.runtime import TorchTensorRTModule
from torch_tensorrt.engines.tensorrt import kernels

TWO = [[[1, 3], [1, 3], [2, 3]], [[3, 3], [4, 3], [8, 3]]]


class Network(nn.Module):
    """Outputs that vary with one input, with another, in fixed sizes and other dtypes; an argument that isn't used."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(8, 4)

    def forward(self, x: Tensor, y: Tensor, unused: Tensor) -> tuple[Tensor, ...]:
        return self.linear(x).relu(), torch.cat([y, y]), (y * 2).to(torch.int64), y.sum() > 0


def inputs(rows: int = 2, others: int = 3) -> tuple[Tensor, ...]:
    return torch.randn(rows, 8), torch.randn(others, 3), torch.ones(2)


@pytest.fixture(scope="module")
def raw() -> bytes:
    """Of OpenVINO, with sizes that vary."""
    shapes = ({0: torch.export.Dim("rows", min=1, max=8)}, {0: torch.export.Dim.AUTO}, None)
    program = torch.export.export(Network().eval(), inputs(), dynamic_shapes=shapes)
    return convert_exported_program_to_serialized_trt_engine(program, engine="openvino")


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Gpu:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(kernels, "_open", {})
    return Gpu(monkeypatch)


def saved(module: torch.jit.ScriptModule) -> torch.jit.ScriptModule:
    file = io.BytesIO()
    torch.jit.save(module, file)
    file.seek(0)
    return torch.jit.load(file)


# ---- ScriptModules ----


@pytest.mark.parametrize("sizes", [(2, 3), (1, 2), (8, 7)])
def test_a_compiled_model_of_openvino_runs_in_a_script_module_for_all_its_sizes(
    raw: bytes, sizes: tuple[int, int]
) -> None:
    module = ts.embed_engine_in_new_module(raw)
    given = inputs(*sizes)
    for one in (module, saved(module)):
        torch.testing.assert_close(one(*given), Network()(*given))


def test_a_new_process_loads_it_with_torch_alone(raw: bytes, tmp_path: Path) -> None:
    given = inputs(5, 4)
    torch.jit.save(ts.embed_engine_in_new_module(raw), tmp_path / "net.ts")
    torch.save(given, tmp_path / "x.pt")
    code = "import torch, torch_tensorrt; torch.save(torch.jit.load('net.ts')(*torch.load('x.pt')), 'y.pt')"
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, cwd=tmp_path, timeout=180)
    torch.testing.assert_close(torch.load(tmp_path / "y.pt"), Network()(*given))


def test_fixed_sizes_and_one_output_give_a_tensor() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU()).eval()
    made = ts.convert_method_to_trt_engine(torch.jit.script(model), "forward", [torch.ones(2, 4)], engine="openvino")
    x = torch.randn(2, 4)
    torch.testing.assert_close(ts.embed_engine_in_new_module(made)(x), model(x))


def test_names_give_the_order(raw: bytes) -> None:
    module = ts.embed_engine_in_new_module(
        raw, [f"engine_input_{place}" for place in (1, 2, 0)], ["_to_copy", "lt_tensor", "relu", "cat"]
    )
    x, y, unused = inputs()
    first, second, third, fourth = Network()(x, y, unused)
    torch.testing.assert_close(module(y, unused, x), (third, fourth, first, second))


def test_sizes_outside_of_the_engine_s_range_are_refused(raw: bytes) -> None:
    with pytest.raises((InputError, torch.jit.Error, RuntimeError), match="range 1 to 8"):
        ts.embed_engine_in_new_module(raw)(*inputs(9))


def test_an_openvino_model_computes_in_float32_unless_something_shorter_is_allowed(raw: bytes) -> None:
    given = inputs()
    short = ts.embed_engine_in_new_module(raw, enabled_precisions={torch.bfloat16})(*given)[0]
    torch.testing.assert_close(short, Network()(*given)[0], rtol=0.05, atol=0.05)
    exact = ts.embed_engine_in_new_module(raw)(*given)[0]
    torch.testing.assert_close(exact, Network()(*given)[0], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda raw: {"serialized_engine": b""}, InputError, "the bytes of an engine are needed"),
        (lambda raw: {"serialized_engine": "text"}, InputError, "the bytes of an engine are needed"),
        (lambda raw: {"serialized_engine": b"abc"}, InputError, "like no engine that is known here"),
        (lambda raw: {"serialized_engine": b"PK\x03\x04"}, UnsupportedError, "aoti_load_package or torch.export.load"),
        (lambda raw: {"serialized_engine": raw[:8] + bytes(99)}, EngineNotRunnable, "can't read the raw engine"),
        (lambda raw: {"engine": "eager"}, UnsupportedError, "those of openvino, tensorrt, tensorrt_rtx do"),
        (lambda raw: {"input_binding_names": ["a"]}, InputError, "are called 'engine_input_0', 'engine_input_1'"),
        (lambda raw: {"output_binding_names": "relu"}, InputError, "a list of the names"),
        (lambda raw: {"output_binding_names": ["relu"] * 4}, InputError, "each has to be named once"),
        (lambda raw: {"min_blok_size": 3}, InputError, "min_block_size"),
    ],
)
def test_what_can_t_be_embedded_says_why(
    raw: bytes, change: Callable[[bytes], dict[str, object]], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        ts.embed_engine_in_new_module(**{"serialized_engine": raw, **change(raw)})  # type: ignore[arg-type]


def test_a_plan_can_t_be_embedded_where_there_is_no_gpu() -> None:
    pytest.importorskip("tensorrt_rtx")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(EngineNotRunnable, match="Embed it on a machine that has one"):
        ts.embed_engine_in_new_module(b"vtrt" + bytes(60))


def test_another_cpu_or_openvino_can_t_compile_it_again_and_says_so(raw: bytes) -> None:
    engine = TorchTensorRTModule(raw).get_engine()
    backend = pytest.importorskip("torch_tensorrt.engines").backend("openvino")
    moved = replace(engine.spec, target="cpu;another;FP32")
    with pytest.raises(EngineNotRunnable, match=r"raw engine that was embedded with .* for cpu;another;FP32"):
        backend.from_bytes(memoryview(engine.to_bytes()), moved)


@pytest.mark.parametrize(
    ("names", "asked", "wanted"),
    [
        (["x.1", "x.0"], None, ("x.0", "x.1")),
        (["output1", "output0"], None, ("output0", "output1")),
        (["x_10", "x_2"], None, ("x_10", "x_2")),  # not all numbers from 0
        (["b1", "a0"], None, ("b1", "a0")),  # of two names
        (["b", "a"], None, ("b", "a")),
        (["b", "a"], ["a", "b"], ("a", "b")),
        ([], None, ()),
    ],
)
def test_without_names_tensors_come_by_their_numbers(
    names: list[str], asked: list[str] | None, wanted: tuple[str, ...]
) -> None:
    assert in_order("inputs", names, asked) == wanted


# ---- plans, with a stand-in for the SDK ----


def test_a_plan_runs_in_a_script_module_with_the_sizes_that_the_sdk_tells(gpu: Gpu) -> None:
    module = ts.embed_engine_in_new_module(plan(), ["x"], ["y"], "cpu", engine="tensorrt_rtx")
    x = torch.randn(4, 3)
    for one in (module, saved(module)):
        assert torch.equal(one(x), torch.cat([x, x]))
    with pytest.raises((InputError, torch.jit.Error, RuntimeError), match="range 1 to 8"):
        module(torch.randn(9, 3))


def test_tensors_of_a_plan_are_on_the_gpu_unless_something_else_is_said(gpu: Gpu) -> None:
    for device, wanted in ((None, "cuda"), ("cuda:0", "cuda"), ("cpu", "cpu")):
        options = CompilationSettings.from_options(engine="tensorrt_rtx", device=device)
        spec = TorchTensorRTModule(plan(), settings=options).get_engine().spec
        assert {tensor.device for tensor in (*spec.inputs, *spec.outputs)} == {wanted}


def test_a_plan_with_several_ranges_takes_the_sizes_of_each(gpu: Gpu) -> None:
    module = ts.embed_engine_in_new_module(plan(profiles=TWO), device="cpu", engine="tensorrt_rtx")
    for rows in (1, 2, 3, 8):
        x = torch.randn(rows, 3)
        assert torch.equal(module(x), torch.cat([x, x]))


def test_a_plan_whose_output_sizes_depend_on_the_data_runs(gpu: Gpu) -> None:
    module = ts.embed_engine_in_new_module(plan(rows=True), device="cpu", engine="tensorrt_rtx")
    assert torch.equal(module(torch.tensor([[1.0] * 3, [-1.0] * 3])), torch.ones(1, 3))


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"dtype": "DataType.FP4"}, "a FP4"),
        ({"location": "HOST"}, "in the memory of the CPU"),
        ({"format": "HWC8"}, "in the format HWC8"),
    ],
)
def test_tensors_that_are_not_plain_are_refused(gpu: Gpu, told: dict[str, str], words: str) -> None:
    gpu.tells = told
    with pytest.raises(UnsupportedError, match=words):
        ts.embed_engine_in_new_module(plan(), engine="tensorrt_rtx")


def test_code_in_a_version_compatible_plan_runs_only_where_that_is_said(gpu: Gpu) -> None:
    for asked in (False, True):
        ts.embed_engine_in_new_module(plan(), device="dla:1", engine="tensorrt_rtx", version_compatible=asked)
        assert gpu.calls[-1] == ("deserialize", asked, 1)


def test_a_plan_that_the_sdk_can_t_read_is_quoted(gpu: Gpu) -> None:
    gpu.fails = "deserialize"
    with pytest.raises(EngineNotRunnable, match=r"it was built for another GPU \(UNSUPPORTED_CC\)"):
        ts.embed_engine_in_new_module(plan(), engine="tensorrt_rtx")


# ---- nn.Modules ----


def test_a_module_around_an_engine_is_called_like_the_model_and_stays_where_it_is(raw: bytes) -> None:
    module, given = TorchTensorRTModule(raw, name="net"), inputs(4, 5)
    torch.testing.assert_close(module(*given), Network()(*given))
    nn.Sequential(module).to(torch.float64).to("meta")
    torch.testing.assert_close(module(*given), Network()(*given))
    assert [tensor.name for tensor in module.get_engine().spec.outputs] == ["relu", "cat", "_to_copy", "lt_tensor"]
    assert '"Layers"' in module.get_layer_info()
    module.dump_layer_info()


def test_its_state_carries_the_engine_to_a_module_without_one(raw: bytes, tmp_path: Path) -> None:
    torch.save(nn.ModuleDict({"part": TorchTensorRTModule(raw)}).state_dict(), tmp_path / "state.pt")
    empty = nn.ModuleDict({"part": TorchTensorRTModule()})
    with pytest.raises(InputError, match="has no engine"):
        empty["part"](*inputs())
    empty.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    given = inputs()
    torch.testing.assert_close(empty["part"](*given), Network()(*given))
    empty.load_state_dict(nn.ModuleDict({"part": TorchTensorRTModule()}).state_dict())
    with pytest.raises(InputError, match="has no engine"):
        empty["part"].get_engine()


@pytest.mark.parametrize("state", [3, {"name": "x"}, {"name": "x", "engine": torch.zeros(1), "spec": 3}])
def test_a_state_of_something_else_is_refused(state: object) -> None:
    with pytest.raises(FileFormatError, match="state of an engine's module"):
        TorchTensorRTModule().set_extra_state(state)


def test_a_lazy_module_reads_the_engine_when_it_is_needed() -> None:
    settings = CompilationSettings.from_options(lazy_engine_init=True)
    module = TorchTensorRTModule(b"abc", settings=settings)
    with pytest.raises(InputError, match="like no engine"):
        module(torch.ones(1))


def test_it_is_exported_with_the_model_around_it() -> None:
    model = nn.Linear(4, 4).eval()
    made = convert_exported_program_to_serialized_trt_engine(
        torch.export.export(model, (torch.ones(2, 4),)), engine="openvino"
    )
    whole, x = nn.Sequential(TorchTensorRTModule(made), nn.ReLU()), torch.randn(2, 4)
    program = torch.export.export(whole, (x,), strict=False)
    assert "execute_engine" in str(program.graph)
    for one in (program.module(), torch.jit.trace(whole, x)):
        torch.testing.assert_close(one(x), model(x).relu())


@pytest.mark.parametrize(
    "option",
    [{"requires_native_multidevice": True}, {"aliased_io": {"a": "b"}}, {"symbolic_shape_expressions": {"a": 1}}],
)
def test_options_that_have_no_counterpart_are_refused(raw: bytes, option: dict[str, object]) -> None:
    with pytest.raises(UnsupportedError, match=f"{next(iter(option))}=.* is not here"):
        TorchTensorRTModule(raw, **option)  # type: ignore[arg-type]


def test_what_only_tensorrt_can_is_refused_for_others(raw: bytes) -> None:
    module = TorchTensorRTModule(raw)
    for use in (
        module.get_streamable_device_memory_budget,
        module.get_optimization_profile_state,
        lambda: module.set_optimization_profile(0),
        lambda: module.set_pre_allocated_outputs(True),
    ):
        with pytest.raises(UnsupportedError, match="of the 'openvino' backend does not"):
            use()


def test_profiles_budgets_and_outputs_of_a_plan_are_set(gpu: Gpu) -> None:
    options = CompilationSettings.from_options(engine="tensorrt_rtx", device="cpu")
    module = TorchTensorRTModule(plan(profiles=TWO, streamable=100), settings=options, requires_output_allocator=True)
    x = torch.randn(2, 3)
    assert torch.equal(module(x), torch.cat([x, x]))  # type: ignore[arg-type]
    assert ("allocator", "y", True) in gpu.calls
    module.set_use_output_allocator(False)
    module.set_pre_allocated_outputs(True)
    assert module.pre_allocated_outputs
    assert (module.get_streamable_device_memory_budget(), module.get_automatic_device_memory_budget()) == (100, 50)
    assert module.set_device_memory_budget(30) == 30
    module.set_optimization_profile(1)
    assert module.get_optimization_profile_state() == 1
    with pytest.raises(InputError, match="profile 1, which was chosen"):
        module(x)
    module.set_optimization_profile("auto")
    assert module.get_optimization_profile_state() is None
    assert torch.equal(module(x), torch.cat([x, x]))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="profile='first'"):
        module.set_optimization_profile("first")
