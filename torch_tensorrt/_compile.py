"""The public verb `compile`, dispatched by `ir`; nothing else."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn
from torch.export import ExportedProgram

from torch_tensorrt.compiler import compile_model
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
    if enabled_precisions is not None:
        kwargs["enabled_precisions"] = enabled_precisions
    return compile_model(module, inputs, arg_inputs, kwarg_inputs, kwargs)
