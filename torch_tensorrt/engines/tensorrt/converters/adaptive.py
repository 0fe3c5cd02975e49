"""Pools that say how many windows there are and not how wide: one reduction for all, one pool, or a reduction for each."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import fx

from torch_tensorrt.engines.tensorrt.converters.movement import cut
from torch_tensorrt.engines.tensorrt.converters.pooling import indices_used
from torch_tensorrt.engines.tensorrt.converters.registry import bind, converts, is_varying
from torch_tensorrt.engines.tensorrt.net import Net
from torch_tensorrt.engines.tensorrt.network import Size
from torch_tensorrt.engines.tensorrt.promotion import result_dtype
from torch_tensorrt.engines.tensorrt.sdk import ITensor
from torch_tensorrt.spec.settings import CompilationSettings

aten = torch.ops.aten


def no_adaptive_pool(node: fx.Node, settings: CompilationSettings) -> str:
    """Floats, into a number of windows that is known."""
    if not result_dtype(node).is_floating_point:
        return "TensorRT pools floats only"
    output = bind(node)["output_size"]
    if any(isinstance(size, fx.Node) or is_varying(size) for size in output):
        return "an adaptive pool into a number of windows that varies has no layers in TensorRT"
    return ""


def no_largest(node: fx.Node, settings: CompilationSettings) -> str:
    """As `no_adaptive_pool`; TensorRT's reductions give no indices."""
    return indices_used(node) or no_adaptive_pool(node, settings)


@converts(
    aten._adaptive_avg_pool2d.default,
    aten._adaptive_avg_pool3d.default,
    aten.adaptive_avg_pool1d.default,
    aten.adaptive_avg_pool2d.default,
    aten.adaptive_avg_pool3d.default,
    refuse=no_adaptive_pool,
)
def adaptive_avg_pool(net: Net, self: ITensor, output_size: Sequence[int]) -> ITensor:
    """adaptive_avg_pool2d(Tensor self, SymInt[2] output_size) -> Tensor"""
    return _pool(net, self, "AVERAGE", output_size)


@converts(
    aten.adaptive_max_pool1d.default,
    aten.adaptive_max_pool2d.default,
    aten.adaptive_max_pool3d.default,
    refuse=no_largest,
)
def adaptive_max_pool(net: Net, self: ITensor, output_size: Sequence[int]) -> tuple[ITensor, None]:
    """adaptive_max_pool2d(Tensor self, int[2] output_size) -> (Tensor, Tensor)"""
    return _pool(net, self, "MAX", output_size), None


def _pool(net: Net, value: ITensor, kind: str, output: Sequence[int]) -> ITensor:
    spatial, reduction = len(output), "AVG" if kind == "AVERAGE" else "MAX"
    sizes = net.shape(value)[-spatial:]
    if all(count == 1 for count in output):
        return net.reduce(value, reduction, range(-spatial, 0), True)
    wide = [size // count for size, count in zip(sizes, output, strict=True)]
    even = all(size >= 0 and size == width * count for size, width, count in zip(sizes, wide, output, strict=True))
    if even and spatial > 1 and net.rank(value) > spatial + 1:
        window = tuple(wide)
        if all(width == 1 for width in window):
            return value
        return net.layer("pooling_nd", value, net.member("PoolingType", kind), window, stride_nd=window)
    for axis in range(-spatial, 0):
        value = _reduce_windows(net, value, reduction, axis, output[axis])
    return value


def _reduce_windows(net: Net, value: ITensor, reduction: str, axis: int, count: int) -> ITensor:
    """One dimension: window `i` of `count` begins at floor(i size / count) and ends at ceil((i + 1) size / count)."""
    place = axis + net.rank(value)
    size = net.size(value, place)
    if size == count:
        return value
    parts = []
    for window in range(count):
        start, length = _window(net, size, window, count)
        part = value if count == 1 else cut(net, value, place, start, length)
        parts.append(net.reduce(part, reduction, [place], True))
    return net.concatenate(parts, place)


def _window(net: Net, size: Size, window: int, count: int) -> tuple[Size, Size]:
    start = net.compute_size(net.compute_size(size, window, "PROD"), count, "FLOOR_DIV")
    scaled = net.compute_size(net.compute_size(size, window + 1, "PROD"), count - 1, "SUM")
    return start, net.compute_size(net.compute_size(scaled, count, "FLOOR_DIV"), start, "SUB")
