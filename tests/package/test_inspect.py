"""`inspect_file` and `python -m torch_tensorrt inspect`: what a file says about itself, without opening what could act."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from archives import Archive, Engine
from click.testing import CliRunner
from mutations import GOLDEN

import torch_tensorrt
from torch_tensorrt import FileFormatError, InputError
from torch_tensorrt.spec.tensor_spec import Dim
from torch_tensorrt.tools.command import main

DYNAMIC = GOLDEN / "openvino-dynamic.ep"


def test_a_saved_program_is_described() -> None:
    report = torch_tensorrt.inspect_file(DYNAMIC)
    assert (report.kind, report.seal, report.size) == ("exported_program", "right", DYNAMIC.stat().st_size)
    assert report.package == "0.1.0"
    assert report.torch.startswith("2.")
    assert report.settings == {"engine": "openvino", "min_block_size": 1}
    x, shift = report.inputs
    assert (x.name, x.dtype, x.shape) == ("x", torch.float32, (Dim("s77", 2, 4, 8), 6))
    assert (shift.name, shift.shape) == ("shift", (4,))
    assert report.signature["arguments"] == ["x", "shift"]
    (engine,) = report.engines
    assert engine.spec.backend == "openvino"
    assert engine.payload_bytes == len(Engine.read(Archive.read(DYNAMIC.read_bytes()).engine).payload)
    assert report.notes == ()


PORTABLE = GOLDEN / "openvino-portable.ep"


def test_the_program_of_a_portable_engine_is_described() -> None:
    (engine,) = torch_tensorrt.inspect_file(PORTABLE).engines
    program = Engine.read(Archive.read(PORTABLE.read_bytes()).engine).program
    assert engine.program == {
        "bytes": len(program),
        "sha256": hashlib.sha256(program).hexdigest(),
        "options": {"engine": "openvino", "min_block_size": 1},
    }
    assert engine.to_json()["program"] == engine.program
    (plain,) = torch_tensorrt.inspect_file(DYNAMIC).engines
    assert plain.to_json()["program"] is None


@pytest.mark.parametrize(("path", "told"), [(PORTABLE, True), (DYNAMIC, False)], ids=["portable", "not portable"])
def test_the_table_says_what_other_machines_can_build_from(path: Path, told: bool) -> None:
    shown = CliRunner().invoke(main, ["inspect", str(path)])
    assert shown.exit_code == 0
    assert ("another machine can build" in " ".join(shown.output.split())) is told
    found = json.loads(CliRunner().invoke(main, ["inspect", str(path), "--json"]).output)["engines"][0]["program"]
    assert (found is not None) is told


@pytest.mark.parametrize("program", [None, 3, {}, {"bytes": -1, "sha256": "", "options": {}}])
def test_a_program_field_that_makes_no_sense_is_noted(program: object, tmp_path: Path) -> None:
    archive = Archive.read(PORTABLE.read_bytes())
    engine = Engine.read(archive.engine)
    engine.header["program"] = program
    (tmp_path / "model.ep").write_bytes(archive.with_engine(engine.write(hashed=False)).write())
    report = torch_tensorrt.inspect_file(tmp_path / "model.ep")
    assert report.engines == ()
    assert any("rogram" in note for note in report.notes)
    with pytest.raises(FileFormatError, match="rogram"):
        torch_tensorrt.load(tmp_path / "model.ep")


def test_nothing_is_imported_started_or_unpickled(tmp_path: Path) -> None:
    code = (
        "import sys, torch_tensorrt\n"
        "seen = []\n"
        "sys.addaudithook(lambda event, args: seen.append(event) if event in "
        "{'exec', 'compile', 'pickle.find_class', 'subprocess.Popen', 'os.system', 'ctypes.dlopen'} else None)\n"
        "torch_tensorrt.inspect_file(sys.argv[1])\n"
        "print(seen, 'openvino' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(DYNAMIC)], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.strip() == "[] False"


def without_description(archive: Archive) -> Archive:
    del archive.members[archive.find("extra/torch_tensorrt.json")]
    return archive


def test_a_file_without_our_description_is_described_from_its_program(tmp_path: Path) -> None:
    path = tmp_path / "model.ep"
    path.write_bytes(without_description(Archive.read(DYNAMIC.read_bytes())).write(sealed=False))
    report = torch_tensorrt.inspect_file(path)
    assert report.seal == "none"
    assert report.inputs[0].shape == (Dim("s77", 2, 4, 8), 6)
    assert report.signature == {"arguments": ["x", "shift"], "results": 1}
    assert len(report.engines) == 1


def test_an_exported_program_of_pytorch_is_described(tmp_path: Path) -> None:
    sizes = ({0: torch.export.Dim("batch", min=2, max=9)},)
    program = torch.export.export(torch.nn.Linear(3, 2), (torch.ones(4, 3),), dynamic_shapes=sizes)
    path = tmp_path / "plain.pt2"
    torch.export.save(program, path, extra_files={"note.txt": "hello"})
    report = torch_tensorrt.inspect_file(path)
    assert (report.kind, report.engines, report.extra_files) == ("exported_program", (), ("note.txt",))
    (x,) = report.inputs
    assert x.shape[1] == 3
    assert (x.shape[0].min, x.shape[0].max) == (2, 9)


def test_what_would_act_on_a_terminal_is_written_out(tmp_path: Path) -> None:
    path = tmp_path / "plain.pt2"
    program = torch.export.export(torch.nn.Linear(3, 2), (torch.ones(4, 3),))
    torch.export.save(program, path, extra_files={"red\x1b[31m\r.txt": "[bold]"})
    shown = CliRunner().invoke(main, ["inspect", str(path)])
    assert shown.exit_code == 0
    assert "red\\x1b[31m\\r.txt" in shown.output
    assert not {"\x1b", "\r"} & {*shown.output}


def test_an_engine_alone_is_described(tmp_path: Path) -> None:
    report = torch_tensorrt.inspect_file(GOLDEN / "openvino.engine")
    assert (report.kind, len(report.engines)) == ("engine", 1)
    short = tmp_path / "short.engine"
    short.write_bytes((GOLDEN / "openvino.engine").read_bytes()[:2000])
    (note,) = torch_tensorrt.inspect_file(short).notes
    assert "cut off" in note


def test_an_engine_inside_a_library_of_an_aotinductor_package_is_found(tmp_path: Path) -> None:
    path = tmp_path / "model.pt2"
    engine = (GOLDEN / "openvino.engine").read_bytes()
    library = b"\x7fELF" + b"TRTANYWH is only a word here" + bytes(2**20 - 1000) + engine + bytes(77)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/data/aotinductor/model/x.wrapper.so", library)
        archive.writestr("model/data/aotinductor/model/x_metadata.json", '{"AOTI_DEVICE_KEY": "cpu"}')
    report = torch_tensorrt.inspect_file(path)
    assert report.kind == "aot_inductor"
    assert [found.spec.backend for found in report.engines] == ["openvino"]
    assert report.notes == ("AOTI_DEVICE_KEY: cpu",)


def _zip(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            archive.writestr(name.replace("__", "/"), data)
    return buffer.getvalue()


def _torch_saved() -> bytes:
    buffer = io.BytesIO()
    torch.save({"weight": torch.ones(2)}, buffer)
    return buffer.getvalue()


def _arrays() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, a=np.ones(2))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: b"", "empty"),
        (lambda: pickle.dumps([1]), "pickle"),
        (lambda: b"hello, world\n", "text"),
        (lambda: b'{"a": 1}', "JSON"),
        (lambda: b"\x7fELF" + bytes(100), "library"),
        (lambda: (40).to_bytes(8, "little") + b'{"a": {}}', "safetensors"),
        (lambda: b"\x08\x08\x12\x07pytorch", "ONNX"),
        (lambda: b"GGUF" + bytes(10), "GGUF"),
        (lambda: bytes(range(256)), "unknown"),
        (lambda: _zip(), "empty zip"),
        (lambda: _zip(a=b"x"), "something else"),
        (_torch_saved, "torch.load"),
        (_arrays, "NumPy"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_foreign_file_is_no_error_and_is_named(make: Callable[[], bytes], words: str, tmp_path: Path) -> None:
    path = tmp_path / "something"
    path.write_bytes(make())
    report = torch_tensorrt.inspect_file(path)
    assert report.kind == "foreign"
    assert words in report.about


def test_a_changed_file_is_described_with_a_wrong_seal(tmp_path: Path) -> None:
    data = bytearray(DYNAMIC.read_bytes())
    data[-200] ^= 1  # in the directory, where the time of a member stands, or in its name
    path = tmp_path / "model.ep"
    path.write_bytes(data)
    try:
        report = torch_tensorrt.inspect_file(path)
    except FileFormatError:
        return
    assert report.seal == "wrong"
    assert any("changed" in note for note in report.notes)


def test_a_description_that_contradicts_the_engines_is_noted(tmp_path: Path) -> None:
    archive = Archive.read(DYNAMIC.read_bytes())
    archive.edit("torch_tensorrt.json", lambda told: told.update(engines=[]))
    path = tmp_path / "model.ep"
    path.write_bytes(archive.write())
    (note,) = torch_tensorrt.inspect_file(path).notes
    assert "other engines" in note


@pytest.mark.parametrize(
    "kind", [None, "x", [], {"format": 2}, {"format": 1, "inputs": 3}, {"format": 1, "inputs": [3]}]
)
def test_a_description_of_another_form_is_noted_and_not_used(kind: object, tmp_path: Path) -> None:
    archive = Archive.read(DYNAMIC.read_bytes())
    archive.members[archive.find("torch_tensorrt.json")] = json.dumps(kind).encode()
    path = tmp_path / "model.ep"
    path.write_bytes(archive.write())
    report = torch_tensorrt.inspect_file(path)
    assert report.notes
    assert report.inputs[0].name == "x", "the program itself tells its inputs"


def test_a_path_that_is_no_file_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nothing\.ep"):
        torch_tensorrt.inspect_file(tmp_path / "nothing.ep")
    with pytest.raises(InputError, match="folder"):
        torch_tensorrt.inspect_file(tmp_path)
    with pytest.raises(InputError, match="path"):
        torch_tensorrt.inspect_file("")


def test_a_truncated_archive_is_a_file_format_error(tmp_path: Path) -> None:
    path = tmp_path / "model.ep"
    path.write_bytes(DYNAMIC.read_bytes()[:9000])
    with pytest.raises(FileFormatError, match=r"model\.ep.*cut off"):
        torch_tensorrt.inspect_file(path)


def test_the_command_prints_a_table_and_json() -> None:
    shown = CliRunner().invoke(main, ["inspect", str(DYNAMIC)])
    assert shown.exit_code == 0, shown.output
    for word in ("ExportedProgram", "unchanged", "openvino", "s77[2..8] x 6", "shift", "SHA-256"):
        assert word in shown.output
    told = CliRunner().invoke(main, ["inspect", "--json", str(DYNAMIC)])
    assert json.loads(told.output) == torch_tensorrt.inspect_file(DYNAMIC).to_json()


def test_the_command_fails_with_one_line(tmp_path: Path) -> None:
    failed = CliRunner().invoke(main, ["inspect", str(tmp_path / "nothing.ep")])
    assert failed.exit_code == 1
    assert "There is no file" in failed.output
    assert "Traceback" not in failed.output


def test_words_in_brackets_are_not_taken_for_markup(tmp_path: Path) -> None:
    path = tmp_path / "a[bold]b.txt"
    path.write_text("x")
    assert "[bold]" in CliRunner().invoke(main, ["inspect", str(path)], env={"COLUMNS": "300"}).output


class Mixed(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(torch.sin(x)) + 1


@pytest.mark.parametrize("output_format", ["exported_program", "torchscript"])
def test_what_stays_in_pytorch_is_told_by_the_file(output_format: str, tmp_path: Path) -> None:
    x, path = torch.randn(2, 3), tmp_path / "model.ep"
    module = torch_tensorrt.compile(
        Mixed(), inputs=[x], min_block_size=1, torch_executed_ops={"aten.relu.default"}, engine="eager"
    )
    torch_tensorrt.save(module, path, arg_inputs=[x], output_format=output_format)
    plan = torch_tensorrt.inspect_file(path).plan
    assert (plan["operations"], plan["in_engines"]) == (3, 2)
    (told,) = plan["in_pytorch"].values()  # type: ignore[union-attr]
    assert "aten.relu.default" in told["operator"]
    assert "torch_executed_ops" in told["why"]
    shown = " ".join(CliRunner().invoke(main, ["inspect", str(path)]).output.split())
    assert "2 of 3 operations" in shown
    assert "What runs in PyTorch" in shown


@pytest.mark.parametrize(
    "plan",
    [
        3,
        {},
        {"operations": "2", "in_engines": 1, "in_pytorch": {}},
        {"operations": 2, "in_engines": 1, "in_pytorch": []},
        {"operations": 2, "in_engines": 1, "in_pytorch": {"relu": "why"}},
        {"operations": 2, "in_engines": 1, "in_pytorch": {"relu": {}}},
        {"operations": 2, "in_pytorch": {}},
    ],
    ids=str,
)
def test_a_plan_that_makes_no_sense_is_noted(plan: object, tmp_path: Path) -> None:
    archive = Archive.read(DYNAMIC.read_bytes())
    archive.edit("torch_tensorrt.json", lambda told: told.update(plan=plan))
    (tmp_path / "model.ep").write_bytes(archive.write())
    report = torch_tensorrt.inspect_file(tmp_path / "model.ep")
    assert report.plan == {}
    assert any("'plan'" in note for note in report.notes)
    assert CliRunner().invoke(main, ["inspect", str(tmp_path / "model.ep")]).exit_code == 0


@pytest.mark.parametrize("how", ["dry run", "aot_inductor"])
def test_no_plan_is_told_where_it_was_not_followed(how: str, tmp_path: Path) -> None:
    x, path = torch.randn(2, 3), tmp_path / "model.pt2"
    options = {
        "min_block_size": 1,
        "torch_executed_ops": {"aten.relu.default"},
        "engine": "eager",
        "dryrun": how == "dry run",
    }
    module = torch_tensorrt.compile(Mixed(), inputs=[x], **options)
    kept = {"output_format": how} if how == "aot_inductor" else {}
    torch_tensorrt.save(module, path, arg_inputs=[x], **kept)
    assert torch_tensorrt.inspect_file(path).plan == {}
