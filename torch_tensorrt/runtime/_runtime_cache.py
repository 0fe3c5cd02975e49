"""The documented names of the file of kernels that TensorRT-RTX compiles while it runs."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import BinaryIO

from torch_tensorrt.contracts.abilities import KeepsKernels
from torch_tensorrt.runtime.modes import runtime_cache
from torch_tensorrt.spec.errors import InputError

__all__ = ["RuntimeCache", "runtime_cache"]


class RuntimeCache:
    """A file of kernels that several engines share: `runtime_config(modules, runtime_cache=RuntimeCache("kernels.bin"))`.

    Args:
        path: the file, read when an engine first runs. "": a file that goes with this object.
        autosave_on_del: write the file when this object goes.
    """

    def __init__(self, path: str | os.PathLike[str] = "", autosave_on_del: bool = False) -> None:
        self._path = os.fspath(path)
        self._engines: list[KeepsKernels] = []
        self._folder = None if self._path else tempfile.TemporaryDirectory(prefix="torch_tensorrt_")
        self.file = Path(self._path) if self._folder is None else Path(self._folder.name) / "kernels.bin"
        if autosave_on_del:
            weakref.finalize(self, _save, self._engines)

    @property
    def path(self) -> str:
        """The path that it was made with."""
        return self._path

    def is_cpp_runtime(self) -> bool:
        """False: the kernels are kept by Python."""
        return False

    def has_cache(self) -> bool:
        """Whether there is anything in it: engines that use it, or a file."""
        return bool(self._engines) or self.file.exists()

    def attach(self, engine: KeepsKernels) -> None:
        """`engine` uses it."""
        if all(known is not engine for known in self._engines):
            self._engines.append(engine)

    def load(self, path: str | os.PathLike[str] | None = None) -> None:
        """Takes the kernels in `path`; None: in its own. For before an engine has used it. Raises InputError."""
        source = self.file if path is None else Path(path)
        if not source.is_file():
            raise InputError(f"There are no kernels in {str(source)!r}: no such file.")
        with source.open("rb") as stream:
            self.load_from_stream(stream)

    def load_from_stream(self, stream: BinaryIO) -> None:
        """Takes the kernels that `save_to_stream` wrote. For before an engine has used it. Raises InputError."""
        if self._engines:
            raise InputError(
                "Engines use this cache already, and read it when they first run; load into a new RuntimeCache."
            )
        data = stream.read()
        temporary = self.file.with_name(f"{self.file.name}.new")
        self.file.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(data)
        os.replace(temporary, self.file)

    def save(self, path: str | os.PathLike[str] | None = None) -> None:
        """Writes all kernels that its engines have compiled, to its own file, or to `path`."""
        _save(self._engines)
        if path is not None and self.file.exists() and Path(path).absolute() != self.file.absolute():
            temporary = Path(path).with_name(f"{Path(path).name}.new")
            shutil.copyfile(self.file, temporary)
            os.replace(temporary, path)

    def save_to_stream(self, stream: BinaryIO) -> None:
        """Writes all kernels that its engines have compiled to `stream`; nothing where there are none."""
        _save(self._engines)
        if self.file.exists():
            stream.write(self.file.read_bytes())


def _save(engines: list[KeepsKernels]) -> None:
    for engine in engines:
        engine.save_kernels()
