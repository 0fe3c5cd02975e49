"""Loggers below the one named `torch_tensorrt`, how much they say, and warnings that are said once."""

from __future__ import annotations

import logging
import sys
import threading
from types import TracebackType

from torch_tensorrt.spec.errors import InputError

ROOT = "torch_tensorrt"
GRAPHS = logging.DEBUG - 5  # below DEBUG: whole graphs
logging.addLevelName(GRAPHS, "GRAPHS")

_lock = threading.RLock()
_said: set[str] = set()
_entered: list[tuple[object, int]] = []  # the AtLevel blocks that are open, and the level that each asks for
_outside = [logging.NOTSET]  # the level before the first of them


def logger(name: str) -> logging.Logger:
    """The logger for a room or module: `logger("trace")` is `torch_tensorrt.trace`."""
    return logging.getLogger(name if name == ROOT or name.startswith(f"{ROOT}.") else f"{ROOT}.{name}")


def warn_once(key: str, message: str) -> None:
    """Logs `message` as a warning the first time that `key` is seen in this process."""
    with _lock:
        if key in _said:
            return
        _said.add(key)
    logger(ROOT).warning("%s", message)


def set_level(level: int | str, target: logging.Logger | None = None) -> None:
    """Sets how much `target` (default: the logger of the whole package) says: a level of Python's `logging` or its name.

    Raises InputError for anything else. A program that has not set up logging sees the messages on stderr.
    """
    try:
        (target or logger(ROOT)).setLevel(level)
    except (TypeError, ValueError) as error:
        raise InputError(f"{level!r} is not a level; use logging.INFO or another level of Python's logging.") from error
    with _lock:
        if not any(isinstance(handler, _WhenAlone) for handler in logger(ROOT).handlers):
            logger(ROOT).addHandler(_WhenAlone())


class AtLevel:
    """`with AtLevel(logging.DEBUG): ...` sets the package's level, and restores it at the end.

    Blocks may nest, and may overlap in several threads (the level is the process's, not the thread's): the block entered
    last decides, and when all are left the level is what it was before the first.
    """

    def __init__(self, level: int) -> None:
        self._level = level

    def __enter__(self) -> None:
        with _lock:
            if not _entered:
                _outside[0] = logger(ROOT).level
            _entered.append((self, self._level))
            set_level(self._level)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with _lock:
            last = max(at for at, (block, _) in enumerate(_entered) if block is self)
            del _entered[last]
            set_level(_entered[-1][1] if _entered else _outside[0])


class _WhenAlone(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes to stderr while the program has no handler of its own: the same message never comes twice."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        if logging.getLogger().handlers or logger(ROOT).handlers != [self] or sys.stderr is None:
            return
        self.stream = sys.stderr  # what it is now, not what it was when the handler was made
        super().emit(record)
