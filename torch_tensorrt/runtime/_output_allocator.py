"""enable_output_allocator, at its documented place."""

from __future__ import annotations

from torch_tensorrt.runtime.modes import enable_output_allocator

__all__ = ["enable_output_allocator"]
