"""Device, at its documented place."""

from __future__ import annotations

from torch_tensorrt.spec.device import Device

__all__ = ["Device"]
