"""Values of an image or a volume at places that the network computes: one GridSample layer."""

from __future__ import annotations

import torch
from torch import fx

from torch_tensorrt.engines.tensorrt.converters.registry import converts
from torch_tensorrt.engines.tensorrt.net import Net
from torch_tensorrt.engines.tensorrt.promotion import result_dtype
from torch_tensorrt.engines.tensorrt.sdk import ITensor
from torch_tensorrt.spec.settings import CompilationSettings

aten = torch.ops.aten
_MODES = ("LINEAR", "NEAREST", "CUBIC")  # by PyTorch's numbers
_OUTSIDE = ("FILL", "CLAMP", "REFLECT")


def no_sampling(node: fx.Node, settings: CompilationSettings) -> str:
    """Floats."""
    return "" if result_dtype(node).is_floating_point else "TensorRT samples floats only"


@converts(aten.grid_sampler.default, aten.grid_sampler_2d.default, aten.grid_sampler_3d.default, refuse=no_sampling)
def grid_sampler(
    net: Net, input: ITensor, grid: ITensor, interpolation_mode: int, padding_mode: int, align_corners: bool
) -> ITensor:
    """grid_sampler_2d(Tensor input, Tensor grid, int interpolation_mode, int padding_mode, bool align_corners)"""
    dtype = net.dtype(input)
    low = dtype is torch.bfloat16  # the SDK's documentation lists float32 and float16 for its GridSample layer
    sampled = net.layer(
        "grid_sample",
        net.cast(input, torch.float32) if low else input,
        net.cast(grid, torch.float32) if low else grid,
        interpolation_mode=net.member("InterpolationMode", _MODES[interpolation_mode]),
        sample_mode=net.member("SampleMode", _OUTSIDE[padding_mode]),
        align_corners=align_corners,
    )
    return net.cast(sampled, dtype)
