"""Compiles PyTorch models for inference with exchangeable engines, under the documented names of Torch-TensorRT."""

from __future__ import annotations

from torch_tensorrt import dynamo, fx, logging, runtime, ts
from torch_tensorrt._compile import compile, convert_method_to_trt_engine, cross_compile_for_windows
from torch_tensorrt._Device import Device
from torch_tensorrt._enums import DeviceType, EngineCapability, Platform, dtype, memory_format
from torch_tensorrt._features import ENABLED_FEATURES
from torch_tensorrt._Input import Input
from torch_tensorrt.dynamo._compiler import load_cross_compiled_exported_program
from torch_tensorrt.dynamo.backend import torch_compile
from torch_tensorrt.dynamo.backend.registration import register_backends
from torch_tensorrt.dynamo.runtime import MutableTorchTensorRTModule
from torch_tensorrt.package.inspecting import EngineReport, FileReport, inspect_file
from torch_tensorrt.package.loading import load
from torch_tensorrt.package.saving import save
from torch_tensorrt.quantization import quantize
from torch_tensorrt.runtime.module import CompiledModule
from torch_tensorrt.spec.errors import (
    BuildError,
    EngineNotRunnable,
    FileFormatError,
    InputError,
    InternalError,
    TorchTensorRTError,
    UnsupportedError,
)
from torch_tensorrt.spec.version import VERSION

__version__ = VERSION

__all__ = [
    "ENABLED_FEATURES",
    "BuildError",
    "CompiledModule",
    "Device",
    "DeviceType",
    "EngineCapability",
    "EngineNotRunnable",
    "EngineReport",
    "FileFormatError",
    "FileReport",
    "Input",
    "InputError",
    "InternalError",
    "MutableTorchTensorRTModule",
    "Platform",
    "TorchTensorRTError",
    "UnsupportedError",
    "__version__",
    "compile",
    "convert_method_to_trt_engine",
    "cross_compile_for_windows",
    "dtype",
    "dynamo",
    "fx",
    "inspect_file",
    "load",
    "load_cross_compiled_exported_program",
    "logging",
    "memory_format",
    "quantize",
    "runtime",
    "save",
    "torch_compile",
    "ts",
]

register_backends()  # the names that torch.compile(backend=...) knows us by
