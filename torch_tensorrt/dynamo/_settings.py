"""The compile options, at their documented place."""

from __future__ import annotations

from torch_tensorrt.spec.settings import CompilationSettings

__all__ = ["CompilationSettings"]
