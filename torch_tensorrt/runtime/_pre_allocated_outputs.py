"""enable_pre_allocated_outputs, at its documented place."""

from __future__ import annotations

from torch_tensorrt.runtime.modes import enable_pre_allocated_outputs

__all__ = ["enable_pre_allocated_outputs"]
