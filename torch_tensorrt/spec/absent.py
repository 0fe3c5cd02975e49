"""Documented names that this package has no counterpart for: they can be imported, and say what to use instead when used."""

from __future__ import annotations

from typing import NoReturn

from torch_tensorrt.spec.errors import UnsupportedError


class Absent:
    """A documented function or class that isn't here: whatever is done with it raises UnsupportedError with the reason.

    Asking whether something is an instance of it is answered: nothing is.
    """

    def __init__(self, name: str, instead: str) -> None:
        self.__name__, self.__doc__ = name, f"Not here: {instead}."

    def _refuse(self) -> NoReturn:
        raise UnsupportedError(f"torch_tensorrt.{self.__name__} is not here: {str(self.__doc__)[10:]}")

    def __call__(self, *args: object, **kwargs: object) -> NoReturn:
        self._refuse()

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):  # what Python itself asks of any object
            raise AttributeError(name)
        self._refuse()

    def __instancecheck__(self, instance: object) -> bool:
        return False

    def __mro_entries__(self, bases: tuple[object, ...]) -> NoReturn:
        self._refuse()

    def __repr__(self) -> str:
        return f"<torch_tensorrt.{self.__name__}: not here>"
