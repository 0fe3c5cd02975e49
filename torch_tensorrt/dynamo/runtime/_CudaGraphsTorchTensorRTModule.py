"""The documented module that replays a CUDA graph."""

from __future__ import annotations

from torch_tensorrt.spec.absent import Absent

CudaGraphsTorchTensorRTModule = Absent(
    "dynamo.runtime.CudaGraphsTorchTensorRTModule",
    "engines don't run in CUDA graphs in this version; the compiled module runs without one",
)

__all__ = ["CudaGraphsTorchTensorRTModule"]
