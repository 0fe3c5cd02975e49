"""Tensors made from numbers and sizes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import fx

from torch_tensorrt.engines.tensorrt.converters.casting import BYTES
from torch_tensorrt.engines.tensorrt.converters.registry import bind, converts
from torch_tensorrt.engines.tensorrt.net import Net
from torch_tensorrt.engines.tensorrt.network import Scalar, Size
from torch_tensorrt.engines.tensorrt.sdk import ITensor
from torch_tensorrt.spec.settings import CompilationSettings

aten = torch.ops.aten


def counts_in_fractions(node: fx.Node, settings: CompilationSettings) -> str:
    """An arange whose length varies is counted in whole numbers."""
    bound = bind(node)
    given = [bound[name] for name in ("start", "end", "step") if name in bound]
    values = [value.meta["val"] if isinstance(value, fx.Node) else value for value in given]
    if all(isinstance(value, (int, torch.SymInt)) for value in values):
        return ""
    varies = any(isinstance(value, fx.Node) for value in given)
    return "an arange of varying length with fractions has no layer in TensorRT" if varies else ""


@converts(aten.arange.start_step, refuse=counts_in_fractions, also=BYTES)
def arange(net: Net, start: Size, end: Size, step: Size) -> ITensor:
    """arange.start_step(Scalar start, Scalar end, Scalar step=1, *, dtype, layout, device, pin_memory) -> Tensor"""
    if not (isinstance(start, Scalar) or isinstance(end, Scalar) or isinstance(step, Scalar)):
        return net.constant(torch.arange(start, end, step, dtype=net.result))
    span = net.compute_size(end, start, "SUB")
    if step != 1:  # rounded up: -floor(-span / step)
        parts = net.compute_size(net.compute_size(0, span, "SUB"), step, "FLOOR_DIV")
        span = net.compute_size(0, parts, "SUB")
    return net.cast(count_up(net, span, start, step), net.result)


@converts(aten.arange.start, refuse=counts_in_fractions)
def arange_between(net: Net, start: Size, end: Size) -> ITensor:
    """arange.start(Scalar start, Scalar end, *, dtype, layout, device, pin_memory) -> Tensor"""
    return arange(net, start, end, 1)


@converts(aten.arange.default, refuse=counts_in_fractions)
def arange_to(net: Net, end: Size) -> ITensor:
    """arange(Scalar end, *, dtype, layout, device, pin_memory) -> Tensor"""
    return arange(net, 0, end, 1)


@converts(aten.full.default)
def full(net: Net, size: Sequence[Size], fill_value: float | Scalar) -> ITensor:
    """full(SymInt[] size, Scalar fill_value, *, dtype, layout, device, pin_memory) -> Tensor"""
    return net.expand(net.tensor(fill_value, net.result, len(size)), size)


@converts(aten.new_full.default)
def new_full(net: Net, self: ITensor, size: Sequence[Size], fill_value: float | Scalar) -> ITensor:
    """new_full(Tensor self, SymInt[] size, Scalar fill_value, *, dtype, layout, device, pin_memory) -> Tensor"""
    return full(net, size, fill_value)


@converts(aten.full_like.default)
def full_like(net: Net, self: ITensor, fill_value: float | Scalar) -> ITensor:
    """full_like(Tensor self, Scalar fill_value, *, dtype, layout, device, pin_memory, memory_format) -> Tensor"""
    return full(net, net.sizes(self), fill_value)


@converts(aten.fill.Scalar)
def fill(net: Net, self: ITensor, value: float | Scalar) -> ITensor:
    """fill.Scalar(Tensor self, Scalar value) -> Tensor"""
    return full(net, net.sizes(self), value)


@converts(aten.zeros.default, aten.empty.memory_format)
def zeros(net: Net, size: Sequence[Size]) -> ITensor:
    """empty.memory_format(SymInt[] size, *, dtype, layout, device, pin_memory, memory_format) -> Tensor: no value is wrong."""
    return full(net, size, 0)


@converts(aten.ones.default)
def ones(net: Net, size: Sequence[Size]) -> ITensor:
    """ones(SymInt[] size, *, dtype, layout, device, pin_memory) -> Tensor"""
    return full(net, size, 1)


@converts(aten.empty_permuted.default)
def empty_permuted(net: Net, size: Sequence[Size], physical_layout: Sequence[int]) -> ITensor:
    """empty_permuted(SymInt[] size, int[] physical_layout, *, dtype, layout, device, pin_memory) -> Tensor"""
    return full(net, size, 0)


@converts(aten.new_zeros.default, aten.new_empty.default)
def new_zeros(net: Net, self: ITensor, size: Sequence[Size]) -> ITensor:
    """new_zeros(Tensor self, SymInt[] size, *, dtype, layout, device, pin_memory) -> Tensor"""
    return full(net, size, 0)


@converts(aten.new_ones.default)
def new_ones(net: Net, self: ITensor, size: Sequence[Size]) -> ITensor:
    """new_ones(Tensor self, SymInt[] size, *, dtype, layout, device, pin_memory) -> Tensor"""
    return full(net, size, 1)


@converts(aten.zeros_like.default, aten.empty_like.default)
def zeros_like(net: Net, self: ITensor) -> ITensor:
    """zeros_like(Tensor self, *, dtype, layout, device, pin_memory, memory_format) -> Tensor"""
    return full(net, net.sizes(self), 0)


@converts(aten.ones_like.default)
def ones_like(net: Net, self: ITensor) -> ITensor:
    """ones_like(Tensor self, *, dtype, layout, device, pin_memory, memory_format) -> Tensor"""
    return full(net, net.sizes(self), 1)


@converts(aten.scalar_tensor.default)
def scalar_tensor(net: Net, s: float | Scalar) -> ITensor:
    """scalar_tensor(Scalar s, *, dtype, layout, device, pin_memory) -> Tensor"""
    return net.tensor(s, net.result)


def count_up(net: Net, length: Size, start: Size = 0, step: Size = 1) -> ITensor:
    """`start + i * step` for each `i` below `length`: int64, of shape [length]."""
    if isinstance(length, int) and isinstance(start, int) and isinstance(step, int):
        return net.constant(torch.arange(length) * step + start)
    inputs = {
        0: net.size_tensor([length]),
        1: net.tensor(start, torch.int64),
        2: net.tensor(step, torch.int64, rank=1),
    }
    kind = net.member("FillOperation", "LINSPACE")
    return net.layer("fill", (1,), kind, net.sdk.dtype(torch.int64), inputs=inputs)
