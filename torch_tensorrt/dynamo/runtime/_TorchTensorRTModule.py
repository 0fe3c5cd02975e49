"""The documented module of one engine."""

from __future__ import annotations

from torch_tensorrt.spec.absent import Absent

TorchTensorRTModule = Absent(
    "dynamo.runtime.TorchTensorRTModule",
    "torch_tensorrt.compile gives a graph that calls its engines as operators; torch_tensorrt.ts.embed_engine_in_new_module takes "
    "an engine that was built elsewhere",
)

__all__ = ["TorchTensorRTModule"]
