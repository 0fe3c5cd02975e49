"""Files for Windows that are made on Linux: what is in them, read back here, and who takes them where."""

from __future__ import annotations

import io
import json
import re
import struct
import zipfile
from pathlib import Path, PureWindowsPath
from types import SimpleNamespace

import independent_reader
import pytest
import torch
from click.testing import CliRunner
from torch import Tensor, nn

import torch_tensorrt
from torch_tensorrt import EngineNotRunnable, FileFormatError, InputError, Platform, UnsupportedError, engines
from torch_tensorrt.contracts.backend import Support
from torch_tensorrt.tools.command import main

WINDOWS = "windows_x86_64"
ROWS = torch_tensorrt.Input(min_shape=(1, 8), opt_shape=(4, 8), max_shape=(16, 8))
pytestmark = pytest.mark.skipif(
    Platform.current_platform() is not Platform.LINUX_X86_64, reason="files for Windows are made on Linux x86-64"
)


class Model(nn.Module):
    """An engine, an operation that stays in PyTorch, and an engine; enough weights to be aligned."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(8, 64), nn.Linear(64, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.sin(self.first(x)).relu()) * 2


def model() -> Model:
    torch.manual_seed(1)
    return Model().eval()


@pytest.fixture(scope="module", params=["openvino", "eager", "tensorrt_rtx"])
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file for Windows with engines of one backend."""
    if request.param == "tensorrt_rtx":
        pytest.importorskip("tensorrt_rtx")
    return make(tmp_path_factory.mktemp("windows") / f"{request.param}.ep", request.param)


def make(path: Path, engine: str, **options: object) -> Path:
    given = {"min_block_size": 1, "torch_executed_ops": {"aten.sin"}, **options}
    torch_tensorrt.cross_compile_for_windows(model(), str(path), inputs=[ROWS], engine=engine, **given)
    return path


@pytest.fixture
def on_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process takes itself for one on Windows."""
    monkeypatch.setattr(Platform, "current_platform", classmethod(lambda cls: cls.WIN_X86_64))


# ---- what is in the file ----


def test_the_mark_is_in_the_description_in_each_engine_and_in_the_report(saved: Path) -> None:
    record = json.loads(member(saved, "extra/torch_tensorrt.json"))
    assert record["platform"] == WINDOWS
    assert record["settings"]["enable_cross_compile_for_windows"] is True
    report = torch_tensorrt.inspect_file(saved)
    assert (report.platform, report.kind, report.seal) == (WINDOWS, "exported_program", "right")
    assert report.to_json()["platform"] == WINDOWS
    assert len(report.engines) == 2
    for engine in report.engines:
        assert engine.spec.target == "any" or engine.spec.target.endswith(WINDOWS)
    assert WINDOWS in CliRunner().invoke(main, ["inspect", str(saved)]).output


def test_names_of_members_are_names_on_windows_too(saved: Path) -> None:
    with zipfile.ZipFile(saved) as archive:
        names = archive.namelist()
    assert len({name.lower() for name in names}) == len(names)
    reserved = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?$", re.IGNORECASE)
    for name in names:
        assert not PureWindowsPath(name).is_absolute()
        for part in name.split("/"):
            assert part
            assert not re.search(r'[<>:"\\|?*\x00-\x1f]|[. ]$', part), name
            assert not reserved.match(part), name


def test_text_has_the_line_ends_that_were_written(tmp_path: Path) -> None:
    path = tmp_path / "model.ep"
    compiled = torch_tensorrt.dynamo.cross_compile_for_windows(model(), [ROWS], engine="eager", min_block_size=1)
    texts = {"unix.txt": "a\nb\n", "windows.txt": "a\r\nb\r\n"}
    torch_tensorrt.save(compiled, path, extra_files=texts)
    assert {name: member(path, f"extra/{name}").decode() for name in texts} == texts
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if name.endswith(".json"):
                assert b"\r" not in archive.read(name), name


def test_members_and_payloads_start_at_multiples_of_64(saved: Path) -> None:
    data = saved.read_bytes()
    with zipfile.ZipFile(saved) as archive:
        for info in archive.infolist():
            if "/data/" in info.filename and info.file_size:
                name, extra = struct.unpack_from("<HH", data, info.header_offset + 26)
                assert (info.header_offset + 30 + name + extra) % 64 == 0, info.filename
    for engine in independent_reader.read_saved(data).engines:
        start = data.index(engine.payload[:256])
        assert start % 64 == 0


def test_no_pickle_is_in_the_file_so_nothing_of_this_system_s_classes(saved: Path) -> None:
    with zipfile.ZipFile(saved) as archive:
        assert [archive.read(name) for name in archive.namelist() if name.endswith((".pkl", ".pt"))] == [b""]


def test_a_reader_that_knows_only_the_written_format_finds_the_engines(saved: Path) -> None:
    read = independent_reader.read_saved(saved.read_bytes())
    assert read.sealed is True
    assert read.description["platform"] == WINDOWS
    assert [spec["name"] for spec, _ in read.called] == ["part_0", "part_1"]


def test_plans_of_tensorrt_rtx_are_whole(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    path = make(tmp_path / "model.ep", "tensorrt_rtx", device="sm_89")
    engines_in_it = independent_reader.read_saved(path.read_bytes()).engines
    assert len(engines_in_it) == 2
    for engine in engines_in_it:
        assert engine.payload[:4] == b"vtrt"
        assert struct.unpack_from("<Q", engine.payload, 16)[0] == len(engine.payload)


def test_an_openvino_engine_holds_no_code_for_this_cpu(tmp_path: Path) -> None:
    path = make(tmp_path / "model.ep", "openvino")
    for engine in independent_reader.read_saved(path.read_bytes()).engines:
        index, blob, literal, xml, weights = independent_reader.read_openvino(engine.payload)
        assert (index["blob"], bytes(blob)) == (0, b"")
        assert xml.startswith(b"<?xml")
        assert len(weights) == len(literal) > 0


# ---- who takes it where ----


def test_load_on_linux_says_what_the_file_is(saved: Path) -> None:
    for given in (saved, io.BytesIO(saved.read_bytes())):
        with pytest.raises(
            EngineNotRunnable, match=rf"compiled for {WINDOWS}.*this is linux_x86_64.*load_cross_compiled"
        ):
            torch_tensorrt.load(given)


def test_the_documented_loader_refuses_on_linux_with_a_value_error(saved: Path) -> None:
    with pytest.raises(ValueError, match=r"works on Windows x86-64 only.*this is linux_x86_64") as caught:
        torch_tensorrt.load_cross_compiled_exported_program(str(saved))
    assert isinstance(caught.value, InputError)
    with pytest.raises(InputError):
        torch_tensorrt.dynamo.load_cross_compiled_exported_program("")


def test_a_changed_file_is_refused_before_its_mark_is_read(saved: Path, tmp_path: Path) -> None:
    data = bytearray(saved.read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "model.ep").write_bytes(data)
    with pytest.raises(FileFormatError):
        torch_tensorrt.load(tmp_path / "model.ep")


@pytest.mark.parametrize("engine", ["openvino", "eager"])
def test_on_windows_it_loads_and_gives_the_model_s_results(engine: str, tmp_path: Path, on_windows: None) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Platform, "current_platform", classmethod(lambda cls: cls.LINUX_X86_64))
        path = make(tmp_path / "model.ep", engine)
    for loaded in (torch_tensorrt.load_cross_compiled_exported_program(path), torch_tensorrt.load(path)):
        assert isinstance(loaded, torch.export.ExportedProgram)
        for rows in (1, 5, 16):
            x = torch.randn(rows, 8)
            torch.testing.assert_close(loaded.module()(x), model()(x), rtol=1e-5, atol=1e-5)


def test_on_windows_the_documented_loader_takes_files_for_windows_only(tmp_path: Path, on_windows: None) -> None:
    path = tmp_path / "model.ep"
    torch_tensorrt.save(torch_tensorrt.compile(model(), inputs=[ROWS], engine="eager"), path)
    with pytest.raises(FileFormatError, match=r"was not compiled for Windows on Linux; torch_tensorrt\.load reads"):
        torch_tensorrt.load_cross_compiled_exported_program(path)
    with pytest.raises(FileNotFoundError):
        torch_tensorrt.load_cross_compiled_exported_program(tmp_path / "nothing.ep")
    (tmp_path / "text").write_text("hello")
    with pytest.raises(ValueError, match="text"):
        torch_tensorrt.load_cross_compiled_exported_program(tmp_path / "text")


def test_on_another_platform_nothing_is_compiled_for_windows(on_windows: None, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="done on Linux x86-64; this is windows_x86_64"):
        make(tmp_path / "model.ep", "openvino")
    assert list(tmp_path.iterdir()) == []


def test_an_engine_of_native_code_can_t_be_built_for_windows(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"'inductor' can't be built for Windows.*linux_x86_64 only"):
        make(tmp_path / "model.ep", "inductor")


def test_the_default_engine_for_inputs_on_the_cpu_is_portable(tmp_path: Path) -> None:
    report = torch_tensorrt.inspect_file(make(tmp_path / "model.ep", "auto"))
    assert {engine.spec.backend for engine in report.engines} == {"openvino"}


def test_the_dynamo_doors_do_it_in_two_steps(tmp_path: Path) -> None:
    program = torch.export.export(model(), (torch.ones(4, 8),))
    compiled = torch_tensorrt.dynamo.cross_compile_for_windows(program, engine="eager", min_block_size=1)
    torch_tensorrt.dynamo.save_cross_compiled_exported_program(compiled, str(tmp_path / "model.ep"))
    assert torch_tensorrt.inspect_file(tmp_path / "model.ep").platform == WINDOWS
    ordinary = torch_tensorrt.dynamo.compile(program, engine="eager", min_block_size=1)
    with pytest.raises(InputError, match="was not compiled for Windows"):
        torch_tensorrt.dynamo.save_cross_compiled_exported_program(ordinary, str(tmp_path / "other.ep"))
    with pytest.raises(UnsupportedError, match="native code for this platform"):
        torch_tensorrt.save(compiled, str(tmp_path / "model.pt2"), output_format="aot_inductor")


def test_an_ordinary_file_has_no_mark(tmp_path: Path) -> None:
    path = tmp_path / "model.ep"
    torch_tensorrt.save(torch_tensorrt.compile(model(), inputs=[ROWS], engine="eager"), path)
    assert torch_tensorrt.inspect_file(path).platform == ""
    assert "platform" not in json.loads(member(path, "extra/torch_tensorrt.json"))


# ---- what each SDK is told ----


class FakeConfig:
    """Takes a runtime platform, or doesn't."""

    def __init__(self, takes: bool) -> None:
        self.takes, self.value = takes, "SAME_AS_BUILD"

    @property
    def runtime_platform(self) -> str:
        return self.value

    @runtime_platform.setter
    def runtime_platform(self, value: str) -> None:
        self.value = value if self.takes else self.value


def fake(name: str) -> SimpleNamespace:
    return SimpleNamespace(
        name=name, is_portable=name == "tensorrt_rtx", title="TensorRT", version="10.13", member=lambda enum, name: name
    )


def test_tensorrt_is_told_the_platform_and_rtx_is_not() -> None:
    aim = pytest.importorskip("torch_tensorrt.engines.tensorrt.platforms").aim_at_windows
    config = FakeConfig(takes=True)
    aim(fake("tensorrt"), config)
    assert config.value == "WINDOWS_AMD64"
    config = FakeConfig(takes=True)
    aim(fake("tensorrt_rtx"), config)
    assert config.value == "SAME_AS_BUILD"
    with pytest.raises(UnsupportedError, match="can't build for Windows here"):
        aim(fake("tensorrt"), FakeConfig(takes=False))


@pytest.mark.parametrize(
    ("name", "platform", "can"),
    [
        ("tensorrt_rtx", Platform.WIN_X86_64, True),
        ("tensorrt_rtx", Platform.LINUX_X86_64, True),
        ("tensorrt_rtx", Platform.WIN_ARM64, False),
        ("tensorrt", Platform.WIN_X86_64, True),
        ("tensorrt", Platform.LINUX_AARCH64, False),
        ("openvino", Platform.WIN_ARM64, True),
        ("eager", Platform.LINUX_AARCH64, True),
        ("inductor", Platform.LINUX_X86_64, True),
        ("inductor", Platform.WIN_X86_64, False),
    ],
)
def test_a_backend_says_where_its_engines_run(name: str, platform: Platform, can: bool) -> None:
    support = engines.backend(name).builds_for(platform)
    assert isinstance(support, Support)
    assert bool(support) is can
    assert can or platform.value in support.reason or "only" in support.reason


def member(path: Path, ending: str) -> bytes:
    with zipfile.ZipFile(path) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(ending)]
        return archive.read(name)
