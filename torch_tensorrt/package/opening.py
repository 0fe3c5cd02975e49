"""The one way in which a file that somebody names is opened."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

from torch_tensorrt.spec.errors import InputError, MissingFileError


def open_file(file_path: object) -> tuple[Path, BinaryIO]:
    """The path, and the file open for binary reading, which the caller closes.

    Raises MissingFileError when there is no such file, InputError when the path is empty, no path or a folder, or can't be read.
    """
    if not isinstance(file_path, (str, os.PathLike)) or not os.fspath(file_path):
        raise InputError(f"file_path={file_path!r}: the path of a file is needed.")
    path = Path(file_path)
    if path.is_dir():
        raise InputError(f"{str(path)!r} is a folder; give the path of a file.")
    if not path.exists():
        raise MissingFileError(f"There is no file {str(path)!r}.")
    try:
        return path, path.open("rb")
    except OSError as error:
        raise InputError(f"{str(path)!r} can't be read: {error.strerror or error}.") from error
