"""What cuDNN's fused convolutions give, for fake tensors: PyTorch says it from some later version on, or never."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

aten = torch.ops.aten


def channels_last(value: Tensor) -> bool:
    """Whether a tensor of rank 4 is channels-last, and not contiguous as well."""
    return value.dim() == 4 and value.is_contiguous(memory_format=torch.channels_last) and not value.is_contiguous()


def _relu(self: Tensor, weight: Tensor, bias: Tensor | None, *where: Sequence[int] | int) -> Tensor:
    """`where`: stride, padding, dilation, groups."""
    *steps, groups = where
    result = aten.convolution.default(self, weight, bias, *steps, False, [0] * (self.dim() - 2), groups)
    last = channels_last(self) or channels_last(weight)
    return torch.empty_like(result, memory_format=torch.channels_last if last else torch.contiguous_format)


def _add_relu(
    self: Tensor, weight: Tensor, z: Tensor, alpha: float | None, bias: Tensor | None, *where: Sequence[int] | int
) -> Tensor:
    return _relu(self, weight, bias, *where)


@cache
def register_fakes() -> torch.library.Library:
    """Registers them for this process, where PyTorch has none. A second call does nothing."""
    library = torch.library.Library("aten", "IMPL", "Meta")
    for name, function in (("cudnn_convolution_relu", _relu), ("cudnn_convolution_add_relu", _add_relu)):
        if not torch._C._dispatch_has_kernel_for_dispatch_key(f"aten::{name}", "Meta"):
            library.impl(name, function)
    return library
