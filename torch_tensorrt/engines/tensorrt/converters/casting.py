"""Operators that change a dtype, or nothing at all."""

from __future__ import annotations

import torch

from torch_tensorrt.engines.tensorrt.converters.registry import converts
from torch_tensorrt.engines.tensorrt.net import Net
from torch_tensorrt.engines.tensorrt.sdk import ITensor

aten = torch.ops.aten
_BYTES = frozenset({torch.uint8})  # the SDK casts from and to it, and computes nothing in it


@converts(aten._to_copy.default, also=_BYTES)
def to_copy(net: Net, self: ITensor) -> ITensor:
    """_to_copy(Tensor self, *, dtype=None, ...) -> Tensor; a float becomes a bool by being nonzero."""
    return same(net, self)


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
