"""The C++ runtime gives the numbers and the errors of the Python one, from bytes that nobody has to trust."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import io
import json
import os
import random
import shutil
import struct
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch import Tensor, nn

import torch_tensorrt
from torch_tensorrt import EngineNotRunnable, FileFormatError, Input, InputError
from torch_tensorrt.contracts.engine_bytes import decode
from torch_tensorrt.runtime import native, op
from torch_tensorrt.spec.shape_expr import parse
from torch_tensorrt.tools.build_runtime import build_runtime

ROOT = Path(__file__).parent.parent.parent
EXECUTE = torch.ops.tensorrt.execute_engine.default


def test_without_a_build_engines_run_in_python(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(native.SETTING, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert native.runtime.__wrapped__() is None


def test_it_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(native.SETTING, "off")
    assert native.runtime.__wrapped__() is None


@pytest.mark.parametrize(
    ("manifest", "told"),
    [
        (None, "can't be read"),
        ("no json", "can't be read"),
        ('{"key": "torch-1.0"}', "was built for torch-1.0, and this is torch-"),
        (json.dumps({"key": native.build_key()}), "is missing"),
    ],
)
def test_a_folder_without_a_fitting_build_is_an_error(
    manifest: str | None, told: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if manifest is not None:
        (tmp_path / native.MANIFEST).write_text(manifest)
    monkeypatch.setenv(native.SETTING, str(tmp_path))
    with pytest.raises(EngineNotRunnable, match=told):
        native.runtime.__wrapped__()


def test_a_build_belongs_to_its_sources(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shutil.copytree(native.SOURCES, tmp_path / "cpp")
    monkeypatch.setattr(native, "SOURCES", tmp_path / "cpp")
    assert native.build_key.__wrapped__() == native.build_key()
    (tmp_path / "cpp" / "op.cpp").write_text("// changed")
    assert native.build_key.__wrapped__() != native.build_key()


def test_building_without_cmake_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    done = CliRunner().invoke(build_runtime, ["--output", str(tmp_path)])
    assert done.exit_code == 1
    assert "'cmake'" in done.output
    assert "pip install cmake" in done.output


# What follows needs the library: some 40 seconds of compiling, unless it was built with these sources before.

slow = pytest.mark.slow


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a build."""
    if (native.cache_folder() / native.MANIFEST).is_file():
        return native.cache_folder()
    if not (shutil.which("cmake") and shutil.which("c++")):
        pytest.skip("cmake or a C++ compiler is missing")
    folder = tmp_path_factory.mktemp("runtime")
    done = CliRunner().invoke(build_runtime, ["--output", str(folder)])
    assert done.exit_code == 0, done.output
    return folder


@pytest.fixture(scope="session")
def loaded(built: Path) -> native.Runtime:
    return native._load(built)


@pytest.fixture
def runtime(loaded: native.Runtime, monkeypatch: pytest.MonkeyPatch) -> native.Runtime:
    """Engines made in this test run in C++."""
    monkeypatch.setattr(native, "runtime", lambda: loaded)
    return loaded


@slow
@pytest.mark.parametrize("size", [0, 1, 55, 56, 63, 64, 65, 119, 120, 128, 100_003])
def test_both_hashes_are_sha256(size: int, loaded: native.Runtime) -> None:
    data = random.Random(size).randbytes(size)
    assert loaded.digests(data) == (hashlib.sha256(data).hexdigest(),) * 2


EXPRESSIONS = [
    "s0", "7", "2*s0 + 1", "-s0**2", "(-s0)**2", "2**s1**2", "s0//-2", "-s0//2", "-7 % s1", "s0 % -4", "s0 - s1 - 1",
    "Max(s0, s1, 6)", "Min(1, -s1)", "FloorDiv(s0 - 20, 3)", "CeilDiv(s0, 3)", "CeilDiv(-s0, 3)", "CleanDiv(6*s0, 3)",
    "Mod(-5, 3)", "PythonMod(s0, s1)", "((s0 + 1)*(s1 - 1))//(2 + s1)", "- -s0", "2*-s1", "s0*s0**-0",
    "TruncToInt(1.3*ToFloat(s0))", "TruncToInt(-1.3*ToFloat(s0))", "FloorToInt(-0.5*IntTrueDiv(s0, s1))", "CeilToInt(IntTrueDiv(s0, 4))",
    "RoundToInt(0.5*s0)", "RoundToInt(0.5*s1)", "2*TruncToInt(100*0.29) - s0", "TruncToInt(0.1*ToFloat(2*s0))", "PowByNatural(s0, 2)",
    "FloorToInt(OpaqueUnaryFn_sqrt(ToFloat(s0)) + 1e-05)", "TruncToInt(-FloatTrueDiv(1e3, s1 - 0.25))", "TruncToInt(s0)",
]  # fmt: skip


@slow
@pytest.mark.parametrize("text", EXPRESSIONS)
def test_size_expressions_mean_what_python_means(text: str, loaded: native.Runtime) -> None:
    symbols = {"s0": 5, "s1": 3}
    assert loaded.evaluate(text, symbols) == parse(text)(symbols)


@slow
@pytest.mark.parametrize(
    "text",
    [
        "",
        "s0 +",
        "s0 s1",
        "s0/2",
        "f(s0)",
        "Max()",
        "s0.x",
        "1e3",
        "__import__('os')",
        "(" * 300,
        "1" * 2001,
        "s0[0]",
        "1.5",
        "1.5*s0",
        "ToFloat(s0)",
        "-IntTrueDiv(s0, 2)",
        "IntTrueDiv(s0, 2)//1",
        "Max(s0, 1.5)",
        "Max(1.5)",
        "TruncToInt(s0, 2)",
        "IntTrueDiv(s0)",
        "TruncToInt(2.0**s0)",
    ],
)
def test_other_expressions_are_refused(text: str, loaded: native.Runtime) -> None:
    with pytest.raises(FileFormatError):
        parse(text)
    with pytest.raises(FileFormatError):
        loaded.evaluate(text, {"s0": 5})


@slow
@pytest.mark.parametrize(
    "text",
    [
        "s0//0",
        "s0 % 0",
        "2**64",
        "s0**s0**s0",
        "9223372036854775807 + s0",
        "s0**-1",
        "s9",
        "TruncToInt(IntTrueDiv(s0, 0))",
        "TruncToInt(1e300*ToFloat(s0))",
        "FloorToInt(OpaqueUnaryFn_sqrt(ToFloat(-s0)))",
    ],
)
def test_expressions_without_a_value_are_errors(text: str, loaded: native.Runtime) -> None:
    with pytest.raises(InputError):
        loaded.evaluate(text, {"s0": 5})


class Many(nn.Module):
    """Sizes that are computed, an input and an output twice among the results, several dtypes."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 6)

    def forward(self, x: Tensor, y: Tensor, at: Tensor) -> tuple[Tensor, ...]:
        a = self.linear(x)
        joined = torch.cat([a, y, a])
        return joined, a, a, x, joined.to(torch.bfloat16), a > 0, at + 1


WHOLE = Input((4,), dtype=torch.int64)


def small() -> tuple[nn.Module, list[Input], list[tuple[Tensor, ...]]]:
    return Many(), [Input((3, 8)), Input((2, 6)), WHOLE], [(torch.randn(3, 8), torch.randn(2, 6), torch.arange(4))] * 2


def varying() -> tuple[nn.Module, list[Input], list[tuple[Tensor, ...]]]:
    inputs = [
        Input(min_shape=(2, 8), opt_shape=(4, 8), max_shape=(32, 8)),
        Input(min_shape=(1, 6), opt_shape=(3, 6), max_shape=(9, 6)),
        WHOLE,
    ]
    sizes = [(2, 1), (5, 3), (5, 3), (32, 9), (2, 1)]
    return Many(), inputs, [(torch.randn(b, 8), torch.randn(c, 6), torch.arange(4)) for b, c in sizes]


def large() -> tuple[nn.Module, list[Input], list[tuple[Tensor, ...]]]:
    x = torch.randn(64, 256)
    calls = [(x,), (x,), (torch.randn(256, 64).T,), (torch.randn(64, 512)[:, ::2],), (x.clone().requires_grad_(),)]
    return nn.Sequential(nn.Linear(256, 300), nn.GELU()), [Input((64, 256))], calls


CASES: Sequence[Callable[[], tuple[nn.Module, list[Input], list[tuple[Tensor, ...]]]]] = (small, varying, large)


def compiled_by(case: Callable[[], tuple[nn.Module, list[Input], list[tuple[Tensor, ...]]]]) -> nn.Module:
    torch.manual_seed(0)
    model, inputs, _ = case()
    return torch_tensorrt.compile(model.eval(), inputs=inputs, engine="openvino", min_block_size=1)


def constant_of(compiled: nn.Module) -> Tensor:
    (node,) = [node for node in compiled.graph.nodes if node.target is EXECUTE]
    return getattr(compiled, node.args[1].target)


@slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_it_gives_the_numbers_of_the_python_runtime(
    case: Callable[[], tuple[nn.Module, list[Input], list[tuple[Tensor, ...]]]],
    loaded: native.Runtime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(native, "runtime", lambda: None)
    python = compiled_by(case)
    engine = loaded.open(constant_of(python), True)
    assert engine.notice == ""
    for call in case()[2]:
        expected = op.live_engine(constant_of(python)).engine.run(call)
        given = engine.run(call)
        assert len(given) == len(expected)
        for ours, theirs in zip(given, expected, strict=True):
            assert torch.equal(ours, theirs)
            assert ours.dtype == theirs.dtype
            assert not ours.requires_grad
        places = [value.data_ptr() for value in (*given, *call)]
        assert len(set(places)) == len(places), "an output shares memory with something else"


@slow
def test_compiled_and_loaded_modules_run_through_it(runtime: native.Runtime, tmp_path: Path) -> None:
    compiled = compiled_by(varying)
    assert isinstance(op.live_engine(constant_of(compiled)).engine, native.NativeEngine)
    torch.manual_seed(0)
    model, _, calls = varying()
    torch_tensorrt.save(compiled, tmp_path / "model.ep")
    again = torch_tensorrt.load(tmp_path / "model.ep").module()
    for call in calls:
        for ours, loaded_ones, eager in zip(compiled(*call), again(*call), model(*call), strict=True):
            torch.testing.assert_close(ours, eager, rtol=2e-2, atol=2e-2)  # the engine computes in bfloat16
            assert torch.equal(ours, loaded_ones)


WRONG = {
    "number": lambda x, y, at: (x, y),
    "dtype": lambda x, y, at: (x.double(), y, at),
    "rank": lambda x, y, at: (x[0], y, at),
    "size": lambda x, y, at: (x[:, :7], y, at),
    "range": lambda x, y, at: (x[:1], y, at),
    "layout": lambda x, y, at: (x.to_sparse(), y, at),
    "int32": lambda x, y, at: (x, y, at + 2**31),
    "device": lambda x, y, at: (x.to("meta"), y, at),
}


@slow
@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_inputs_are_the_errors_of_the_python_runtime(
    wrong: str, loaded: native.Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "runtime", lambda: None)
    constant = constant_of(compiled_by(varying))
    call = WRONG[wrong](*varying()[2][1])
    with pytest.raises(InputError) as python:
        op.live_engine(constant)(call)
    with pytest.raises(InputError) as ours:
        loaded.open(constant, True).run(call)
    assert str(ours.value) == str(python.value)


@slow
def test_sizes_that_must_agree_are_the_error_of_the_python_runtime(
    loaded: native.Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "runtime", lambda: None)

    class Sum(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return x * y

    batch = torch.export.Dim("batch", min=2, max=8)
    program = torch.export.export(Sum(), (torch.ones(4, 3), torch.ones(4, 3)), dynamic_shapes=({0: batch}, {0: batch}))
    compiled = torch_tensorrt.dynamo.compile(program, engine="openvino", min_block_size=1)
    call = (torch.ones(4, 3), torch.ones(5, 3))
    with pytest.raises(InputError) as python:
        op.live_engine(constant_of(compiled))(call)
    with pytest.raises(InputError) as ours:
        loaded.open(constant_of(compiled), True).run(call)
    assert str(ours.value) == str(python.value)


@slow
@pytest.mark.parametrize("given", [None, 3, [3], "text", [None]])
def test_what_is_no_list_of_tensors_is_a_type_error(given: object, runtime: native.Runtime) -> None:
    engine = op.live_engine(constant_of(compiled_by(small))).engine
    with pytest.raises(TypeError, match="expected"):
        engine.run(given)


@slow
def test_threads_share_an_engine(runtime: native.Runtime) -> None:
    compiled = compiled_by(varying)
    engine = op.live_engine(constant_of(compiled)).engine
    calls = varying()[2]
    expected = [engine.run(call) for call in calls]
    wrong: list[int] = []

    def work(seed: int) -> None:
        order = random.Random(seed)
        for _ in range(100):
            place = order.randrange(len(calls))
            if not all(map(torch.equal, engine.run(calls[place]), expected[place])):
                wrong.append(place)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@slow
def test_changed_bytes_are_refused(loaded: native.Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "runtime", lambda: None)
    good = bytes(constant_of(compiled_by(small)).numpy())
    header = 16 + struct.unpack_from("<I", good, 12)[0]
    chance = random.Random(0)
    for round in range(400):
        data = bytearray(good)
        if round % 4 == 0:
            del data[chance.randrange(len(data)) :]
        else:
            place = chance.randrange(header if round % 4 < 3 else len(data))
            data[place] ^= 1 << chance.randrange(8)
        constant = torch.frombuffer(data, dtype=torch.uint8) if data else torch.empty(0, dtype=torch.uint8)
        try:
            decode(memoryview(data))
        except FileFormatError:
            with pytest.raises((FileFormatError, EngineNotRunnable)):
                loaded.open(constant, True)
        else:  # a flipped bit in a name, a version or a size: both read it, or the model inside contradicts it
            with contextlib.suppress(FileFormatError, EngineNotRunnable):
                loaded.open(constant, True)


@slow
def test_an_engine_for_another_cpu_is_compiled_again_with_a_warning(
    runtime: native.Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    compiled = compiled_by(small)
    call = small()[2][0]
    expected = op.live_engine(constant_of(compiled)).engine.run(call)
    data = bytes(constant_of(compiled).numpy())
    foreign = data.replace(b'"target":"cpu;', b'"target":"CPU;')
    assert foreign != data
    with caplog.at_level("WARNING", logger="torch_tensorrt"):
        engine = op.live_engine(torch.frombuffer(bytearray(foreign), dtype=torch.uint8)).engine
    assert "compiled again" in caplog.text
    for ours, theirs in zip(engine.run(call), expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def portable_constant() -> Tensor:
    file = io.BytesIO()
    torch_tensorrt.save(compiled_by(small), file, portable=True)
    file.seek(0)
    (constant,) = (value for value in torch_tensorrt.load(file).state_dict.values() if value.dtype is torch.uint8)
    return constant


def with_payload_of_format_99(constant: Tensor) -> Tensor:
    good = bytes(constant.numpy())
    changed = good.replace(b'"format_version":1,', b'"format_version":9,')
    assert changed != good
    return torch.frombuffer(bytearray(changed), dtype=torch.uint8)


@slow
def test_a_portable_engine_runs_as_it_is(loaded: native.Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "runtime", lambda: None)
    constant, call = portable_constant(), small()[2][0]
    expected = op.live_engine(constant).engine.run(call)
    assert all(map(torch.equal, loaded.open(constant, True).run(call), expected))


@slow
def test_a_portable_engine_that_does_not_fit_is_refused_with_the_remedy(loaded: native.Runtime) -> None:
    constant = with_payload_of_format_99(portable_constant())
    with pytest.raises(FileFormatError, match=r"format 9 .*file is portable: torch_tensorrt in Python builds"):
        loaded.open(constant, True)


@slow
def test_python_builds_another_engine_for_it_also_beside_this_runtime(
    runtime: native.Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    call = small()[2][0]
    expected = op.live_engine(portable_constant()).engine.run(call)
    rebuilt = op.live_engine(with_payload_of_format_99(portable_constant())).engine
    assert "built again now" in caplog.text
    for ours, theirs in zip(rebuilt.run(call), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=2e-2, atol=2e-2)


@slow
def test_other_backends_run_in_python(runtime: native.Runtime) -> None:
    compiled = torch_tensorrt.compile(nn.ReLU(), inputs=[torch.ones(3)], engine="eager", min_block_size=1)
    assert not isinstance(op.live_engine(constant_of(compiled)).engine, native.NativeEngine)
    with pytest.raises(EngineNotRunnable, match="'eager' backend"):
        runtime.open(constant_of(compiled), True)


@slow
def test_an_engine_goes_with_its_module(runtime: native.Runtime) -> None:
    compiled = compiled_by(small)
    engine = weakref.ref(op.live_engine(constant_of(compiled)).engine)
    del compiled
    gc.collect()
    assert engine() is None


@slow
def test_an_engine_that_can_be_refitted_keeps_its_bytes_once(runtime: native.Runtime) -> None:
    torch.manual_seed(0)
    model, inputs, calls = large()
    packed: list[weakref.ref[object]] = []
    pack = torch_tensorrt.compiler.pack
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            torch_tensorrt.compiler,
            "pack",
            lambda engine: (made := pack(engine), packed.append(weakref.ref(made.untyped_storage())))[0],
        )
        compiled = torch_tensorrt.compile(
            model.eval(), inputs=inputs, engine="openvino", min_block_size=1, immutable_weights=False
        )
    gc.collect()
    assert [reference() for reference in packed] == [None]
    torch.testing.assert_close(compiled(*calls[0]), model(*calls[0]), rtol=2e-2, atol=2e-2)
    assert isinstance(op.live_engine(constant_of(compiled)).engine, native.NativeEngine)


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=300,
        env={**os.environ, "PYTHONPATH": path, **environment},
    )  # fmt: skip


@slow
def test_the_package_can_be_imported_after_the_library(built: Path) -> None:
    library = str(built / native.LIBRARY)
    done = run_python(
        f"import warnings, torch\ntorch.ops.load_library({library!r})\n"
        "assert str(torch.ops.tensorrt.execute_engine.default._schema).endswith('-> Tensor[]')\n"
        "warnings.simplefilter('error', UserWarning)\nimport torch_tensorrt\n"
        "m = torch_tensorrt.compile(torch.nn.ReLU().eval(), inputs=[torch.ones(3)], engine='eager', min_block_size=1)\n"
        "p = torch.export.export(m, (torch.ones(3),), strict=False).module()\nprint(p(torch.ones(3)).tolist())",
        TORCH_TENSORRT_RUNTIME=str(built),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[1.0, 1.0, 1.0]"


@pytest.fixture(scope="session")
def program(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The C++ example, built."""
    folder = tmp_path_factory.mktemp("program")
    definitions = [
        f"-DCMAKE_PREFIX_PATH={torch.utils.cmake_prefix_path}",
        f"-DTORCHTRT_RUNTIME={built / native.LIBRARY}",
    ]
    for command in (
        ["cmake", "-S", str(ROOT / "examples" / "cpp"), "-B", str(folder), *definitions],
        ["cmake", "--build", str(folder)],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder / "run_model"


@slow
@pytest.mark.parametrize("batches", [("3",), ("1", "4", "9", "4")], ids=["fixed size", "varying size"])
def test_a_program_without_python_prints_the_same_numbers(
    batches: tuple[str, ...], program: Path, tmp_path: Path
) -> None:
    package = str(tmp_path / "model.pt2")
    script = ROOT / "examples" / "cpp" / "make_model.py"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), native.SETTING: "off"}
    python = subprocess.run(
        [sys.executable, str(script), package, *batches], capture_output=True, text=True, check=False, timeout=600,
        env=environment,
    )  # fmt: skip
    assert python.returncode == 0, python.stderr
    ours = subprocess.run([str(program), package, *batches], capture_output=True, text=True, check=False, timeout=120)
    assert ours.returncode == 0, ours.stderr
    assert ours.stdout == python.stdout
    assert len(ours.stdout.splitlines()) == len(batches)
    wrong = subprocess.run([str(program), package, "17"], capture_output=True, text=True, check=False, timeout=120)
    assert wrong.returncode == 1
    assert "17" in wrong.stderr


@slow
def test_a_program_without_python_runs_a_portable_package(program: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, x = nn.Linear(64, 4).eval(), torch.arange(64).div(64).reshape(1, 64)
    compiled = torch_tensorrt.compile(model, inputs=[Input((1, 64))], engine="openvino", min_block_size=1)
    torch_tensorrt.save(compiled, tmp_path / "model.pt2", output_format="aot_inductor", portable=True)
    ours = subprocess.run(
        [str(program), str(tmp_path / "model.pt2"), "1"], capture_output=True, text=True, check=False, timeout=120
    )
    assert ours.returncode == 0, ours.stderr
    assert ours.stdout.split() == ["batch", "1:", *(f"{number:.5f}" for number in compiled(x)[0].tolist())]


@slow
def test_outputs_of_a_raw_engine_have_the_sizes_that_openvino_finds(runtime: native.Runtime) -> None:
    class Model(torch.nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            return torch.cat([x, x]), x.sum() + y, (y * 2).to(torch.int64)

    sizes = ({0: torch.export.Dim("rows", min=1, max=30_000)}, None)
    program = torch.export.export(Model(), (torch.ones(3, 2), torch.ones(4)), dynamic_shapes=sizes)
    raw = torch_tensorrt.dynamo.convert_exported_program_to_serialized_trt_engine(program, engine="openvino")
    module = torch_tensorrt.ts.embed_engine_in_new_module(raw)
    engine = op.live_engine(module.engine).engine
    assert isinstance(engine, native.NativeEngine)
    for rows in (1, 7, 20_000, 7):
        given = torch.randn(rows, 2), torch.randn(4)
        torch.testing.assert_close(module(*given), Model()(*given), rtol=1e-4, atol=1e-3)
    constant = bytes(module.engine.numpy()).replace(b'"target":"cpu;', b'"target":"CPU;')
    with pytest.raises(EngineNotRunnable, match="raw engine that was embedded with"):
        runtime.open(torch.frombuffer(bytearray(constant), dtype=torch.uint8), True)
