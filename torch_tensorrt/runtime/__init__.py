"""Running engines: the documented `torch_tensorrt.runtime` namespace."""

from __future__ import annotations

from torch_tensorrt.runtime import native
from torch_tensorrt.runtime.modes import (
    enable_output_allocator,
    enable_pre_allocated_outputs,
    get_layer_info,
    optimization_profile,
    runtime_cache,
)
from torch_tensorrt.runtime.streaming import WeightStreaming, weight_streaming

__all__ = [
    "WeightStreaming",
    "enable_output_allocator",
    "enable_pre_allocated_outputs",
    "get_layer_info",
    "native",
    "optimization_profile",
    "runtime_cache",
    "weight_streaming",
]
