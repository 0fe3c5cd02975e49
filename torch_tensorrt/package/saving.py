"""The public verb `save`."""

from __future__ import annotations

import difflib
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import ConstantArgument, OutputKind

from torch_tensorrt.observe.log import logger
from torch_tensorrt.observe.quiet import quiet_torch
from torch_tensorrt.package.exporting import ExportOptions, program_of
from torch_tensorrt.package.sealing import check_place, replacing, seal
from torch_tensorrt.spec.errors import InputError, UnsupportedError
from torch_tensorrt.trace.call_inputs import collect_inputs

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
    **kwargs: object,
) -> None:
    """Writes a compiled module, with its engines, to one file that `load` reads without compiling.

    Args:
        module: what `compile` returned, or an ExportedProgram.
        file_path: a path (any suffix) or a file object open for binary writing. A path is replaced as a whole or not at all.
        extra_files: name -> text or bytes, stored beside the program; `load` gives them back.
        output_format: "exported_program".
        inputs: (or arg_inputs) and kwarg_inputs: example tensors or Inputs. Not needed when the module keeps its own sizes.
        arg_inputs: the same as inputs.
        kwarg_inputs: keyword inputs by name.
        retrace: True traces a module with fixed sizes again; one with sizes that vary keeps its symbols. False writes the
            module's own graph without running it.
        use_legacy_exporter: True means retrace=False, False means torch.export; None decides by retrace.
        pickle_protocol: handed to torch.export.save.
        dynamic_shapes: torch.export Dims; takes precedence over the ranges of Inputs.
        **kwargs: nothing else is known here; a warning names what was given.

    Raises:
        InputError: the module was not compiled, the path can't be written, or the inputs don't fit.
        UnsupportedError: the output format isn't built yet, or torch.export refuses the inputs.
    """
    _check_format(output_format)
    if kwargs:
        _log.warning("save does not know %s; ignored.", ", ".join(sorted(kwargs)))
    given = inputs is not None or arg_inputs is not None or bool(kwarg_inputs)
    call = collect_inputs(inputs, arg_inputs, kwarg_inputs) if given else None
    legacy = retrace if use_legacy_exporter is None else not use_legacy_exporter
    path = None if _is_file(file_path) else _as_path(file_path)
    if path is not None:
        check_place(path)  # before the work, not after it
    with quiet_torch():
        program = program_of(module, ExportOptions(call, dynamic_shapes, retrace=legacy))
    _check_results(program)
    extras = {name: _as_text(name, text) for name, text in (extra_files or {}).items()}
    content = io.BytesIO()  # not the file itself: torch turns a full disk into an error without its reason
    with quiet_torch():
        _write(program, content, extras, pickle_protocol)
    if path is None:
        _write_all(file_path, content.getbuffer())  # type: ignore[arg-type]
        return
    with replacing(path) as file:
        file.write(content.getbuffer())


def _write(program: ExportedProgram, file: BinaryIO, extras: Mapping[str, str], protocol: int) -> None:
    torch.export.save(program, file, extra_files=dict(extras), pickle_protocol=protocol)
    seal(file)


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


def _as_text(name: str, content: str | bytes) -> str:
    """torch.export stores text only."""
    try:
        return content.decode() if isinstance(content, bytes) else content
    except UnicodeDecodeError as error:
        raise InputError(f"extra_files[{name!r}] is not UTF-8 text: {error}; encode binary data as base64.") from error


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
    if output_format != "exported_program":
        raise UnsupportedError(
            f"output_format={output_format!r} is not built yet in this version; use 'exported_program'."
        )
