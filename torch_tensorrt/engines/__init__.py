"""Which engine backends there are: name -> class, loaded when asked for, one instance per process.

Other packages add a backend with an entry point in the group `torch_tensorrt.engines` that names an
EngineBackend class.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from torch_tensorrt.contracts.backend import EngineBackend
from torch_tensorrt.spec.errors import InputError

ENTRY_POINTS = "torch_tensorrt.engines"
_OWN: Mapping[str, str] = {
    "eager": "torch_tensorrt.engines.eager.backend:EagerBackend",
    "inductor": "torch_tensorrt.engines.inductor.backend:InductorBackend",
    "onnxruntime": "torch_tensorrt.engines.onnxruntime.backend:ONNXRuntimeBackend",
    "openvino": "torch_tensorrt.engines.openvino.backend:OpenVINOBackend",
    "tensorrt": "torch_tensorrt.engines.tensorrt.backend:TensorRTBackend",
    "tensorrt_rtx": "torch_tensorrt.engines.tensorrt.backend:TensorRTRTXBackend",
}


@cache
def _foreign() -> Mapping[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=ENTRY_POINTS) if entry.name not in _OWN}


def names() -> tuple[str, ...]:
    """The names that `backend` knows: this package's own first, then those of other packages."""
    return (*_OWN, *sorted(_foreign()))


@cache
def backend(name: str) -> EngineBackend:
    """The backend called `name`. Raises InputError for an unknown name or an entry point that isn't a backend."""
    if name in _OWN:
        module, _, attribute = _OWN[name].partition(":")
        found = getattr(importlib.import_module(module), attribute)
    elif name in _foreign():
        found = _foreign()[name].load()
    else:
        raise InputError(f"There is no engine {name!r}; the engines known here are {', '.join(names())}.")
    if not (isinstance(found, type) and issubclass(found, EngineBackend) and found.name == name):
        raise InputError(
            f"The entry point {name!r} of {ENTRY_POINTS!r} names {found!r}, not an EngineBackend of that name."
        )
    return found()
