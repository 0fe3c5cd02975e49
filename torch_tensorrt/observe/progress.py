"""A progress bar on a terminal, for work that takes longer than a second. Steps done out of steps known: no guesses."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from torch_tensorrt.observe.log import logger

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

PATIENCE_SECONDS = 1.0
_drawing = threading.Lock()  # held while the screen below changes
_screen: list[
    Progress
] = []  # the one drawing that is on the screen; work within other work has a line of its own in it


_monitors: tuple[bool, ...] = ()  # of the `monitoring` blocks that are open; the last decides


class Steps:
    """Counts finished steps. A bar shows them from a second after the start, also while the first step still runs."""

    def __init__(self, title: str, total: int) -> None:
        self._title = title
        self._total = total
        self._done = 0
        self._last = ""
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._closed = False
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None
        # The stream is taken here: the work may point sys.stderr elsewhere for a while.
        stream, monitored = sys.stderr, _monitors[-1:]
        self._told = monitored == (True,)
        self._since = time.perf_counter()
        self._patience = 0.0 if self._told else PATIENCE_SECONDS
        if stream is not None and stream.isatty() and monitored != (False,):
            self._timer = threading.Timer(self._patience, self._draw, (stream,))
            self._timer.daemon = True
            self._timer.start()

    def advance(self, what: str) -> None:
        """One step is done; `what` is its name, shown beside the bar."""
        with self._lock:
            self._done = min(self._done + 1, self._total)
            self._last = what
            self._update()
            now = time.perf_counter()
            if self._told:
                step = f"{self._done} of {self._total}"
                logger("progress").info("%s: %s, %s, %.3f s", self._title, what, step, now - self._since)
            self._since = now

    def close(self) -> None:
        """Removes the bar from the screen, or sees to it that it never comes."""
        with self._lock:
            self._closed = True
            if self._timer is not None:
                self._timer.cancel()
            bar, self._bar = self._bar, None
        if bar is not None and self._task is not None:
            with _drawing:
                bar.remove_task(self._task)
                if not bar.task_ids:
                    _screen.remove(bar)
                    bar.stop()

    def _draw(self, stream: TextIO) -> None:
        with self._lock, _drawing:
            if self._closed:
                return
            try:
                bar = _screen[0] if _screen else _make_bar(stream)
            except ImportError as error:
                logger("progress").info("no progress bar: rich can't be imported (%s)", error)
                return
            self._task = bar.add_task(self._title, total=self._total)
            bar.tasks[bar.task_ids.index(self._task)].start_time = bar.get_time() - self._patience
            if not _screen:
                bar.start()
                _screen.append(bar)
            self._bar = bar
            self._update()

    def _update(self) -> None:
        if self._bar is not None and self._task is not None:
            described = f"{self._title}: {self._last}" if self._last else self._title
            self._bar.update(self._task, completed=self._done, description=described)


def _make_bar(stream: TextIO) -> Progress:
    # rich is imported only when there is something to draw: it takes longer than many a compilation.
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(file=stream),
        transient=True,
        # Another thread draws; swapping sys.stdout from there would break a redirect_stdout() of the program's.
        redirect_stdout=False,
        redirect_stderr=False,
    )


@contextmanager
def progress(title: str, total: int) -> Iterator[Steps]:
    """Shows how far a piece of work of `total` steps is: `with progress("Building engines", 3) as steps: ...`."""
    steps = Steps(title, total)
    try:
        yield steps
    finally:
        steps.close()


@contextmanager
def monitoring(shown: bool) -> Iterator[None]:
    """Inside, bars come at once and every step is logged with its time at the level INFO; or, with False, no bar ever comes."""
    global _monitors
    with _drawing:
        _monitors = (*_monitors, shown)
    try:
        yield
    finally:
        with _drawing:
            at = len(_monitors) - 1 - _monitors[::-1].index(shown)
            _monitors = (*_monitors[:at], *_monitors[at + 1 :])
