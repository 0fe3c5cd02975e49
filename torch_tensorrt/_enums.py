"""The enumerations, at their documented place."""

from __future__ import annotations

from torch_tensorrt.spec.enums import DeviceType, EngineCapability, Platform, dtype, memory_format

__all__ = ["DeviceType", "EngineCapability", "Platform", "dtype", "memory_format"]
