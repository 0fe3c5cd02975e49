"""The public verb `save`."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import torch
from torch.export import ExportedProgram

from torch_tensorrt.observe.log import logger
from torch_tensorrt.observe.quiet import quiet_torch
from torch_tensorrt.package.exporting import ExportOptions, program_of
from torch_tensorrt.package.sealing import replacing, seal
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
    with quiet_torch():
        program = program_of(module, ExportOptions(call, dynamic_shapes, retrace=legacy))
    extras = {name: _as_text(name, text) for name, text in (extra_files or {}).items()}
    content = io.BytesIO()  # not the file itself: torch turns a full disk into an error without its reason
    with quiet_torch():
        _write(program, content, extras, pickle_protocol)
    if path is None:
        file_path.write(content.getbuffer())  # type: ignore[union-attr]
        return
    with replacing(path) as file:
        file.write(content.getbuffer())


def _write(program: ExportedProgram, file: BinaryIO, extras: Mapping[str, str], protocol: int) -> None:
    torch.export.save(program, file, extra_files=dict(extras), pickle_protocol=protocol)
    seal(file)


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
        raise InputError(f"output_format={output_format!r} is not known; the formats are {', '.join(_FORMATS)}.")
    if output_format != "exported_program":
        raise UnsupportedError(
            f"output_format={output_format!r} is not built yet in this version; use 'exported_program'."
        )
