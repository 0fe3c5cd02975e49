"""Loggers below the one named `torch_tensorrt`, and warnings that are said once."""

from __future__ import annotations

import logging
import threading

ROOT = "torch_tensorrt"
_said: set[str] = set()
_lock = threading.Lock()


def logger(name: str) -> logging.Logger:
    """The logger for a room or module: `logger("trace")` is `torch_tensorrt.trace`."""
    return logging.getLogger(name if name.startswith(ROOT) else f"{ROOT}.{name}")


def warn_once(key: str, message: str) -> None:
    """Logs `message` as a warning the first time that `key` is seen in this process."""
    with _lock:
        if key in _said:
            return
        _said.add(key)
    logger(ROOT).warning("%s", message)
