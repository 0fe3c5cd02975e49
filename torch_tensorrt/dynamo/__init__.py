"""The documented `torch_tensorrt.dynamo` names: tracing and compiling exported programs."""

from __future__ import annotations

from torch_tensorrt.dynamo._compiler import (
    BindingNameMismatchError,
    compile,
    convert_exported_program_to_serialized_trt_engine,
    convert_exported_program_to_trt_engine,
    cross_compile_for_windows,
    load_cross_compiled_exported_program,
    save_cross_compiled_exported_program,
)
from torch_tensorrt.dynamo._exporter import export
from torch_tensorrt.dynamo._refit import refit_module_weights
from torch_tensorrt.runtime.module import CompiledModule
from torch_tensorrt.spec.settings import CompilationSettings
from torch_tensorrt.trace.tracer import trace

__all__ = [
    "BindingNameMismatchError",
    "CompilationSettings",
    "CompiledModule",
    "compile",
    "convert_exported_program_to_serialized_trt_engine",
    "convert_exported_program_to_trt_engine",
    "cross_compile_for_windows",
    "export",
    "load_cross_compiled_exported_program",
    "refit_module_weights",
    "save_cross_compiled_exported_program",
    "trace",
]
