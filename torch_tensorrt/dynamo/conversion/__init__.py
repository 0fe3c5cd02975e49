"""The documented `torch_tensorrt.dynamo.conversion` names, and `converts`: our own shorter form of a converter."""

from __future__ import annotations

from torch_tensorrt.dynamo.conversion import plugins
from torch_tensorrt.dynamo.conversion._ConverterRegistry import (
    DYNAMO_CONVERTERS,
    has_dynamic_shapes_in_args,
    has_static_shapes,
    has_static_shapes_in_args,
    node_has_dynamic_shapes,
)
from torch_tensorrt.engines.tensorrt.converters import converts
from torch_tensorrt.engines.tensorrt.users import ConversionContext, ConverterPriority, dynamo_tensorrt_converter

__all__ = [
    "DYNAMO_CONVERTERS",
    "ConversionContext",
    "ConverterPriority",
    "converts",
    "dynamo_tensorrt_converter",
    "has_dynamic_shapes_in_args",
    "has_static_shapes",
    "has_static_shapes_in_args",
    "node_has_dynamic_shapes",
    "plugins",
]
