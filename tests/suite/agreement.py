"""Whether two tensors agree."""

from __future__ import annotations

import torch
from torch import Tensor


def disagreement(given: Tensor, wanted: Tensor, tolerance: float) -> str:
    """What differs from PyTorch's output, or ""; integers and bools must be equal, NaN and infinities in place."""
    if given.dtype != wanted.dtype or given.shape != wanted.shape:
        return f"{given.dtype} {tuple(given.shape)} instead of {wanted.dtype} {tuple(wanted.shape)}"
    if not given.dtype.is_floating_point:
        return (
            ""
            if torch.equal(given, wanted)
            else f"{given.flatten()[:9].tolist()} instead of {wanted.flatten()[:9].tolist()}"
        )
    finite, infinite = torch.isfinite(wanted), torch.isinf(wanted)
    same_nan = torch.equal(torch.isnan(given), torch.isnan(wanted))
    if not same_nan or not torch.equal(given[infinite], wanted[infinite]):
        return f"{given.flatten()[:9].tolist()} instead of {wanted.flatten()[:9].tolist()}"
    a, b = given[finite].double(), wanted[finite].double()
    error = float((a - b).norm() / b.norm().clamp_min(1e-30))
    return "" if error <= tolerance else f"relative error {error:.2e} over {tolerance:.0e}"
