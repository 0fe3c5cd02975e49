"""The public verb `save`."""

from __future__ import annotations

import difflib
import io
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, TypeAlias

import torch
from torch import fx, nn
from torch.export import ExportedProgram
from torch.export.graph_signature import ConstantArgument, OutputKind

from torch_tensorrt.observe.log import logger
from torch_tensorrt.observe.quiet import quiet_torch
from torch_tensorrt.package.aotinductor import check_platform, package
from torch_tensorrt.package.describing import METADATA, describe_program, describe_script, to_text
from torch_tensorrt.package.exporting import ExportOptions, program_of
from torch_tensorrt.package.portable import with_programs
from torch_tensorrt.package.sealing import check_place, replacing, seal, told_by
from torch_tensorrt.package.torchscript import script
from torch_tensorrt.runtime.module import CompiledModule
from torch_tensorrt.spec.errors import InputError, UnsupportedError
from torch_tensorrt.spec.tensor_spec import Json
from torch_tensorrt.trace.call_inputs import collect_inputs

_Write: TypeAlias = Callable[[BinaryIO], object]
_FORMATS = ("exported_program", "torchscript", "aot_inductor")
_log = logger("package")


def save(  # the documented signature
    module: object,
    file_path: str | os.PathLike[str] | BinaryIO = "",
    *,
    extra_files: Mapping[str, str | bytes] | None = None,
    output_format: str = "exported_program",
    inputs: object = None,
    arg_inputs: object = None,
    kwarg_inputs: Mapping[str, object] | None = None,
    retrace: bool = True,
    use_legacy_exporter: bool | None = None,
    pickle_protocol: int = 2,
    dynamic_shapes: object = None,
    portable: bool = False,
    **kwargs: object,
) -> None:
    """Writes a compiled module, with its engines, to one file that `load` reads without compiling.

    Args:
        module: what `compile` returned (or a wrapper around it, with the attribute `compiled_module`), an ExportedProgram, or a
            ScriptModule.
        file_path: a path (any suffix) or a file object open for binary writing. A path is replaced as a whole or not at all.
        extra_files: name -> text (or bytes, except in an exported program), stored beside the model; `load` gives them back.
        output_format: "exported_program"; "torchscript" (a ScriptModule is always written so, an ExportedProgram never);
            "aot_inductor" (native code, Linux only).
        inputs: (or arg_inputs) and kwarg_inputs: example tensors or Inputs. Not needed when the module keeps its own sizes.
        arg_inputs: the same as inputs.
        kwarg_inputs: keyword inputs by name.
        retrace: True traces a module with fixed sizes again; one with sizes that vary keeps its symbols. False writes the
            module's own graph without running it.
        use_legacy_exporter: True means retrace=False, False means torch.export; None decides by retrace.
        pickle_protocol: handed to torch.export.save.
        dynamic_shapes: torch.export Dims; takes precedence over the ranges of Inputs.
        portable: also write the program that each engine computes, so that `load` on a machine that the engines don't fit builds
            others, with a warning, instead of refusing. The weights are then in the file twice.
        **kwargs: for "aot_inductor", inductor_configs: a dict of Inductor's options. A warning names what else was given.

    Raises:
        InputError: (a ValueError) the module was not compiled or doesn't fit the format, the path can't be written, or the
            inputs don't fit.
        UnsupportedError: the format can't hold this model, or torch.export refuses the inputs.
        BuildError: there is no C++ compiler for "aot_inductor", or it failed.
    """
    _check_format(output_format)
    _check_flags(retrace=retrace, use_legacy_exporter=use_legacy_exporter, portable=portable)
    module = _unwrapped(module)
    _check_pair(module, output_format)
    if portable:
        module = with_programs(module)
    given = inputs is not None or arg_inputs is not None or bool(kwarg_inputs)
    call = collect_inputs(inputs, arg_inputs, kwarg_inputs) if given else None
    retraced = retrace if use_legacy_exporter is None else not use_legacy_exporter
    configs = _configs(output_format, kwargs)
    extras = _as_extras(extra_files or {}, output_format)
    request = _Request(output_format, extras, ExportOptions(call, dynamic_shapes, retraced), configs, pickle_protocol)
    if not _is_file(file_path):
        check_place(_as_path(file_path))  # before the work, not after it
    with quiet_torch():
        _put(file_path, _writer(module, request))


def _put(file_path: str | os.PathLike[str] | BinaryIO, write: Callable[[BinaryIO], None]) -> None:
    """Has `write` fill the path or file object. A path's file is written as it is made: it may be larger than what memory is left."""
    if _is_file(file_path):
        content = io.BytesIO()  # others can't be read again, which sealing needs
        write(content)
        _write_all(file_path, content.getbuffer())  # type: ignore[arg-type]
        return
    with replacing(_as_path(file_path)) as file:
        write(file)


def _configs(output_format: str, kwargs: Mapping[str, object]) -> Mapping[str, object]:
    known = {"inductor_configs"} if output_format == "aot_inductor" else set()
    unknown = sorted(set(kwargs) - known)
    if unknown:
        _log.warning("save does not know %s for %s; ignored.", ", ".join(unknown), output_format)
    return check_platform(kwargs.get("inductor_configs")) if known else {}


@dataclass(frozen=True)
class _Request:
    """What `save` was asked for, checked."""

    format: str
    extras: Mapping[str, bytes]
    export: ExportOptions
    configs: Mapping[str, object]
    protocol: int


def _writer(module: object, request: _Request) -> Callable[[BinaryIO], None]:
    """What writes the sealed file; all that can be refused is refused before."""
    if isinstance(module, torch.jit.ScriptModule):
        write: _Write = partial(_write_script_module, module, describe_script(module), request)
    else:
        program = program_of(module, request.export)
        compiled = module if isinstance(module, CompiledModule) else None
        windows = compiled is not None and compiled.settings.enable_cross_compile_for_windows
        if windows and request.format == "aot_inductor":
            raise UnsupportedError(
                "A module compiled for Windows can't be saved as 'aot_inductor', which is native code for this platform; give "
                "output_format='exported_program'."
            )
        write = _WRITERS[request.format](program, compiled, request)

    def write_sealed(file: BinaryIO) -> None:
        with told_by(file) as telling:
            write(telling)
        seal(file)

    return write_sealed


def _program_writer(program: ExportedProgram, module: CompiledModule | None, request: _Request) -> _Write:
    _check_results(program)
    extras = {name: text.decode() for name, text in request.extras.items()}
    extras[METADATA] = to_text(describe_program(program, module))
    return lambda file: torch.export.save(program, file, extra_files=extras, pickle_protocol=request.protocol)


def _script_writer(program: ExportedProgram, module: CompiledModule | None, request: _Request) -> _Write:
    return partial(_write_script_module, script(program), describe_program(program, module), request)


def _write_script_module(
    module: torch.jit.ScriptModule, record: Mapping[str, Json], request: _Request, file: BinaryIO
) -> None:
    extras = {**request.extras, METADATA: to_text(record).encode()}
    torch.jit.save(module, file, _extra_files=extras)


def _package_writer(program: ExportedProgram, module: CompiledModule | None, request: _Request) -> _Write:
    made = package(program, module, request.extras, request.configs)

    def write(file: BinaryIO) -> None:
        file.write(made)

    return write


_WRITERS: Mapping[str, Callable[[ExportedProgram, CompiledModule | None, _Request], _Write]] = {
    "exported_program": _program_writer,
    "torchscript": _script_writer,
    "aot_inductor": _package_writer,
}


def _unwrapped(module: object) -> object:
    """What a wrapper that only changes how a module is run (CUDA graphs) wraps."""
    inner = getattr(module, "compiled_module", None)
    wraps = isinstance(module, nn.Module) and not isinstance(module, (fx.GraphModule, torch.jit.ScriptModule))
    return inner if wraps and isinstance(inner, (fx.GraphModule, torch.jit.ScriptModule)) else module


def _check_pair(module: object, output_format: str) -> None:
    if isinstance(module, torch.jit.ScriptModule) and output_format != "torchscript":
        raise InputError(
            f"A ScriptModule can't be saved as {output_format!r}; give output_format='torchscript', or compile the original model."
        )
    if isinstance(module, ExportedProgram) and output_format == "torchscript":
        raise InputError(
            "An ExportedProgram can't be saved as 'torchscript'; give output_format='exported_program', or pass the module that "
            "compile returned."
        )


def _check_flags(**flags: object) -> None:
    for name, value in flags.items():
        if not isinstance(value, bool) and not (value is None and name == "use_legacy_exporter"):
            raise InputError(
                f"{name}={value!r}: True or False is needed{' (or None)' if name == 'use_legacy_exporter' else ''}."
            )


def _write_all(file: BinaryIO, content: memoryview) -> None:
    """An unbuffered file or pipe may take less than it is given, and say so."""
    try:
        while content:
            taken = file.write(content)
            content = content[taken if isinstance(taken, int) else len(content) :]
    except TypeError as error:
        raise InputError(f"{file!r} doesn't take bytes; open it for binary writing ('wb').") from error
    except OSError as error:
        raise InputError(
            f"{file!r} could not be written: {error.strerror or error}; it holds an unfinished file."
        ) from error


def _check_results(program: ExportedProgram) -> None:
    """PyTorch writes other constants among the results without complaint, and then can't read the file."""
    results = [spec.arg for spec in program.graph_signature.output_specs if spec.kind == OutputKind.USER_OUTPUT]
    for index, result in enumerate(results):
        value = result.value if isinstance(result, ConstantArgument) else None
        if not isinstance(value, (int, float, type(None))):
            raise UnsupportedError(
                f"Result {index} (of the flattened results) is the {type(value).__name__} {value!r}. A saved program gives back "
                "tensors, sizes, numbers, truth values and None only; leave it out of the model's results."
            )


def _as_extras(given: Mapping[str, str | bytes], output_format: str) -> dict[str, bytes]:
    """The extra files as bytes. torch.export stores text only."""
    extras: dict[str, bytes] = {}
    for name, content in given.items():
        if name == METADATA or not isinstance(content, (str, bytes)) or not _is_plain(name):
            raise InputError(
                f"extra_files[{name!r}]: a relative name other than {METADATA!r}, and text or bytes, are needed; the content is a "
                f"{type(content).__name__}."
            )
        extras[name] = content.encode() if isinstance(content, str) else content
        try:
            if output_format == "exported_program":
                extras[name].decode()
        except UnicodeDecodeError as error:
            raise InputError(
                f"extra_files[{name!r}] is not UTF-8 text: {error}; encode binary data as base64."
            ) from error
    return extras


def _is_plain(name: object) -> bool:
    return (
        isinstance(name, str)
        and bool(name)
        and not name.startswith("/")
        and ".." not in name.split("/")
        and "\\" not in name
    )


def _is_file(given: object) -> bool:
    return hasattr(given, "write")


def _as_path(given: object) -> Path:
    if not isinstance(given, (str, os.PathLike)):
        raise InputError(f"file_path={given!r}: a path or a file object open for binary writing is needed.")
    if not os.fspath(given):
        raise InputError("file_path is empty; give the name of the file to write.")
    return Path(given)


def _check_format(output_format: str) -> None:
    if output_format not in _FORMATS:
        near = difflib.get_close_matches(str(output_format), _FORMATS, 1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise InputError(f"output_format={output_format!r} is not known; {hint}The formats are {', '.join(_FORMATS)}.")
