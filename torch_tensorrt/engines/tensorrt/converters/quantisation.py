"""Quantized values: int8 and float8 by a scale for a tensor or for each channel, as PT2E writes it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.ao.quantization.fx._decomposed  # defines torch.ops.quantized_decomposed
from torch import fx

from torch_tensorrt.engines.tensorrt.converters.registry import bind, converts
from torch_tensorrt.engines.tensorrt.net import Net
from torch_tensorrt.engines.tensorrt.network import Operand
from torch_tensorrt.engines.tensorrt.sdk import ITensor
from torch_tensorrt.spec.settings import CompilationSettings

aten = torch.ops.aten
quantized = torch.ops.quantized_decomposed
HELD = frozenset({torch.int8, torch.float8_e4m3fn})
_RANGES: Mapping[object, tuple[int, int]] = {torch.int8: (-128, 127), torch.float8_e4m3fn: (-448, 448)}


def not_symmetric(node: fx.Node, settings: CompilationSettings) -> str:
    """The SDK's zero point is 0."""
    zero = bind(node)["zero_point"]
    return _other_range(node) or ("" if zero == 0 else f"TensorRT quantizes around 0, not around {zero}")


def not_symmetric_by_channel(node: fx.Node, settings: CompilationSettings) -> str:
    """Zero points are a tensor: what it holds is known where the graph makes it."""
    zeros = bind(node)["zero_points"]
    known = zeros is None or (
        (zeros.target is aten.full.default and zeros.args[1] == 0) or zeros.target is aten.zeros.default
    )
    return _other_range(node) or ("" if known else "TensorRT quantizes around 0, and these zero points may be others")


def _other_range(node: fx.Node) -> str:
    """The SDK's range is all values of the dtype."""
    given = bind(node)
    dtype, values = given["dtype"], (given["quant_min"], given["quant_max"])
    if dtype not in _RANGES:
        return f"TensorRT quantizes to int8 and float8_e4m3fn, not to {dtype}"
    if "dequantize" not in str(node.target) and values != _RANGES[dtype]:
        return f"TensorRT quantizes to all values of {dtype}, {_RANGES[dtype]}, and not to {values}"
    return ""


@converts(quantized.quantize_per_tensor.default, refuse=not_symmetric, also=HELD)
def quantize_per_tensor(
    net: Net, input: ITensor, scale: float, zero_point: int, quant_min: int, quant_max: int
) -> ITensor:
    """quantize_per_tensor(Tensor input, float scale, int zero_point, int quant_min, int quant_max, ...) -> Tensor"""
    return _quantize(net, input, scale)


@converts(quantized.dequantize_per_tensor.default, refuse=not_symmetric, also=HELD)
def dequantize_per_tensor(
    net: Net,
    input: ITensor,
    scale: float,
    zero_point: int,
    quant_min: int,
    quant_max: int,
    out_dtype: torch.dtype | None,
) -> ITensor:
    """dequantize_per_tensor(Tensor input, float scale, int zero_point, int quant_min, ...) -> Tensor"""
    return _dequantize(net, input, scale)


@converts(quantized.quantize_per_channel.default, refuse=not_symmetric_by_channel, also=HELD)
def quantize_per_channel(
    net: Net,
    input: ITensor,
    scales: ITensor,
    zero_points: ITensor,
    axis: int,
    quant_min: int,
    quant_max: int,
) -> ITensor:
    """quantize_per_channel(Tensor input, Tensor scales, Tensor zero_points, int axis, ...) -> Tensor"""
    return _quantize(net, input, scales, axis % net.rank(input))


@converts(quantized.dequantize_per_channel.default, refuse=not_symmetric_by_channel, also=HELD)
def dequantize_per_channel(
    net: Net,
    input: ITensor,
    scales: ITensor,
    zero_points: ITensor | None,
    axis: int,
    quant_min: int,
    quant_max: int,
    out_dtype: torch.dtype | None,
) -> ITensor:
    """dequantize_per_channel(Tensor input, Tensor scales, Tensor? zero_points, int axis, ...) -> Tensor"""
    return _dequantize(net, input, scales, axis % net.rank(input))


def _quantize(net: Net, value: ITensor, scale: Operand, axis: int | None = None) -> ITensor:
    wide = net.cast(value, torch.float32)
    return net.layer("quantize", wide, net.tensor(scale, torch.float32), net.sdk.dtype(net.result), axis=axis)


def _dequantize(net: Net, value: ITensor, scale: Operand, axis: int | None = None) -> ITensor:
    kind = net.sdk.dtype(torch.float32)
    made = net.layer("dequantize", value, net.tensor(scale, torch.float32), kind, axis=axis)
    return net.cast(made, net.result)
