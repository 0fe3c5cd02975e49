"""Operators that make a tensor larger with its own values or a constant, or turn it round: one Slice layer each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from torch_tensorrt.engines.tensorrt.converters.registry import converts
from torch_tensorrt.engines.tensorrt.net import Net
from torch_tensorrt.engines.tensorrt.network import Operand, Scalar, Size
from torch_tensorrt.engines.tensorrt.sdk import ITensor

aten = torch.ops.aten
_MODES: Mapping[str, str] = {"reflect": "REFLECT", "replicate": "CLAMP"}


@converts(aten.constant_pad_nd.default)
def constant_pad_nd(net: Net, self: ITensor, pad: Sequence[Size], value: float | Scalar) -> ITensor:
    """constant_pad_nd(Tensor self, SymInt[] pad, Scalar value=0) -> Tensor; negative amounts cut off."""
    return _pad(net, self, pad, "FILL", value)


@converts(aten.reflection_pad1d.default, aten.reflection_pad2d.default, aten.reflection_pad3d.default, whole=True)
def reflection_pad(net: Net, self: ITensor, padding: Sequence[Size]) -> ITensor:
    """reflection_pad2d(Tensor self, SymInt[4] padding) -> Tensor; the edge itself is not repeated."""
    return _pad(net, self, padding, "REFLECT")


@converts(aten.replication_pad1d.default, aten.replication_pad2d.default, aten.replication_pad3d.default, whole=True)
def replication_pad(net: Net, self: ITensor, padding: Sequence[Size]) -> ITensor:
    """replication_pad2d(Tensor self, SymInt[4] padding) -> Tensor"""
    return _pad(net, self, padding, "CLAMP")


@converts(aten._pad_circular.default, whole=True)
def pad_circular(net: Net, self: ITensor, pad: Sequence[Size]) -> ITensor:
    """_pad_circular(Tensor self, SymInt[] pad) -> Tensor; negative amounts cut off first, and what is left goes round."""
    if any(isinstance(amount, int) and amount < 0 for amount in pad):
        self = _pad(net, self, [min(amount, 0) if isinstance(amount, int) else 0 for amount in pad], "CLAMP")
    return _pad(net, self, [max(amount, 0) if isinstance(amount, int) else amount for amount in pad], "WRAP")


@converts(aten.pad.default, whole=True)
def pad_by_mode(net: Net, self: ITensor, pad: Sequence[Size], mode: str, value: float | None) -> ITensor:
    """pad(Tensor self, SymInt[] pad, str mode="constant", float? value=None) -> Tensor"""
    if mode == "constant":
        return _pad(net, self, pad, "FILL", 0 if value is None else value)
    if mode == "circular":
        return pad_circular(net, self, pad)
    return _pad(net, self, pad, _MODES[mode])


@converts(aten.repeat.default)
def repeat(net: Net, self: ITensor, repeats: Sequence[Size]) -> ITensor:
    """repeat(Tensor self, SymInt[] repeats) -> Tensor; more repeats than dimensions make new ones in front."""
    raised = net.unsqueeze(self, range(len(repeats) - net.rank(self))) if len(repeats) > net.rank(self) else self
    pairs = zip(net.sizes(raised), repeats, strict=True)
    sizes = [size if times == 1 else net.compute_size(size, times, "PROD") for size, times in pairs]
    if all(times == 1 for times in repeats):
        return raised
    return net.slice(raised, [0] * len(sizes), sizes, [1] * len(sizes), "WRAP")


@converts(aten.tile.default, whole=True)
def tile(net: Net, self: ITensor, dims: Sequence[Size]) -> ITensor:
    """tile(Tensor self, SymInt[] dims) -> Tensor; as repeat, with ones put in front of dims where it is the shorter one."""
    return repeat(net, self, [*[1] * (net.rank(self) - len(dims)), *dims])


@converts(aten.flip.default)
def flip(net: Net, self: ITensor, dims: Sequence[int]) -> ITensor:
    """flip(Tensor self, int[] dims) -> Tensor"""
    rank, sizes = net.rank(self), net.sizes(self)
    if rank == 0 or not dims:
        return self
    starts: list[Size] = [0] * rank
    steps = [1] * rank
    for axis in {dim % rank for dim in dims}:
        last = net.compute_size(sizes[axis], -1, "SUM")
        starts[axis], steps[axis] = (max(last, 0) if isinstance(last, int) else last), -1
    return net.slice(self, starts, sizes, steps)


@converts(aten.roll.default, whole=True)
def roll(net: Net, self: ITensor, shifts: Sequence[Size], dims: Sequence[int]) -> ITensor:
    """roll(Tensor self, SymInt[1] shifts, int[1] dims=[]) -> Tensor; without dims all elements are in one row."""
    if not dims:
        flat = net.reshape(self, [-1])
        return net.reshape(roll(net, flat, shifts, [0]), net.sizes(self))
    rank, sizes = net.rank(self), net.sizes(self)
    if rank == 0:
        return self
    starts: list[Size] = [0] * rank
    for shift, dim in zip(shifts, dims, strict=True):
        starts[dim % rank] = net.compute_size(starts[dim % rank], shift, "SUB")
    starts = [_within_period(start, size) for start, size in zip(starts, sizes, strict=True)]
    return net.slice(self, starts, sizes, [1] * rank, "WRAP")


def _within_period(start: Size, size: Size) -> Size:
    return start % size if isinstance(start, int) and isinstance(size, int) and size else start


def _pad(net: Net, value: ITensor, pad: Sequence[Size], mode: str, fill: Operand | None = None) -> ITensor:
    """`pad`: amounts before and after, for the last dimension first."""
    rank, sizes = net.rank(value), net.sizes(value)
    starts: list[Size] = [0] * rank
    for place in range(len(pad) // 2):
        axis, before, after = rank - 1 - place, pad[2 * place], pad[2 * place + 1]
        starts[axis] = net.compute_size(0, before, "SUB")
        sizes[axis] = net.compute_size(sizes[axis], net.compute_size(before, after, "SUM"), "SUM")
    around = None if fill is None else net.tensor(fill, net.result)
    return net.slice(value, starts, sizes, [1] * rank, mode, around)
