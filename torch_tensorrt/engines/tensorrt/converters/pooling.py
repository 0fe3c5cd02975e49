"""Pools of one to three dimensions. A window that ceil_mode adds is padding behind, exact where sizes are known."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence

import torch
from torch import fx

from torch_tensorrt.engines.tensorrt.converters.registry import bind, converts, is_varying
from torch_tensorrt.engines.tensorrt.net import Net
from torch_tensorrt.engines.tensorrt.promotion import result_dtype
from torch_tensorrt.engines.tensorrt.sdk import ITensor
from torch_tensorrt.spec.settings import CompilationSettings

aten = torch.ops.aten
_RANKS = {
    aten.avg_pool1d.default: 1,
    aten.avg_pool2d.default: 2,
    aten.avg_pool3d.default: 3,
    aten.max_pool2d_with_indices.default: 2,
    aten.max_pool3d_with_indices.default: 3,
}


def no_pool(node: fx.Node, settings: CompilationSettings) -> str:
    """Floats, windows without gaps, and sizes that are known where ceil_mode may add a window."""
    given = bind(node)
    sizes = given["self"].meta["val"].shape[-_RANKS[node.target] :]  # type: ignore[index]
    if not result_dtype(node).is_floating_point:
        return "TensorRT pools floats only"
    if any(gap != 1 for gap in given.get("dilation") or ()):
        return "TensorRT's pools have no dilation"
    if given["ceil_mode"] and any(is_varying(size) for size in sizes):
        return "a pool with ceil_mode takes fixed sizes only"
    return ""


def no_largest(node: fx.Node, settings: CompilationSettings) -> str:
    """As `no_pool`; TensorRT's pools give no indices."""
    if any(user.target is not operator.getitem or user.args[1] != 0 for user in node.users):
        return "TensorRT's pools give no indices, and they are used"
    return no_pool(node, settings)


@converts(aten.max_pool2d_with_indices.default, aten.max_pool3d_with_indices.default, refuse=no_largest)
def max_pool(
    net: Net, self: ITensor, kernel_size: Sequence[int], stride: Sequence[int], padding: Sequence[int],
    dilation: Sequence[int], ceil_mode: bool,
) -> tuple[ITensor, None]:  # fmt: skip
    """max_pool2d_with_indices(Tensor self, int[2] kernel_size, int[2] stride=[], padding=0, dilation=1, bool ceil_mode)"""
    return _pool(net, self, "MAX", kernel_size, stride, padding), None


@converts(aten.avg_pool1d.default, refuse=no_pool)
def avg_pool1d(
    net: Net, self: ITensor, kernel_size: Sequence[int], stride: Sequence[int], padding: Sequence[int],
    ceil_mode: bool, count_include_pad: bool,
) -> ITensor:  # fmt: skip
    """avg_pool1d(Tensor self, int[1] kernel_size, int[1] stride=[], int[1] padding=0, ceil_mode, count_include_pad)"""
    result = _pool(net, self, "AVERAGE", kernel_size, stride, padding, not count_include_pad)
    return _recount(net, self, result, kernel_size, stride, padding) if ceil_mode and count_include_pad else result


@converts(aten.avg_pool2d.default, aten.avg_pool3d.default, refuse=no_pool)
def avg_pool(
    net: Net, self: ITensor, kernel_size: Sequence[int], stride: Sequence[int], padding: Sequence[int],
    ceil_mode: bool, count_include_pad: bool, divisor_override: int | None,
) -> ITensor:  # fmt: skip
    """avg_pool2d(Tensor self, int[2] kernel_size, stride=[], padding=0, ceil_mode, count_include_pad, divisor_override)"""
    excludes = not count_include_pad and not divisor_override
    result = _pool(net, self, "AVERAGE", kernel_size, stride, padding, excludes)
    if not divisor_override and ceil_mode and count_include_pad:
        return _recount(net, self, result, kernel_size, stride, padding)
    if not divisor_override:
        return result
    assert net.node is not None
    count = math.prod(_spread(kernel_size, _RANKS[net.node.target]))  # type: ignore[index, arg-type]
    return net.elementwise(result, count / divisor_override, "PROD", net.result)


def _pool(
    net: Net, value: ITensor, kind: str, window: Sequence[int], stride: Sequence[int], padding: Sequence[int],
    excludes: bool | None = None,
) -> ITensor:  # fmt: skip
    assert net.node is not None
    spatial = _RANKS[net.node.target]  # type: ignore[index]
    wide, pad = _spread(window, spatial), _spread(padding, spatial)
    step = _spread(stride or window, spatial)
    behind = [_behind(net, value, axis - spatial, wide[axis], step[axis], pad[axis]) for axis in range(spatial)]
    lone = net.rank(value) == spatial + 1  # without a batch
    tensor = net.unsqueeze(value, [0]) if lone else value
    more = (1,) if spatial == 1 else ()  # one dimension is two, of which the last has size 1
    tensor = net.unsqueeze(tensor, [3]) if more else tensor
    tensor = net.layer(
        "pooling_nd",
        tensor,
        net.member("PoolingType", kind),
        (*wide, *more),
        stride_nd=(*step, *more),
        pre_padding=(*pad, *(0 for _ in more)),
        post_padding=(*behind, *(0 for _ in more)),
        average_count_excludes_padding=excludes,
    )
    tensor = net.squeeze(tensor, [3]) if more else tensor
    return net.squeeze(tensor, [0]) if lone else tensor


def _recount(
    net: Net, value: ITensor, result: ITensor, window: Sequence[int], stride: Sequence[int], padding: Sequence[int]
) -> ITensor:
    """The average where a window that ceil_mode adds counts only what lies inside the padding, as PyTorch's does."""
    assert net.node is not None
    spatial = _RANKS[net.node.target]  # type: ignore[index]
    wide, pad, step = _spread(window, spatial), _spread(padding, spatial), _spread(stride or window, spatial)
    share = torch.ones(())
    for axis in range(spatial):
        count, size = net.shape(result)[axis - spatial], net.shape(value)[axis - spatial]
        counted = (size + 2 * pad[axis] - torch.arange(count) * step[axis]).clamp(max=wide[axis])
        share = share[..., None] * (wide[axis] / counted)
    return net.elementwise(result, share, "PROD", net.result)


def _behind(net: Net, value: ITensor, axis: int, window: int, step: int, pad: int) -> int:
    """The padding behind that gives as many windows as PyTorch has: more than `pad` where ceil_mode adds one."""
    size, count = net.size(value, axis), net.known_size(axis)
    if not isinstance(size, int) or count is None:
        return pad
    return max((count - 1) * step + window - size - pad, 0)


def _spread(values: Sequence[int], count: int) -> tuple[int, ...]:
    return tuple(values) if len(values) == count else tuple(values) * count
