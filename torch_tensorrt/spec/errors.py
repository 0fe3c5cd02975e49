"""The error classes, chosen by whose move it is. Every message says what, which one, what was given and what to do."""

from __future__ import annotations


class TorchTensorRTError(Exception):
    """Base of every error that this package raises on purpose."""


class InputError(TorchTensorRTError, ValueError):
    """The caller's move: an argument, option or run-time input is not acceptable."""


class MissingFileError(InputError, FileNotFoundError):
    """There is no file of that name."""


class UnsupportedError(TorchTensorRTError, NotImplementedError):
    """The model's or the request's limit: it can't be expressed here; the message says what would work."""


class BuildError(TorchTensorRTError, RuntimeError):
    """An engine SDK refused to build a partition; its own words are quoted."""


class FileFormatError(TorchTensorRTError, ValueError):
    """A file or an engine's bytes are not what they should be (foreign, truncated, changed, newer)."""


class EngineNotRunnable(TorchTensorRTError, RuntimeError):
    """This machine lacks the device or the SDK that a saved engine needs."""


class InternalError(TorchTensorRTError, RuntimeError):
    """Our mistake: please report it with the message."""
