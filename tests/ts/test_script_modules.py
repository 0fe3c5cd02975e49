"""ir="ts": scripted and traced modules become ScriptModules with engines inside that give the same numbers."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

import torch_tensorrt
from torch_tensorrt import Device, DeviceType, Input, InputError, UnsupportedError, ts

ENGINES = ("openvino", "eager", pytest.param("inductor", marks=pytest.mark.slow))
IMAGES = Input(min_shape=(1, 3, 8, 8), opt_shape=(4, 3, 8, 8), max_shape=(8, 3, 8, 8))


class Network(nn.Module):
    """Branches on an attribute and an argument, a loop of constant length, a list, and sizes that are computed with."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.scale = 3
        self.scaled = True

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.convolution(x))
        if self.scaled:
            x = x * self.scale
        parts: list[Tensor] = []
        for step in range(3):
            x = torch.relu(x) + step
            parts.append(x)
        return torch.cat(parts, 1).view(x.size(0) * 2, -1)


def example() -> Network:
    torch.manual_seed(0)
    return Network().eval()


KINDS: dict[str, Callable[[nn.Module], object]] = {
    "scripted": torch.jit.script,
    "traced": lambda model: torch.jit.trace(model, torch.randn(2, 3, 8, 8)),
    "frozen": lambda model: torch.jit.freeze(torch.jit.script(model)),
    "module": lambda model: model,
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("given", "batches"), [(IMAGES, (1, 3, 8)), (torch.randn(1, 3, 8, 8), (1,))], ids=["range", "1"]
)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_the_models_numbers(kind: str, given: object, batches: tuple[int, ...], engine: str) -> None:
    model = example()
    compiled = ts.compile(KINDS[kind](model), [given], engine=engine, min_block_size=1, require_full_compilation=True)
    assert isinstance(compiled, torch.jit.ScriptModule)
    for batch in batches:
        x = torch.randn(batch, 3, 8, 8)
        torch.testing.assert_close(compiled(x), model(x), rtol=1e-4, atol=1e-5)


def test_a_new_process_loads_it_with_torch_alone(tmp_path: Path) -> None:
    compiled, x = (
        ts.compile(torch.jit.script(example()), [IMAGES], engine="openvino", min_block_size=1),
        torch.randn(5, 3, 8, 8),
    )
    torch.jit.save(compiled, tmp_path / "net.ts")
    torch.save(x, tmp_path / "x.pt")
    code = "import torch, torch_tensorrt; torch.save(torch.jit.load('net.ts')(torch.load('x.pt')), 'y.pt')"
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, cwd=tmp_path, timeout=180)
    torch.testing.assert_close(torch.load(tmp_path / "y.pt"), compiled(x))


class Trees(nn.Module):
    def forward(
        self, pair: tuple[Tensor, Tensor], named: dict[str, Tensor], times: int = 2
    ) -> tuple[dict[str, Tensor], list[Tensor]]:
        first, second = pair
        return {"sum": first + named["a"] * times}, [second, first.relu()]


def test_tuples_lists_and_dicts_go_in_and_out() -> None:
    one = torch.randn(2, 3)
    scripted = torch.jit.script(Trees())
    compiled = ts.compile(scripted, input_signature=((one, one), {"a": one}, 3), engine="eager", min_block_size=1)
    given = ((torch.randn(2, 3), torch.randn(2, 3)), {"a": torch.randn(2, 3)}, 3)
    torch.testing.assert_close(compiled(*given), scripted(*given))


# In this form, because torch.jit.script can't read the types in a class of a file with `from __future__ import annotations`.
Inner = NamedTuple("Inner", [("first", Tensor), ("count", int)])  # noqa: UP014
Outer = NamedTuple(  # noqa: UP014
    "Outer",
    [("sum", Tensor), ("parts", list[Tensor]), ("named", dict[str, tuple[Tensor, int]]), ("inner", Inner)],
)


class Named(nn.Module):
    def forward(self, x: Tensor) -> tuple[Outer, Inner]:
        inner = Inner(x * 2, 3)
        return Outer(x + 1, [x, inner.first], {"x": (x, 1)}, inner), Inner(x, 4)


@pytest.mark.parametrize("engine", ["openvino", "eager"])
def test_named_tuples_stay_named_also_when_they_are_loaded(engine: str) -> None:
    scripted, x = torch.jit.script(Named()), torch.randn(3)
    compiled = ts.compile(scripted, [torch.ones(3)], engine=engine, min_block_size=1)
    file = io.BytesIO()
    torch.jit.save(compiled, file)
    file.seek(0)
    for one in (compiled, torch.jit.load(file)):
        (outer, last), (wanted, other) = one(x), scripted(x)
        assert (type(outer).__name__, outer._fields, last._fields) == ("Outer", Outer._fields, Inner._fields)
        torch.testing.assert_close(
            (tuple(outer)[:3], tuple(outer.inner), tuple(last)), (tuple(wanted)[:3], tuple(wanted.inner), tuple(other))
        )


class Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        self.calls = self.calls + 1
        return torch.relu(x) * self.calls


def test_an_attribute_that_is_set_keeps_its_state_apart_from_the_originals() -> None:
    model, x = torch.jit.script(Counting().eval()), torch.ones(4)
    compiled = ts.compile(model, [x], engine="eager", min_block_size=1)
    assert [float(compiled(x)[0]) for _ in range(3)] == [1.0, 2.0, 3.0]
    assert float(model.calls) == 0


def test_a_script_function_is_compiled() -> None:
    @torch.jit.script
    def double(x: Tensor, shift: int = 1) -> Tensor:
        return x * 2 + shift

    compiled = ts.compile(double, [torch.ones(4)], engine="eager", min_block_size=1)
    assert torch.equal(compiled(torch.ones(4)), torch.full((4,), 3.0))


class Deciding(nn.Module):
    """What runs depends on values."""

    def __init__(self) -> None:
        super().__init__()
        self.low, self.high = (nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 4)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        if bool(x.sum() > 0):
            return self.high(x)
        return self.low(x)


@pytest.mark.parametrize("engine", ["openvino", "eager"])
def test_a_branch_on_values_stays_in_torchscript_and_its_submodules_run_in_engines(
    engine: str, caplog: pytest.LogCaptureFixture
) -> None:
    model = torch.jit.script(Deciding().eval())
    compiled = ts.compile(model, [torch.ones(2, 4)], engine=engine, min_block_size=1)
    assert "high" in caplog.text
    assert "if bool(x.sum() > 0):" in caplog.text
    file = io.BytesIO()
    torch.jit.save(compiled, file)
    file.seek(0)
    for one in (compiled, torch.jit.load(file)):
        assert "tensorrt" in str(one.high.forward.inlined_graph)
        for x in (torch.ones(2, 4), -torch.ones(2, 4), torch.ones(3, 4)):
            torch.testing.assert_close(one(x), model(x), rtol=1e-4, atol=1e-5)


class Only(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        while bool(x.sum() < 100):
            x = x * 2
        return x


def test_a_loop_on_values_alone_is_refused_with_its_line() -> None:
    with pytest.raises(UnsupportedError, match=r"while bool\(x\.sum\(\) < 100\)"):
        ts.compile(torch.jit.script(Only()), [torch.ones(4)], engine="eager")
    with pytest.raises(UnsupportedError, match=r"if bool\(x\.sum\(\) > 0\)"):
        ts.compile(torch.jit.script(Deciding()), [torch.ones(2, 4)], engine="eager", require_full_compilation=True)


class Methods(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x)

    @torch.jit.export
    def activated(self, x: Tensor) -> Tensor:
        return torch.relu(self.linear(x))


def test_any_exported_method_becomes_a_raw_engine() -> None:
    model = torch.jit.script(Methods().eval())
    raw = ts.convert_method_to_trt_engine(model, "activated", [torch.ones(2, 4)], engine="eager")
    program = torch.export.load(io.BytesIO(raw))
    x = torch.randn(2, 4)
    results = program.module()(x)
    torch.testing.assert_close(results[0] if isinstance(results, (tuple, list)) else results, model.activated(x))
    with pytest.raises(InputError, match="no TorchScript method 'missing'; it has activated, forward"):
        ts.convert_method_to_trt_engine(model, "missing", [torch.ones(2, 4)], engine="eager")


def test_support_is_told_without_inputs() -> None:
    assert ts.check_method_op_support(torch.jit.script(Methods()), "activated")
    assert not ts.check_method_op_support(torch.jit.script(Forking()))


class Forking(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.jit.wait(torch.jit.fork(torch.relu, x))


@pytest.mark.parametrize(
    "options", [{"refit": True}, {"truncate_long_and_double": True}, {"torch_executed_ops": ["aten::relu"]}]
)
def test_documented_options_are_taken(options: dict[str, object]) -> None:
    model = torch.jit.script(Methods().eval())
    compiled = ts.compile(model, [torch.ones(2, 4)], engine="eager", min_block_size=1, **options)
    torch.testing.assert_close(compiled(torch.ones(2, 4)), model(torch.ones(2, 4)))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({}, InputError, "No inputs were given"),
        (
            {"inputs": [torch.ones(2, 4)], "input_signature": torch.ones(2, 4)},
            InputError,
            "Both `inputs` and `input_signature`",
        ),
        ({"inputs": [torch.ones(2, 4)], "min_blok_size": 1}, InputError, "min_block_size"),
    ],
)
def test_wrong_arguments_are_refused(options: dict[str, object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ts.compile(torch.jit.script(Methods().eval()), **options)


def test_what_is_no_module_is_refused() -> None:
    with pytest.raises(InputError, match="not a int"):
        ts.compile(3, [torch.ones(1)])  # type: ignore[arg-type]
    assert torch_tensorrt.ts is ts


# ---- the options of to_backend ----


def test_a_compile_spec_holds_checked_options_for_compile() -> None:
    model, x = torch.jit.script(Methods().eval()), torch.randn(2, 4)
    spec = ts.TensorRTCompileSpec(inputs=[Input((2, 4))], engine="eager", min_block_size=1, refit=True)
    torch.testing.assert_close(ts.compile(model, **spec)(x), model(x))
    assert {**spec} == {"inputs": spec["inputs"], "engine": "eager", "min_block_size": 1, "refit": True}
    with pytest.raises(InputError, match="min_block_size"):
        ts.TensorRTCompileSpec(min_blok_size=1)


@pytest.mark.parametrize(
    ("record", "device"),
    [
        ({"device_type": DeviceType.GPU, "gpu_id": 1, "dla_core": 0, "allow_gpu_fallback": True}, "cuda:1"),
        ({"device_type": DeviceType.DLA, "dla_core": 1}, "dla:1"),
        ({"device_type": "cpu"}, "cpu"),
    ],
)
def test_a_compile_specs_device_may_be_a_dict(record: dict[str, object], device: str) -> None:
    assert ts.TensorRTCompileSpec(device=record)["device"] == Device(device, allow_gpu_fallback="gpu_id" in record)
    with pytest.raises(InputError, match="'gpu' is not known"):
        ts.TensorRTCompileSpec(device={"gpu": 0})


def test_to_backend_names_what_to_call_instead() -> None:
    spec = {"forward": ts.TensorRTCompileSpec(inputs=[Input((2, 4))])}
    with pytest.raises(RuntimeError, match=r"torch_tensorrt\.ts\.compile\(module, \*\*spec\)"):
        torch._C._jit_to_backend("tensorrt", torch.jit.script(Methods().eval()), spec)
