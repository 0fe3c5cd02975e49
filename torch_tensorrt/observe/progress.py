"""A progress bar on a terminal, for work that takes longer than a second. Steps done out of steps known: no guesses."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

_PATIENCE_SECONDS = 1.0


class Steps:
    """Counts finished steps; draws them once the patience is over."""

    def __init__(self, title: str, total: int) -> None:
        self._title = title
        self._total = total
        self._done = 0
        self._start = time.monotonic()
        self._bar: Progress | None = None

    def advance(self, what: str) -> None:
        """One step is done; `what` is the next thing, shown beside the bar."""
        self._done += 1
        if self._bar is None and time.monotonic() - self._start > _PATIENCE_SECONDS and sys.stderr.isatty():
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
            self._bar.add_task(self._title, total=self._total)
            self._bar.start()
        if self._bar is not None:
            self._bar.update(
                self._bar.task_ids[0], completed=min(self._done, self._total), description=f"{self._title}: {what}"
            )

    def close(self) -> None:
        """Removes the bar from the screen."""
        if self._bar is not None:
            self._bar.stop()


@contextmanager
def progress(title: str, total: int) -> Iterator[Steps]:
    """`with progress("Building engines", 3) as steps: steps.advance("part_1")`."""
    steps = Steps(title, total)
    try:
        yield steps
    finally:
        steps.close()
