"""The documented `torch_tensorrt.dynamo` names: tracing and compiling exported programs."""

from __future__ import annotations

from collections.abc import Mapping

from torch.export import ExportedProgram

from torch_tensorrt.compiler import compile_model
from torch_tensorrt.dynamo._compiler import (
    BindingNameMismatchError,
    convert_exported_program_to_serialized_trt_engine,
    convert_exported_program_to_trt_engine,
    cross_compile_for_windows,
    load_cross_compiled_exported_program,
    save_cross_compiled_exported_program,
)
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
    "load_cross_compiled_exported_program",
    "refit_module_weights",
    "save_cross_compiled_exported_program",
    "trace",
]


def compile(
    exported_program: ExportedProgram,
    inputs: object = None,
    *,
    arg_inputs: object = None,
    kwarg_inputs: Mapping[str, object] | None = None,
    **kwargs: object,
) -> CompiledModule:
    """Compiles an ExportedProgram (or an nn.Module, which is traced first).

    `inputs` (or `arg_inputs`) and `kwarg_inputs` may be left out for an ExportedProgram: its own are used. The other arguments
    are the options of CompilationSettings. Raises what `torch_tensorrt.compile` raises.
    """
    return compile_model(exported_program, inputs, arg_inputs, kwarg_inputs, kwargs)
