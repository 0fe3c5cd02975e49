"""Where a product of float8 is faster than one of float16, the way its input is taken to float8 included (an H200, torch 2.11)."""

from __future__ import annotations

import torch

from torch_tensorrt.engines.inductor.passes.gate import HALF
from torch_tensorrt.engines.inductor.passes.linears import Linear

_ALIGNED = 16  # rows and columns of weights come in multiples of this
ROWS = 512  # of the input, where the weight is small: with fewer, starting kernels is what takes time
WEIGHTS = (
    2**22
)  # numbers of a weight whose reading takes longer than all else, so that half the bytes are half the time
BOUNDED_COLUMNS = (
    512  # of a weight whose input has a constant scale: rounding it costs one pass, mostly in its producer
)
SEARCHED_COLUMNS = 2048  # of a weight whose input is searched for its largest values first


def is_worthwhile(linear: Linear, *, bounded: bool) -> bool:
    """Whether `linear` takes part; `bounded`: its input has a constant scale."""
    weight, rows = linear.weight, linear.x.meta["val"].shape[0]
    if weight.dtype not in {*HALF, torch.float32} or weight.shape[0] % _ALIGNED or weight.shape[1] % _ALIGNED:
        return False
    if weight.shape[1] < (BOUNDED_COLUMNS if bounded else SEARCHED_COLUMNS):
        return False
    typical = rows.node.hint if isinstance(rows, torch.SymInt) else rows
    many = typical is not None and typical >= ROWS
    return many or (bounded and weight.numel() >= WEIGHTS)
