"""Convolutions of one to three dimensions, and their transposes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, fx

from torch_tensorrt.engines.tensorrt.converters.registry import bind, converts, is_varying
from torch_tensorrt.engines.tensorrt.net import Net
from torch_tensorrt.engines.tensorrt.promotion import result_dtype
from torch_tensorrt.engines.tensorrt.sdk import ITensor
from torch_tensorrt.spec.settings import CompilationSettings

aten = torch.ops.aten
Weight: TypeAlias = "Tensor | ITensor"


@dataclass(frozen=True)
class _Geometry:
    """Per dimension: the stride, the padding on both sides, the dilation, and what output_padding adds behind."""

    step: tuple[int, ...]
    pad: tuple[int, ...]
    gap: tuple[int, ...]
    extra: tuple[int, ...]
    groups: int

    @property
    def more(self) -> tuple[int, ...]:
        """One dimension is two, of which the last has size 1."""
        return (1,) * (2 - len(self.step))


def convolves(node: fx.Node, settings: CompilationSettings) -> str:
    """Convolutions of floats, with a batch, with kernels of known size."""
    given = bind(node)
    rank = node.meta["val"].dim()
    if not 3 <= rank <= 5 or given["input"].meta["val"].dim() != rank:
        return f"TensorRT convolves 1 to 3 dimensions, not {rank - 2}"
    if not result_dtype(node).is_floating_point:
        return "TensorRT convolves floats only"
    if is_varying(given["weight"].meta["val"]):
        return "the sizes of its weights vary"
    if given["transposed"] and result_dtype(node) is torch.bfloat16 and not _is_constant(given["weight"]):
        # With constants it is computed in float32; else the SDK's optimizer takes the casts away again, and fails.
        return "TensorRT-RTX builds no transposed convolution of bfloat16 whose weights a run computes"
    return ""


def _is_constant(node: fx.Node) -> bool:
    return node.op == "get_attr" or (node.op == "call_function" and all(map(_is_constant, node.all_input_nodes)))


@converts(aten.convolution.default, refuse=convolves, raw=frozenset({"weight", "bias"}))
def convolution(
    net: Net, input: ITensor, weight: Weight, bias: Weight | None, stride: Sequence[int], padding: Sequence[int],
    dilation: Sequence[int], transposed: bool, output_padding: Sequence[int], groups: int,
) -> ITensor:  # fmt: skip
    """convolution(Tensor input, Tensor weight, Tensor? bias, SymInt[] stride, padding, dilation, bool transposed, ...)"""
    spatial = len(tuple(weight.shape)) - 2
    stepped, padded, gapped, added = (
        _spread(values, spatial) for values in (stride, padding, dilation, output_padding)
    )
    geometry = _Geometry(stepped, padded, gapped, added, groups)
    tensor = net.unsqueeze(input, [3]) if geometry.more else input
    tensor = (_transpose if transposed else _convolve)(net, tensor, weight, bias, geometry)
    return net.squeeze(tensor, [3]) if geometry.more else tensor


def _convolve(net: Net, tensor: ITensor, weight: Weight, bias: Weight | None, how: _Geometry) -> ITensor:
    sizes, more = tuple(weight.shape), how.more
    own = (weight, bias) if isinstance(weight, Tensor) and (bias is None or isinstance(bias, Tensor)) else None
    return net.layer(
        "convolution_nd",
        tensor,
        sizes[0],
        (*sizes[2:], *more),
        net.raw_weights(own and own[0]),
        net.raw_weights(own and own[1]),
        inputs={} if own else _as_inputs(net, weight, bias, bool(more)),
        stride_nd=(*how.step, *more),
        padding_nd=(*how.pad, *(0 for _ in more)),
        dilation_nd=(*how.gap, *more),
        num_groups=how.groups,
    )


def _transpose(net: Net, tensor: ITensor, weight: Weight, bias: Weight | None, how: _Geometry) -> ITensor:
    """The layer cuts `pad` off in front and less behind, for output_padding; bfloat16 is computed in float32."""
    sizes, more, dtype = tuple(weight.shape), how.more, net.dtype(tensor)
    # What the layer can't do are zeros in the kernel: a dilation beside a stride, output beyond the last window.
    beyond = [max(extra - pad, 0) for extra, pad in zip(how.extra, how.pad, strict=True)]
    grown = any(beyond) or (max(how.step) > 1 and max(how.gap) > 1)
    low = dtype is torch.bfloat16
    if grown or low:
        weight = net.tensor(weight, torch.float32 if low else None)
        bias = None if bias is None else net.tensor(bias, torch.float32 if low else None)
    for axis in range(len(how.step) if grown else 0):
        weight = _with_zeros(net, net.tensor(weight), axis + 2, how.gap[axis], beyond[axis])
    own = (weight, bias) if isinstance(weight, Tensor) and (bias is None or isinstance(bias, Tensor)) else None
    behind = [pad - extra + zeros for pad, extra, zeros in zip(how.pad, how.extra, beyond, strict=True)]
    result = net.layer(
        "deconvolution_nd",
        net.cast(tensor, torch.float32) if low else tensor,
        sizes[1] * how.groups,
        (*tuple(weight.shape)[2:], *more),
        net.raw_weights(own and own[0]),
        net.raw_weights(own and own[1]),
        inputs={} if own else _as_inputs(net, weight, bias, bool(more)),
        stride_nd=(*how.step, *more),
        pre_padding=(*how.pad, *(0 for _ in more)),
        post_padding=(*behind, *(0 for _ in more)),
        dilation_nd=(*((1,) * len(how.gap) if grown else how.gap), *more),
        num_groups=how.groups,
    )
    return net.cast(result, dtype)


def _with_zeros(net: Net, kernel: ITensor, axis: int, gap: int, behind: int) -> ITensor:
    """`kernel` with `gap - 1` zeros between its taps along `axis` and `behind` after the last."""
    sizes, rank = list(net.shape(kernel)), net.rank(kernel)
    wide = gap * (sizes[axis] - 1) + 1 + behind
    if gap > 1:
        apart = [*sizes[: axis + 1], gap, *sizes[axis + 1 :]]
        kernel = net.slice(net.unsqueeze(kernel, [axis + 1]), [0] * (rank + 1), apart, [1] * (rank + 1), "FILL")
        kernel = net.reshape(kernel, [*sizes[:axis], sizes[axis] * gap, *sizes[axis + 1 :]])
    if wide == net.shape(kernel)[axis]:
        return kernel
    return net.slice(kernel, [0] * rank, [*sizes[:axis], wide, *sizes[axis + 1 :]], [1] * rank, "FILL")


def _spread(values: Sequence[int], count: int) -> tuple[int, ...]:
    return tuple(values) if len(values) == count else tuple(values) * count


def _as_inputs(net: Net, weight: Weight, bias: Weight | None, unsqueezed: bool) -> dict[int, ITensor]:
    """Weights that the network computes are inputs of the layer."""
    kernel = net.tensor(weight)
    inputs = {1: net.unsqueeze(kernel, [3]) if unsqueezed else kernel}
    return inputs if bias is None else {**inputs, 2: net.tensor(bias)}
