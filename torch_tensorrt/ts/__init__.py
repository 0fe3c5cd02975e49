"""The documented TorchScript door: `torch_tensorrt.ts.compile` and what goes with it."""

from __future__ import annotations

from torch_tensorrt.ts._compile_spec import TensorRTCompileSpec
from torch_tensorrt.ts._compiler import (
    check_method_op_support,
    compile,
    convert_method_to_trt_engine,
    embed_engine_in_new_module,
)

__all__ = [
    "TensorRTCompileSpec",
    "check_method_op_support",
    "compile",
    "convert_method_to_trt_engine",
    "embed_engine_in_new_module",
]
