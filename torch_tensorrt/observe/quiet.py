"""Warnings of PyTorch about itself, which a user of this package can do nothing about."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from typing import TextIO


@contextmanager
def quiet_torch() -> Iterator[None]:
    """Hides PyTorch's own use of what it deprecates (copying a LeafSpec, in 2.13) and its advice against TorchScript, which the
    user asked for; all other warnings pass.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"`isinstance\(treespec, LeafSpec\)`", category=FutureWarning)
        warnings.filterwarnings("ignore", message=r"`torch\.jit\.\w+` is deprecated", category=DeprecationWarning)
        yield


class _WithoutGraphs:
    """Writes to a stream all but the source of graphs."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Like the stream's own; text that begins as a graph's code does is dropped."""
        return len(text) if text.lstrip().startswith("def forward(self") else self._stream.write(text)

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


@contextmanager
def without_partial_graphs() -> Iterator[None]:
    """Keeps torch.export from printing what it has traced so far when it fails: what is raised says where and why."""
    with redirect_stderr(_WithoutGraphs(sys.stderr)):  # type: ignore[type-var]
        yield
