"""Quantization before compiling: `torch_tensorrt.quantize`, a door to NNCF's and torchao's own."""

from __future__ import annotations

from torch_tensorrt.quantization.quantizing import quantize

__all__ = ["quantize"]
