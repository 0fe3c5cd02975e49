"""Where the passes of this engine act: on CUDA, in the dtypes that its libraries have kernels for."""

from __future__ import annotations

import torch
from torch import Tensor, fx

DEVICES = {"cuda"}  # tests add "cpu", to rewrite graphs without a GPU
HALF = frozenset({torch.float16, torch.bfloat16})


def on_gpu(node: fx.Node) -> bool:
    """Whether `node` gives a tensor (or several, the first of them counts) on a device that the passes are for."""
    value = node.meta.get("val")
    if isinstance(value, (tuple, list)):
        value = next((part for part in value if isinstance(part, Tensor)), None)
    return isinstance(value, Tensor) and value.device.type in DEVICES


def is_half(node: fx.Node) -> bool:
    """Whether `node` gives a tensor of float16 or bfloat16."""
    value = node.meta.get("val")
    return isinstance(value, Tensor) and value.dtype in HALF
