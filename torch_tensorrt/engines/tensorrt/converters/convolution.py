"""Convolutions of one to three dimensions."""

from __future__ import annotations

from collections.abc import Sequence
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


def convolves(node: fx.Node, settings: CompilationSettings) -> str:
    """Forward convolutions of floats, with a batch and with weights that are constants."""
    given = bind(node)
    rank = node.meta["val"].dim()
    if given["transposed"]:
        return "there is no converter for transposed convolutions to TensorRT"
    if not 3 <= rank <= 5 or given["input"].meta["val"].dim() != rank:
        return f"TensorRT convolves 1 to 3 dimensions, not {rank - 2}"
    if not result_dtype(node).is_floating_point:
        return "TensorRT convolves floats only"
    if is_varying(given["weight"].meta["val"]):
        return "the sizes of its weights vary"
    return ""


@converts(aten.convolution.default, refuse=convolves, raw=frozenset({"weight", "bias"}))
def convolution(
    net: Net, input: ITensor, weight: Weight, bias: Weight | None, stride: Sequence[int], padding: Sequence[int],
    dilation: Sequence[int], transposed: bool, output_padding: Sequence[int], groups: int,
) -> ITensor:  # fmt: skip
    """convolution(Tensor input, Tensor weight, Tensor? bias, SymInt[] stride, padding, dilation, bool transposed, ...)"""
    sizes = tuple(weight.shape)
    spatial = len(sizes) - 2
    more = (1,) * (2 - spatial)  # one dimension is two, of which the last has size 1
    tensor = net.unsqueeze(input, [3]) if more else input
    own = (weight, bias) if isinstance(weight, Tensor) and (bias is None or isinstance(bias, Tensor)) else None
    tensor = net.layer(
        "convolution_nd",
        tensor,
        sizes[0],
        (*sizes[2:], *more),
        net.raw_weights(own and own[0]),
        net.raw_weights(own and own[1]),
        inputs={} if own else _as_inputs(net, weight, bias, bool(more)),
        stride_nd=(*_spread(stride, spatial), *more),
        padding_nd=(*_spread(padding, spatial), *(0 for _ in more)),
        dilation_nd=(*_spread(dilation, spatial), *more),
        num_groups=groups,
    )
    return net.squeeze(tensor, [3]) if more else tensor


def _spread(values: Sequence[int], count: int) -> tuple[int, ...]:
    return tuple(values) if len(values) == count else tuple(values) * count


def _as_inputs(net: Net, weight: Weight, bias: Weight | None, unsqueezed: bool) -> dict[int, ITensor]:
    """Weights that the network computes are inputs of the layer."""
    kernel = net.tensor(weight)
    inputs = {1: net.unsqueeze(kernel, [3]) if unsqueezed else kernel}
    return inputs if bias is None else {**inputs, 2: net.tensor(bias)}
