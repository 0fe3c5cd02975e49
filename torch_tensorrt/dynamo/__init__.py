"""The documented `torch_tensorrt.dynamo` names: tracing and compiling exported programs."""

from __future__ import annotations

import importlib
import types
from typing import TYPE_CHECKING

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
from torch_tensorrt.dynamo.debug import Debugger
from torch_tensorrt.runtime.module import CompiledModule
from torch_tensorrt.spec.settings import CompilationSettings
from torch_tensorrt.trace.tracer import trace

__all__ = [
    "BindingNameMismatchError",
    "CompilationSettings",
    "CompiledModule",
    "Debugger",
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

# Part of this room, and loaded when they are asked for: converters take longer to import than all the rest.
_LATE = frozenset({"_defaults", "_engine_cache", "_settings", "_tracer", "conversion"})

if not TYPE_CHECKING:  # type checkers know them as modules

    def __getattr__(name: str) -> types.ModuleType:
        if name in _LATE:
            return importlib.import_module(f"{__name__}.{name}")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
