"""The documented names of the file of kernels that TensorRT-RTX compiles while it runs."""

from __future__ import annotations

from torch_tensorrt.runtime.modes import runtime_cache
from torch_tensorrt.spec.absent import Absent

RuntimeCache = Absent(
    "runtime.RuntimeCache",
    "`with torch_tensorrt.runtime.runtime_cache(module, path): ...` reads the file and writes it",
)

__all__ = ["RuntimeCache", "runtime_cache"]
