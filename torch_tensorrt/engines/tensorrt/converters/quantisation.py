"""Quantized values: int8 and float8 by a scale for a tensor or for each channel, as PT2E and modelopt write it.

The SDK's layers have no zero point and take all values of the dtype: they are used where that is known to be meant. Anything
else is computed by PyTorch's formula, clamp(round(x / scale) + zero, low, high), which no kernel in int8 will take up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.ao.quantization.fx._decomposed  # defines torch.ops.quantized_decomposed
from torch import Tensor, fx

from torch_tensorrt.engines.tensorrt.converters.registry import bind, converts, is_used
from torch_tensorrt.engines.tensorrt.net import Net
from torch_tensorrt.engines.tensorrt.network import Operand
from torch_tensorrt.engines.tensorrt.sdk import ITensor
from torch_tensorrt.spec.settings import CompilationSettings

aten = torch.ops.aten
quantized = torch.ops.quantized_decomposed
HELD = frozenset({torch.int8, torch.uint8, torch.float8_e4m3fn})
_F32 = torch.float32
_RANGES: Mapping[object, tuple[int, int]] = {torch.int8: (-128, 127), torch.float8_e4m3fn: (-448, 448)}
_COPIES = (aten._to_copy.default, aten.clone.default, aten.lift_fresh_copy.default, aten.detach.default)


@dataclass(frozen=True)
class Grid:
    """What values are rounded to: scale * (n - zero) for low <= n <= high. axis: that scale and zero stand along, if any."""

    scale: Operand
    zero: Operand
    low: Operand
    high: Operand
    axis: int | None = None


def not_held(node: fx.Node, settings: CompilationSettings) -> str:
    """float8 has no whole numbers to be clamped to."""
    dtype = bind(node)["dtype"]
    if dtype in HELD | {torch.int32} and (dtype is not torch.float8_e4m3fn or _is_plain(node)):
        return ""
    return f"TensorRT quantizes to int8, uint8 and int32, and to float8_e4m3fn around 0 with all its values; not to {dtype} so"


@converts(quantized.quantize_per_tensor.default, refuse=not_held, also=HELD)
def quantize_per_tensor(
    net: Net, input: ITensor, scale: float, zero_point: int, quant_min: int, quant_max: int
) -> ITensor:
    """quantize_per_tensor(Tensor input, float scale, int zero_point, int quant_min, int quant_max, ...) -> Tensor"""
    return _quantize(net, input, Grid(scale, zero_point, quant_min, quant_max))


@converts(quantized.quantize_per_tensor.tensor, quantized.quantize_per_tensor.tensor2, refuse=not_held, also=HELD)
def quantize_per_tensor_by(
    net: Net, input: ITensor, scale: ITensor, zero_point: ITensor, quant_min: Operand, quant_max: Operand
) -> ITensor:
    """quantize_per_tensor.tensor(Tensor input, Tensor scale, Tensor zero_point, ...) -> Tensor; these have one element."""
    return _quantize(net, input, _grid(net, scale, zero_point, quant_min, quant_max))


@converts(quantized.dequantize_per_tensor.default, refuse=not_held, also=HELD)
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
    return _dequantize(net, input, Grid(scale, zero_point, quant_min, quant_max))


@converts(quantized.dequantize_per_tensor.tensor, quantized.dequantize_per_tensor.tensor2, refuse=not_held, also=HELD)
def dequantize_per_tensor_by(
    net: Net,
    input: ITensor,
    scale: ITensor,
    zero_point: ITensor,
    quant_min: Operand,
    quant_max: Operand,
    out_dtype: torch.dtype | None,
) -> ITensor:
    """dequantize_per_tensor.tensor(Tensor input, Tensor scale, Tensor zero_point, int quant_min, ...) -> Tensor"""
    return _dequantize(net, input, _grid(net, scale, zero_point, quant_min, quant_max))


@converts(quantized.quantize_per_channel.default, refuse=not_held, also=HELD)
def quantize_per_channel(
    net: Net, input: ITensor, scales: ITensor, zero_points: ITensor, axis: int, quant_min: int, quant_max: int
) -> ITensor:
    """quantize_per_channel(Tensor input, Tensor scales, Tensor zero_points, int axis, ...) -> Tensor"""
    return _quantize(net, input, Grid(scales, zero_points, quant_min, quant_max, axis % net.rank(input)))


@converts(quantized.dequantize_per_channel.default, refuse=not_held, also=HELD)
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
    zeros: Operand = 0 if zero_points is None else zero_points
    return _dequantize(net, input, Grid(scales, zeros, quant_min, quant_max, axis % net.rank(input)))


@converts(aten.fake_quantize_per_tensor_affine.default)
def fake_quantize(net: Net, self: ITensor, scale: float, zero_point: int, quant_min: int, quant_max: int) -> ITensor:
    """fake_quantize_per_tensor_affine(Tensor self, float scale, int zero_point, int quant_min, int quant_max) -> Tensor"""
    return _fake(net, self, Grid(scale, zero_point, quant_min, quant_max))


@converts(aten.fake_quantize_per_tensor_affine_cachemask.default)
def fake_quantize_and_mask(
    net: Net, self: ITensor, scale: float, zero_point: int, quant_min: int, quant_max: int
) -> tuple[ITensor, ITensor | None]:
    """fake_quantize_per_tensor_affine_cachemask(Tensor self, float scale, ...) -> (Tensor output, Tensor mask)"""
    grid = Grid(scale, zero_point, quant_min, quant_max)
    return _fake(net, self, grid), _mask(net, self, grid)


@converts(aten.fake_quantize_per_channel_affine_cachemask.default)
def fake_quantize_channels_and_mask(
    net: Net, self: ITensor, scale: ITensor, zero_point: ITensor, axis: int, quant_min: int, quant_max: int
) -> tuple[ITensor, ITensor | None]:
    """fake_quantize_per_channel_affine_cachemask(Tensor self, Tensor scale, ...) -> (Tensor output, Tensor mask)"""
    grid = Grid(scale, zero_point, quant_min, quant_max, axis % net.rank(self))
    return _fake(net, self, grid), _mask(net, self, grid)


@converts(aten._fake_quantize_per_tensor_affine_cachemask_tensor_qparams.default)
def fake_quantize_by_and_mask(
    net: Net,
    self: ITensor,
    scale: ITensor,
    zero_point: ITensor,
    fake_quant_enabled: ITensor,
    quant_min: int,
    quant_max: int,
) -> tuple[ITensor, ITensor | None]:
    """_fake_quantize_per_tensor_affine_cachemask_tensor_qparams(Tensor self, ...) -> (Tensor output, Tensor mask)"""
    grid = _grid(net, scale, zero_point, quant_min, quant_max)
    enabled = net.reshape(fake_quant_enabled, [])
    mask = _mask(net, self, grid)
    if mask is not None:
        mask = net.elementwise(mask, net.unary(net.cast(enabled, torch.bool), "NOT"), "OR", torch.bool)
    return net.select(enabled, _fake(net, self, grid), self, net.result), mask


def not_eight_bits(node: fx.Node, settings: CompilationSettings) -> str:
    """modelopt's operator: int8 (no exponent bits) and float8 e4m3 (four)."""
    given = bind(node)
    bits, exponent, largest = given["num_bits"], given["exponent_bits"], given["amax"].meta["val"]
    if bits != 8 or exponent not in (0, 4) or given["unsigned"]:
        return f"TensorRT quantizes to signed int8 and float8_e4m3fn; here are {bits} bits, {exponent} of the exponent"
    along = [size for size in largest.shape if not (isinstance(size, int) and size == 1)]
    return "" if len(along) <= 1 else "TensorRT quantizes by a scale for the tensor or for each channel, not by more"


@converts("tensorrt.quantize_op.default", refuse=not_eight_bits)
def quantize_as_modelopt(
    net: Net, input: ITensor, amax: ITensor, num_bits: int, exponent_bits: int, unsigned: bool, narrow_range: bool
) -> ITensor:
    """quantize_op(Tensor input, Tensor amax, int num_bits, int exponent_bits, bool unsigned, bool narrow_range) -> Tensor

    The value -128 of int8, which narrow_range leaves out, is left to the layer: it is for what lies below -amax.
    """
    dtype = torch.float8_e4m3fn if exponent_bits else torch.int8
    axis = next((place for place, size in enumerate(net.shape(amax)) if size != 1), None)
    scale = net.elementwise(net.reshape(amax, [-1] if axis is not None else []), _RANGES[dtype][1], "DIV", _F32)
    made = net.layer("quantize", net.cast(input, _F32), scale, net.sdk.dtype(dtype), axis=axis)
    return net.cast(net.layer("dequantize", made, scale, net.sdk.dtype(_F32), axis=axis), net.result)


def _grid(net: Net, scale: ITensor, zero: ITensor, low: Operand, high: Operand) -> Grid:
    """Of tensors with one element, of any rank."""
    least, most = (value if isinstance(value, int) else net.reshape(net.tensor(value), []) for value in (low, high))
    return Grid(net.reshape(scale, []), net.reshape(zero, []), least, most)


def _is_plain(node: fx.Node) -> bool:
    """Around 0, and to all values of the dtype: known where the graph says so, or a constant."""
    given = bind(node)
    dtype = given.get("dtype", torch.int8)
    name = "zero_point" if "zero_point" in given else "zero_points"
    values = (given["quant_min"], given["quant_max"])
    known = "dequantize" in str(node.target) or values == _RANGES.get(dtype)
    return dtype in _RANGES and known and (given[name] is None or _is_zero(given[name]))


def _is_zero(value: object) -> bool:
    if not isinstance(value, fx.Node):
        return value == 0
    if value.target in _COPIES:
        return _is_zero(value.args[0])
    if value.op == "get_attr" and value.graph.owning_module is not None:
        found = fx.graph_module._get_attr(value.graph.owning_module, str(value.target))
        return isinstance(found, Tensor) and not bool(found.any())
    return value.target is aten.zeros.default or (value.target is aten.full.default and bool(value.args[1] == 0))


def _plain(net: Net) -> bool:
    assert net.node is not None
    return _is_plain(net.node)


def _quantize(net: Net, value: ITensor, grid: Grid) -> ITensor:
    wide = net.cast(value, _F32)
    if _plain(net):
        return net.layer("quantize", wide, net.tensor(grid.scale, _F32), net.sdk.dtype(net.result), axis=grid.axis)
    return net.cast(_clamp(net, _number(net, wide, grid), grid), net.result)


def _dequantize(net: Net, value: ITensor, grid: Grid) -> ITensor:
    if _plain(net):
        made = net.layer("dequantize", value, net.tensor(grid.scale, _F32), net.sdk.dtype(_F32), axis=grid.axis)
        return net.cast(made, net.result)
    return net.cast(_value(net, net.cast(value, _F32), grid), net.result)


def _fake(net: Net, value: ITensor, grid: Grid) -> ITensor:
    """Quantized and back."""
    wide = net.cast(value, _F32)
    if _plain(net):
        scale = net.tensor(grid.scale, _F32)
        held = net.layer("quantize", wide, scale, net.sdk.dtype(torch.int8), axis=grid.axis)
        return net.cast(net.layer("dequantize", held, scale, net.sdk.dtype(_F32), axis=grid.axis), net.result)
    return net.cast(_value(net, _clamp(net, _number(net, wide, grid), grid), grid), net.result)


def _mask(net: Net, value: ITensor, grid: Grid) -> ITensor | None:
    """Whether a value lies within the grid: for gradients only."""
    assert net.node is not None
    if not is_used(net.node, 1):
        return None
    number = _number(net, net.cast(value, _F32), grid)
    return net.elementwise(number, _clamp(net, number, grid), "EQUAL", _F32)


def _number(net: Net, wide: ITensor, grid: Grid) -> ITensor:
    """round(x * (1 / scale)) + zero"""
    scale = grid.scale
    inverse: Operand = 1 / scale if isinstance(scale, float) else net.unary(net.tensor(scale, _F32), "RECIP")
    scaled = net.elementwise(wide, _along(net, wide, inverse, grid), "PROD", _F32)
    return net.elementwise(net.unary(scaled, "ROUND"), _along(net, wide, grid.zero, grid), "SUM", _F32)


def _value(net: Net, number: ITensor, grid: Grid) -> ITensor:
    """(n - zero) * scale"""
    moved = net.elementwise(number, _along(net, number, grid.zero, grid), "SUB", _F32)
    return net.elementwise(moved, _along(net, number, grid.scale, grid), "PROD", _F32)


def _clamp(net: Net, number: ITensor, grid: Grid) -> ITensor:
    return net.elementwise(net.elementwise(number, grid.low, "MAX", _F32), grid.high, "MIN", _F32)


def _along(net: Net, value: ITensor, given: Operand, grid: Grid) -> Operand:
    """Numbers for each channel, raised to the rank of `value`."""
    if grid.axis is None or isinstance(given, (int, float)):
        return given
    return net.unsqueeze(net.tensor(given), [axis for axis in range(net.rank(value)) if axis != grid.axis])
