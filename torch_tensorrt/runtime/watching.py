"""Engines shown to whoever watches them: when they come into being, and instead of being run. Watching never changes a result."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from torch import Tensor

from torch_tensorrt.contracts.engine import Engine

_lock = threading.Lock()


class Watcher(Protocol):
    """Whoever watches. Called from any thread."""

    def made(self, engine: Engine) -> None:
        """`engine` was built, or read from its bytes."""

    def run(self, engine: Engine, inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        """What `engine.run(inputs)` gives."""


watchers: tuple[Watcher, ...] = ()  # of the blocks that are open; the one that was entered last is the last


def tell_made(engine: Engine) -> None:
    """Every watcher hears of `engine`."""
    for watcher in watchers:
        watcher.made(engine)


def run_watched(engine: Engine, inputs: Sequence[Tensor]) -> Sequence[Tensor]:
    """Runs `engine` by the watcher that came last: an engine runs once, whoever watches."""
    last = watchers[-1:]
    return last[0].run(engine, inputs) if last else engine.run(inputs)


@contextmanager
def watching(watcher: Watcher) -> Iterator[None]:
    """`watcher` is shown every engine of the process until the end of the block."""
    global watchers
    with _lock:
        watchers = (*watchers, watcher)
    try:
        yield
    finally:
        with _lock:
            at = len(watchers) - 1 - watchers[::-1].index(watcher)
            watchers = (*watchers[:at], *watchers[at + 1 :])
