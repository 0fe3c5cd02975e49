"""The documented doors to other weights, and to an engine that stands in a file as text."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram

from torch_tensorrt.engine_choice import choose_backend
from torch_tensorrt.lowering.pipeline import decompose, lower_decomposed
from torch_tensorrt.observe.quiet import quiet_torch
from torch_tensorrt.refitting.refit import refit, require_program, take_over
from torch_tensorrt.refitting.verifying import verify
from torch_tensorrt.spec.errors import EngineNotRunnable, FileFormatError, InputError
from torch_tensorrt.spec.settings import CompilationSettings
from torch_tensorrt.trace.tracer import trace

_DEFAULTS = CompilationSettings()


def construct_refit_mapping(
    module: nn.Module | ExportedProgram, inputs: object, settings: CompilationSettings = _DEFAULTS
) -> dict[str, Tensor]:
    """The weights, buffers and constants of `module` as compiling with `settings` takes them: after decomposing and lowering.

    Their names are those by which engines that are compiled of it know them: `Engine.refit` takes this mapping, and
    `refit_module_weights` makes it itself. `inputs` are those of torch_tensorrt.compile; an ExportedProgram needs none.
    """
    with quiet_torch(), torch.no_grad():
        program = trace(module, arg_inputs=inputs) if not isinstance(module, ExportedProgram) else module
        backend, _, _ = choose_backend(program, settings)
        lowered = lower_decomposed(decompose(program, backend, settings), backend, settings)
    named = {str(node.target) for node in lowered.graph.find_nodes(op="get_attr")}
    found = {name: fx.graph_module._get_attr(lowered, name) for name in sorted(named)}
    return {name: value for name, value in found.items() if isinstance(value, Tensor)}


class Runtime(Protocol):
    """`tensorrt.Runtime` or `tensorrt_rtx.Runtime`."""

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> object:
        """An ICudaEngine, or None where it can't be read."""


def get_engine_from_encoded_engine(encoded_engine: str | bytes, runtime: Runtime) -> object:
    """The SDK's ICudaEngine of a raw engine that is written as base64.

    Raises FileFormatError for what isn't base64, EngineNotRunnable when `runtime` can't read the engine (its logger says why).
    """
    if not isinstance(encoded_engine, (str, bytes)):
        raise InputError(f"encoded_engine is a {type(encoded_engine).__name__}; base64 text is needed.")
    try:
        serialized = base64.b64decode(encoded_engine, validate=True)
    except (binascii.Error, ValueError) as error:
        raise FileFormatError(f"The encoded engine is not base64: {error}.") from error
    engine = runtime.deserialize_cuda_engine(serialized)
    if engine is None:
        raise EngineNotRunnable(
            f"{type(runtime).__module__}.{type(runtime).__name__} can't read this engine of {len(serialized)} bytes here; its "
            "logger says why. It needs an NVIDIA GPU that the engine was built for, and the version that it was built with."
        )
    return engine


def refit_module_weights(
    compiled_module: fx.GraphModule | ExportedProgram,
    new_weight_module: ExportedProgram,
    arg_inputs: object = None,
    kwarg_inputs: Mapping[str, object] | None = None,
    verify_output: bool = False,
    use_weight_map_cache: bool = True,
    in_place: bool = False,
) -> fx.GraphModule:
    """The compiled module with the weights, buffers and constants of another program with the same graph.

    Args:
        compiled_module: what `compile` returned for immutable_weights=False, or what `load` returned for a file that holds
            such a module (an ExportedProgram, or its `.module()`).
        new_weight_module: the new model's ExportedProgram, traced on the same inputs.
        arg_inputs: example inputs for verify_output; default: those that the new program was traced with.
        kwarg_inputs: keyword inputs for verify_output.
        verify_output: run the refitted module and the new program, and compare.
        use_weight_map_cache: use what the compilation left in memory, which saves decomposing the new program again. The
            result is the same.
        in_place: change `compiled_module` itself, in one step, instead of returning a new module. Calls under way in other
            threads go on with the old weights.

    Returns:
        The module with the new weights: `compiled_module` itself with in_place=True, else a new one, and `compiled_module`
        stays as it is, also while other threads run it. State that the model keeps (buffers that forward writes) is that of
        the new program.

    Raises:
        InputError: the new program differs in more than values (the message names the first difference), or verify_output
            has no inputs to run on, or finds other results.
        UnsupportedError: the module wasn't compiled with immutable_weights=False, or an engine can't take other weights.
        Whatever is raised, `compiled_module` is as it was.
    """
    module = _module_of(compiled_module, in_place=in_place)
    program = require_program(new_weight_module)
    with quiet_torch(), torch.no_grad():
        refitted = refit(module, program, use_cache=use_weight_map_cache)
        if verify_output:
            verify(refitted, program, arg_inputs, kwarg_inputs)
        if not in_place:
            return refitted
        take_over(module, refitted)
    return module


def _module_of(given: object, *, in_place: bool) -> fx.GraphModule:
    if isinstance(given, ExportedProgram):
        if in_place:
            raise InputError(
                "An ExportedProgram can't be refitted in place; take program.module(), or leave out in_place=True and use what "
                "refit_module_weights returns."
            )
        module = given.module()
        assert isinstance(module, fx.GraphModule)
        return module
    if isinstance(given, fx.GraphModule):
        return given
    raise InputError(
        f"compiled_module is a {type(given).__name__}; what torch_tensorrt.compile or torch_tensorrt.load returned is needed."
    )
