"""The public verbs that are dispatched by `ir`, and nothing else: `compile`, raw engines, and files for Windows."""

from __future__ import annotations

import copy
import os
import types
from collections.abc import Callable, Mapping
from typing import Literal, TypeAlias, overload

import torch
from torch import nn
from torch.export import ExportedProgram

from torch_tensorrt import fx, ts
from torch_tensorrt.compiler import compile_model
from torch_tensorrt.dynamo._compiler import (
    convert_exported_program_to_serialized_trt_engine,
    save_cross_compiled_exported_program,
)
from torch_tensorrt.dynamo._compiler import cross_compile_for_windows as compile_for_windows
from torch_tensorrt.dynamo.backend import torch_compile
from torch_tensorrt.observe.log import logger
from torch_tensorrt.runtime.module import CompiledModule
from torch_tensorrt.spec.errors import InputError, UnsupportedError
from torch_tensorrt.trace.call_inputs import collect_inputs

Model: TypeAlias = "nn.Module | ExportedProgram | torch.jit.ScriptModule | torch.jit.ScriptFunction"  # type: ignore[type-arg]
_SCRIPTS = (torch.jit.ScriptModule, torch.jit.ScriptFunction)
# `ir` -> the door that it names, and what that takes.
_DOORS = {
    "default": "dynamo",
    "dynamo": "dynamo",
    "ts": "ts",
    "torchscript": "ts",
    "fx": "fx",
    "torch_compile": "torch_compile",
}
_TAKES = {
    "dynamo": "an nn.Module, GraphModule or ExportedProgram",
    "ts": "a ScriptModule, ScriptFunction or nn.Module",
    "fx": "an nn.Module or GraphModule",
    "torch_compile": "an nn.Module or GraphModule",
}
_log = logger("compile")


# A ScriptModule, which type checkers take for an nn.Module, gives a ScriptModule.
@overload
def compile(
    module: nn.Module | ExportedProgram,
    ir: Literal["default", "dynamo", "fx"] = ...,
    inputs: object = ...,
    arg_inputs: object = ...,
    kwarg_inputs: Mapping[str, object] | None = ...,
    enabled_precisions: object = ...,
    **kwargs: object,
) -> CompiledModule: ...


@overload
def compile(
    module: Model,
    ir: str,
    inputs: object = ...,
    arg_inputs: object = ...,
    kwarg_inputs: Mapping[str, object] | None = ...,
    enabled_precisions: object = ...,
    **kwargs: object,
) -> Callable[..., object]: ...


def compile(
    module: Model,
    ir: str = "default",
    inputs: object = None,
    arg_inputs: object = None,
    kwarg_inputs: Mapping[str, object] | None = None,
    enabled_precisions: object = None,
    **kwargs: object,
) -> Callable[..., object]:
    """Compiles `module` for inference.

    Args:
        module: an nn.Module, fx.GraphModule, ExportedProgram, ScriptModule or ScriptFunction.
        ir: "dynamo" traces the module (nn.Module, GraphModule) or takes its program (ExportedProgram). "ts" or "torchscript" gives a
            ScriptModule, of a ScriptModule, ScriptFunction or nn.Module. "torch_compile" is `torch_tensorrt.torch_compile`: nothing
            is compiled before the result is called, and `inputs` aren't used. "fx" is deprecated. "default" is "dynamo", and
            "ts" with a warning for a ScriptModule.
        inputs: one entry per positional argument: torch_tensorrt.Input, example tensor, shape, scalar or a nest of these.
        arg_inputs: the same under its other documented name.
        kwarg_inputs: keyword arguments by name.
        enabled_precisions: dtypes that engines may compute in; default: the model's own.
        **kwargs: the options of `torch_tensorrt.dynamo.CompilationSettings`, each documented there, and those of the other doors.

    Returns:
        A CompiledModule (an fx.GraphModule) that is called like `module`, with a `plan` that says what runs where. A ScriptModule for
        ir="ts", what torch.compile gives for ir="torch_compile".

    Raises:
        InputError: an argument or option is not acceptable. UnsupportedError: the model can't be traced, or
        require_full_compilation found operations that no engine takes. BuildError: the engine's SDK refused a partition.
    """
    door = _door(module, ir)
    if enabled_precisions is not None:
        kwargs["enabled_precisions"] = enabled_precisions
    if door == "torch_compile":
        assert isinstance(module, nn.Module)
        if not (inputs is arg_inputs is kwarg_inputs is None):
            _log.info("ir='torch_compile' compiles when the result is called: inputs are not used.")
        return torch_compile(module, **kwargs)  # type: ignore[arg-type]
    if door == "dynamo":
        assert isinstance(module, (nn.Module, ExportedProgram))
        return compile_model(module, inputs, arg_inputs, kwarg_inputs, kwargs)
    if kwarg_inputs:
        raise InputError(f"ir={ir!r} takes positional inputs only; give all in inputs=[...], or use ir='dynamo'.")
    if door == "fx":
        assert isinstance(module, nn.Module)
        given = [*collect_inputs(inputs, arg_inputs).args]
        # The documented meaning through this door: the sizes are those of the inputs, and the dtypes the model's.
        documented: dict[str, object] = {"explicit_batch_dimension": True, "dynamic_batch": False}
        documented["lower_precision"] = fx.LowerPrecision.FP32
        return fx.compile(module, given, **{**documented, **kwargs})  # type: ignore[arg-type]
    assert not isinstance(module, ExportedProgram)
    return ts.compile(module, inputs=inputs if inputs is not None else arg_inputs, **kwargs)


def convert_method_to_trt_engine(
    module: Model,
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
        module: an nn.Module, fx.GraphModule or ExportedProgram (whose only method is forward); for "ts" also a ScriptModule.
        method_name: the method; its arguments name the engine's inputs.
        inputs: as for `compile`, of that method.
        arg_inputs: the same as inputs.
        kwarg_inputs: keyword arguments by name.
        ir: "dynamo", "ts" (or "torchscript"), or "default" as for `compile`.
        enabled_precisions: as for `compile`.
        **kwargs: as for `torch_tensorrt.dynamo.convert_exported_program_to_serialized_trt_engine`, or for
            `torch_tensorrt.ts.convert_method_to_trt_engine`, which this calls.

    Raises:
        UnsupportedError: listing everything that the engine can't take. InputError, BuildError: as `compile` does.
    """
    door = _door(module, ir)
    if enabled_precisions is not None:
        kwargs["enabled_precisions"] = enabled_precisions
    if door == "ts":
        if kwarg_inputs:
            raise InputError(f"ir={ir!r} takes positional inputs only; give all in inputs=[...], or use ir='dynamo'.")
        assert not isinstance(module, ExportedProgram)
        given = inputs if inputs is not None else arg_inputs
        return ts.convert_method_to_trt_engine(module, method_name, inputs=given, **kwargs)
    if door != "dynamo":
        raise UnsupportedError(f"ir={ir!r} gives no raw engines; leave `ir` out, or use ir='dynamo' or ir='ts'.")
    assert isinstance(module, (nn.Module, ExportedProgram))
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
    _door(module, "dynamo")
    if enabled_precisions is not None:
        kwargs["enabled_precisions"] = enabled_precisions
    compiled = compile_for_windows(module, inputs, arg_inputs=arg_inputs, kwarg_inputs=kwarg_inputs, **kwargs)
    save_cross_compiled_exported_program(compiled, file_path)


def _door(module: object, ir: str) -> str:
    """Which door `ir` names for this kind of module. Raises InputError when it is unknown, or takes no such module."""
    if ir not in _DOORS:
        raise InputError(f"ir={ir!r} is not known; the known ones are {', '.join(_DOORS)}.")
    door, script = _DOORS[ir], isinstance(module, _SCRIPTS)
    if script and ir == "default":
        _log.warning(
            "The module is a %s, so it is compiled with ir='ts'; say ir='ts' yourself to silence this warning.",
            type(module).__name__,
        )
        return "ts"
    program = isinstance(module, ExportedProgram)
    takes = door == "ts" if script else door == "dynamo" if program else isinstance(module, nn.Module)
    if not takes:
        hint = "use ir='ts'" if script else "leave `ir` out, or pass its .module()" if program else "pass one of these"
        raise InputError(f"ir={ir!r} takes {_TAKES[door]}, not a {type(module).__name__}; {hint}.")
    return door


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
