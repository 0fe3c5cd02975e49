"""Tracing, at its documented place."""

from __future__ import annotations

from torch_tensorrt.trace.tracer import trace

__all__ = ["trace"]
