"""The documented names of TensorRT plugins made from PyTorch operators, which this package does not make."""

from __future__ import annotations

from torch_tensorrt.spec.absent import Absent

_WHY = (
    "engines hold no plugins: an operator without a converter runs in PyTorch, and one that is written in TensorRT's layers gets a "
    "converter from dynamo.conversion.dynamo_tensorrt_converter"
)
custom_op = Absent("dynamo.conversion.plugins.custom_op", _WHY)
generate_plugin = Absent("dynamo.conversion.plugins.generate_plugin", _WHY)
generate_plugin_converter = Absent("dynamo.conversion.plugins.generate_plugin_converter", _WHY)

__all__ = ["custom_op", "generate_plugin", "generate_plugin_converter"]
