"""CudaGraphsTorchTensorRTModule, at its documented place."""

from __future__ import annotations

from torch_tensorrt.runtime.cudagraphs.module import CudaGraphsTorchTensorRTModule

__all__ = ["CudaGraphsTorchTensorRTModule"]
