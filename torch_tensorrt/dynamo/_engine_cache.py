"""The documented names of the engine cache."""

from __future__ import annotations

from torch_tensorrt.caching.cache import BaseEngineCache
from torch_tensorrt.caching.disk import DiskEngineCache

__all__ = ["BaseEngineCache", "DiskEngineCache"]
