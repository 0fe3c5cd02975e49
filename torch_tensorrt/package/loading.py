"""The public verb `load`: looks at what a file is before anything is unpacked."""

from __future__ import annotations

import io
import os
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO, TypeAlias

import torch
from torch.export import ExportedProgram

from torch_tensorrt.archives.reading import read_program
from torch_tensorrt.contracts.engine import EngineSpec
from torch_tensorrt.contracts.engine_bytes import LONGEST_START, MAGIC, decode, decode_header
from torch_tensorrt.observe.log import logger
from torch_tensorrt.observe.quiet import quiet_torch
from torch_tensorrt.package.describing import METADATA
from torch_tensorrt.package.loaded_program import LoadedProgram
from torch_tensorrt.package.opening import open_file
from torch_tensorrt.package.packaged import PackagedModel, check_members, load_package, read_record, read_stored
from torch_tensorrt.package.platforms import check_platform
from torch_tensorrt.package.sealing import check_seal
from torch_tensorrt.package.signatures import name_archive, name_content
from torch_tensorrt.runtime.op import verified
from torch_tensorrt.spec.errors import FileFormatError, InputError

Loaded: TypeAlias = "ExportedProgram | torch.jit.ScriptModule | PackagedModel"
_log = logger("package")
_EXECUTE = torch.ops.tensorrt.execute_engine.default
# What may be said about loading a file of each kind.
_OPTIONS: Mapping[str, tuple[str, ...]] = {
    "exported_program": (),
    "torchscript": ("map_location",),
    "aot_inductor": ("model_name", "run_single_threaded", "device_index"),
}
_EXTRA = "/extra/"


def load(
    file_path: str | os.PathLike[str] | BinaryIO = "",
    extra_files: dict[str, object] | None = None,
    *,
    format: str | None = None,
    **kwargs: object,
) -> Loaded:
    """What is in a file that `save` (or PyTorch itself) wrote. Its kind is seen from its content, whatever its name is.

    An ExportedProgram, whose `.module()` runs without compiling; a ScriptModule; or a PackagedModel for an AOTInductor package.
    A package is native code: loading it runs code of the file, so load only packages that you trust. The other kinds are
    screened or interpreted, and load no code.

    Args:
        file_path: a path, or a file object open for binary reading.
        extra_files: a dict that the stored extra files are put into, under their names.
        format: what the file has to be: "exported_program", "torchscript" or "aot_inductor"; None: any of them.
        **kwargs: map_location for TorchScript; model_name, run_single_threaded and device_index for an AOTInductor package. A
            warning names others.

    Raises:
        MissingFileError: there is no such file (a FileNotFoundError). InputError: the path is empty or a folder, or `format`
        is none of these.
        FileFormatError: the file is something else (it says what), was cut off or changed, or an engine in it is not as its
        header says. EngineNotRunnable: an AOTInductor package for another machine, or a file
        that was compiled for another platform (cross_compile_for_windows).
    """
    if format is not None and format not in _OPTIONS:
        raise InputError(f"format={format!r} is not known; the formats are {', '.join(_OPTIONS)}.")
    wanted = _Wanted(format, kwargs)
    if hasattr(file_path, "read"):
        return _load(io.BytesIO(file_path.read()), "The file", extra_files, wanted)
    path, file = open_file(file_path)
    with file:
        return _load(file, repr(str(path)), extra_files, wanted, path)


class _Wanted:
    """What the caller says about the file."""

    def __init__(self, format: str | None, options: Mapping[str, object]) -> None:
        self.format, self.options = format, options

    def check(self, kind: str, name: str) -> None:
        """Raises FileFormatError when the file is of another kind; warns of options that mean nothing for its kind."""
        if self.format is not None and kind != self.format:
            raise FileFormatError(
                f"{name} is not of format {self.format!r}, but {kind!r}; load it with that, or without format."
            )
        unknown = sorted(set(self.options) - set(_OPTIONS[kind]))
        if unknown:
            _log.warning("load does not know %s for a file of format %r; ignored.", ", ".join(unknown), kind)


def _load(
    file: BinaryIO, name: str, extra_files: dict[str, object] | None, wanted: _Wanted, path: Path | None = None
) -> Loaded:
    kind = _kind(file, name)
    wanted.check(kind, name)
    sealed = check_seal(file, name)
    if not sealed:
        _log.info("%s has no seal of torch_tensorrt.save; it is read without checking that it is unchanged.", name)
    check_platform(file, name)
    file.seek(0)
    loaded: Loaded
    if kind == "exported_program":
        program = read_program(file, name)
        _check_engines(program, name, sealed=sealed)
        loaded = LoadedProgram.adopt(program, name, checks=_is_ours(file))
    elif kind == "torchscript":
        loaded = _load_script(file, name, wanted.options, sealed=sealed)
    else:
        loaded = _load_package(file, name, path, wanted.options)
    if extra_files is not None:
        extra_files.update(_extra_files(file, name))
    return loaded


def _kind(file: BinaryIO, name: str) -> str:
    """What the file is, by its content. Raises FileFormatError that says what it is when it is nothing to load."""
    file.seek(0)
    start = file.read(512)
    if start.startswith(MAGIC):
        file.seek(0)
        spec = decode_header(memoryview(file.read(LONGEST_START))).spec
        raise FileFormatError(
            f"{name} is a bare engine ({spec.name!r} of the {spec.backend!r} backend, built for {spec.target}), not a saved program: it "
            "has no calling convention. Its bytes as a uint8 tensor, with the text of its spec (inspect_file(path).engines[0].spec"
            ".to_json()), are run by torch.ops.tensorrt.execute_engine(inputs, engine, spec)."
        )
    if not start.startswith(b"PK\3\4"):
        raise FileFormatError(f"{name} is not a saved program (a zip archive): it is {name_content(start)}.")
    try:
        with zipfile.ZipFile(file) as archive:
            kind, words = name_archive(archive.namelist())
            if kind == "aot_inductor":
                check_members(archive, name)
    except (zipfile.BadZipFile, OSError, ValueError, RuntimeError, EOFError) as error:
        if isinstance(error, FileFormatError):
            raise
        raise FileFormatError(f"{name} is a zip archive that was cut off or changed: {error}") from error
    if kind == "foreign":
        raise FileFormatError(f"{name} is a zip archive, but holds no saved program: it is {words}.")
    return kind


def _is_ours(file: BinaryIO) -> bool:
    file.seek(0)
    with zipfile.ZipFile(file) as archive:
        return any(member.endswith(f"{_EXTRA}{METADATA}") for member in archive.namelist())


def _load_script(file: BinaryIO, name: str, options: Mapping[str, object], *, sealed: bool) -> torch.jit.ScriptModule:
    try:
        with quiet_torch():
            module: torch.jit.ScriptModule = torch.jit.load(file, map_location=options.get("map_location"))
    except Exception as error:  # the reader raises what its parsers do
        raise FileFormatError(f"{name} can't be read as TorchScript: {type(error).__name__}: {error}") from error
    for _, constant in module.named_buffers():
        data = memoryview(constant.numpy()) if constant.dtype == torch.uint8 and constant.device.type == "cpu" else None  # type: ignore[arg-type]
        if data is not None and constant.dim() == 1 and bytes(data[: len(MAGIC)]) == MAGIC:
            decode(data, verify=not sealed)
    return module


def _load_package(file: BinaryIO, name: str, path: Path | None, options: Mapping[str, object]) -> PackagedModel:
    record = read_record(file, name)
    if path is not None:
        return load_package(str(path), name, record, options)
    with tempfile.NamedTemporaryFile(
        prefix="torch_tensorrt_", suffix=".pt2"
    ) as copy:  # PyTorch's loader takes paths only
        file.seek(0)
        copy.write(file.read())
        copy.flush()
        return load_package(copy.name, name, record, options)


def _extra_files(file: BinaryIO, name_of_file: str) -> dict[str, object]:
    """The extra files but our own, as text, or as bytes where they are none."""
    found: dict[str, object] = {}
    file.seek(0)
    with zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            # "extra_files/": the archives of PyTorch 2.7 and before
            _, place, name = member.filename.partition(_EXTRA if _EXTRA in member.filename else "extra_files/")
            if place and name and name != METADATA:
                content = read_stored(archive, member, name_of_file)
                try:
                    found[name] = content.decode()
                except UnicodeDecodeError:
                    found[name] = content
    return found


def _check_engines(program: ExportedProgram, name: str, *, sealed: bool) -> None:
    holders = {spec.arg.name: spec.target for spec in program.graph_signature.input_specs if spec.target is not None}
    for node in program.graph.nodes:
        if node.target is not _EXECUTE:
            continue
        target = holders.get(str(node.args[1]))
        constant = program.state_dict.get(target or "", program.constants.get(target or ""))
        if not isinstance(constant, torch.Tensor) or not constant.is_contiguous():
            raise FileFormatError(f"{name}: the graph calls an engine {node.args[1]!s} that the file doesn't hold.")
        spec, _ = decode(memoryview(constant.detach().numpy()), verify=not sealed)  # type: ignore[arg-type]
        if spec != EngineSpec.from_json(str(node.args[2])):
            raise FileFormatError(
                f"{name}: the graph describes engine {spec.name!r} otherwise than its own header does."
            )
        verified(constant)
