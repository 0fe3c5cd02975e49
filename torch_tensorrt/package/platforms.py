"""Files for another platform than the one that writes them: the mark in the file's description, and what reads it."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping
from typing import BinaryIO

from torch_tensorrt.package.describing import METADATA, PLATFORM
from torch_tensorrt.spec.enums import Platform
from torch_tensorrt.spec.errors import EngineNotRunnable, FileFormatError, InputError
from torch_tensorrt.spec.json_text import not_deep


def check_platform(file: BinaryIO, name: str) -> None:
    """Raises EngineNotRunnable for a file that is marked for another platform than this one."""
    marked = _marked(file)
    here = Platform.current_platform().value
    if marked and marked != here:
        raise EngineNotRunnable(
            f"{name} was compiled for {marked} (torch_tensorrt.cross_compile_for_windows), and this is {here}: it is loaded there, "
            "with torch_tensorrt.load_cross_compiled_exported_program. torch_tensorrt.inspect_file describes it anywhere; to run the "
            "model here, compile it here."
        )


def require_windows(file_path: str | os.PathLike[str]) -> None:
    """Raises InputError unless this is Windows x86-64, and FileFormatError when the file there is isn't marked for it."""
    here, wanted = Platform.current_platform(), Platform.WIN_X86_64
    if here is not wanted:
        raise InputError(
            f"load_cross_compiled_exported_program({os.fspath(file_path)!r}) works on Windows x86-64 only, where such a file runs; "
            f"this is {here.value}. torch_tensorrt.inspect_file describes the file anywhere."
        )
    if not os.path.isfile(file_path):
        return  # what there is instead, if anything, is for `load` to say
    with open(file_path, "rb") as file:
        if _marked(file) != wanted.value:
            raise FileFormatError(
                f"{os.fspath(file_path)!r} was not compiled for Windows on Linux; torch_tensorrt.load reads other saved files."
            )


def _marked(file: BinaryIO) -> str:
    """The platform in the file's description; "" where there is none, or no description that can be read."""
    file.seek(0)
    try:
        with zipfile.ZipFile(file) as archive:
            ours = [member for member in archive.infolist() if member.filename.endswith(f"/extra/{METADATA}")]
            stored = ours and ours[0].compress_type == zipfile.ZIP_STORED
            record = json.loads(not_deep(archive.read(ours[0]))) if stored else None
    except (
        zipfile.BadZipFile,
        OSError,
        ValueError,
        RuntimeError,
        EOFError,
    ):  # for whoever reads it next to complain about
        return ""
    marked = record.get(PLATFORM) if isinstance(record, Mapping) else None
    return marked if isinstance(marked, str) else ""
