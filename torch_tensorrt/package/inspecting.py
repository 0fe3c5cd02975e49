"""What a file says about itself. Reads the zip directory, JSON members and the headers of engines; builds, unpickles, evaluates
and runs nothing, and needs no SDK.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from torch_tensorrt.contracts.engine import EngineSpec
from torch_tensorrt.contracts.engine_bytes import LONGEST_START, MAGIC, Header, decode_header
from torch_tensorrt.package.describing import METADATA, PLATFORM
from torch_tensorrt.package.opening import open_file
from torch_tensorrt.package.program_json import describe_program
from torch_tensorrt.package.sealing import check_seal
from torch_tensorrt.package.signatures import name_archive, name_content
from torch_tensorrt.spec.errors import FileFormatError
from torch_tensorrt.spec.json_text import not_deep
from torch_tensorrt.spec.tensor_spec import Json, TensorSpec, specs_from_json, specs_to_json

_CHUNK = 2**20
_LONGEST_JSON = 64 * 2**20
_MOST_HITS = 1000  # occurrences of the magic looked at in one library
# What zipfile raises for a damaged archive: encrypted members are a RuntimeError, odd compression a NotImplementedError.
_BROKEN = (zipfile.BadZipFile, OSError, ValueError, RuntimeError, EOFError, zipfile.LargeZipFile)


@dataclass(frozen=True)
class EngineReport:
    """One engine in a file: the member that holds it, its spec, and what its header says of its payload (not read).

    program: in a portable file, `bytes`, `sha256` and `options` of the program behind the payload, from which another machine
    builds an engine of its own; else None.
    """

    member: str
    spec: EngineSpec
    python: str
    torch: str
    payload_bytes: int
    sha256: str
    program: Mapping[str, Json] | None = None

    def to_json(self) -> dict[str, Json]:
        """A JSON object."""
        spec: Json = json.loads(self.spec.to_json())
        return {
            "member": self.member,
            "spec": spec,
            "python": self.python,
            "torch": self.torch,
            "payload_bytes": self.payload_bytes,
            "sha256": self.sha256,
            "program": None if self.program is None else dict(self.program),
        }


@dataclass(frozen=True)
class FileReport:
    """What `inspect_file` found.

    kind: "exported_program", "torchscript", "aot_inductor", "engine" or "foreign". about: the same in words. size: bytes.
    seal: "right", "wrong" or "none". package, torch: versions that wrote it ("" when it doesn't say). settings: the options that
    were given. plan (not of an AOTInductor package, where all is compiled): how many `operations` the model has, how many are
    `in_engines`, and those `in_pytorch`: name -> `operator`, with its line of code, and `why`. inputs: tensors in call order, with
    the ranges of sizes. signature: the original model's. engines: in the order of the file. extra_files: names. platform: what it
    was compiled for, if elsewhere. notes: what else there is to say, and what could not be read.
    """

    path: str
    size: int
    kind: str
    about: str
    seal: str = "none"
    package: str = ""
    torch: str = ""
    settings: Mapping[str, Json] = field(default_factory=dict)
    plan: Mapping[str, Json] = field(default_factory=dict)
    inputs: tuple[TensorSpec, ...] = ()
    signature: Mapping[str, Json] = field(default_factory=dict)
    engines: tuple[EngineReport, ...] = ()
    extra_files: tuple[str, ...] = ()
    platform: str = ""
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Json]:
        """A JSON object with every field."""
        return {
            "path": self.path,
            "size": self.size,
            "kind": self.kind,
            "about": self.about,
            "seal": self.seal,
            "package": self.package,
            "torch": self.torch,
            "settings": dict(self.settings),
            "plan": dict(self.plan),
            "inputs": specs_to_json(self.inputs),
            "signature": dict(self.signature),
            "engines": [engine.to_json() for engine in self.engines],
            "extra_files": list(self.extra_files),
            "platform": self.platform,
            "notes": list(self.notes),
        }


def inspect_file(file_path: str | os.PathLike[str]) -> FileReport:
    """What the file is, what wrote it, for which target, its inputs with their ranges and its engines.

    A file that isn't ours is no error: `kind` is then "foreign", and `about` says what it looks like.

    Raises:
        MissingFileError: there is no such file. InputError: the path is empty or a folder, or can't be read.
        FileFormatError: an archive or an engine that was cut off, so that nothing can be said about it.
    """
    path, file = open_file(file_path)
    with file:
        return _inspect(file, path)


def _inspect(file: BinaryIO, path: Path) -> FileReport:
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    start = file.read(512)
    if start.startswith(MAGIC):
        file.seek(0)
        engine = _engine(decode_header(memoryview(file.read(LONGEST_START))), "")
        notes = _size_notes(engine, size)
        return FileReport(
            str(path), size, "engine", "a bare engine", torch=engine.torch, engines=(engine,), notes=notes
        )
    if not start.startswith((b"PK\3\4", b"PK\5\6")):
        return FileReport(str(path), size, "foreign", name_content(start))
    try:
        with zipfile.ZipFile(file) as archive:
            report = _Archive(archive, size).report(str(path))
    except _BROKEN as error:
        if isinstance(error, FileFormatError):
            raise
        raise FileFormatError(
            f"{str(path)!r} is a zip archive that was cut off or changed: {error}. Save the model again."
        ) from error
    return _with_seal(report, file)


def _with_seal(report: FileReport, file: BinaryIO) -> FileReport:
    if report.kind == "foreign":
        return report
    notes = report.notes
    try:
        seal = "right" if check_seal(file, repr(report.path)) else "none"
    except FileFormatError as error:
        seal, notes = "wrong", (*notes, str(error))
    return FileReport(**{**vars(report), "seal": seal, "notes": notes})


def _size_notes(engine: EngineReport, available: int) -> tuple[str, ...]:
    program = engine.program["bytes"] if engine.program is not None else 0
    assert isinstance(program, int)
    wanted = engine.payload_bytes + program
    if wanted >= available:
        return (f"The engine should have {wanted} bytes; the file has {available} in all: it was cut off.",)
    return ()


def _engine(header: Header, member: str) -> EngineReport:
    return EngineReport(
        member, header.spec, header.python, header.torch, header.payload_bytes, header.sha256, header.program
    )


class _Archive:
    """An open zip archive. Only members that are stored as they are, are looked into: PyTorch compresses nothing but code, and
    what isn't compressed can't be larger than the file.
    """

    def __init__(self, archive: zipfile.ZipFile, size: int) -> None:
        self.archive = archive
        self.stored = [info for info in archive.infolist() if info.compress_type == zipfile.ZIP_STORED]
        self.names = [info.filename for info in archive.infolist()]
        self.left = 4 * size  # members may overlap: what is read in all is bounded
        self.notes: list[str] = []

    def report(self, path: str) -> FileReport:
        kind, about = name_archive(self.names)
        size = os.stat(path).st_size
        if kind == "foreign":
            return FileReport(path, size, kind, about)
        engines = tuple(self._engines(kind))
        told = self._metadata()
        program = self._program() if kind == "exported_program" else {}
        inputs = told.get("inputs", program.get("inputs", []))
        settings, signature = told.get("settings", {}), told.get("signature", program.get("signature", {}))
        plan = told.get("plan", {})
        assert isinstance(plan, dict)
        assert isinstance(settings, dict)
        assert isinstance(signature, dict)
        self._compare(told, engines)
        if kind != "torchscript" and len(self.stored) < len(
            self.names
        ):  # PyTorch compresses the code of TorchScript only
            self.notes.append(f"{len(self.names) - len(self.stored)} members are compressed and were not looked into.")
        first = engines[0].torch if engines else ""
        return FileReport(
            path,
            size,
            kind,
            about,
            package=str(told.get("package", "")),
            torch=str(told.get("torch", program.get("torch", first))),
            settings=settings,
            plan=plan,
            inputs=specs_from_json(inputs),
            signature=signature,
            engines=engines,
            extra_files=tuple(sorted(self._extra_files())),
            platform=str(told.get(PLATFORM, "")),
            notes=(*self.notes, *self._platform(kind)),
        )

    def _read(self, info: zipfile.ZipInfo, start: int, count: int) -> bytes:
        if count > self.left:
            raise FileFormatError(f"Members of the archive overlap (the last one read is {info.filename!r}).")
        with self.archive.open(info) as member:
            if start:
                member.seek(start)
            data = member.read(count)
        self.left -= len(data)
        return data

    def _json(self, info: zipfile.ZipInfo) -> dict[str, Json]:
        """The object in a JSON member; {} with a note when it isn't one."""
        if info.file_size > _LONGEST_JSON:
            self.notes.append(f"{info.filename!r} has {info.file_size} bytes, too many to be read here.")
            return {}
        try:
            value: Json = json.loads(not_deep(self._read(info, 0, info.file_size)))
        except (ValueError, RecursionError) as error:
            if isinstance(error, FileFormatError):
                raise
            self.notes.append(f"{info.filename!r} is not JSON: {error}.")
            return {}
        if not isinstance(value, dict):
            self.notes.append(f"{info.filename!r} holds no JSON object.")
            return {}
        return value

    def _find(self, ending: str) -> zipfile.ZipInfo | None:
        return next((info for info in self.stored if info.filename.endswith(ending)), None)

    def _metadata(self) -> dict[str, Json]:
        """What `save` wrote about the file. {} with a note when there is none, or none that this version reads."""
        info = self._find(f"/extra/{METADATA}")
        if info is None:
            return {}
        told = self._json(info)
        kinds = {"settings": dict, "inputs": list, "signature": dict, "engines": list}
        if told.get("format") != 1:
            self.notes.append(f"{info.filename!r} has format {told.get('format')!r:.40}; this version reads 1.")
            return {}
        wrong = [key for key, kind in kinds.items() if key in told and not isinstance(told[key], kind)]
        wrong += ["plan"] * ("plan" in told and not _is_plan(told["plan"]))
        self.notes += [f"Field {key!r} of {info.filename!r} is of the wrong type." for key in wrong]
        try:
            specs_from_json(told.get("inputs", []))
        except FileFormatError as error:
            self.notes.append(f"{info.filename!r}: {error}")
            wrong.append("inputs")
        return {key: value for key, value in told.items() if key not in wrong}

    def _program(self) -> dict[str, Json]:
        info = next((i for i in self.stored if "/models/" in i.filename and i.filename.endswith(".json")), None)
        if info is None:
            return {}
        try:
            described = describe_program(self._json(info))
            specs_from_json(described["inputs"])
        except FileFormatError as error:
            self.notes.append(f"{info.filename!r}: {error}")
            return {}
        return described

    def _engines(self, kind: str) -> Iterator[EngineReport]:
        for info in self.stored:
            library = kind == "aot_inductor" and info.filename.endswith((".so", ".bin", ".blob"))
            places = self._occurrences(info) if library else [0]
            for place in places:
                if self._read(info, place, len(MAGIC)) != MAGIC:
                    continue
                try:
                    header = decode_header(memoryview(self._start(info, place)))
                except FileFormatError as error:
                    if not library:  # in a library the magic may also be somebody's text
                        self.notes.append(f"{info.filename!r}: {error}")
                    continue
                yield (engine := _engine(header, info.filename))
                self.notes += _size_notes(engine, info.file_size - place)

    def _start(self, info: zipfile.ZipInfo, place: int) -> bytes:
        """An engine's bytes up to the end of its header and padding."""
        length = int.from_bytes(self._read(info, place + 12, 4), "little")
        return self._read(info, place, min(16 + length + 64, LONGEST_START))

    def _occurrences(self, info: zipfile.ZipInfo) -> list[int]:
        """Where the magic is in a library that holds engines among its constants."""
        found: list[int] = []
        rest, done = b"", 0
        with self.archive.open(info) as member:
            while (chunk := member.read(_CHUNK)) and len(found) < _MOST_HITS:
                text = rest + chunk
                place = text.find(MAGIC)
                while place >= 0:
                    found.append(done - len(rest) + place)
                    place = text.find(MAGIC, place + 1)
                rest, done = text[-(len(MAGIC) - 1) :], done + len(chunk)
        return found

    def _compare(self, told: Mapping[str, Json], engines: tuple[EngineReport, ...]) -> None:
        listed = told.get("engines")
        if isinstance(listed, list) and listed != [json.loads(engine.spec.to_json()) for engine in engines]:
            self.notes.append(f"{METADATA} lists other engines ({len(listed)}) than the file holds ({len(engines)}).")

    def _extra_files(self) -> Iterator[str]:
        for name in self.names:
            _, found, extra = name.partition("/extra/")
            if found and extra != METADATA:
                yield extra

    def _platform(self, kind: str) -> Iterator[str]:
        """What AOTInductor wrote about the machine that its package is for."""
        for info in self.stored if kind == "aot_inductor" else ():
            if info.filename.endswith("_metadata.json"):
                yield ", ".join(f"{key}: {value}" for key, value in self._json(info).items())


def _is_plan(value: Json) -> bool:
    """Whether it is what `FileReport.plan` says."""
    if not isinstance(value, dict) or not {"operations", "in_engines", "in_pytorch"} <= set(value):
        return False
    stay, counts = value["in_pytorch"], (value["operations"], value["in_engines"])
    texts = (
        [isinstance(each, dict) and {"operator", "why"} <= set(each) for each in stay.values()]
        if isinstance(stay, dict)
        else [False]
    )
    return all(texts) and all(isinstance(count, int) for count in counts)
