"""The C++ runtime in this process, where `python -m torch_tensorrt build-runtime` has built it: engines run without Python.

The environment variable TORCH_TENSORRT_RUNTIME names another folder with a build, or is "off".
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import metadata
from importlib.machinery import ExtensionFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Protocol, cast

import torch
from torch import Tensor

from torch_tensorrt import engines
from torch_tensorrt.contracts.engine import Engine, EngineSpec
from torch_tensorrt.contracts.engine_bytes import decode
from torch_tensorrt.observe.log import logger
from torch_tensorrt.spec.errors import EngineNotRunnable, FileFormatError, InputError

SETTING = "TORCH_TENSORRT_RUNTIME"
SOURCES = Path(__file__).parent.parent / "cpp"
LIBRARY = "libtorchtrt_runtime.so"
MANIFEST = "torchtrt_runtime.json"  # {"key": build_key() of what it was built for}
_MODULE = "torchtrt_python"


class _Handle(Protocol):
    """An engine of the C++ runtime."""

    notice: str

    def run(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Fresh outputs; checks the inputs."""


class Runtime(Protocol):
    """The extension module."""

    def open(self, constant: Tensor, verify: bool) -> _Handle:
        """The engine in the bytes of `constant`."""

    def backends(self) -> Mapping[str, int]:
        """The backends whose engines it runs, with the format of their payloads."""

    def configure(self, *classes: type[Exception]) -> None:
        """What to raise: InputError, FileFormatError, EngineNotRunnable."""


class NativeEngine(Engine):
    """An engine that the C++ runtime runs; `constant` holds its bytes."""

    def __init__(self, spec: EngineSpec, constant: Tensor, handle: _Handle) -> None:
        self.spec = spec
        self._constant = constant.detach()  # an alias: the constant itself has to be able to go away
        self.run = handle.run  # type: ignore[method-assign]  # no frame of Python in between

    def run(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Outputs for `inputs`. Raises InputError when they are not what the engine was built for."""
        raise NotImplementedError  # each instance has the extension's own function

    def to_bytes(self) -> bytes:
        """The payload."""
        return bytes(self._payload())

    def refit(self, weights: Mapping[str, Tensor]) -> Engine:
        """As the backend's own engines do it."""
        return self.in_python().refit(weights)

    def in_python(self) -> Engine:
        """The backend's own engine of the same bytes, which can more than run."""
        return engines.backend(self.spec.backend).from_bytes(self._payload(), self.spec)

    def _payload(self) -> memoryview:
        return decode(memoryview(self._constant.numpy()), verify=False)[1]  # type: ignore[arg-type]


def in_python(engine: Engine) -> Engine:
    """`engine` itself, or the backend's own for one that the C++ runtime runs, which can do nothing else."""
    return engine.in_python() if isinstance(engine, NativeEngine) else engine


def native_engine(constant: Tensor, spec: EngineSpec, *, verify: bool) -> NativeEngine | None:
    """The engine in `constant` (checked by its `spec` already), or None when the C++ runtime isn't here or doesn't read such.

    Raises FileFormatError when it can't be read.
    """
    found = runtime()
    if found is None or found.backends().get(spec.backend) != spec.format_version:
        return None
    handle = found.open(constant, verify)
    if handle.notice:
        logger(__name__).warning("%s", handle.notice)
    return NativeEngine(spec, constant, handle)


@cache
def runtime() -> Runtime | None:
    """The extension module, loaded once, or None when it was not built, or is switched off.

    Raises EngineNotRunnable when TORCH_TENSORRT_RUNTIME names a folder without a build for these versions.
    """
    chosen = os.environ.get(SETTING, "").strip()
    if chosen.lower() == "off":
        return None
    folder = Path(chosen) if chosen else cache_folder()
    if not chosen and not (folder / MANIFEST).is_file():
        return None
    wrong = _mismatch(folder)
    if wrong:
        raise EngineNotRunnable(
            f"The C++ runtime in {str(folder)!r} can't be used: {wrong}. Build it with `python -m torch_tensorrt "
            f"build-runtime --output {str(folder)!r}`, or set {SETTING}=off to run engines in Python."
        )
    return _load(folder)


def _mismatch(folder: Path) -> str:
    try:
        found = json.loads((folder / MANIFEST).read_text())["key"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        return f"its {MANIFEST} can't be read ({type(error).__name__}: {error})"
    if found != build_key():
        return f"it was built for {found}, and this is {build_key()}"
    return "" if module_path(folder).is_file() else f"{module_path(folder).name} is missing"


def _load(folder: Path) -> Runtime:
    path = str(module_path(folder))
    spec = spec_from_file_location(_MODULE, path, loader=ExtensionFileLoader(_MODULE, path))
    assert spec is not None
    assert spec.loader is not None
    try:
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
    except ImportError as error:
        raise EngineNotRunnable(
            f"The C++ runtime {path!r} can't be loaded: {error}. Build it again with `python -m torch_tensorrt "
            f"build-runtime`, or set {SETTING}=off to run engines in Python."
        ) from error
    found = cast("Runtime", module)
    found.configure(InputError, FileFormatError, EngineNotRunnable)
    return found


def release_kernels() -> None:
    """Takes the operator's kernels from a C++ runtime that `torch.ops.load_library` loaded before this package was imported."""
    for path in torch.ops.loaded_libraries:
        if Path(path).name == LIBRARY:
            ctypes.CDLL(path).torchtrt_release_kernels()


def module_path(folder: Path) -> Path:
    """The extension module of a build in `folder`."""
    return folder / f"{_MODULE}{sysconfig.get_config_var('EXT_SUFFIX')}"


def cache_folder() -> Path:
    """Where build-runtime puts the library, and where it is looked for: one folder per `build_key()`."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "torch_tensorrt" / "runtime" / build_key()


@cache
def build_key() -> str:
    """What a build has to fit: the versions that its binary interface depends on, and our sources."""
    digest = hashlib.sha256()
    for path in sorted(SOURCES.iterdir()):
        if path.suffix in {".cpp", ".h", ".txt"}:
            digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    try:
        openvino = metadata.version("openvino")
    except metadata.PackageNotFoundError:
        openvino = "none"
    tag = sys.implementation.cache_tag
    return f"torch-{torch.__version__}_openvino-{openvino}_{tag}_sources-{digest.hexdigest()[:12]}"
