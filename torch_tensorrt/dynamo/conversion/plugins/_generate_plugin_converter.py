"""generate_plugin_converter, at its documented place."""

from __future__ import annotations

from torch_tensorrt.dynamo.conversion.plugins import generate_plugin_converter

__all__ = ["generate_plugin_converter"]
