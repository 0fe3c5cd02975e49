"""Running engines: the documented `torch_tensorrt.runtime` namespace."""

from __future__ import annotations

from torch_tensorrt.runtime import native
from torch_tensorrt.runtime._cudagraphs import (
    CudaGraphsMode,
    enable_cudagraphs,
    get_cudagraphs_mode,
    get_whole_cudagraphs_mode,
    set_cudagraphs_mode,
)
from torch_tensorrt.runtime._multi_device_safe_mode import set_multi_device_safe_mode
from torch_tensorrt.runtime._runtime_cache import RuntimeCache
from torch_tensorrt.runtime._runtime_config import RuntimeSettings, runtime_config, set_dynamic_shapes_kernel_strategy
from torch_tensorrt.runtime.modes import (
    enable_output_allocator,
    enable_pre_allocated_outputs,
    get_layer_info,
    optimization_profile,
    runtime_cache,
)
from torch_tensorrt.runtime.streaming import WeightStreaming, weight_streaming
from torch_tensorrt.runtime.throughput import Throughput

__all__ = [
    "CudaGraphsMode",
    "RuntimeCache",
    "RuntimeSettings",
    "Throughput",
    "WeightStreaming",
    "enable_cudagraphs",
    "enable_output_allocator",
    "enable_pre_allocated_outputs",
    "get_cudagraphs_mode",
    "get_layer_info",
    "get_whole_cudagraphs_mode",
    "native",
    "optimization_profile",
    "runtime_cache",
    "runtime_config",
    "set_cudagraphs_mode",
    "set_dynamic_shapes_kernel_strategy",
    "set_multi_device_safe_mode",
    "weight_streaming",
]
