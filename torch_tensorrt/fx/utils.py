"""LowerPrecision, at its documented place."""

from __future__ import annotations

from enum import Enum


class LowerPrecision(Enum):
    """What engines of `torch_tensorrt.fx.compile` compute in."""

    FP32 = "fp32"
    FP16 = "fp16"
    INT8 = "int8"
