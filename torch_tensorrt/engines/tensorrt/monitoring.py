"""The builder's phases on our progress bar; a keyboard interrupt cancels the build."""

from __future__ import annotations

from contextlib import AbstractContextManager
from types import TracebackType

from typing_extensions import Self

from torch_tensorrt.observe.progress import Steps, progress


class BuildProgress:
    """Listens to a builder. Its outermost phase is the bar; phases within it are shown by name.

    Exceptions must not pass through the SDK: an interrupt is kept, cancels the build, and is raised by `raise_interruption`.
    """

    def __init__(self, title: str) -> None:
        self._title = title
        self._bar: AbstractContextManager[Steps] | None = None
        self._steps: Steps | None = None
        self._outermost = ""
        self._interruption: KeyboardInterrupt | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
        """The first phase without a parent becomes the bar."""
        if parent is None and not self._outermost:
            self._outermost = phase
            self._bar = progress(self._title, steps)
            self._steps = self._bar.__enter__()

    def step_complete(self, phase: str, step: int) -> bool:
        """Counts steps of the outermost phase. False, once the user has interrupted."""
        try:
            if phase == self._outermost and self._steps is not None:
                self._steps.advance(phase)
        except KeyboardInterrupt as interruption:
            self._interruption = interruption
        return self._interruption is None

    def phase_finish(self, phase: str) -> None:
        """The bar goes with its phase."""
        if phase == self._outermost:
            self._close()
            self._outermost = ""

    def raise_interruption(self) -> None:
        """Raises the KeyboardInterrupt that came while the SDK was at work, if any."""
        if self._interruption is not None:
            raise self._interruption

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.__exit__(None, None, None)
            self._bar, self._steps = None, None
