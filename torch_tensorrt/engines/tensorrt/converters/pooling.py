"""Pools of one to three dimensions. The windows that ceil_mode adds are padding behind, as PyTorch counts them."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from torch_tensorrt.engines.tensorrt.converters.constructors import count_up
from torch_tensorrt.engines.tensorrt.converters.registry import bind, converts
from torch_tensorrt.engines.tensorrt.net import Net
from torch_tensorrt.engines.tensorrt.network import Size
from torch_tensorrt.engines.tensorrt.promotion import result_dtype
from torch_tensorrt.engines.tensorrt.sdk import ITensor
from torch_tensorrt.spec.settings import CompilationSettings

aten = torch.ops.aten
_RANKS = {
    aten.avg_pool1d.default: 1,
    aten.avg_pool2d.default: 2,
    aten.avg_pool3d.default: 3,
    aten.max_pool1d.default: 1,
    aten.max_pool2d.default: 2,
    aten.max_pool3d.default: 3,
    aten.max_pool2d_with_indices.default: 2,
    aten.max_pool3d_with_indices.default: 3,
}


@dataclass(frozen=True)
class _Windows:
    """Per dimension: the size of a window, the way to the next, the padding on both sides; and ceil_mode."""

    wide: tuple[int, ...]
    step: tuple[int, ...]
    pad: tuple[int, ...]
    ceil: bool


def no_pool(node: fx.Node, settings: CompilationSettings) -> str:
    """Floats, and windows without gaps."""
    if not result_dtype(node).is_floating_point:
        return "TensorRT pools floats only"
    gaps = bind(node).get("dilation") or ()
    return "TensorRT's pools have no dilation" if any(gap != 1 for gap in gaps) else ""


def no_largest(node: fx.Node, settings: CompilationSettings) -> str:
    """As `no_pool`; TensorRT's pools give no indices."""
    return indices_used(node) or no_pool(node, settings)


def indices_used(node: fx.Node) -> str:
    """Whether more than the largest values is asked for."""
    if any(user.target is not operator.getitem or user.args[1] != 0 for user in node.users):
        return "TensorRT's pools give no indices, and they are used"
    return ""


@converts(aten.max_pool2d_with_indices.default, aten.max_pool3d_with_indices.default, refuse=no_largest)
def max_pool_with_indices(
    net: Net, self: ITensor, kernel_size: Sequence[int], stride: Sequence[int], padding: Sequence[int],
    dilation: Sequence[int], ceil_mode: bool,
) -> tuple[ITensor, None]:  # fmt: skip
    """max_pool2d_with_indices(Tensor self, int[2] kernel_size, int[2] stride=[], padding=0, dilation=1, bool ceil_mode)"""
    return _pool(net, self, "MAX", _windows(net, kernel_size, stride, padding, ceil_mode)), None


@converts(aten.max_pool1d.default, aten.max_pool2d.default, aten.max_pool3d.default, refuse=no_pool)
def max_pool(
    net: Net, self: ITensor, kernel_size: Sequence[int], stride: Sequence[int], padding: Sequence[int],
    dilation: Sequence[int], ceil_mode: bool,
) -> ITensor:  # fmt: skip
    """max_pool2d(Tensor self, int[2] kernel_size, int[2] stride=[], int[2] padding=0, int[2] dilation=1, bool ceil_mode)"""
    return _pool(net, self, "MAX", _windows(net, kernel_size, stride, padding, ceil_mode))


@converts(aten.avg_pool1d.default, refuse=no_pool)
def avg_pool1d(
    net: Net, self: ITensor, kernel_size: Sequence[int], stride: Sequence[int], padding: Sequence[int],
    ceil_mode: bool, count_include_pad: bool,
) -> ITensor:  # fmt: skip
    """avg_pool1d(Tensor self, int[1] kernel_size, int[1] stride=[], int[1] padding=0, ceil_mode, count_include_pad)"""
    return _average(net, self, _windows(net, kernel_size, stride, padding, ceil_mode), count_include_pad)


@converts(aten.avg_pool2d.default, aten.avg_pool3d.default, refuse=no_pool)
def avg_pool(
    net: Net, self: ITensor, kernel_size: Sequence[int], stride: Sequence[int], padding: Sequence[int],
    ceil_mode: bool, count_include_pad: bool, divisor_override: int | None,
) -> ITensor:  # fmt: skip
    """avg_pool2d(Tensor self, int[2] kernel_size, stride=[], padding=0, ceil_mode, count_include_pad, divisor_override)"""
    windows = _windows(net, kernel_size, stride, padding, ceil_mode)
    if not divisor_override:
        return _average(net, self, windows, count_include_pad)
    share = math.prod(windows.wide) / divisor_override
    return net.elementwise(_pool(net, self, "AVERAGE", windows), share, "PROD", net.result)


def _windows(
    net: Net, window: Sequence[int], stride: Sequence[int], padding: Sequence[int], ceil_mode: bool
) -> _Windows:
    assert net.node is not None
    count = _RANKS[net.node.target]  # type: ignore[index]
    return _Windows(_spread(window, count), _spread(stride or window, count), _spread(padding, count), ceil_mode)


def _spread(values: Sequence[int], count: int) -> tuple[int, ...]:
    return tuple(values) if len(values) == count else tuple(values) * count


def _average(net: Net, value: ITensor, windows: _Windows, counts_padding: bool) -> ITensor:
    """The sum over a window by how many places of it count; not those that ceil_mode adds beyond the padding."""
    spatial = len(windows.wide)
    known = -1 not in net.shape(value)[-spatial:]
    if not windows.ceil or (known and not counts_padding):
        return _pool(net, value, "AVERAGE", windows, excludes=not counts_padding)
    result = _pool(net, value, "AVERAGE", windows)
    for axis in range(spatial):
        share = _share(net, value, axis, windows, counts_padding)
        if not isinstance(share, Tensor) or bool((share != 1).any()):
            aligned = net.unsqueeze(net.tensor(share), range(1, spatial - axis))
            result = net.elementwise(result, aligned, "PROD", net.result)
    return result


def _share(net: Net, value: ITensor, axis: int, windows: _Windows, counts_padding: bool) -> ITensor | Tensor:
    """For each window along a dimension: its size by how many of its places count. Of shape [number of windows]."""
    wide, step, pad = windows.wide[axis], windows.step[axis], windows.pad[axis]
    size = net.size(value, axis - len(windows.wide))
    count = _count(net, size, axis, windows)
    around = pad if counts_padding else 0
    end = net.compute_size(size, around, "SUM")
    if isinstance(end, int) and isinstance(count, int):
        begin = torch.arange(count) * step - pad
        return wide / ((begin + wide).clamp(max=end) - begin.clamp(min=-around))
    start = count_up(net, count, -pad, step)
    last = net.elementwise(net.elementwise(start, wide, "SUM", torch.int64), end, "MIN", torch.int64)
    first = net.elementwise(start, -around, "MAX", torch.int64)
    return net.elementwise(wide, net.elementwise(last, first, "SUB", torch.int64), "DIV", torch.float32)


def _count(net: Net, size: Size, axis: int, windows: _Windows) -> Size:
    """How many windows lie along a dimension of `size`: with ceil_mode, all that begin before the padding behind."""
    wide, step, pad = windows.wide[axis], windows.step[axis], windows.pad[axis]
    span = net.compute_size(size, 2 * pad - wide, "SUM")
    if windows.ceil:
        begun = net.compute_size(net.compute_size(size, pad - 1, "SUM"), step, "FLOOR_DIV")
        more = net.compute_size(net.compute_size(span, step - 1, "SUM"), step, "FLOOR_DIV")
        return net.compute_size(net.compute_size(more, begun, "MIN"), 1, "SUM")
    return net.compute_size(net.compute_size(span, step, "FLOOR_DIV"), 1, "SUM")


def _pool(net: Net, value: ITensor, kind: str, windows: _Windows, excludes: bool = False) -> ITensor:
    spatial = len(windows.wide)
    lone = net.rank(value) == spatial + 1  # without a batch
    tensor = net.unsqueeze(value, [0]) if lone else value
    front, behind = windows.pad, list(windows.pad)
    for axis in range(spatial) if windows.ceil else ():
        size = net.size(tensor, axis - spatial)
        count = _count(net, size, axis, windows)
        if isinstance(size, int) and isinstance(count, int):
            behind[axis] = max((count - 1) * windows.step[axis] + windows.wide[axis] - size - windows.pad[axis], 0)
        else:
            tensor = _widen(net, tensor, kind, axis, windows)
            front, behind[axis] = (*front[:axis], 0, *front[axis + 1 :]), 0
    more = (1,) if spatial == 1 else ()  # one dimension is two, of which the last has size 1
    tensor = net.unsqueeze(tensor, [3]) if more else tensor
    tensor = net.layer(
        "pooling_nd",
        tensor,
        net.member("PoolingType", kind),
        (*windows.wide, *more),
        stride_nd=(*windows.step, *more),
        pre_padding=(*front, *(0 for _ in more)),
        post_padding=(*behind, *(0 for _ in more)),
        average_count_excludes_padding=excludes if kind == "AVERAGE" else None,
    )
    tensor = net.squeeze(tensor, [3]) if more else tensor
    return net.squeeze(tensor, [0]) if lone else tensor


def _widen(net: Net, tensor: ITensor, kind: str, axis: int, windows: _Windows) -> ITensor:
    """`tensor` with its padding, front and behind, where only a run knows how much ceil_mode adds or leaves."""
    wide, step, place = windows.wide[axis], windows.step[axis], axis - len(windows.wide) + net.rank(tensor)
    starts: list[Size] = [0] * net.rank(tensor)
    sizes = net.sizes(tensor)
    before = net.compute_size(_count(net, sizes[place], axis, windows), -1, "SUM")
    sizes[place] = net.compute_size(net.compute_size(before, step, "PROD"), wide, "SUM")
    starts[place] = -windows.pad[axis]
    fill = net.tensor(-math.inf if kind == "MAX" else 0.0, net.dtype(tensor))
    return net.slice(tensor, starts, sizes, [1] * len(starts), "FILL", fill)
