"""Rows: norms in all their forms and dtypes, dropout, quantized values by tensors, sizes that compute."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import torch.ao.quantization.fx._decomposed  # defines torch.ops.quantized_decomposed
import torch.nn.functional as F
from torch import Tensor

from suite.case import Case, boolean, f32, i64, pos, unit

aten = torch.ops.aten
quantized = torch.ops.quantized_decomposed
_HALVES = {torch.float16: 2e-3, torch.bfloat16: 1.6e-2}


def rows() -> Iterator[Case]:
    """All of them."""
    yield from _layers()
    yield from _groups()
    yield from _batches()
    yield from _halves()
    yield from _products()
    yield from _attention()
    yield from _quantized()
    yield from _fake_quantized()
    yield from _sizes()


def _layers() -> Iterator[Case]:
    def every(x: Tensor, w: Tensor, b: Tensor) -> tuple[Tensor, ...]:
        return aten.native_layer_norm(x, w.shape, w, b, 1e-5)

    yield Case("layer_norm with its statistics", every, [f32(2, 4, 5), f32(5), f32(5)])
    yield Case("layer_norm of everything with its statistics", every, [f32(3, 4), f32(3, 4), f32(3, 4)])
    yield Case("layer_norm statistics dynamic", every, [f32(2, 4, 5), f32(5), f32(5)], [f32(3, 7, 5), f32(5), f32(5)])
    yield Case("layer_norm of a vector", lambda x, w: F.layer_norm(x, (6,), w), [f32(6), f32(6)])
    yield Case("layer_norm with a bias alone", lambda x, b: F.layer_norm(x, (6,), None, b), [f32(2, 6), f32(6)])
    yield Case("layer_norm of six dims", lambda x: F.layer_norm(x, (2, 3)), [f32(2, 2, 1, 2, 2, 3)])
    yield Case("layer_norm of no rows", lambda x: F.layer_norm(x, (3,)), [f32(0, 3)])
    yield Case("layer_norm far from 0", lambda x: F.layer_norm(x, (64,)), [f32(4, 64) + 100], tolerance=2e-5)
    yield Case("layer_norm of one value", lambda x, w, b: F.layer_norm(x, (1,), w, b), [f32(3, 1), f32(1), f32(1)])
    yield Case("layer_norm of a varying width", lambda x: F.layer_norm(x, x.shape[1:]), [f32(2, 5)], [f32(2, 9)])
    yield Case("rms_norm of two dims", lambda x: F.rms_norm(x, (3, 4), eps=0.5), [f32(2, 3, 4)])


def _groups() -> Iterator[Case]:
    def every(x: Tensor, w: Tensor, b: Tensor) -> tuple[Tensor, ...]:
        return aten.native_group_norm(x, w, b, x.shape[0], x.shape[1], x[0, 0].numel(), 3, 1e-5)

    yield Case("group_norm with its statistics", every, [f32(2, 6, 4, 5), f32(6), f32(6)])
    sizes = [f32(2, 6, 5), f32(6), f32(6)], [f32(3, 6, 7), f32(6), f32(6)]
    yield Case("group_norm statistics dynamic", every, *sizes)
    for groups in (1, 2, 3):
        weighted = [f32(2, 6, 3, 4), f32(6), f32(6)]
        yield Case(f"group_norm of {groups}", lambda x, w, b, g=groups: F.group_norm(x, g, w, b, 0.1), weighted)
        yield Case(
            f"group_norm of {groups} in no place", lambda x, w, g=groups: F.group_norm(x, g, w), [f32(2, 6), f32(6)]
        )
        yield Case(f"group_norm of {groups} in 3d", lambda x, g=groups: F.group_norm(x, g), [f32(2, 6, 2, 3, 2)])
    yield Case("group_norm of one dynamic", lambda x: F.group_norm(x, 1), [f32(2, 4, 5, 3)], [f32(3, 4, 6, 7)])
    yield Case("group_norm with a bias alone", lambda x, b: F.group_norm(x, 2, None, b), [f32(2, 4, 5), f32(4)])
    yield Case("instance_norm dynamic", F.instance_norm, [f32(2, 4, 5, 3)], [f32(3, 4, 6, 7)])
    known = [f32(2, 4, 5), f32(4), pos(4)]
    by = lambda x, m, v: F.instance_norm(x, m, v, use_input_stats=False)  # noqa: E731
    yield Case("instance_norm by known statistics", by, known)
    weighted_two = [f32(2, 4, 5), f32(4), f32(4)], [f32(5, 4, 6), f32(4), f32(4)]
    yield Case(
        "instance_norm with weights dynamic", lambda x, w, b: F.instance_norm(x, weight=w, bias=b), *weighted_two
    )


def _batches() -> Iterator[Case]:
    def every(x: Tensor, w: Tensor, b: Tensor) -> tuple[Tensor, ...]:
        return aten._native_batch_norm_legit.no_stats(x, w, b, True, 0.1, 1e-5)

    def functional(x: Tensor, mean: Tensor, variance: Tensor) -> tuple[Tensor, ...]:
        return aten._native_batch_norm_legit_functional(x, None, None, mean, variance, True, 0.3, 1e-5)

    def known(x: Tensor, mean: Tensor, variance: Tensor) -> tuple[Tensor, ...]:
        return aten._native_batch_norm_legit_no_training(x, None, None, mean, variance, 0.1, 1e-5)

    yield Case("batch_norm of the batch with its statistics", every, [f32(3, 4, 5), f32(4), f32(4)])
    yield Case("batch_norm of a batch of one", every, [f32(1, 4, 5, 2), f32(4), f32(4)])
    yield Case("batch_norm of rows", every, [f32(6, 4), f32(4), f32(4)])
    two = [f32(3, 4, 5), f32(4), f32(4)], [f32(2, 4, 7), f32(4), f32(4)]
    yield Case("batch_norm of the batch dynamic", every, *two)
    yield Case(
        "batch_norm of the batch without weights", lambda x: F.batch_norm(x, None, None, training=True), [f32(3, 4)]
    )
    yield Case("batch_norm with running statistics after it", functional, [f32(3, 4, 5), f32(4), pos(4)])
    later = [f32(3, 4, 5), f32(4), pos(4)], [f32(2, 4, 7), f32(4), pos(4)]
    yield Case("batch_norm with running statistics dynamic", functional, *later)
    yield Case("batch_norm and its empty statistics", known, [f32(3, 4, 5), f32(4), pos(4)])
    yield Case("batch_norm dynamic", F.batch_norm, *later)


def _halves() -> Iterator[Case]:
    for dtype, tolerance in _HALVES.items():
        x, w, b = f32(2, 4, 6).to(dtype) * 50, f32(6).to(dtype), f32(6).to(dtype)
        c, d, v = f32(4).to(dtype), f32(4).to(dtype), pos(4).to(dtype)
        yield Case(
            f"layer_norm of {dtype}", lambda x, w, b: F.layer_norm(x, (6,), w, b), [x, w, b], tolerance=tolerance
        )
        yield Case(
            f"layer_norm statistics of {dtype}",
            lambda x: aten.native_layer_norm(x, (6,), None, None, 1e-5),
            [x],
            tolerance=tolerance,
        )
        yield Case(f"group_norm of {dtype}", lambda x, c, d: F.group_norm(x, 2, c, d), [x, c, d], tolerance=tolerance)
        yield Case(f"batch_norm of {dtype}", F.batch_norm, [x, c, v, c.flip(0), d], tolerance=2 * tolerance)
        yield Case(f"instance_norm of {dtype}", F.instance_norm, [x], tolerance=tolerance)
        yield Case(f"rms_norm of {dtype}", lambda x, w: F.rms_norm(x, (6,), w), [x, w], tolerance=tolerance)
        mixed = [x, w.float(), b.float()]
        yield Case(
            f"layer_norm of {dtype} by float32", lambda x, w, b: F.layer_norm(x, (6,), w, b), mixed, tolerance=tolerance
        )
        yield Case(
            f"layer_norm statistics of {dtype} by float32",
            lambda x, w: aten.native_layer_norm(x, (6,), w, w, 1e-5),
            mixed[:2],
        )


def _products() -> Iterator[Case]:
    wide = [f32(3, 5), f32(2, 3, 4), f32(2, 4, 5)]
    yield Case("addbmm beta alpha", lambda a, x, y: torch.addbmm(a, x, y, beta=0.5, alpha=-2), wide)
    yield Case("addbmm dynamic", torch.addbmm, wide, [f32(3, 5), f32(6, 3, 4), f32(6, 4, 5)])
    yield Case("addr", lambda a, x, y: torch.addr(a, x, y, beta=0.5, alpha=2), [f32(3, 4), f32(3), f32(4)])
    yield Case("dropout with what is kept", lambda x: aten.native_dropout(x, 0.5, False), [f32(2, 3)], [f32(4, 3)])
    yield Case("dropout in training", lambda x: aten.native_dropout(x, 0.5, True), [f32(2, 3)])
    yield Case("split of varying parts", lambda x: torch.split(x, [x.shape[0] - 2, 2]), [f32(5, 3)], [f32(9, 3)])
    yield Case("random numbers", lambda x: x + torch.rand(3), [f32(3)])


def _attention() -> Iterator[Case]:
    weights = [f32(24, 8), f32(24), f32(8, 8), f32(8)]

    def attend(x: Tensor, *rest: Tensor, shares: bool = True, mean: bool = True, kind: int | None = None) -> object:
        mask = rest[4] if kind is not None else None
        return aten._native_multi_head_attention(x, x, x, 8, 2, *rest[:4], mask, shares, mean, kind)

    yield Case("attention of PyTorch's module", attend, [f32(2, 5, 8), *weights])
    yield Case("attention and each head's shares", lambda *x: attend(*x, mean=False), [f32(2, 5, 8), *weights])
    yield Case("attention without shares", lambda *x: attend(*x, shares=False)[0], [f32(2, 5, 8), *weights])  # type: ignore[index]
    masks = (boolean(5, 5) & ~torch.eye(5, dtype=torch.bool), torch.arange(5).expand(2, 5) > 2, boolean(2, 2, 5, 5))
    masks[2][..., 0] = False
    for kind, mask in enumerate(masks):
        yield Case(f"attention masked as {kind}", lambda *x, k=kind: attend(*x, kind=k), [f32(2, 5, 8), *weights, mask])


def _round_trip(dtype: torch.dtype, low: int, high: int):  # type: ignore[no-untyped-def]
    def function(x: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
        made = quantized.quantize_per_tensor.tensor(x, scale, zero, low, high, dtype)
        return quantized.dequantize_per_tensor.tensor(made, scale, zero, low, high, dtype)

    return function


def _by_bounds(x: Tensor, scale: Tensor, zero: Tensor, low: Tensor, high: Tensor) -> Tensor:
    made = quantized.quantize_per_tensor.tensor2(x, scale, zero, low, high, torch.int8)
    return quantized.dequantize_per_tensor.tensor2(made, scale, zero, low, high, torch.int8)


def _plain_by_tensor(x: Tensor, scale: Tensor) -> Tensor:
    zero = torch.zeros(1, dtype=torch.int64)
    made = quantized.quantize_per_tensor.tensor(x, scale, zero, -128, 127, torch.int8)
    return quantized.dequantize_per_tensor.tensor(made, scale, zero, -128, 127, torch.int8)


def _channels(x: Tensor, scales: Tensor, zeros: Tensor) -> Tensor:
    made = quantized.quantize_per_channel(x, scales, zeros, 1, 0, 255, torch.uint8)
    return quantized.dequantize_per_channel(made, scales, zeros, 1, 0, 255, torch.uint8)


def _quantized() -> Iterator[Case]:
    scale, zero = torch.tensor([0.011]), torch.tensor([3])
    yield Case("int8 by tensors and back", _round_trip(torch.int8, -128, 127), [unit(3, 4), scale, zero])
    yield Case("uint8 by tensors and back", _round_trip(torch.uint8, 0, 255), [unit(3, 4), scale, torch.tensor([120])])
    bounds = [torch.tensor([-100]), torch.tensor([90])]
    yield Case("int8 by tensors within bounds", _by_bounds, [unit(3, 4) * 3, scale, zero, *bounds])
    yield Case("int8 by a tensor around 0", _plain_by_tensor, [unit(3, 4), scale], [unit(6, 4), scale])
    zeros = i64(3, low=0, high=255)
    yield Case("uint8 by channels and back", _channels, [unit(2, 3, 4), pos(3) * 0.02, zeros])
    last = lambda x: quantized.quantize_per_tensor(x, 0.1, 0, -128, 127, torch.int8)  # noqa: E731
    yield Case("int8 as a result", last, [unit(3, 4)])
    around = lambda x: quantized.quantize_per_tensor(x, 0.1, 9, 0, 255, torch.uint8)  # noqa: E731
    yield Case("uint8 as a result", around, [unit(3, 4)])


def _fake_quantized() -> Iterator[Case]:
    whole = lambda x: torch.fake_quantize_per_tensor_affine(x, 0.02, 0, -128, 127)  # noqa: E731
    part = lambda x: torch.fake_quantize_per_tensor_affine(x, 0.02, 100, 0, 255)  # noqa: E731
    yield Case("fake int8", whole, [unit(3, 4) * 3])
    yield Case("fake uint8", part, [unit(3, 4) * 3])
    mask = lambda x: aten.fake_quantize_per_tensor_affine_cachemask(x, 0.02, 0, -128, 127)  # noqa: E731
    yield Case("fake int8 and its mask", mask, [unit(3, 4) * 3])
    zeros = torch.tensor([0, 5], dtype=torch.int32)
    along = lambda x, s, z: torch.fake_quantize_per_channel_affine(x, s, z, 0, -128, 127)  # noqa: E731
    yield Case("fake int8 by channels", along, [unit(2, 5), pos(2) * 0.01, zeros])
    by = lambda x, s, z: torch.fake_quantize_per_tensor_affine(x, s, z, -128, 127)  # noqa: E731
    yield Case("fake int8 by tensors", by, [unit(2, 5), torch.tensor(0.03), torch.tensor(4, dtype=torch.int32)])


def _sizes() -> Iterator[Case]:
    both = [f32(7, 4)], [f32(10, 4)]
    for name, function in {
        "of all elements": lambda x: x * x.numel(),
        "divided": lambda x: x / (x.shape[0] / 3),
        "modulo 3": lambda x: x * (x.shape[0] % 3),
        "to a power": lambda x: x * (x.shape[0] ** 2 + x.shape[0] ** -0.5),
        "halved and rounded up": lambda x: x[: math.ceil(x.shape[0] / 2)],
        "halved and rounded down": lambda x: x[: math.floor(x.shape[0] / 2)] * math.trunc(-x.shape[0] / 3),
        "shifted": lambda x: x * (x.shape[0] << 2) + (x.shape[0] >> 1),
        "compared": lambda x: torch.full((2,), x.shape[0] == 7) | torch.full((2,), x.shape[0] / 2 > 9),
        "compared twice": lambda x: torch.full((2,), torch.sym_not(x.shape[0] < 9) & (x.shape[0] >= 3)),
        "at most and at least": lambda x: x * torch.sym_min(x.shape[0] / 2, 4.5) + torch.sym_max(x.shape[0], 8),
        "of a fraction": lambda x: torch.full((math.floor(x.shape[0] * 0.3),), 1.0),
        "negated": lambda x: x * (-x.shape[0] // 4),
    }.items():
        yield Case(f"a size {name}", function, *both)
