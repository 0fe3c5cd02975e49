"""optimization_profile, at its documented place."""

from __future__ import annotations

from torch_tensorrt.runtime.modes import optimization_profile

__all__ = ["optimization_profile"]
