"""Warnings of PyTorch about itself, which a user of this package can do nothing about."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_torch() -> Iterator[None]:
    """Hides PyTorch's own use of what it deprecates (copying a LeafSpec, in 2.13) and its advice against TorchScript, which the
    user asked for; all other warnings pass.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"`isinstance\(treespec, LeafSpec\)`", category=FutureWarning)
        warnings.filterwarnings("ignore", message=r"`torch\.jit\.\w+` is deprecated", category=DeprecationWarning)
        yield


@contextmanager
def without_partial_graphs() -> Iterator[None]:
    """Keeps torch.export from printing what it has traced so far when it fails: what is raised says where and why.

    That is the only `print` of its module, which gets one that does nothing meanwhile. For one thread at a time.
    """
    module = importlib.import_module("torch.export._trace")
    vars(module)["print"] = lambda *_, **__: None
    try:
        yield
    finally:
        vars(module).pop("print", None)
