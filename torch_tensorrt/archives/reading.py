"""The archive of an ExportedProgram, read without running what it holds; large tensors are mapped, not copied."""

from __future__ import annotations

import importlib
import io
import mmap
import re
import threading
import zipfile
from typing import BinaryIO

import torch
from torch import Tensor
from torch.export import ExportedProgram

from torch_tensorrt.archives.screening import screen_archive
from torch_tensorrt.observe.quiet import quiet_torch
from torch_tensorrt.spec.errors import FileFormatError, InputError
from torch_tensorrt.spec.quantized import NAMESPACE, register_quantized_operators

_MAPPED = 64 * 1024  # bytes: smaller tensors are copied
_MODEL = "model"  # the name that torch.export.save gives
# What PyTorch says of a class in the form of arguments or results that nobody has registered.
_UNKNOWN_CLASS = re.compile(r"Deserializing ([\w.]+) in pytree is not registered")
_reading = threading.Lock()  # PyTorch's reader keeps its state in a global


def read_program(file: BinaryIO, name: str, extra_files: dict[str, object] | None = None) -> ExportedProgram:
    """The program in the zip archive `file`; `name` is what errors call it.

    Large tensors are private mappings of the file where it is one on disk: they are read when they are used, and the file must
    not be overwritten in place while they live (replacing it, as `save` does, is fine).

    Raises FileFormatError when it can't be read, or holds something that would run code, and InputError when the form of its
    arguments or results needs a class that hasn't been imported.
    """
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    try:
        with zipfile.ZipFile(file) as archive:
            screen_archive(archive, size)
            quantized = _names(archive, NAMESPACE.encode())
    except FileFormatError as error:
        raise FileFormatError(f"{name}: {error}") from error
    except (zipfile.BadZipFile, OSError, ValueError, RuntimeError, EOFError) as error:  # RuntimeError: encrypted
        raise FileFormatError(f"{name} is a zip archive that was cut off or changed: {error}") from error
    file.seek(0)
    try:
        with _reading, quiet_torch():
            if quantized:
                register_quantized_operators()
            return _read(file, extra_files)
    except Exception as error:
        unknown = _UNKNOWN_CLASS.search(str(error))
        if unknown is not None:
            module = unknown[1].rpartition(".")[0]
            raise InputError(
                f"{name}: the model takes or gives objects of the class {unknown[1]}, which this process doesn't know yet. Import the "
                f"module that defines it before loading: import {module or unknown[1]}"
            ) from error
        raise FileFormatError(f"{name} can't be read as a saved program: {type(error).__name__}: {error}") from error


def _names(archive: zipfile.ZipFile, word: bytes) -> bool:
    """Whether a graph in it mentions `word`."""
    return any(word in archive.read(name) for name in archive.namelist() if name.endswith(".json"))


def _read(file: BinaryIO, extra_files: dict[str, object] | None) -> ExportedProgram:
    with zipfile.ZipFile(file) as archive:
        older = not any(member.endswith("archive_format") for member in archive.namelist())
    file.seek(0)
    if older:  # PyTorch 2.7 and before
        return torch.export.load(file, extra_files=extra_files)
    package = importlib.import_module(
        "torch.export.pt2_archive._package"
    )  # takes most of a second: not before it is needed
    with package.PT2ArchiveReader(file) as reader:
        reader.archive_file = _MappedRecords(reader.archive_file, file)
        names = reader.get_file_names()
        programs = package._load_exported_programs(reader, names, None)
        found = package._load_extra_files(reader, names)
    if extra_files is not None:
        extra_files.update(found)
    program: ExportedProgram = programs[_MODEL]
    return program


class _MappedRecords:
    """PyTorch's reader of an archive, except that large tensors come from a mapping of the file."""

    def __init__(self, reader: torch._C.PyTorchFileReader, file: BinaryIO) -> None:
        self._reader = reader
        try:
            self._memory: mmap.mmap | None = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        except (OSError, ValueError):  # a file object without a file
            self._memory = None

    def __getattr__(self, name: str) -> object:
        return getattr(self._reader, name)

    def get_storage_from_record(self, name: str, count: int, dtype: torch.dtype) -> Tensor:
        if self._memory is None or count * dtype.itemsize < _MAPPED:
            return self._reader.get_storage_from_record(name, count, dtype)
        start = self._reader.get_record_offset(name)  # type: ignore[attr-defined]
        return torch.frombuffer(self._memory, dtype=dtype, count=count, offset=start)
