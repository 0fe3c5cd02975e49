"""Running engines: the documented `torch_tensorrt.runtime` namespace."""

from __future__ import annotations

from torch_tensorrt.runtime import native

__all__ = ["native"]
