"""generate_plugin, at its documented place."""

from __future__ import annotations

from torch_tensorrt.dynamo.conversion.plugins import generate_plugin

__all__ = ["generate_plugin"]
