"""The documented switch for checks of devices."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from torch_tensorrt.spec.errors import InputError


def set_multi_device_safe_mode(mode: bool) -> AbstractContextManager[None]:
    """Sets nothing: whether inputs are on the engine's device is checked at every call, with both values.

    May be used as a context manager, as documented. Raises InputError for anything but True and False.
    """
    if not isinstance(mode, bool):
        raise InputError(f"set_multi_device_safe_mode({mode!r}): True or False is needed.")
    return nullcontext()
