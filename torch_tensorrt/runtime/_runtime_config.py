"""The documented settings of running engines that have no counterpart."""

from __future__ import annotations

from torch_tensorrt.spec.absent import Absent

_WHY = (
    "there is one way of choosing kernels for sizes that vary, and no CUDA graph; runtime.runtime_cache chooses the file of kernels "
    "that are compiled while an engine runs"
)
RuntimeSettings = Absent("runtime.RuntimeSettings", _WHY)
runtime_config = Absent("runtime.runtime_config", _WHY)
set_dynamic_shapes_kernel_strategy = Absent("runtime.set_dynamic_shapes_kernel_strategy", _WHY)
