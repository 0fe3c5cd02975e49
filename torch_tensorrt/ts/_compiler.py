"""The documented TorchScript verbs."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torch import nn

from torch_tensorrt.compiler import compile_program
from torch_tensorrt.contracts.raw import RawEngine
from torch_tensorrt.observe.log import AtLevel, logger
from torch_tensorrt.observe.quiet import quiet_torch
from torch_tensorrt.package.exporting import ExportOptions, program_of
from torch_tensorrt.package.torchscript import script
from torch_tensorrt.raw_engine import build_raw_engine, read_raw_engine
from torch_tensorrt.spec.device import Device
from torch_tensorrt.spec.errors import InputError, UnsupportedError
from torch_tensorrt.spec.settings import CompilationSettings
from torch_tensorrt.trace.call_inputs import CallInputs, collect_inputs
from torch_tensorrt.trace.tracer import trace
from torch_tensorrt.ts.embedding import embed
from torch_tensorrt.ts.graph_module import GraphModule, Script, module_of, runs
from torch_tensorrt.ts.options import translate_options
from torch_tensorrt.ts.splitting import split

_log = logger("ts")


def compile(
    module: nn.Module | Script, inputs: object = None, input_signature: object = None, **options: object
) -> torch.jit.ScriptModule:
    """A ScriptModule that gives what `module` gives, with engines inside; torch.jit.save and load carry it elsewhere.

    Args:
        module: a scripted or traced module, a ScriptFunction, or an nn.Module, which is scripted first.
        inputs: one entry per argument of forward: torch_tensorrt.Input, example tensor, shape, scalar, None or a nest of these.
        input_signature: the same under its other documented name, for nests.
        **options: the options of `torch_tensorrt.dynamo.CompilationSettings`, and the documented ones of this door: refit,
            capability and truncate_long_and_double are its immutable_weights (negated), engine_capability and truncate_double;
            operators in torch_executed_ops may be written "aten::relu". min_block_size is 3 unless given.

    What depends on the values of tensors, or writes attributes that change their sizes, stays in TorchScript, with a warning that
    names the line; the submodules that it calls run in engines, for the sizes of these inputs and as before for others.

    Raises:
        InputError: an argument or option is not acceptable. UnsupportedError: nothing of the module can be compiled (the message
        quotes the line of its code that prevents it), or require_full_compilation=True and not all of it. BuildError: the
        engine's SDK refused a partition.
    """
    settings = CompilationSettings.from_options(**{"min_block_size": 3, **translate_options(options)})
    call, scripted = _call(inputs, input_signature), _scripted(module)
    with quiet_torch(), AtLevel(logging.DEBUG) if settings.debug else nullcontext():
        runner = module_of(scripted)
        try:
            compiled = _compile(runner, call, settings)
            assert compiled is not None
            return compiled
        except (UnsupportedError, InputError) as error:
            if runner.stopped_at is None:
                raise
            told = f"{error}\nThe line of the model's code that stands against it:\n{runner.stopped_at}"
            if isinstance(error, InputError) or settings.require_full_compilation or settings.dryrun:
                raise type(error)(told) from error
            line = told
        if not isinstance(scripted, torch.jit.ScriptModule):
            raise UnsupportedError(line)
        found = split(scripted, call, lambda runner, call: _compile(runner, call, settings, whole=False))
        if found is None:
            raise UnsupportedError(f"{line}\nNone of the submodules that it calls can run in an engine either.")
        _log.warning(
            "%s is not compiled as a whole, but these of its submodules are: %s. It stays in TorchScript because of\n%s",
            scripted.original_name, ", ".join(found.compiled), runner.stopped_at,
        )  # fmt: skip
        return found.module


def convert_method_to_trt_engine(
    module: nn.Module | Script, method_name: str = "forward", inputs: object = None, **options: object
) -> bytes:
    """Any exported method of a scripted or traced module as one engine, in exactly the bytes that the engine's SDK reads.

    `options`: as for `compile`, and `input_signature`. Raises InputError when there is no such method, UnsupportedError listing all
    that can't go into the engine, BuildError when the SDK refuses it.
    """
    call = _call(inputs, options.pop("input_signature", None))
    runner = module_of(_scripted(module), method_name)
    try:
        return build_raw_engine(runner, None, list(call.args), None, translate_options(options))
    except UnsupportedError as error:
        if runner.stopped_at is None:
            raise
        raise UnsupportedError(f"{error}\nThe line of the model's code:\n{runner.stopped_at}") from error


def embed_engine_in_new_module(
    serialized_engine: bytes,
    input_binding_names: Sequence[str] | None = None,
    output_binding_names: Sequence[str] | None = None,
    device: Device | torch.device | str | None = None,
    **options: object,
) -> torch.jit.ScriptModule:
    """A ScriptModule that runs an engine from `convert_method_to_trt_engine` or from an SDK's own builder.

    It takes one tensor per input, and gives the output, or a tuple of the outputs. torch.jit.save and load carry it elsewhere.

    Args:
        serialized_engine: a plan of TensorRT or TensorRT-RTX, read here by that SDK on the GPU that it is for, or a compiled model
            of OpenVINO.
        input_binding_names: all that the engine calls its inputs, in the order in which the module takes them; None: in the order of
            their numbers (x.0, x.1; output0, output1), or else the engine's own.
        output_binding_names: the same for its outputs.
        device: where the tensors are; None: on the current GPU for a plan, on the CPU for an OpenVINO model.
        **options: engine, where the bytes are no engine's that is known; enabled_precisions, in which an OpenVINO model shall compute
            (its bytes don't tell; float32 by default); version_compatible=True for a plan that was built so, because reading it runs
            code from it. As in `compile`.

    Raises:
        InputError: these are no engine's bytes, or names. UnsupportedError: the bytes don't tell what the engine takes, or it takes
        something else than plain tensors. EngineNotRunnable: the SDK can't read it here.
    """
    given = options if device is None else {**options, "device": device}
    settings = CompilationSettings.from_options(**translate_options(given))
    raw = RawEngine.named(serialized_engine, "engine", input_binding_names, output_binding_names)
    return embed(read_raw_engine(raw, settings))


def check_method_op_support(module: nn.Module | Script, method_name: str = "forward") -> bool:
    """Whether all operations of the method can be compiled; the log names those that can't.

    Which of them an engine takes depends on sizes and dtypes too: compile(..., dryrun=True) tells. Raises InputError when there is
    no such method.
    """
    missing = runs(_scripted(module), method_name)
    if missing:
        _log.warning("%s can't be compiled: it uses %s.", method_name, ", ".join(missing))
    return not missing


def _compile(
    runner: GraphModule, call: CallInputs, settings: CompilationSettings, whole: bool = True
) -> torch.jit.ScriptModule | None:
    """As one ScriptModule. A part (not `whole`) only when engines take some of it, and it writes no state."""
    program = trace(runner, arg_inputs=call.args)
    if not whole and program.graph_signature.buffers_to_mutate:
        return None
    compiled = compile_program(program, call, settings)
    if not whole and not (compiled.plan is not None and compiled.plan.groups):
        return None
    return script(program_of(compiled, ExportOptions(None, None, False)))


def _call(inputs: object, input_signature: object) -> CallInputs:
    if inputs is not None and input_signature is not None:
        raise InputError("Both `inputs` and `input_signature` were given; they mean the same, so give one of them.")
    if input_signature is not None and not isinstance(input_signature, (tuple, list)):
        input_signature = (input_signature,)
    return collect_inputs(inputs if inputs is not None else input_signature)


def _scripted(module: object) -> Script:
    if isinstance(module, (torch.jit.ScriptModule, torch.jit.ScriptFunction)):
        return module
    if not isinstance(module, nn.Module):
        raise InputError(f"A ScriptModule, ScriptFunction or nn.Module is needed, not a {type(module).__name__}.")
    _log.info("The module is an nn.Module; it is compiled with torch.jit.script first.")
    try:
        return torch.jit.script(module)
    except Exception as error:
        raise UnsupportedError(
            f"torch.jit.script can't compile {type(module).__name__}: {error}\nGive torch.jit.trace's result, or use ir='dynamo'."
        ) from error
