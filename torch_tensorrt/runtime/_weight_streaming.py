"""weight_streaming, at its documented place."""

from __future__ import annotations

from torch_tensorrt.runtime.streaming import weight_streaming

__all__ = ["weight_streaming"]
