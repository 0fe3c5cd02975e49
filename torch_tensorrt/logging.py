"""How much torch_tensorrt says: `set_level`, and context managers that restore the level they found."""

from __future__ import annotations

import logging as _logging

from torch_tensorrt.observe.log import GRAPHS, AtLevel
from torch_tensorrt.observe.log import set_level as _set_level

__all__ = ["GRAPHS", "debug", "errors", "graphs", "info", "internal_errors", "set_level", "warnings"]


def set_level(level: int | str, logger: _logging.Logger | None = None) -> None:
    """Sets the level (a number of Python's logging module, or its name) of torch_tensorrt's logger, or of `logger`.

    Raises InputError when `level` is neither.
    """
    _set_level(level, logger)


class internal_errors(AtLevel):  # noqa: N801 - the documented names from here on
    """`with internal_errors():` says only what should never happen."""

    def __init__(self) -> None:
        super().__init__(_logging.CRITICAL)


class errors(AtLevel):  # noqa: N801
    """`with errors():` says errors only."""

    def __init__(self) -> None:
        super().__init__(_logging.ERROR)


class warnings(AtLevel):  # noqa: N801
    """`with warnings():` says errors and warnings, as it is by default."""

    def __init__(self) -> None:
        super().__init__(_logging.WARNING)


class info(AtLevel):  # noqa: N801
    """`with info():` also says what is compiled and built."""

    def __init__(self) -> None:
        super().__init__(_logging.INFO)


class debug(AtLevel):  # noqa: N801
    """`with debug():` also says what every pass does."""

    def __init__(self) -> None:
        super().__init__(_logging.DEBUG)


class graphs(AtLevel):  # noqa: N801
    """`with graphs():` also prints graphs."""

    def __init__(self) -> None:
        super().__init__(GRAPHS)
