"""The public verb `load`: looks at what a file is before anything is unpacked."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path
from typing import BinaryIO

import torch
from torch.export import ExportedProgram

from torch_tensorrt.contracts.engine import EngineSpec
from torch_tensorrt.contracts.engine_bytes import MAGIC, decode
from torch_tensorrt.observe.log import logger
from torch_tensorrt.package.reading import read_program
from torch_tensorrt.package.sealing import check_seal
from torch_tensorrt.runtime.op import verified
from torch_tensorrt.spec.errors import FileFormatError, InputError, MissingFileError

_log = logger("package")
_EXECUTE = torch.ops.tensorrt.execute_engine.default


def load(
    file_path: str | os.PathLike[str] | BinaryIO = "", extra_files: dict[str, object] | None = None
) -> ExportedProgram:
    """The ExportedProgram in a file that `save` (or torch.export.save) wrote; its `.module()` runs without compiling.

    Args:
        file_path: a path, or a file object open for binary reading.
        extra_files: a dict whose keys name stored extra files; their contents are put in as its values.

    Raises:
        MissingFileError: there is no such file (a FileNotFoundError). InputError: the path is empty or a folder.
        FileFormatError: the file isn't a saved program (it says what it looks like), was cut off or changed, or an engine in
        it is not as its header says.
    """
    if hasattr(file_path, "read"):
        return _load(io.BytesIO(file_path.read()), "The file", extra_files)
    if not isinstance(file_path, (str, os.PathLike)) or not os.fspath(file_path):
        raise InputError(f"file_path={file_path!r}: the path of a saved program is needed.")
    path = Path(file_path)
    if path.is_dir():
        raise InputError(f"{str(path)!r} is a folder; give the path of a saved program.")
    if not path.exists():
        raise MissingFileError(f"There is no file {str(path)!r}.")
    with path.open("rb") as file:
        return _load(file, repr(str(path)), extra_files)


def _load(file: BinaryIO, name: str, extra_files: dict[str, object] | None) -> ExportedProgram:
    _check_kind(file, name)
    sealed = check_seal(file, name)
    if not sealed:
        _log.info("%s has no seal of torch_tensorrt.save; it is read without checking that it is unchanged.", name)
    program = read_program(file, name, extra_files)
    _check_engines(program, name, sealed=sealed)
    return program


def _check_kind(file: BinaryIO, name: str) -> None:
    file.seek(0)
    start = file.read(8)
    if not start:
        raise FileFormatError(f"{name} is empty.")
    if start == MAGIC:
        raise FileFormatError(
            f"{name} is a bare engine, not a saved program; it is part of one, and has no calling convention."
        )
    if not start.startswith(b"PK\3\4"):
        looks = "a pickle" if start[:1] == b"\x80" else f"starts with {start!r}"
        raise FileFormatError(
            f"{name} is not a saved program (a zip archive): it {'is' if 'pickle' in looks else ''} {looks}."
        )
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise FileFormatError(f"{name} is a zip archive that was cut off or changed: {error}") from error
    if any(member.endswith("data.pkl") and "/" in member for member in members) and any(
        "/code/" in member for member in members
    ):
        raise FileFormatError(
            f"{name} is a TorchScript file; load it with torch.jit.load after importing torch_tensorrt."
        )
    if not any("/models/" in member or member.endswith("serialized_exported_program.json") for member in members):
        raise FileFormatError(
            f"{name} is a zip archive, but holds no exported program; its first members are {members[:3]}."
        )


def _check_engines(program: ExportedProgram, name: str, *, sealed: bool) -> None:
    holders = {spec.arg.name: spec.target for spec in program.graph_signature.input_specs if spec.target is not None}
    for node in program.graph.nodes:
        if node.target is not _EXECUTE:
            continue
        target = holders.get(str(node.args[1]))
        constant = program.state_dict.get(target or "", program.constants.get(target or ""))
        if not isinstance(constant, torch.Tensor):
            raise FileFormatError(f"{name}: the graph calls an engine {node.args[1]!s} that the file doesn't hold.")
        spec, _ = decode(memoryview(constant.detach().numpy()), verify=not sealed)  # type: ignore[arg-type]
        if spec != EngineSpec.from_json(str(node.args[2])):
            raise FileFormatError(
                f"{name}: the graph describes engine {spec.name!r} otherwise than its own header does."
            )
        verified(constant)
