"""The documented doors of `torch_tensorrt.dynamo` to raw engines and to Windows."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping

from torch import fx, nn
from torch.export import ExportedProgram

from torch_tensorrt.compiler import compile_model
from torch_tensorrt.package.loading import load
from torch_tensorrt.package.platforms import require_windows
from torch_tensorrt.package.saving import save
from torch_tensorrt.raw_engine import BindingNameMismatchError, BindingNames, build_raw_engine
from torch_tensorrt.runtime.module import CompiledModule
from torch_tensorrt.spec.enums import Platform
from torch_tensorrt.spec.errors import InputError, UnsupportedError

__all__ = [
    "BindingNameMismatchError",
    "compile",
    "convert_exported_program_to_serialized_trt_engine",
    "convert_exported_program_to_trt_engine",
    "cross_compile_for_windows",
    "load_cross_compiled_exported_program",
    "save_cross_compiled_exported_program",
]


def compile(
    exported_program: ExportedProgram | nn.Module,
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


def convert_exported_program_to_serialized_trt_engine(
    exported_program: ExportedProgram | nn.Module,
    inputs: object = None,
    *,
    arg_inputs: object = None,
    kwarg_inputs: Mapping[str, object] | None = None,
    lift_mutable_buffers: bool = False,
    arg_input_binding_names: object = None,
    kwarg_input_binding_names: object = None,
    output_binding_names: object = None,
    **kwargs: object,
) -> bytes:
    """The whole program as one engine, in exactly the bytes that the engine's SDK reads: nothing of this package is in them.

    Args:
        exported_program: an ExportedProgram (or an nn.Module, which is traced first).
        inputs: (or arg_inputs) and kwarg_inputs: may be left out for an ExportedProgram. Inputs with ranges give the typical
            sizes; an ExportedProgram's ranges are its own.
        arg_inputs: the same as inputs.
        kwarg_inputs: keyword inputs by name.
        lift_mutable_buffers: True is refused: state that the program writes can't be in a raw engine in this version.
        arg_input_binding_names: what the engine calls its positional inputs: names in a flat list, or in the form of the
            inputs. Without them they are called as the arguments of forward.
        kwarg_input_binding_names: the same for keyword inputs, a dict.
        output_binding_names: the same for the results; without them output0, output1, ...
        **kwargs: the options of CompilationSettings. engine="auto" is `tensorrt`, or `tensorrt_rtx` where that isn't
            here; "openvino", "inductor" and "eager" give their own bytes (docs/raw-engines.md).

    Raises:
        UnsupportedError: listing every operation that the engine can't take, and whatever else stands against it.
        InputError, BindingNameMismatchError (both a ValueError): the arguments don't fit. BuildError: the SDK refused.
    """
    if lift_mutable_buffers:
        raise UnsupportedError(
            "lift_mutable_buffers=True is not implemented in this version: a program that writes its buffers can't become a raw "
            "engine. torch_tensorrt.compile runs it, with the writes in PyTorch."
        )
    names = BindingNames(arg_input_binding_names, kwarg_input_binding_names, output_binding_names)
    return build_raw_engine(exported_program, inputs, arg_inputs, kwarg_inputs, kwargs, names)


def convert_exported_program_to_trt_engine(
    exported_program: ExportedProgram | nn.Module, inputs: object = None, **kwargs: object
) -> bytes:
    """The older name of `convert_exported_program_to_serialized_trt_engine`, with a DeprecationWarning."""
    warnings.warn(
        "convert_exported_program_to_trt_engine is called convert_exported_program_to_serialized_trt_engine now.",
        DeprecationWarning,
        stacklevel=2,
    )
    return convert_exported_program_to_serialized_trt_engine(exported_program, inputs, **kwargs)  # type: ignore[arg-type]


def cross_compile_for_windows(
    exported_program: ExportedProgram | nn.Module,
    inputs: object = None,
    *,
    arg_inputs: object = None,
    kwarg_inputs: Mapping[str, object] | None = None,
    **kwargs: object,
) -> CompiledModule:
    """The program compiled on Linux x86-64 for Windows x86-64; write it with `save_cross_compiled_exported_program`.

    Arguments are those of `compile`. Engines of `tensorrt_rtx`, `tensorrt`, `openvino` and `eager` can be built so.

    Raises:
        UnsupportedError: this is not Linux x86-64, or the engine's bytes run only where they are built. Else as `compile`.
    """
    here = Platform.current_platform()
    if here is not Platform.LINUX_X86_64:
        raise UnsupportedError(
            f"Compiling for Windows is done on Linux x86-64; this is {here.value}. On Windows itself, use torch_tensorrt.compile."
        )
    options = {**kwargs, "enable_cross_compile_for_windows": True}
    return compile_model(exported_program, inputs, arg_inputs, kwarg_inputs, options)


def save_cross_compiled_exported_program(gm: fx.GraphModule, file_path: str | os.PathLike[str]) -> None:
    """Writes what `cross_compile_for_windows` gave to a file for `load_cross_compiled_exported_program` on Windows.

    Raises InputError for anything else.
    """
    if not isinstance(gm, CompiledModule) or not gm.settings.enable_cross_compile_for_windows:
        raise InputError(
            f"This {type(gm).__name__} was not compiled for Windows; pass what torch_tensorrt.dynamo.cross_compile_for_windows "
            "returned, or use torch_tensorrt.save."
        )
    save(gm, file_path)


def load_cross_compiled_exported_program(file_path: str | os.PathLike[str] = "") -> ExportedProgram:
    """On Windows: the ExportedProgram in a file that was compiled for Windows on Linux.

    Raises:
        InputError: (a ValueError) this isn't Windows, or the path is empty or a folder. MissingFileError: there is no such file.
        FileFormatError: (a ValueError) it is no saved program, or one that wasn't compiled for Windows.
    """
    require_windows(file_path)
    loaded = load(file_path, format="exported_program")
    assert isinstance(loaded, ExportedProgram)
    return loaded
