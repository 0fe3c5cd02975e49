"""The public verbs that are dispatched by `ir`, and nothing else: `compile`, raw engines, and files for Windows."""

from __future__ import annotations

import copy
import os
import types
from collections.abc import Mapping

import torch
from torch import nn
from torch.export import ExportedProgram

from torch_tensorrt.compiler import compile_model
from torch_tensorrt.dynamo._compiler import (
    convert_exported_program_to_serialized_trt_engine,
    save_cross_compiled_exported_program,
)
from torch_tensorrt.dynamo._compiler import cross_compile_for_windows as compile_for_windows
from torch_tensorrt.runtime.module import CompiledModule
from torch_tensorrt.spec.errors import InputError, UnsupportedError

_HERE = ("default", "dynamo")
_LATER = ("ts", "torchscript", "fx", "torch_compile")


def compile(
    module: nn.Module | ExportedProgram,
    ir: str = "default",
    inputs: object = None,
    arg_inputs: object = None,
    kwarg_inputs: Mapping[str, object] | None = None,
    enabled_precisions: object = None,
    **kwargs: object,
) -> CompiledModule:
    """Compiles `module` for inference.

    Args:
        module: an nn.Module, fx.GraphModule or ExportedProgram.
        ir: "default" or "dynamo" (the same here).
        inputs: one entry per positional argument: torch_tensorrt.Input, example tensor, shape, scalar or a nest of these.
        arg_inputs: the same under its other documented name.
        kwarg_inputs: keyword arguments by name.
        enabled_precisions: dtypes that engines may compute in; default: the model's own.
        **kwargs: the options of `torch_tensorrt.dynamo.CompilationSettings`, each documented there.

    Returns:
        A CompiledModule (an fx.GraphModule) that is called like `module`, with a `plan` that says what runs where.

    Raises:
        InputError: an argument or option is not acceptable. UnsupportedError: the model can't be traced, or
        require_full_compilation found operations that no engine takes. BuildError: the engine's SDK refused a partition.
    """
    _check(module, ir)
    if enabled_precisions is not None:
        kwargs["enabled_precisions"] = enabled_precisions
    return compile_model(module, inputs, arg_inputs, kwarg_inputs, kwargs)


def convert_method_to_trt_engine(
    module: nn.Module | ExportedProgram,
    method_name: str = "forward",
    inputs: object = None,
    arg_inputs: object = None,
    kwarg_inputs: Mapping[str, object] | None = None,
    ir: str = "default",
    enabled_precisions: object = None,
    **kwargs: object,
) -> bytes:
    """One method of `module` as one engine, in exactly the bytes that the engine's SDK reads.

    Args:
        module: an nn.Module, fx.GraphModule or ExportedProgram (whose only method is forward).
        method_name: the method; its arguments name the engine's inputs.
        inputs: as for `compile`, of that method.
        arg_inputs: the same as inputs.
        kwarg_inputs: keyword arguments by name.
        ir: "default" or "dynamo".
        enabled_precisions: as for `compile`.
        **kwargs: as for `torch_tensorrt.dynamo.convert_exported_program_to_serialized_trt_engine`, which this calls.

    Raises:
        UnsupportedError: listing everything that the engine can't take. InputError, BuildError: as `compile` does.
    """
    _check(module, ir)
    if enabled_precisions is not None:
        kwargs["enabled_precisions"] = enabled_precisions
    return convert_exported_program_to_serialized_trt_engine(
        _with_forward(module, method_name),
        inputs,
        arg_inputs=arg_inputs,
        kwarg_inputs=kwarg_inputs,
        **kwargs,  # type: ignore[arg-type]
    )


def cross_compile_for_windows(
    module: nn.Module | ExportedProgram,
    file_path: str | os.PathLike[str],
    inputs: object = None,
    arg_inputs: object = None,
    kwarg_inputs: Mapping[str, object] | None = None,
    enabled_precisions: object = None,
    **kwargs: object,
) -> None:
    """Compiles `module` on Linux x86-64 for Windows x86-64, and writes it to a file that is loaded there.

    Args:
        module: an nn.Module, fx.GraphModule or ExportedProgram.
        file_path: the file to write, for `load_cross_compiled_exported_program` on Windows.
        inputs: as for `compile`.
        arg_inputs: the same as inputs.
        kwarg_inputs: keyword arguments by name.
        enabled_precisions: as for `compile`.
        **kwargs: as for `compile`.

    Raises:
        UnsupportedError: this is not Linux x86-64, or the engine runs only where it is built. Else as `compile` and `save`.
    """
    _check(module, "dynamo")
    if enabled_precisions is not None:
        kwargs["enabled_precisions"] = enabled_precisions
    compiled = compile_for_windows(module, inputs, arg_inputs=arg_inputs, kwarg_inputs=kwarg_inputs, **kwargs)
    save_cross_compiled_exported_program(compiled, file_path)


def _check(module: object, ir: str) -> None:
    if ir in _LATER:
        raise UnsupportedError(
            f"ir={ir!r} is not built yet in this version; use ir='dynamo' with the nn.Module or an ExportedProgram."
        )
    if ir not in _HERE:
        raise InputError(f"ir={ir!r} is not known; the known ones are {', '.join((*_HERE, *_LATER))}.")
    if isinstance(module, torch.jit.ScriptModule):
        raise UnsupportedError(
            "A ScriptModule can't be compiled in this version; pass the nn.Module that it was made from."
        )


def _with_forward(module: nn.Module | ExportedProgram, method_name: str) -> nn.Module | ExportedProgram:
    """`module` with the method in the place of forward, so that it is traced under its own argument names."""
    if method_name == "forward":
        return module
    method = getattr(type(module), method_name, None)
    if isinstance(module, ExportedProgram) or not isinstance(method, types.FunctionType):
        raise InputError(f"A {type(module).__name__} has no method {method_name!r} that can be traced.")
    changed = copy.copy(module)  # shares parameters and submodules
    object.__setattr__(changed, "forward", types.MethodType(method, changed))
    return changed
