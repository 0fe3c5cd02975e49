"""`torch_tensorrt.quantize`: a model and typical inputs in, an ExportedProgram with quantize and dequantize operators out."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

from torch import fx, nn
from torch._ops import OpOverload
from torch.export import ExportedProgram

from torch_tensorrt.graphs.quantized import kind_of
from torch_tensorrt.observe.log import logger
from torch_tensorrt.observe.quiet import quiet_torch
from torch_tensorrt.quantization.exporting import drop_unread, export_again, module_of, restore_buffers
from torch_tensorrt.quantization.float8 import calibrate_float8
from torch_tensorrt.quantization.products import name_linears
from torch_tensorrt.quantization.samples import Sample, in_order, read_samples, run_on, warn_of_sizes
from torch_tensorrt.quantization.tools import METHODS, installed, quantize_with_nncf, quantize_with_torchao
from torch_tensorrt.quantization.weights import compress_weights
from torch_tensorrt.spec.errors import EngineNotRunnable, InputError
from torch_tensorrt.trace.tracer import trace

_log = logger("quantization")
_Method: TypeAlias = "Callable[[fx.GraphModule, list[Sample]], nn.Module]"
_BITS = {"int8": 8, "int4": 4}
_FLOAT8 = "float8"
_GROUP = 128  # columns that share a scale in four bits, where nothing is said


def quantize(
    model: nn.Module | ExportedProgram,
    calibration_data: object = None,
    *,
    inputs: object = None,
    precision: str = "int8",
    method: str = "auto",
    weight_only: bool = False,
    group_size: int | None = None,
    symmetric: bool = False,
    attention: bool = True,
) -> ExportedProgram:
    """A program whose layers compute in int8 once it is compiled: `torch_tensorrt.compile(quantize(model, data))`.

    The tools are torchao and NNCF; one has to be installed. With weight_only=True, neither is needed.

    Args:
        model: an nn.Module in float32, or an ExportedProgram. It isn't changed.
        calibration_data: an iterable of samples, each what the model is called with: a tensor, a tuple of positional arguments, or a
            dict of keyword arguments. All are run.
        inputs: as for `compile`; an Input with a range keeps that size varying. Default: the first sample's sizes.
        precision: "int8", "int4" with weight_only=True, or "float8": scales for the values that linear layers read, for GPUs; that
            needs no tool.
        method: "torchao", "nncf", or "auto": the first of these that is installed.
        weight_only: weights of linear layers only, each row with a scale of its own; values stay float32.
        group_size: with weight_only, so many columns of a row have a scale of their own. Default: 128 for int4, the row for int8.
        symmetric: values are int8 with a zero point of 0, which is what TensorRT takes; torchao only.
        attention: queries and keys are rounded as well. False, with torchao only, leaves attention in float32: for models whose keys
            have a few channels with far larger numbers than the others.

    Raises:
        InputError: an argument is not acceptable, or the model refuses a sample. UnsupportedError: the model can't be traced, or the
        tool can't quantize it; its own words are quoted. EngineNotRunnable: the tool isn't installed.
    """
    if not isinstance(model, (nn.Module, ExportedProgram)):
        raise InputError(f"A {type(model).__name__} can't be quantized; pass an nn.Module or ExportedProgram.")
    _check_precision(precision, weight_only=weight_only, group_size=group_size)
    if not attention and (weight_only or precision == _FLOAT8):
        raise InputError("attention=False is for values in int8: weight_only=True and 'float8' leave attention so.")
    if weight_only:
        _check_weights_alone(method, symmetric=symmetric)
        samples = [] if calibration_data is None else read_samples(calibration_data)
    else:
        chosen = _method(method, precision, symmetric=symmetric, attention=attention)
        samples = read_samples(() if calibration_data is None else calibration_data)
    program, samples = _program(model, inputs, samples)
    module = module_of(program)
    name_linears(module)
    with quiet_torch():
        if weight_only:
            bits = _BITS[precision]
            compress_weights(module, bits=bits, group_size=group_size or (_GROUP if bits == 4 else None))
            drop_unread(module)
            return export_again(module, program)
        run_on(module, samples[:1], "The model")
        made = chosen(module, samples)
        restore_buffers(made, program)
        drop_unread(made)
        _warn_of_nothing(made, precision)
        return export_again(made, program)


def _check_precision(precision: object, *, weight_only: bool, group_size: int | None) -> None:
    if precision not in {*_BITS, _FLOAT8}:
        raise InputError(f"precision={precision!r}: 'int8' and 'float8' are known, and 'int4' with weight_only=True.")
    if precision == _FLOAT8 and weight_only:
        raise InputError(
            "precision='float8' is for values, which weight_only=True leaves as they are: 'int8' or 'int4' is needed."
        )
    if precision == "int4" and not weight_only:
        raise InputError(
            "precision='int4' is for weights only: no engine computes in four bits. Give weight_only=True too."
        )
    if group_size is not None and not weight_only:
        raise InputError(f"group_size={group_size!r} is for weight_only=True; scales of values are one for a tensor.")
    if group_size is not None and (type(group_size) is not int or group_size < 2 or group_size % 2):
        raise InputError(
            f"group_size={group_size!r}: an even whole number of columns is needed, such as 32, 64 or 128."
        )


def _check_weights_alone(method: object, *, symmetric: bool) -> None:
    if method != "auto" or symmetric:
        raise InputError("weight_only=True needs no tool, and is around 0: leave `method` and `symmetric` out.")


def _method(method: object, precision: str, *, symmetric: bool, attention: bool) -> _Method:
    if precision == _FLOAT8:
        if method != "auto" or symmetric:
            raise InputError("precision='float8' needs no tool, and is around 0: leave `method` and `symmetric` out.")
        return calibrate_float8
    asked = [text for text, is_asked in (("symmetric=True", symmetric), ("attention=False", not attention)) if is_asked]
    if method == "auto":
        fitting = ("torchao",) if asked else METHODS
        method = next((name for name in fitting if installed(name)), None)
        if method is None:
            raise EngineNotRunnable(
                f"Finding scales needs {' or '.join(fitting)}, and none is installed here. Install with: pip install {fitting[0]}. "
                "weight_only=True needs neither."
            )
    if method == "torchao":
        return partial(quantize_with_torchao, symmetric=symmetric, attention=attention)
    if method != "nncf":
        raise InputError(f"method={method!r}: known are 'auto', {', '.join(map(repr, METHODS))}.")
    if asked:
        raise InputError(f"{asked[0]} is done by torchao only: give method='torchao', or leave method out.")
    return quantize_with_nncf


def _program(
    model: nn.Module | ExportedProgram, inputs: object, samples: list[Sample]
) -> tuple[ExportedProgram, list[Sample]]:
    """With samples as the program takes them."""
    if isinstance(model, ExportedProgram):
        if inputs is not None:
            raise InputError("`inputs` are for an nn.Module; an ExportedProgram knows its own. Leave them out.")
        program = model
    elif inputs is not None:
        program, samples = trace(model, arg_inputs=inputs), in_order(samples, model)
    elif not samples:
        raise InputError(
            "Neither inputs nor calibration_data were given; inputs=[torch_tensorrt.Input(shape=...)] is needed."
        )
    else:
        warn_of_sizes(samples)
        program = trace(model, arg_inputs=samples[0].args or None, kwarg_inputs=dict(samples[0].kwargs) or None)
    _check_program(program)
    return program, samples


def _check_program(program: ExportedProgram) -> None:
    for node in program.graph.nodes:
        if isinstance(node.target, OpOverload) and node.target.namespace == "tensorrt":
            raise InputError(
                f"The model is compiled already ({node.name} runs an engine), so its layers can't be seen: quantize the model itself, "
                "and compile what comes out."
            )


def _warn_of_nothing(module: nn.Module, precision: str) -> None:
    graph = getattr(module, "graph", None)
    if precision != _FLOAT8 and graph is not None and not any(kind_of(node) for node in graph.nodes):
        _log.warning(
            "Nothing was quantized: the model has no convolution or linear layer with weights of its own that the tool knows. What comes "
            "out computes as before."
        )
