"""The documented door to the ExportedProgram of a compiled module."""

from __future__ import annotations

from collections.abc import Mapping

from torch import fx
from torch.export import ExportedProgram

from torch_tensorrt.observe.quiet import quiet_torch
from torch_tensorrt.package.exporting import ExportOptions, program_of
from torch_tensorrt.runtime.module import CompiledModule
from torch_tensorrt.spec.errors import InputError
from torch_tensorrt.trace.call_inputs import collect_inputs


def export(
    gm: fx.GraphModule,
    *,
    arg_inputs: object = None,
    kwarg_inputs: Mapping[str, object] | None = None,
    dynamic_shapes: object = None,
    cross_compile_module: bool = False,
    use_legacy_exporter: bool = False,
) -> ExportedProgram:
    """The ExportedProgram of a compiled module, engines included: what `torch_tensorrt.save` writes.

    Args:
        gm: what `torch_tensorrt.compile` returned.
        arg_inputs: example tensors or Inputs; not needed where the module keeps its own sizes.
        kwarg_inputs: the same by name.
        dynamic_shapes: torch.export Dims, which go before the ranges of Inputs.
        cross_compile_module: whether it was compiled for Windows; False for other modules.
        use_legacy_exporter: True takes the module's own graph without running it.

    Raises:
        InputError: `gm` was not compiled, the inputs don't fit it, or cross_compile_module isn't what it is.
    """
    windows = isinstance(gm, CompiledModule) and gm.settings.enable_cross_compile_for_windows
    if cross_compile_module != windows:
        raise InputError(
            f"cross_compile_module={cross_compile_module!r}, but this {type(gm).__name__} was {'' if windows else 'not '}compiled "
            "by cross_compile_for_windows."
        )
    given = arg_inputs is not None or bool(kwarg_inputs)
    call = collect_inputs(None, arg_inputs, kwarg_inputs) if given else None
    with quiet_torch():
        return program_of(gm, ExportOptions(call, dynamic_shapes, not use_legacy_exporter))
