"""How much torch_tensorrt says: `set_level`, and context managers that restore the level they found."""

from __future__ import annotations

import logging as _logging
from types import TracebackType

from torch_tensorrt.observe.log import ROOT

GRAPHS = _logging.DEBUG - 5


def set_level(level: int, logger: _logging.Logger | None = None) -> None:
    """Sets the level (a number of Python's logging module) of torch_tensorrt's logger, or of `logger`."""
    (logger or _logging.getLogger(ROOT)).setLevel(level)


class _Level:
    level: int

    def __enter__(self) -> None:
        self._before = _logging.getLogger(ROOT).level
        set_level(self.level)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        set_level(self._before)


class internal_errors(_Level):  # noqa: N801 - the documented names from here on
    """Only what should never happen."""

    level = _logging.CRITICAL


class errors(_Level):  # noqa: N801
    """Errors."""

    level = _logging.ERROR


class warnings(_Level):  # noqa: N801
    """Errors and warnings: the default."""

    level = _logging.WARNING


class info(_Level):  # noqa: N801
    """What is compiled and built."""

    level = _logging.INFO


class debug(_Level):  # noqa: N801
    """Every pass."""

    level = _logging.DEBUG


class graphs(_Level):  # noqa: N801
    """Graphs as well."""

    level = GRAPHS
