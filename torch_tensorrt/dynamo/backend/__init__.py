"""`torch.compile(model, backend="torch_tensorrt")`, also under the name "tensorrt"."""

from __future__ import annotations

from torch_tensorrt.dynamo.backend.entry import torch_compile, torch_tensorrt_backend

__all__ = ["torch_compile", "torch_tensorrt_backend"]
