"""The documented place of Debugger."""

from __future__ import annotations

from torch_tensorrt.dynamo.debug._Debugger import Debugger

__all__ = ["Debugger"]
