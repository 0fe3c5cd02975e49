"""Input, at its documented place."""

from __future__ import annotations

from torch_tensorrt.spec.input import Input

__all__ = ["Input"]
