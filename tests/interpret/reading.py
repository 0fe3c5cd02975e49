"""Reads a finished network back: layers cast to their classes, their parameters, their weights."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, field
from typing import Any

import tensorrt_rtx as trt
import torch
from torch import Tensor

TORCH_DTYPE = {
    trt.float32: torch.float32,
    trt.float16: torch.float16,
    trt.bfloat16: torch.bfloat16,
    trt.int8: torch.int8,
    trt.int32: torch.int32,
    trt.int64: torch.int64,
    trt.bool: torch.bool,
    trt.uint8: torch.uint8,
    trt.fp8: torch.float8_e4m3fn,
    trt.DataType.E8M0: torch.float8_e8m0fnu,
}
# int4 and fp4 have no torch type: they are held unpacked, int4 as int8 and fp4 as float32.
HELD_AS = {**TORCH_DTYPE, trt.int4: torch.int8, trt.fp4: torch.float32}
FP4_VALUES = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])
_PACKED = (trt.int4, trt.fp4)


def _layer_classes() -> dict[str, type]:
    """LayerType name -> class: the name without underscores between I and Layer."""
    by_name = {name.lower(): getattr(trt, name) for name in dir(trt)}
    found = {
        kind: by_name[name]
        for kind in trt.LayerType.__members__
        if (name := f"i{kind.replace('_', '').lower()}layer") in by_name
    }
    found["CONDITIONAL_INPUT"] = trt.IIfConditionalInputLayer
    found["CONDITIONAL_OUTPUT"] = trt.IIfConditionalOutputLayer
    return found


LAYER_CLASS = _layer_classes()


@dataclass
class Layer:
    """One layer: its kind (a LayerType's name), the SDK's object cast to its class, and tensor names.

    `inputs` has None for an optional input that is not set. `loop`, `conditional` and `attention` say what it bounds.
    """

    kind: str
    name: str
    native: Any
    inputs: list[str | None]
    outputs: list[str]
    loop: str | None = None
    conditional: str | None = None
    attention: Any = None
    output_types: list[Any] = field(default_factory=list)


def read_layers(network: Any) -> list[Layer]:
    """All layers of a network, in order."""
    return [_read_layer(network.get_layer(place)) for place in range(network.num_layers)]


def _read_layer(native: Any) -> Layer:
    kind = str(native.type).split(".")[1]  # before the cast: some classes have another `type`
    if kind in LAYER_CLASS:
        native.__class__ = LAYER_CLASS[kind]  # a wrong class would call a wrong function of the SDK
    outputs = [native.get_output(place) for place in range(native.num_outputs)]
    inputs = [native.get_input(place) for place in range(native.num_inputs)]
    return Layer(
        kind=kind,
        name=native.name,
        native=native,
        inputs=[tensor and tensor.name for tensor in inputs],
        outputs=[tensor.name for tensor in outputs],
        loop=native.loop.name if isinstance(native, trt.ILoopBoundaryLayer) else None,
        conditional=native.conditional.name if isinstance(native, trt.IIfConditionalBoundaryLayer) else None,
        attention=native.attention if isinstance(native, trt.IAttentionBoundaryLayer) else None,
        output_types=[tensor.dtype for tensor in outputs],
    )


def read_weights(weights: Any) -> Tensor | None:
    """A layer's weights as a flat tensor of its own; None when there are none."""
    if not isinstance(weights, trt.Weights):  # types that numpy has come back as views
        return torch.from_numpy(weights.copy()) if weights.size else None
    if weights.size == 0:
        return None
    # bf16, fp8, int4, fp4 and e8m0 come back as trt.Weights, which has no way to its data. pybind11 keeps the C++ pointer
    # right after the object's header; nvinfer1::Weights is {DataType type; void const* values; int64_t count}.
    held = ctypes.c_void_p.from_address(id(weights) + object.__basicsize__).value
    assert held is not None
    assert ctypes.c_int32.from_address(held).value == int(weights.dtype)
    assert ctypes.c_int64.from_address(held + 16).value == weights.size
    count = weights.size
    size = (count + 1) // 2 if weights.dtype in _PACKED else count * TORCH_DTYPE[weights.dtype].itemsize
    address = ctypes.c_void_p.from_address(held + 8).value
    assert address is not None
    raw = torch.frombuffer(bytearray((ctypes.c_uint8 * size).from_address(address)), dtype=torch.uint8)
    if weights.dtype not in _PACKED:
        return raw.view(TORCH_DTYPE[weights.dtype])
    nibbles = torch.stack([raw & 15, raw >> 4], -1).flatten()[:count]  # the low one first
    if weights.dtype == trt.fp4:
        return FP4_VALUES[nibbles.long()]
    return ((nibbles.to(torch.int8) + 8) % 16 - 8).to(torch.int8)


def axes_of(mask: int, rank: int) -> list[int]:
    """The axes in a bit mask."""
    return [axis for axis in range(rank) if mask >> axis & 1]


def along(values: Tensor, axis: int, rank: int) -> Tensor:
    """A vector shaped so that it lies along `axis` of a tensor of `rank` dimensions."""
    return values.reshape([-1 if place == axis else 1 for place in range(rank)])
