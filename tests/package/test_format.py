"""The written format: golden files load, run and are described; a reader written from FORMAT.md alone reads the same."""

from __future__ import annotations

import ast
import hashlib
import json
import logging
import re
import sys
from collections.abc import Callable
from pathlib import Path

import independent_reader
import pytest
import torch
from archives import Archive, Engine
from mutations import GOLDEN

import torch_tensorrt
from torch_tensorrt import EngineNotRunnable, FileFormatError
from torch_tensorrt.contracts.engine_bytes import VERSION, decode
from torch_tensorrt.package import saving

FILES = sorted(path.name for path in GOLDEN.iterdir() if path.suffix in {".ep", ".ts"})
ENGINES = sorted(path.name for path in GOLDEN.glob("*.engine"))
FORMAT = Path(saving.__file__).parent / "FORMAT.md"
EXPECTED = json.loads((GOLDEN / "expected.json").read_text())
SHIFT = torch.tensor(EXPECTED["shift"])


def run(path: Path, rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(what the file gives, what it should give)."""
    loaded = torch_tensorrt.load(path)
    module = loaded.module() if isinstance(loaded, torch.export.ExportedProgram) else loaded
    case = EXPECTED["rows"][str(rows)]
    x = torch.tensor(case["x"])
    given = module(x, shift=SHIFT) if path.suffix == ".ep" else module(x, SHIFT)
    return given["scores"], torch.tensor(case["scores"])


@pytest.mark.parametrize("name", FILES)
def test_a_golden_file_loads_and_gives_its_numbers(name: str) -> None:
    for rows in (3,) if "static" in name else (2, 3, 8):
        torch.testing.assert_close(*run(GOLDEN / name, rows), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ENGINES)
def test_a_golden_engine_runs_by_the_operator(name: str) -> None:
    constant = torch.frombuffer(bytearray((GOLDEN / name).read_bytes()), dtype=torch.uint8)
    spec, _ = decode(memoryview(constant.numpy()))
    case = EXPECTED["rows"]["3"]
    (given,) = torch.ops.tensorrt.execute_engine([torch.tensor(case["x"]), SHIFT], constant, spec.to_json())
    torch.testing.assert_close(given, torch.tensor(case["scores"]), rtol=1e-5, atol=1e-5)


def test_there_is_a_golden_file_of_every_engine_that_is_no_native_code_and_they_are_small() -> None:
    assert {name.split("-")[0].split(".")[0] for name in [*FILES, *ENGINES]} >= {"eager", "openvino"}
    assert any("portable" in name for name in FILES)
    assert sum(path.stat().st_size for path in GOLDEN.iterdir()) < 200_000


@pytest.mark.parametrize("name", [*FILES, *ENGINES])
def test_a_reader_written_from_the_page_reads_what_inspect_file_reports(name: str) -> None:
    path = GOLDEN / name
    saved = independent_reader.read_saved(path.read_bytes())
    report = torch_tensorrt.inspect_file(path)
    assert saved.sealed is (None if path.suffix == ".engine" else True)
    assert report.seal == ("none" if path.suffix == ".engine" else "right")
    assert [engine.header["spec"] for engine in saved.engines] == [json.loads(e.spec.to_json()) for e in report.engines]
    assert [engine.header["sha256"] for engine in saved.engines] == [engine.sha256 for engine in report.engines]
    if path.suffix == ".ep":
        assert [spec for spec, _ in saved.called] == [engine.header["spec"] for _, engine in saved.called]
    if path.suffix != ".engine":
        assert saved.description["engines"] == [engine.header["spec"] for engine in saved.engines]
        assert saved.description["inputs"] == [spec.to_json() for spec in report.inputs]
        assert saved.description["package"] == report.package


def test_the_reader_written_from_the_page_finds_the_program_of_a_portable_engine() -> None:
    (engine,) = independent_reader.read_saved((GOLDEN / "openvino-portable.ep").read_bytes()).engines
    assert engine.program.startswith(b"PK")
    assert set(engine.header["program"]) == {"bytes", "sha256", "options"}


def test_a_golden_portable_file_is_built_again_where_its_engine_does_not_fit(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = changed("openvino-portable.ep", lambda header: header["spec"].update(format_version=99), tmp_path)
    with caplog.at_level(logging.WARNING, logger="torch_tensorrt"):
        torch.testing.assert_close(*run(path, 3), rtol=1e-5, atol=1e-5)
    assert "built again now" in caplog.text


def test_the_reader_written_from_the_page_reads_an_openvino_payload() -> None:
    saved = independent_reader.read_saved((GOLDEN / "openvino-dynamic.ep").read_bytes())
    (engine,) = saved.engines
    index, blob, _, xml, weights = independent_reader.read_openvino(engine.payload)
    assert index["precision"] == "float32"
    assert len(blob) == index["blob"]
    assert xml.startswith(b"<?xml")
    places = re.findall(rb'offset="(\d+)"[^>]*?size="(\d+)"', xml)
    assert max(int(offset) + int(size) for offset, size in places) <= len(weights)


def test_the_reader_written_from_the_page_knows_nothing_of_ours() -> None:
    tree = ast.parse(Path(independent_reader.__file__).read_text())
    imported = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in imported} <= set(sys.stdlib_module_names)


def test_the_ledger_lists_the_version_of_everything_that_is_written() -> None:
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \|", FORMAT.read_text().partition("## Ledger")[2], re.MULTILINE)
    ledger = {name.strip(): version.strip() for name, version in rows}
    assert ledger["engine bytes"] == str(VERSION)
    assert ledger["seal"] == "1"
    for name in ("eager", "openvino"):
        assert ledger[f"payload of `{name}`"] == str(torch_tensorrt.engines.backend(name).format_version)


# ---- files from other machines ----


def changed(name: str, change: Callable[[dict], object], tmp_path: Path) -> Path:
    """A golden file whose engine's header says something else, with a right seal."""
    archive = Archive.read((GOLDEN / name).read_bytes())
    engine = Engine.read(archive.engine)
    change(engine.header)
    path = tmp_path / "model.ep"
    path.write_bytes(archive.with_engine(engine.write()).write())
    return path


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda header: header["spec"].update(target="cpu;Another CPU;AVX9"), "Another CPU"),
        (lambda header: header["spec"]["versions"].update(openvino="2019.1-old"), "2019.1-old"),
    ],
    ids=["another CPU", "another OpenVINO"],
)
def test_an_engine_of_another_machine_is_compiled_again_with_a_warning(
    change: Callable[[dict], object], words: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = changed("openvino-dynamic.ep", change, tmp_path)
    with caplog.at_level(logging.WARNING, logger="torch_tensorrt"):
        torch.testing.assert_close(*run(path, 3), rtol=1e-5, atol=1e-5)
    told = [record.getMessage() for record in caplog.records if words in record.getMessage()]
    assert len(told) == 1
    assert "compiled again" in told[0]


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda header: header["spec"].update(format_version=99), FileFormatError, r"format 99.*reads 1"),
        (lambda header: header["spec"].update(backend="abacus"), torch_tensorrt.TorchTensorRTError, "abacus"),
        (
            lambda header: [tensor.update(device="cuda") for tensor in header["spec"]["inputs"]],
            torch_tensorrt.TorchTensorRTError,
            "cuda",
        ),
    ],
    ids=["a newer payload", "an unknown engine", "another device"],
)
def test_an_engine_that_this_machine_cannot_run_is_one_clear_error(
    change: Callable[[dict], object], error: type[Exception], words: str, tmp_path: Path
) -> None:
    path = changed("openvino-dynamic.ep", change, tmp_path)
    with pytest.raises(error, match=f"(?s){words}"):
        run(path, 3)


def test_an_engine_of_a_newer_version_of_this_package_is_refused_with_both_versions(tmp_path: Path) -> None:
    archive = Archive.read((GOLDEN / "eager-dynamic.ep").read_bytes())
    engine = Engine.read(archive.engine)
    path = tmp_path / "model.ep"
    path.write_bytes(archive.with_engine(Engine(engine.header, engine.payload, VERSION + 1).write()).write())
    with pytest.raises(FileFormatError, match=rf"format {VERSION + 1}.*reads format {VERSION}"):
        torch_tensorrt.load(path)


def test_an_engine_whose_sdk_is_missing_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = torch_tensorrt.engines.backend("openvino")
    monkeypatch.setattr(
        type(backend),
        "available",
        lambda *_: torch_tensorrt.contracts.backend.Support(False, "OpenVINO isn't installed"),
    )
    with pytest.raises(EngineNotRunnable, match=r"part_0.*openvino.*isn't installed"):
        run(GOLDEN / "openvino-dynamic.ep", 3)


def test_another_versions_torch_and_package_are_no_hindrance(tmp_path: Path) -> None:
    def older(header: dict) -> None:
        header.update(torch="2.11.0", python="3.10.1")

    torch.testing.assert_close(*run(changed("eager-dynamic.ep", older, tmp_path), 3), rtol=1e-5, atol=1e-5)


def test_golden_payloads_have_the_hashes_of_their_headers() -> None:
    for name in ENGINES:
        engine = independent_reader.read_engine((GOLDEN / name).read_bytes())
        assert hashlib.sha256(engine.payload).hexdigest() == engine.header["sha256"]
