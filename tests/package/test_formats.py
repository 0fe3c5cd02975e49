"""TorchScript files and AOTInductor packages: the same numbers as the model, or one clear error; `load` tells files apart."""

from __future__ import annotations

import collections
import io
import json
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

import torch_tensorrt
from torch_tensorrt import Input
from torch_tensorrt.engines.inductor import cxx
from torch_tensorrt.package import aotinductor, confirming
from torch_tensorrt.package.describing import input_specs
from torch_tensorrt.package.layouts import describe_layouts, read_layouts
from torch_tensorrt.spec.tensor_spec import Json, specs_to_json

RANGE = Input(min_shape=(1, 8), opt_shape=(4, 8), max_shape=(16, 8))
METADATA = "torch_tensorrt.json"


class Net(nn.Module):
    """State, a keyword, a size among the results, and (left to PyTorch below) a view by a computed size."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x: Tensor, *, shift: Tensor) -> tuple[dict[str, Tensor], int, None]:
        self.calls.add_(1)
        y = torch.relu(self.linear(x)) * self.calls + shift
        return {"y": y, "wide": x.view(x.shape[0] * 2, 4)}, x.shape[0], None


def compiled(model: nn.Module, *args: object, engine: str = "eager", **kwargs: object) -> torch_tensorrt.CompiledModule:
    return torch_tensorrt.compile(
        model.eval(),
        arg_inputs=list(args),
        kwarg_inputs=kwargs,
        engine=engine,
        min_block_size=1,
        torch_executed_ops={"aten.view"},
    )


def net(engine: str, given: Input = RANGE) -> torch_tensorrt.CompiledModule:
    torch.manual_seed(0)
    return compiled(Net(), given, engine=engine, shift=torch.ones(8))


def saved(module: object, **options: object) -> io.BytesIO:
    file = io.BytesIO()
    torch_tensorrt.save(module, file, **options)
    file.seek(0)
    return file


def agrees(module: Callable[..., object], batches: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    reference = Net().eval()
    for batch in batches:  # the buffer goes on counting
        x = torch.randn(batch, 8)
        results, size, none = module(x, shift=torch.ones(8))
        expected, _, _ = reference(x, shift=torch.ones(8))
        torch.testing.assert_close(dict(results), expected, rtol=1e-5, atol=1e-5)
        assert (size, none) == (batch, None)


@pytest.mark.parametrize("retrace", [True, False])
@pytest.mark.parametrize(("given", "batches"), [(RANGE, (3, 1, 16)), (Input((4, 8)), (4, 4))], ids=["range", "fixed"])
@pytest.mark.parametrize("engine", ["eager", "openvino"])
def test_torchscript_gives_the_models_numbers(
    engine: str, given: Input, batches: tuple[int, ...], retrace: bool
) -> None:
    file = saved(net(engine, given), output_format="torchscript", retrace=retrace)
    loaded = torch_tensorrt.load(file)
    assert isinstance(loaded, torch.jit.ScriptModule)
    agrees(loaded, batches)


def test_torchscript_runs_in_a_new_process_with_torch_alone_to_load_it(tmp_path: Path) -> None:
    module, x = net("openvino"), torch.randn(5, 8)
    torch_tensorrt.save(module, tmp_path / "net.ts", output_format="torchscript")
    torch.save(x, tmp_path / "x.pt")
    code = (
        "import torch, torch_tensorrt; m = torch.jit.load('net.ts'); "
        "torch.save(m(torch.load('x.pt'), shift=torch.ones(8))[0]['y'], 'y.pt')"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, cwd=tmp_path, timeout=180)
    assert torch.equal(torch.load(tmp_path / "y.pt"), module(x, shift=torch.ones(8))[0]["y"])


def test_torchscript_checks_what_it_is_given() -> None:
    loaded = torch_tensorrt.load(saved(net("eager"), output_format="torchscript"))
    for wrong in (torch.randn(17, 8), torch.randn(4, 7), torch.randn(4, 8).double(), torch.randn(8)):
        with pytest.raises(torch.jit.Error, match=r"input 'x' must be float32 of \(1\.\.16, 8\) on cpu"):
            loaded(wrong, shift=torch.ones(8))


class Trees(nn.Module):
    """Dicts, tuples and lists going in and out, and arguments that are part of the code."""

    def forward(
        self, pair: tuple[Tensor, dict[str, Tensor]], several: list[Tensor], times: int = 2, extra: Tensor | None = None
    ) -> tuple[list[Tensor], dict[str, Tensor], tuple[Tensor, int]]:
        first, named = pair
        total = first + named["a"] * times
        return [total, several[0]], {"sum": several[0] + several[1], "a": named["a"]}, (total.relu(), times)


def test_torchscript_takes_and_gives_trees() -> None:
    ones = torch.ones(2, 3)
    module = compiled(Trees(), (ones, {"a": ones}), [ones, ones], 3)
    loaded = torch_tensorrt.load(saved(module, output_format="torchscript"))
    args = ((torch.randn(2, 3), {"a": torch.randn(2, 3)}), [torch.randn(2, 3), torch.randn(2, 3)])
    torch.testing.assert_close(loaded(*args, 3), Trees()(*args, 3))
    torch.testing.assert_close(loaded(*args), Trees()(*args, 3))
    with pytest.raises(torch.jit.Error, match="times must be 3"):
        loaded(*args, 4)
    with pytest.raises(torch.jit.Error, match="several needs 2 entries"):
        loaded(args[0], [ones])


Point = collections.namedtuple("Point", "x y")  # noqa: PYI024 - untyped as users write it


class NamedOut(nn.Module):
    def forward(self, x: Tensor) -> Point:
        return Point(x + 1, Point(x, x.shape[0]))


def test_torchscript_gives_named_tuples_with_their_names() -> None:
    loaded = torch_tensorrt.load(saved(compiled(NamedOut(), torch.ones(2)), output_format="torchscript"))
    x = torch.randn(2)
    found = loaded(x)
    assert torch.equal(found.x, x + 1)
    assert torch.equal(found.y.x, x)
    assert (type(found).__name__, found.y.y) == ("Point", 2)


class NamedIn(nn.Module):
    def forward(self, point: Point) -> Tensor:
        return point.x + point.y


class MixedOut(nn.Module):
    def forward(self, x: Tensor) -> dict[str, object]:
        return {"y": x + 1, "count": x.shape[0]}


class Branch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cond(x.sum() > 0, lambda x: x + 1, lambda x: x - 1, (x,))


@pytest.mark.parametrize(
    ("model", "given", "message"),
    [
        (NamedIn(), Point(torch.ones(2), torch.ones(2)), r"Argument 'point' holds a (Point|namedtuple)"),
        (MixedOut(), torch.ones(2, 2), r"The result is a dict of tensor, int"),
        (Branch(), torch.ones(2), r"branch or loop body"),
    ],
    ids=["a named tuple", "a dict of two types", "a branch"],
)
def test_what_torchscript_cannot_express_is_named(model: nn.Module, given: object, message: str) -> None:
    module = compiled(model, given)
    with pytest.raises(torch_tensorrt.UnsupportedError, match=message):
        saved(module, output_format="torchscript")


class Scaled(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2


SCRIPT = torch.jit.script(Scaled())
PROGRAM = torch.export.export(Scaled(), (torch.ones(2),))


@pytest.mark.parametrize(
    ("module", "output_format", "message"),
    [
        (SCRIPT, "exported_program", "ScriptModule can't be saved as 'exported_program'"),
        (SCRIPT, "aot_inductor", "ScriptModule can't be saved as 'aot_inductor'"),
        (PROGRAM, "torchscript", "ExportedProgram can't be saved as 'torchscript'"),
        *(
            (Scaled(), output, "Scaled was not compiled")
            for output in ("exported_program", "torchscript", "aot_inductor")
        ),
        ("text", "exported_program", "A str can't be saved"),
    ],
)
def test_a_pair_that_does_not_fit_is_a_value_error(module: object, output_format: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        saved(module, output_format=output_format)
    assert isinstance(caught.value, torch_tensorrt.InputError)


def test_a_script_module_is_written_as_it_is_with_its_extra_files() -> None:
    extras: dict[str, object] = {}
    file = saved(SCRIPT, output_format="torchscript", extra_files={"a.bin": b"\xff\0", "b.txt": "b"})
    loaded = torch_tensorrt.load(file, extra_files=extras)
    assert torch.equal(loaded(torch.ones(2)), torch.full((2,), 2.0))
    assert extras == {"a.bin": b"\xff\0", "b.txt": "b"}


class Wrapper(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.compiled_module = inner

    def forward(self, *args: object, **kwargs: object) -> object:
        return self.compiled_module(*args, **kwargs)


@pytest.mark.parametrize("output_format", ["exported_program", "torchscript"])
def test_of_a_wrapper_what_it_wraps_is_saved(output_format: str) -> None:
    loaded = torch_tensorrt.load(saved(Wrapper(net("eager")), output_format=output_format))
    agrees(loaded if output_format == "torchscript" else loaded.module(), (2, 5))


@pytest.mark.parametrize("output_format", ["exported_program", "torchscript"])
def test_a_file_says_what_it_is_without_being_unpacked(output_format: str) -> None:
    file, extras = saved(net("openvino"), output_format=output_format, extra_files={"mine": "1"}), {"mine": ""}
    torch_tensorrt.load(file, extra_files=extras)
    assert extras == {"mine": "1"}
    with zipfile.ZipFile(file) as archive:
        member = next(name for name in archive.namelist() if name.endswith(f"/extra/{METADATA}"))
        record = json.loads(archive.read(member))
    assert (record["format"], record["package"], record["torch"]) == (1, torch_tensorrt.__version__, torch.__version__)
    assert [engine["backend"] for engine in record["engines"]] == ["openvino"]
    assert record["settings"]["min_block_size"] == 1
    assert record["inputs"][0]["shape"][0].items() >= {"min": 1, "opt": 4, "max": 16}.items()
    assert record["signature"]["arguments"] == ["x", "shift"]
    assert record["signature"]["result"] == "({'y': tensor, 'wide': tensor}, int, None)"


@pytest.mark.parametrize("name", [METADATA, "", "../up", "/top", 3])
def test_an_extra_file_needs_a_name_of_its_own(name: str) -> None:
    with pytest.raises(torch_tensorrt.InputError, match="extra_files"):
        saved(PROGRAM, extra_files={name: "x"})


@pytest.mark.parametrize("output_format", ["exported_program", "torchscript"])
@pytest.mark.parametrize("suffix", ["ep", "pt2", "ts", "bin"])
def test_no_warning_of_pytorch_reaches_the_user(output_format: str, suffix: str, tmp_path: Path) -> None:
    module, path = net("eager"), tmp_path / f"net.{suffix}"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        torch_tensorrt.save(module, path, output_format=output_format)
        torch_tensorrt.load(path)


def test_a_file_of_another_format_than_asked_for_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(torch_tensorrt.FileFormatError, match="not of format 'torchscript', but 'exported_program'"):
        torch_tensorrt.load(saved(PROGRAM), format="torchscript")
    with pytest.raises(torch_tensorrt.InputError, match="format='onnx' is not known"):
        torch_tensorrt.load(saved(PROGRAM), format="onnx")
    torch_tensorrt.load(saved(PROGRAM), format="exported_program", colour="blue")
    assert "colour" in caplog.text


def torch_saved(value: object, **options: object) -> bytes:
    file = io.BytesIO()
    torch.save(value, file, **options)
    return file.getvalue()


def zipped(*members: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for member in members:
            archive.writestr(member, "nothing")
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "an empty file"),
        (b"hello, world", "a text file"),
        (b"\x7fELF\2\1\1" + bytes(64), "a Linux library"),
        (torch_saved({"a": torch.ones(1)}), "torch.save wrote"),
        (torch_saved({"a": 1}, _use_new_zipfile_serialization=False), "a pickle"),
        (zipped("a.txt"), "holds no saved program"),
        (zipped("m/data/aotinductor/model/../../../../x.so"), "outside of the archive"),
        (zipped("m/data/aotinductor/model/x.so", "m/models/model.json"), "PyTorch can't load this AOTInductor package"),
        (zipped("m/code/a.py", "m/data.pkl"), "can't be read as TorchScript"),
    ],
    ids=[
        "nothing",
        "text",
        "a library",
        "weights",
        "an old pickle",
        "a zip",
        "zip slip",
        "no package",
        "no TorchScript",
    ],
)
def test_a_foreign_file_is_refused_with_what_it_is(content: bytes, message: str) -> None:
    with pytest.raises(torch_tensorrt.FileFormatError, match=message) as caught:
        torch_tensorrt.load(io.BytesIO(content))
    assert isinstance(caught.value, ValueError)


def test_a_missing_file_is_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"There is no file '.*nowhere\.ep'"):
        torch_tensorrt.load(tmp_path / "nowhere.ep")


def test_a_bare_engine_says_how_to_run_it(tmp_path: Path) -> None:
    module = compiled(Scaled(), torch.ones(3), engine="openvino")
    path = tmp_path / "part.engine"
    path.write_bytes(next(buffer for name, buffer in module.named_buffers() if "engine" in name).numpy().tobytes())
    with pytest.raises(torch_tensorrt.FileFormatError, match=r"bare engine .*torch\.ops\.tensorrt\.execute_engine"):
        torch_tensorrt.load(path)
    engine = torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.uint8)
    spec = torch_tensorrt.inspect_file(path).engines[0].spec.to_json()
    (result,) = torch.ops.tensorrt.execute_engine([torch.ones(3)], engine, spec)
    assert torch.equal(result, torch.full((3,), 2.0))


def test_a_changed_torchscript_file_is_refused() -> None:
    content = bytearray(saved(net("eager"), output_format="torchscript").getvalue())
    content[len(content) // 2] ^= 1
    with pytest.raises(torch_tensorrt.FileFormatError, match="was changed after it was saved"):
        torch_tensorrt.load(io.BytesIO(bytes(content)))


# AOTInductor: each package takes seconds of the C++ compiler, so there are few.


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package of an eager engine with sizes that vary, and a foreign suffix."""
    path = tmp_path_factory.mktemp("package") / "net.bin"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        torch_tensorrt.save(net("eager"), path, output_format="aot_inductor", extra_files={"mine": "1"})
    return path


def test_a_package_gives_the_models_numbers_and_keeps_state(package: Path) -> None:
    extras: dict[str, object] = {}
    loaded = torch_tensorrt.load(package, extra_files=extras)
    agrees(loaded, (3, 1, 16))
    assert extras == {"mine": "1"}
    assert loaded.get_metadata()["torch_tensorrt"] == "needs nothing but PyTorch"
    assert loaded.record["needs"] == []
    agrees(torch_tensorrt.load(io.BytesIO(package.read_bytes())), (2,))


def test_a_package_takes_inputs_however_they_lie_in_memory(package: Path) -> None:
    loaded, reference = torch_tensorrt.load(package), net("eager")
    torch.manual_seed(0)
    wide = torch.randn(4, 20)
    given = [torch.randn(8, 4).t(), wide[:, 3:11], wide[:, :16:2], torch.randn(1, 8).expand(4, 8), wide[1:3, :8]]
    for x, shift in zip(given, [torch.arange(16.0)[::2], torch.ones(1).expand(8)] * 3, strict=False):
        expected, _, _ = reference(x.contiguous(), shift=shift.contiguous())
        results, _, _ = loaded(x, shift=shift)
        torch.testing.assert_close(results["y"], expected["y"])
        assert torch.equal(results["wide"], expected["wide"])


class Pointwise(nn.Module):
    def forward(self, x: Tensor, shift: Tensor) -> Tensor:
        return torch.relu(x * torch.arange(3.0)[:, None, None]) + shift


def test_a_package_takes_inputs_of_any_memory_format() -> None:
    model, x, shift = Pointwise(), torch.randn(2, 3, 4, 5), torch.randn(5)
    last = x.to(memory_format=torch.channels_last)
    batch = torch.export.Dim("batch", min=2, max=8)
    program = torch.export.export(model, (last, shift), dynamic_shapes=({0: batch}, None))
    loaded = torch_tensorrt.load(saved(program, output_format="aot_inductor"))
    assert [layout["order"] for layout in loaded.record["layouts"]] == [[0, 2, 3, 1], [0]]
    for given in (x, last, torch.cat([last, last]), x.transpose(0, 1).contiguous().transpose(0, 1)):
        torch.testing.assert_close(loaded(given, shift), model(given, shift))


class Written(nn.Module):
    """Writes to its inputs in many ways, and reads one only."""

    def forward(self, x: Tensor, y: Tensor, z: Tensor, only: Tensor) -> Tensor:
        x[1:].view(-1).add_(1)
        with torch.no_grad():
            part, _ = y.chunk(2, 1)
            part.mul_(3)
        torch.mul(only, 2, out=z)
        torch._foreach_add_([x, y], 1.0)
        return x * 2 + y + z


def test_a_package_writes_to_the_callers_tensors_however_they_lie_in_memory() -> None:
    program = torch.export.export(Written(), tuple(torch.ones(3, 4) for _ in range(4)))
    loaded = torch_tensorrt.load(saved(program, output_format="aot_inductor"))
    assert [layout["written"] for layout in loaded.record["layouts"]] == [True, True, True, False]
    ways: list[Callable[[Tensor], Tensor]] = [
        lambda x: x,
        lambda x: x.t().contiguous().t(),
        lambda x: x.repeat(1, 2)[:, :4],
    ]
    for lay in ways:
        given = [torch.randn(3, 4) for _ in range(4)]
        mine, theirs = [x.clone() for x in given], [lay(x.clone()) for x in given]
        torch.testing.assert_close(loaded(*theirs), Written()(*mine))
        torch.testing.assert_close(theirs, mine)
    with pytest.raises(torch_tensorrt.InputError, match="whose elements share memory"):
        loaded(torch.ones(1, 4).expand(3, 4), *given[1:])


class Stateful(nn.Module):
    """Remembers in two ways, and writes to its input."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kept", torch.zeros(4))
        self.register_buffer("lost", torch.zeros(4), persistent=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        self.kept.add_(x[0])
        self.lost.add_(x[0])
        x.add_(1)
        return x + self.kept + self.lost, x.argmax(1)


def test_comparing_a_package_leaves_the_model_and_its_inputs_as_they_were(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(confirming, "DEVICES", {"cuda", "cpu"})
    model, x = Stateful(), torch.randn(3, 4)
    before = x.clone()
    program = torch.export.export(model, (x,))
    loaded = torch_tensorrt.load(saved(program, output_format="aot_inductor"))
    assert "compared with the model" not in caplog.text
    assert "was wrong" not in caplog.text
    assert torch.equal(x, before)
    assert not model.kept.any()
    assert not model.lost.any()
    torch.testing.assert_close(loaded(x.clone()), model(x.clone()))


def test_inputs_of_no_elements_have_a_layout() -> None:
    program = torch.export.export(Scaled(), (torch.zeros(2, 0, 3),))
    assert describe_layouts(program) == [{"order": [0, 1, 2], "written": False}]


def test_a_program_whose_inputs_were_traced_with_gaps_does_not_become_a_package() -> None:
    program = torch.export.export(Scaled(), (torch.ones(4, 16)[:, ::2],))
    with pytest.raises(torch_tensorrt.UnsupportedError, match=r"Input 'x' was traced with gaps .*x\.contiguous\(\)"):
        saved(program, output_format="aot_inductor")


ROW: Json = {"order": [0], "written": False}
DAMAGED: list[Json] = [
    [{"order": [0, 0], "written": False}], [{"order": [1], "written": False}], [3], [{}], {}, [], [ROW, ROW],
    [{"order": [1, 0], "written": False}],
]  # fmt: skip


@pytest.mark.parametrize("told", DAMAGED, ids=str)
def test_damaged_layouts_are_told(told: Json) -> None:
    program = torch.export.export(Scaled(), (torch.zeros(2),))
    inputs: Json = specs_to_json(input_specs(program))
    assert read_layouts({"inputs": inputs, "layouts": [ROW]}, "net")[0].order == (0,)
    with pytest.raises(torch_tensorrt.FileFormatError, match="net: its record has"):
        read_layouts({"inputs": inputs, "layouts": told}, "net")


def test_a_package_with_wrong_results_is_made_again_or_refused(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    program, compile_ = torch.export.export(Scaled(), (torch.ones(4, 8),)), aotinductor._compile
    wrong = torch.export.export(nn.Tanh(), (torch.ones(4, 8),))

    def first_wrong(plain: ExportedProgram, path: str, options: Mapping[str, object]) -> None:
        compile_(plain if "layout_optimization" in options else wrong, path, options)

    monkeypatch.setattr(aotinductor, "_compile", first_wrong)
    monkeypatch.setattr(confirming, "DEVICES", {"cuda", "cpu"})
    x = torch.randn(4, 8)
    loaded = torch_tensorrt.load(saved(program, output_format="aot_inductor"))
    assert torch.equal(loaded(x), program.module()(x))
    assert "compiled again with layout_optimization=False" in caplog.text
    monkeypatch.setattr(aotinductor, "disagreement", lambda *_: 0.25)
    monkeypatch.setattr(aotinductor, "_compile", lambda *_: None)
    with pytest.raises(torch_tensorrt.BuildError, match=r"off by 0\.25 of their size"):
        saved(program, output_format="aot_inductor")


def test_a_package_is_checked_at_its_door(package: Path) -> None:
    loaded = torch_tensorrt.load(package)
    with pytest.raises(torch_tensorrt.InputError, match="range 1 to 16"):
        loaded(torch.randn(17, 8), shift=torch.ones(8))
    with pytest.raises(torch_tensorrt.InputError, match=r"missing: \['shift'\], not known: \['colour'\]"):
        loaded(torch.randn(4, 8), colour=1)
    with pytest.raises(torch_tensorrt.InputError, match="arguments of the form"):
        loaded(torch.randn(4, 8), torch.ones(8), shift=torch.ones(8))


def test_a_package_without_engines_runs_without_this_library(package: Path, tmp_path: Path) -> None:
    code = (
        "import sys, torch; sys.modules['torch_tensorrt'] = None; "
        f"m = torch._inductor.aoti_load_package(open({str(package)!r}, 'rb')); "
        "y = m(torch.ones(5, 8), shift=torch.ones(8))[0]['y']; assert y.shape == (5, 8); torch.save(y, 'y.pt')"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, cwd=tmp_path, timeout=180)
    expected = net("eager")(torch.ones(5, 8), shift=torch.ones(8))[0]["y"]
    torch.testing.assert_close(torch.load(tmp_path / "y.pt"), expected)


def test_a_package_for_another_cpu_is_refused(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_is_avx2_supported", "_is_avx512_supported", "_is_vnni_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: False)
    if not torch._C._aoti.AOTIModelPackageLoader.load_metadata_from_package(str(package), "model")["AOTI_CPU_ISA"]:
        pytest.skip("this CPU has none of the instructions")
    with pytest.raises(torch_tensorrt.EngineNotRunnable, match="which this CPU doesn't have"):
        torch_tensorrt.load(package)


def test_a_package_holds_engines_that_keep_no_program_and_says_what_they_need(tmp_path: Path) -> None:
    torch_tensorrt.save(
        net("openvino"), tmp_path / "net.pt2", output_format="aot_inductor", inductor_configs={"max_autotune": False}
    )
    loaded = torch_tensorrt.load(tmp_path / "net.pt2")
    agrees(loaded, (3, 16))
    assert loaded.record["needs"] == ["torch_tensorrt", "openvino"]
    assert "import torch_tensorrt" in loaded.get_metadata()["torch_tensorrt"]


def test_a_loaded_program_becomes_a_package_too(tmp_path: Path) -> None:
    program = torch_tensorrt.load(saved(compiled(Scaled(), RANGE)))
    loaded = torch_tensorrt.load(saved(program, output_format="aot_inductor"))
    for batch in (1, 16):
        assert torch.equal(loaded(torch.ones(batch, 8)), torch.full((batch, 8), 2.0))


class ConstantOut(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, int]:
        return x + 1, 3


def test_a_package_refuses_a_constant_result() -> None:
    with pytest.raises(torch_tensorrt.UnsupportedError, match=r"Result 1 .* is the constant 3"):
        saved(compiled(ConstantOut(), torch.ones(2)), output_format="aot_inductor")


def test_a_package_needs_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(ValueError, match="needs Linux; this is win32"):
        saved(PROGRAM, output_format="aot_inductor")


def test_a_package_needs_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cxx, "_answers", lambda _: False)
    with pytest.raises(torch_tensorrt.BuildError, match="no compiler was found"):
        saved(PROGRAM, output_format="aot_inductor")


@pytest.mark.parametrize(
    ("configs", "message"),
    [
        ({"max_autotun": True}, "Did you mean 'max_autotune'"),
        ({"aot_inductor.package": False}, "set by save itself"),
        ("fast", "a dict from option to value"),
    ],
)
def test_inductor_configs_are_inductors(configs: object, message: str) -> None:
    with pytest.raises(torch_tensorrt.InputError, match=message):
        saved(PROGRAM, output_format="aot_inductor", inductor_configs=configs)


def test_inductor_configs_mean_nothing_elsewhere(caplog: pytest.LogCaptureFixture) -> None:
    saved(PROGRAM, inductor_configs={})
    assert "save does not know inductor_configs" in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("function", "told"),
    [
        (lambda x: torch.nn.functional.adaptive_avg_pool2d(x, (2, 3)), r"right only where \w+ == 6 and \w+ == 8"),
        (lambda x: x.diagonal(0, 2, 3) + 0, r"'diagonal' \(aten\.diagonal\.default\) has the sizes that it has"),
    ],
    ids=["a size that it fixes", "the smaller of two sizes"],
)
def test_code_that_would_be_wrong_for_some_of_the_sizes_is_not_saved(
    function: Callable[[Tensor], Tensor], told: str
) -> None:
    class Model(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return function(x)

    images = Input(min_shape=(1, 2, 4, 4), opt_shape=(2, 2, 6, 8), max_shape=(4, 2, 12, 12))
    with pytest.raises(torch_tensorrt.UnsupportedError, match=told):
        saved(compiled(Model(), images), output_format="aot_inductor")


@pytest.mark.slow
def test_a_package_of_native_engines_holds_them_as_code_and_needs_nothing(tmp_path: Path) -> None:
    torch_tensorrt.save(net("inductor"), tmp_path / "net.pt2", output_format="aot_inductor")
    assert torch_tensorrt.inspect_file(tmp_path / "net.pt2").engines == ()
    assert torch_tensorrt.load(tmp_path / "net.pt2").record["needs"] == []
    code = (
        "import sys, torch; sys.modules['torch_tensorrt'] = None; m = torch._inductor.aoti_load_package('net.pt2'); "
        "torch.save(m(torch.ones(5, 8), shift=torch.ones(8))[0]['y'], 'y.pt')"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, cwd=tmp_path, timeout=180)
    expected = net("eager")(torch.ones(5, 8), shift=torch.ones(8))[0]["y"]
    torch.testing.assert_close(torch.load(tmp_path / "y.pt"), expected)
