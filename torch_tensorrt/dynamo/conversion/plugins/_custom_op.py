"""custom_op, at its documented place."""

from __future__ import annotations

from torch_tensorrt.dynamo.conversion.plugins import custom_op

__all__ = ["custom_op"]
