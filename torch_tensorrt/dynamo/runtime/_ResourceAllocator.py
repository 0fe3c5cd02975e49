"""The documented strategy for the memory of engines between runs."""

from __future__ import annotations

from torch_tensorrt.spec.absent import Absent

ResourceAllocationStrategy = Absent(
    "dynamo.runtime.ResourceAllocationStrategy",
    "an engine keeps what it needs between runs; torch_tensorrt.runtime.weight_streaming frees memory of weights",
)

__all__ = ["ResourceAllocationStrategy"]
