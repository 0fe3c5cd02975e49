"""The documented modules around engines. A compiled model here is a graph whose calls of engines are operators."""

from __future__ import annotations

from torch_tensorrt.dynamo.runtime._CudaGraphsTorchTensorRTModule import CudaGraphsTorchTensorRTModule
from torch_tensorrt.dynamo.runtime._MutableTorchTensorRTModule import MutableTorchTensorRTModule
from torch_tensorrt.dynamo.runtime._TorchTensorRTModule import TorchTensorRTModule

__all__ = ["CudaGraphsTorchTensorRTModule", "MutableTorchTensorRTModule", "TorchTensorRTModule"]
