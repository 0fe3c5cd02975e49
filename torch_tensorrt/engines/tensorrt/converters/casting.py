"""Operators that change a dtype, or nothing at all."""

from __future__ import annotations

import torch

from torch_tensorrt.engines.tensorrt.converters.registry import converts
from torch_tensorrt.engines.tensorrt.net import Net
from torch_tensorrt.engines.tensorrt.sdk import ITensor

aten = torch.ops.aten
BYTES = frozenset({torch.uint8, torch.int8})  # the SDK casts from and to them; they are computed with in int32


@converts(aten._to_copy.default, also=BYTES)
def to_copy(net: Net, self: ITensor) -> ITensor:
    """_to_copy(Tensor self, *, dtype=None, ...) -> Tensor; a float becomes a bool by being nonzero."""
    if net.result not in BYTES or not net.is_integer(self) or net.dtype(self) is net.result:
        return same(net, self)
    return wrap(net, net.cast(self, torch.int32) if net.dtype(self) in BYTES else self, net.result)


def wrap(net: Net, value: ITensor, dtype: torch.dtype) -> ITensor:
    """Whole numbers (int32 or int64) as int8 or uint8, with the bits above left out as in PyTorch."""
    lowest, wide = torch.iinfo(dtype).min, net.dtype(value)
    moved = net.elementwise(value, -lowest, "SUM", wide) if lowest else value
    rounds = net.elementwise(net.elementwise(moved, 256, "FLOOR_DIV", wide), 256, "PROD", wide)
    return net.cast(net.elementwise(value, rounds, "SUB", wide), dtype)


@converts(
    aten.clone.default, aten.alias.default, aten.detach.default, aten.lift_fresh_copy.default, aten.contiguous.default
)
def same(net: Net, self: ITensor) -> ITensor:
    """The tensor itself, in the dtype of the result."""
    return net.cast(self, net.result)


@converts(aten.copy.default)
def copy(net: Net, self: ITensor, src: ITensor) -> ITensor:
    """copy(Tensor self, Tensor src, bool non_blocking=False) -> Tensor: `src`, as large and of the dtype of `self`."""
    return net.expand(net.cast(src, net.result), net.sizes(self))
