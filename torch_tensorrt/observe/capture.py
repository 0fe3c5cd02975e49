"""Graphs shown to whoever wants to see them, before and after each lowering pass. Looking at one never changes a result."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal, TypeAlias

from torch import fx

Moment: TypeAlias = Literal["before", "after"]
Viewer: TypeAlias = Callable[[str, Moment, fx.GraphModule], None]

_lock = threading.Lock()
_viewers: tuple[Viewer, ...] = ()


def show_graph(pass_name: str, moment: Moment, graph_module: fx.GraphModule) -> None:
    """Calls the viewers, which must leave the graph as it is."""
    for viewer in _viewers:
        viewer(pass_name, moment, graph_module)


@contextmanager
def viewing(viewer: Viewer) -> Iterator[None]:
    """`viewer` is shown every graph of the process until the end of the block."""
    global _viewers
    with _lock:
        _viewers = (*_viewers, viewer)
    try:
        yield
    finally:
        with _lock:
            at = _viewers.index(viewer)
            _viewers = (*_viewers[:at], *_viewers[at + 1 :])
