"""The documented options of TorchScript's own to_backend."""

from __future__ import annotations

from torch_tensorrt.spec.absent import Absent

TensorRTCompileSpec = Absent(
    "ts.TensorRTCompileSpec", "TorchScript's to_backend is not served in this version; use torch_tensorrt.compile"
)
