"""The documented switch for inputs on another GPU than the model's."""

from __future__ import annotations

from torch_tensorrt.runtime import devices
from torch_tensorrt.runtime.modes import Restored


def set_multi_device_safe_mode(mode: bool) -> Restored:
    """True: inputs on another GPU than the one that a model was compiled on are moved there, and a warning says so once.

    False, as it is at first: an engine runs on the GPU that its inputs are on, and a model that can't is an InputError naming both
    GPUs. What is returned may be used as a context manager, as documented: at the end of the block the mode is what it was before.
    Raises InputError for anything but True and False.
    """
    before = devices.set_moves_inputs(mode)
    return Restored(lambda: devices.set_moves_inputs(before))
