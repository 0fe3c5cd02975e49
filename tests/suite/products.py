"""Rows: products of matrices and vectors, distances, attention in all its forms, quantized values."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import torch.ao.quantization.fx._decomposed  # defines torch.ops.quantized_decomposed
import torch.nn.functional as F
from torch import Tensor

from suite.case import Case, boolean, f32, i64, unit

_HALVES = {torch.float16: 2e-3, torch.bfloat16: 2e-2}
quantized = torch.ops.quantized_decomposed
aten = torch.ops.aten


def rows() -> Iterator[Case]:
    """All of them."""
    yield from _products()
    yield from _distances()
    yield from _found_by_samples()
    yield from _attention()
    yield from _quantized()


def _three(x: Tensor) -> list[Tensor]:
    """Queries, keys and values. One tensor three times would be one input, and any mix-up of them unseen."""
    return [x, x.flip(-1), x.flip(-2) * 2]


def _products() -> Iterator[Case]:
    yield Case("matmul of two vectors", torch.matmul, [f32(4), f32(4)])
    yield Case("matmul of a vector and matrices", torch.matmul, [f32(4), f32(2, 3, 4, 5)])
    yield Case("matmul of matrices and a vector", torch.matmul, [f32(2, 3, 4, 5), f32(5)])
    yield Case("matmul dynamic", torch.matmul, [f32(2, 1, 3, 4), f32(5, 4, 6)], [f32(3, 1, 7, 4), f32(5, 4, 6)])
    yield Case("matmul of a vector dynamic", torch.matmul, [f32(4), f32(2, 3, 4, 5)], [f32(4), f32(7, 9, 4, 5)])
    yield Case("mv dynamic", torch.mv, [f32(3, 4), f32(4)], [f32(6, 4), f32(4)])
    yield Case("dot dynamic", torch.dot, [f32(3), f32(3)], [f32(7), f32(7)])
    yield Case("addmv", lambda b, x, y: torch.addmv(b, x, y, beta=0.5, alpha=2.0), [f32(3), f32(3, 4), f32(4)])
    yield Case("baddbmm broadcast", torch.baddbmm, [f32(1, 5), f32(2, 3, 4), f32(2, 4, 5)])
    nothing = [f32(2, 3, 5) * math.nan, f32(2, 3, 4), f32(2, 4, 5)]
    yield Case("baddbmm beta 0 of nan", lambda b, x, y: torch.baddbmm(b, x, y, beta=0), nothing)
    yield Case("addbmm", torch.addbmm, [f32(3, 5), f32(2, 3, 4), f32(2, 4, 5)])
    yield Case("einsum of three", lambda *x: torch.einsum("ij,jk,kl->il", *x), [f32(2, 3), f32(3, 4), f32(4, 5)])
    yield Case("einsum with dots", lambda x, y: torch.einsum("...ij,...jk->...ik", x, y), [f32(2, 3, 4), f32(2, 4, 5)])
    yield Case("einsum of a diagonal", lambda x: torch.einsum("bii->bi", x), [f32(2, 3, 3)])
    yield Case(
        "einsum outer", lambda x, y: torch.einsum("bi,bj->bij", x, y), [f32(2, 3), f32(2, 4)], [f32(5, 3), f32(5, 4)]
    )
    for dtype, tolerance in _HALVES.items():
        low = [f32(5).to(dtype), f32(3, 4).to(dtype), f32(4, 5).to(dtype)]
        yield Case(f"addmm of {dtype}", lambda b, x, y: torch.addmm(b, x, y, beta=0.5), low, tolerance=4 * tolerance)


def _found_by_samples() -> Iterator[Case]:
    """What PyTorch's own samples and the mutations found (docs/verification.md)."""
    for function in (torch.floor_divide, torch.remainder):
        edges = torch.tensor([1.5, -2.5, 0.0, 1e-30, -1e-30, 7.0, -7.0])
        others = torch.tensor([float("inf"), -float("inf"), 1e30, -1e30, 2.0, -2.0])
        yield Case(f"{function.__name__} by all edges", function, [edges[:, None], others])
    yield Case("add of bool with alpha", lambda x, y: torch.add(x, y, alpha=False), [boolean(3, 5), boolean(5)])
    yield Case("pad of nothing", lambda x: F.pad(x, (1, 1, 1, 1, 1, 1), value=2.0), [f32(0, 3, 3)])
    yield Case("pad circular by negative amounts", lambda x: F.pad(x, (-1, 1, -2, 1), "circular"), [f32(1, 3, 4, 4)])


def _distances() -> Iterator[Case]:
    for p in (0.0, 1.0, 1.5, 3.0, math.inf):
        pair = (
            [i64(3, 4, low=0, high=2).float(), i64(5, 4, low=0, high=2).float()] if p == 0 else [f32(3, 4), f32(5, 4)]
        )
        yield Case(f"cdist {p}", lambda x, y, p=p: torch.cdist(x, y, p), pair)
        yield Case(f"pdist {p}", lambda x, p=p: F.pdist(x, p), [f32(4, 3)])
    yield Case("cdist in batches", torch.cdist, [f32(2, 3, 4), f32(2, 5, 4)])
    yield Case("cdist broadcast", torch.cdist, [f32(2, 1, 3, 4), f32(3, 5, 4)])
    yield Case("cdist dynamic", torch.cdist, [f32(3, 4), f32(5, 4)], [f32(7, 4), f32(2, 4)])
    yield Case("cdist to itself", lambda x: torch.cdist(x, x), [f32(3, 4)])
    yield Case("pdist", F.pdist, [f32(4, 3)])
    yield Case("cross", torch.linalg.cross, [f32(2, 3), f32(2, 3)])
    yield Case("cross along the first", lambda x, y: torch.linalg.cross(x, y, dim=0), [f32(3, 4), f32(3, 1)])
    yield Case("cross dynamic", torch.linalg.cross, [f32(2, 3), f32(2, 3)], [f32(5, 3), f32(5, 3)])


def _attention() -> Iterator[Case]:
    shape = (2, 4, 5, 8)
    attend = F.scaled_dot_product_attention
    three = [f32(*shape), f32(*shape), f32(*shape)]
    hidden = torch.tensor([0.0, 1.0, -math.inf, 0.5, -math.inf]).expand(5, 5).clone()
    hidden[3] = -math.inf
    yield Case("attention with rows hidden by -inf", attend, [*three, hidden])
    yield Case("attention with a mask of one row", attend, [*three, boolean(2, 1, 1, 5) | (torch.arange(5) == 1)])
    yield Case(
        "attention with a mask of one column",
        attend,
        [*three, torch.tensor([[True], [False], [True], [True], [False]])],
    )
    yield Case("attention of rank 2", attend, [f32(5, 8), f32(7, 8), f32(7, 8)])
    yield Case("attention of rank 3 dynamic", attend, _three(f32(2, 5, 8)), _three(f32(3, 7, 8)))
    yield Case("attention of rank 5", attend, _three(f32(2, 2, 2, 5, 8)))
    yield Case("attention of broadcast batches", attend, [f32(2, 4, 5, 8), f32(1, 4, 5, 8), f32(1, 4, 5, 8)])
    yield Case(
        "attention of one head for all",
        lambda q, k, v: attend(q, k, v, enable_gqa=True),
        [three[0], f32(2, 1, 6, 8), f32(2, 1, 6, 8)],
    )
    for dtype, tolerance in _HALVES.items():
        low = [tensor.to(dtype) for tensor in three]
        yield Case(f"attention of {dtype}", attend, low, tolerance=2 * tolerance)
        yield Case(
            f"causal attention of {dtype}",
            lambda q, k, v: attend(q, k, v, is_causal=True),
            low,
            tolerance=2 * tolerance,
        )
        yield Case(
            f"masked attention of {dtype}",
            attend,
            [*low, boolean(5, 5) | torch.eye(5, dtype=torch.bool)],
            tolerance=2 * tolerance,
        )
    yield Case("flash attention for CPUs", _flash, three)


def _flash(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return aten._scaled_dot_product_flash_attention_for_cpu(query, key, value, is_causal=True)[0]


def _through(dtype: torch.dtype, low: int, high: int, zero: int = 0):  # type: ignore[no-untyped-def]
    def function(x: Tensor) -> Tensor:
        made = quantized.quantize_per_tensor(x, 0.01, zero, low, high, dtype)
        return quantized.dequantize_per_tensor(made, 0.01, zero, low, high, dtype)

    return function


def _channels(x: Tensor, scales: Tensor) -> Tensor:
    zeros = torch.zeros(scales.shape[0], dtype=torch.int64)
    made = quantized.quantize_per_channel(x, scales, zeros, 0, -128, 127, torch.int8)
    return quantized.dequantize_per_channel(made, scales, zeros, 0, -128, 127, torch.int8)


def _quantized() -> Iterator[Case]:
    yield Case("int8 and back", _through(torch.int8, -128, 127), [unit(3, 4)])
    yield Case("int8 and back dynamic", _through(torch.int8, -128, 127), [unit(3, 4)], [unit(7, 4)])
    yield Case("int8 of values outside", _through(torch.int8, -128, 127), [unit(3, 4) * 9])
    yield Case("int8 of fewer values", _through(torch.int8, -127, 127), [unit(3, 4) * 9])
    yield Case("int8 around another zero", _through(torch.int8, -128, 127, 5), [unit(3, 4)])
    yield Case("uint8 and back", _through(torch.uint8, 0, 255), [unit(3, 4)])
    yield Case("int8 by channels and back", _channels, [unit(3, 4), torch.tensor([0.01, 0.02, 0.03])])
