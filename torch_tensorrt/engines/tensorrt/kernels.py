"""The kernels that TensorRT-RTX compiles when an engine first runs, kept in a file, so that the next process starts faster.

A file holds code: the default one lies in the user's own cache folder, never in a folder that everybody can write to.
"""

from __future__ import annotations

import atexit
import os
import threading
from pathlib import Path

import torch

from torch_tensorrt.engines.tensorrt.files import write_whole
from torch_tensorrt.engines.tensorrt.sdk import Native, Sdk, listen
from torch_tensorrt.observe.log import logger

_log = logger("engines.tensorrt.kernels")
_open: dict[Path, KernelFile] = {}  # to the end of the process: the SDK's cache has to outlive all its contexts
_opening = threading.Lock()


class KernelFile:
    """One file, and the SDK's cache in memory that engines of this process share."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._cache: Native | None = None
        self._written = b""
        self._lock = threading.Lock()

    def cache(self, sdk: Sdk, engine: Native) -> Native:
        """The SDK's cache, filled from the file on first use. What the SDK rejects (another GPU or version) is made anew."""
        with self._lock:
            if self._cache is None:
                self._cache = sdk.kernel_cache(engine)
                self._fill(sdk)
            return self._cache

    def _fill(self, sdk: Sdk) -> None:
        assert self._cache is not None
        try:
            found = self.path.read_bytes()
        except FileNotFoundError:
            return
        except OSError as error:
            _log.warning("The kernels kept in %s can't be read: %s", self.path, error)
            return
        with listen() as words:
            if self._cache.deserialize(found):
                self._written = found
            else:
                _log.info("The kernels kept in %s don't fit %s here and are made anew: %s", self.path, sdk.title, words)

    def save(self) -> None:
        """Writes what there is, whole or not at all; nothing when nothing new was compiled."""
        with self._lock:
            if self._cache is None:
                return
            data = bytes(self._cache.serialize())
            if not data or data == self._written:
                return
            try:
                write_whole(self.path, data)
            except OSError as error:  # a cache that can't be kept must not stop a program that has its results
                _log.warning("Compiled kernels can't be kept in %s: %s", self.path, error)
                return
            self._written = data


def kernel_file(path: Path) -> KernelFile:
    """The one KernelFile of this process for `path`."""
    with _opening:
        known = _open.get(path)
        if known is None:
            known = _open[path] = KernelFile(path)
            atexit.register(known.save)
        return known


def default_path(sdk: Sdk) -> Path:
    """In the user's cache folder (XDG_CACHE_HOME), one file for each version of the SDK and kind of GPU."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    gpu = "".join(sign if sign.isalnum() else "-" for sign in torch.cuda.get_device_name())
    return Path(root) / "torch_tensorrt" / "kernels" / f"{sdk.name}-{sdk.version}-{gpu}.bin"
