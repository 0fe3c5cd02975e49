"""Rows: reductions, sorting, matrix products and neural-network layers."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from suite.case import Case, boolean, f32, i64, special


def rows() -> Iterator[Case]:
    """All of them."""
    yield from _reductions()
    yield from _orders()
    yield from _products()
    yield from _convolutions()
    yield from _pooling()
    yield from _norms()
    yield from _attention()
    yield from _resizing()


def _reductions() -> Iterator[Case]:
    for name in ("sum", "mean", "amax", "amin", "prod", "var", "std", "logsumexp", "all", "any", "argmax", "argmin"):
        function = getattr(torch, name)
        for dim, keep in ((1, False), (-1, True), (0, False)):
            yield Case(
                f"{name} dim={dim} keepdim={keep}",
                lambda x, f=function, d=dim, k=keep: f(x, d, keepdim=k),
                [_values(name, 3, 4, 5)],
            )
        yield Case(f"{name} dynamic", lambda x, f=function: f(x, 1), [_values(name, 3, 4)], [_values(name, 5, 6)])
        if name not in ("logsumexp", "amax", "amin"):
            yield Case(f"{name} of everything", lambda x, f=function: f(x), [_values(name, 3, 4)])
    for name in ("sum", "amax", "amin", "prod", "all", "any", "argmax", "argmin"):
        function = getattr(torch, name)
        yield Case(f"{name} of int64", lambda x, f=function: f(x, 1), [i64(3, 4)])
        if name not in ("argmax", "argmin"):
            yield Case(f"{name} of bool", lambda x, f=function: f(x, 1), [boolean(3, 4)])
    for name in ("sum", "mean", "amax", "amin", "var", "logsumexp"):
        function = getattr(torch, name)
        yield Case(f"{name} of two dims", lambda x, f=function: f(x, (0, -1)), [f32(3, 4, 5)])
        yield Case(f"{name} of special values", lambda x, f=function: f(x.view(2, 4), 1), [special()])
    yield Case("sum of nothing", lambda x: x.sum(1), [f32(3, 0)])
    yield Case("mean of nothing", lambda x: x.mean(1), [f32(3, 0)])
    yield Case("all of nothing", lambda x: x.all(), [boolean(0)])
    yield Case("sum as int64 of bool", lambda x: x.sum(), [boolean(30)])
    yield Case("sum with dtype", lambda x: x.sum(1, dtype=torch.float32), [i64(3, 4)])
    yield Case("sum of large int64", lambda x: x.sum(), [torch.full((64,), 2**24 + 1)])
    yield Case("mean with dtype", lambda x: x.mean(1, dtype=torch.float32), [i64(3, 4)])
    for correction in (0, 1, 2):
        yield Case(f"var correction={correction}", lambda x, c=correction: torch.var(x, 1, correction=c), [f32(3, 4)])
        yield Case(
            f"var_mean correction={correction}", lambda x, c=correction: torch.var_mean(x, 1, correction=c), [f32(3, 4)]
        )
    for order in (0, 1, 2, 3, float("inf"), -float("inf")):
        given = f32(3, 4) * boolean(3, 4) if order == 0 else f32(3, 4)
        yield Case(f"vector_norm {order}", lambda x, p=order: torch.linalg.vector_norm(x, p, dim=1), [given])
    yield Case("normalize", lambda x: F.normalize(x, dim=-1), [f32(3, 4)])
    yield Case("cumsum", lambda x: x.cumsum(1), [f32(3, 4)])
    yield Case("cumsum of bool", lambda x: x.cumsum(-1), [boolean(3, 4)])
    yield Case("cumsum of int64", lambda x: x.cumsum(0), [i64(3, 4)])
    yield Case("cumsum with dtype", lambda x: x.cumsum(0, dtype=torch.float32), [i64(3, 4)])
    yield Case("cumsum dynamic", lambda x: x.cumsum(1), [i64(3, 4)], [i64(5, 7)])
    yield Case("cumprod", lambda x: x.cumprod(1), [f32(3, 4)])
    for name in ("max", "min"):
        function = getattr(torch, name)
        yield Case(f"{name} dim", lambda x, f=function: f(x, 1), [f32(3, 4)])
        yield Case(f"{name} keepdim", lambda x, f=function: f(x, -1, True), [f32(3, 4)])
        yield Case(f"{name} values only", lambda x, f=function: f(x, 1)[0], [f32(3, 4)])
        yield Case(f"{name} of everything", lambda x, f=function: f(x), [f32(3, 4)])
        yield Case(f"{name} of int64 everything", lambda x, f=function: f(x), [i64(3, 4)])
        yield Case(
            f"{name} with ties",
            lambda x, f=function: f(x, 1),
            [torch.tensor([[1.0, 3, 3, 1], [2, 2, 2, 2]])],
        )
    ties = torch.tensor([[1.0, 3, 3, 1], [2, 2, 2, 2]])
    yield Case("argmax with ties", lambda x: x.argmax(1), [ties])
    yield Case("argmin with ties", lambda x: x.argmin(1), [ties])
    yield Case("argmax with nan", lambda x: x.argmax(0), [special()])
    yield Case("argmax of large int64", lambda x: x.argmax(), [torch.tensor([2**24, 2**24 + 1, 5])])


def _values(name: str, *shape: int) -> Tensor:
    """Floats; for all and any half of them 0, since otherwise every answer is yes."""
    return f32(*shape) * boolean(*shape) if name in ("all", "any") else f32(*shape)


def _orders() -> Iterator[Case]:
    for largest in (True, False):
        yield Case(f"topk largest={largest}", lambda x, g=largest: x.topk(3, 1, g), [f32(3, 8)])
        yield Case(f"topk of int64 largest={largest}", lambda x, g=largest: x.topk(3, 1, g)[0], [i64(3, 8)])
        yield Case(f"sort descending={largest}", lambda x, g=largest: x.sort(1, g), [f32(3, 8)])
        yield Case(f"stable sort descending={largest}", _stable(largest), [i64(3, 8, low=0, high=3)])
    yield Case("argsort", lambda x: x.argsort(-1), [f32(3, 8)])
    yield Case("topk of everything", lambda x: x.topk(8), [f32(3, 8)])
    yield Case("topk dynamic", lambda x: x.topk(3, 1), [f32(3, 8)], [f32(4, 9)])
    yield Case("kthvalue", lambda x: x.kthvalue(2, 1), [f32(3, 8)])
    yield Case("median", lambda x: x.median(1), [f32(3, 7)])


def _stable(descending: bool):  # type: ignore[no-untyped-def]
    return lambda x: torch.sort(x, dim=1, descending=descending, stable=True)


def _products() -> Iterator[Case]:
    yield Case("mm", torch.mm, [f32(3, 4), f32(4, 5)])
    yield Case("mm of int64", torch.mm, [i64(3, 4), i64(4, 5)])
    yield Case("mm over nothing", torch.mm, [f32(3, 0), f32(0, 5)])
    yield Case("mm dynamic", torch.mm, [f32(3, 4), f32(4, 5)], [f32(6, 4), f32(4, 5)])
    yield Case("bmm", torch.bmm, [f32(2, 3, 4), f32(2, 4, 5)])
    yield Case("bmm dynamic", torch.bmm, [f32(2, 3, 4), f32(2, 4, 5)], [f32(3, 6, 4), f32(3, 4, 5)])
    yield Case("matmul broadcast", torch.matmul, [f32(2, 1, 3, 4), f32(5, 4, 6)])
    yield Case("matmul vector", torch.matmul, [f32(3, 4), f32(4)])
    yield Case("dot", torch.dot, [f32(4), f32(4)])
    yield Case("outer", torch.outer, [f32(4), f32(3)])
    yield Case("addmm", torch.addmm, [f32(5), f32(3, 4), f32(4, 5)])
    yield Case(
        "addmm beta alpha", lambda b, x, y: torch.addmm(b, x, y, beta=0.5, alpha=2.0), [f32(5), f32(3, 4), f32(4, 5)]
    )
    yield Case(
        "addmm beta 0 of nan",
        lambda b, x, y: torch.addmm(b, x, y, beta=0),
        [f32(5) * float("nan"), f32(3, 4), f32(4, 5)],
    )
    yield Case(
        "baddbmm", lambda b, x, y: torch.baddbmm(b, x, y, beta=0.5, alpha=2), [f32(2, 3, 5), f32(2, 3, 4), f32(2, 4, 5)]
    )
    yield Case("einsum", lambda x, y: torch.einsum("bij,bkj->bik", x, y), [f32(2, 3, 4), f32(2, 5, 4)])
    yield Case("linear", F.linear, [f32(2, 3, 4), f32(5, 4), f32(5)])
    yield Case("linear without bias", F.linear, [f32(3, 4), f32(5, 4)])
    yield Case("linear of a vector", F.linear, [f32(4), f32(5, 4), f32(5)])
    yield Case("linear dynamic", F.linear, [f32(2, 3, 4), f32(5, 4), f32(5)], [f32(3, 6, 4), f32(5, 4), f32(5)])
    yield Case("bilinear", F.bilinear, [f32(3, 4), f32(3, 5), f32(6, 4, 5), f32(6)])
    yield Case("cdist", torch.cdist, [f32(3, 4), f32(5, 4)])
    yield Case("cosine_similarity", F.cosine_similarity, [f32(3, 4), f32(3, 4)])
    half = [f32(3, 4).half(), f32(4, 5).half()]
    yield Case("mm of float16", torch.mm, half, tolerance=1e-2)
    yield Case("mm of bfloat16", torch.mm, [tensor.bfloat16() for tensor in half], tolerance=2e-2)


def _convolutions() -> Iterator[Case]:
    sizes = {1: (11,), 2: (9, 10), 3: (5, 6, 7)}
    for rank, size in sizes.items():
        kernel = (3,) * rank
        conv, back = getattr(F, f"conv{rank}d"), getattr(F, f"conv_transpose{rank}d")
        for options in (
            {}, {"stride": 2, "padding": 1}, {"dilation": 2, "padding": 2}, {"groups": 2}, {"padding": "same"},
            {"padding": "valid"},
        ):  # fmt: skip
            groups = int(str(options.get("groups", 1)))
            given = [f32(2, 4, *size), f32(6, 4 // groups, *kernel), f32(6)]
            yield Case(
                f"conv{rank}d {options}", lambda x, w, b, f=conv, o=options: f(x, w, b, **o), given, tolerance=2e-5
            )
        for options in ({}, {"stride": 2, "padding": 1, "output_padding": 1}, {"groups": 2, "dilation": 2}):
            groups = int(str(options.get("groups", 1)))
            given = [f32(2, 4, *size), f32(4, 6 // groups, *kernel), f32(6)]
            yield Case(
                f"conv_transpose{rank}d {options}",
                lambda x, w, b, f=back, o=options: f(x, w, b, **o),
                given,
                tolerance=2e-5,
            )
        yield Case(f"conv{rank}d without bias", conv, [f32(2, 4, *size), f32(6, 4, *kernel)], tolerance=2e-5)
        yield Case(f"conv{rank}d without batch", conv, [f32(4, *size), f32(6, 4, *kernel)], tolerance=2e-5)
    weights = [f32(6, 4, 3, 3), f32(6)]
    yield Case("conv2d dynamic", F.conv2d, [f32(2, 4, 8, 9), *weights], [f32(3, 4, 10, 12), *weights], tolerance=2e-5)
    yield Case("depthwise", lambda x, w: F.conv2d(x, w, groups=4), [f32(2, 4, 8, 9), f32(4, 1, 3, 3)], tolerance=2e-5)


def _pooling() -> Iterator[Case]:
    for rank, size in {1: (11,), 2: (9, 10), 3: (5, 6, 7)}.items():
        given = [f32(2, 3, *size)]
        largest, average = getattr(F, f"max_pool{rank}d"), getattr(F, f"avg_pool{rank}d")
        for ceil in (False, True):
            options = {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": ceil}
            yield Case(f"max_pool{rank}d ceil={ceil}", lambda x, f=largest, o=options: f(x, **o), given)
            for count in (False, True):
                both = {**options, "count_include_pad": count}
                yield Case(
                    f"avg_pool{rank}d ceil={ceil} count_include_pad={count}",
                    lambda x, f=average, o=both: f(x, **o),
                    given,
                )
        yield Case(f"max_pool{rank}d indices", lambda x, f=largest: f(x, 2, return_indices=True), given)
        yield Case(f"max_pool{rank}d dilated", lambda x, f=largest: f(x, 2, dilation=2), given)
        yield Case(f"max_pool{rank}d of negatives", lambda x, f=largest: f(x - 9, 3, padding=1), given)
        for target in (1, 2, 3):
            function = getattr(F, f"adaptive_avg_pool{rank}d")
            yield Case(
                f"adaptive_avg_pool{rank}d {target}",
                lambda x, f=function, t=target: f(x, t),
                given,
            )
            function = getattr(F, f"adaptive_max_pool{rank}d")
            yield Case(
                f"adaptive_max_pool{rank}d {target}",
                lambda x, f=function, t=target: f(x, t),
                given,
            )
    yield Case("avg_pool2d divisor", lambda x: F.avg_pool2d(x, 2, divisor_override=3), [f32(2, 3, 8, 8)])
    yield Case("max_pool2d without batch", lambda x: F.max_pool2d(x, 2), [f32(3, 8, 8)])
    yield Case("max_pool2d dynamic", lambda x: F.max_pool2d(x, 2), [f32(2, 3, 8, 8)], [f32(3, 3, 9, 12)])
    yield Case("avg_pool2d dynamic", lambda x: F.avg_pool2d(x, 2), [f32(2, 3, 8, 8)], [f32(3, 3, 9, 12)])
    yield Case("global average dynamic", lambda x: F.adaptive_avg_pool2d(x, 1), [f32(2, 3, 8, 8)], [f32(3, 3, 9, 12)])
    yield Case("lp_pool2d", lambda x: F.lp_pool2d(x, 2, 2), [f32(2, 3, 8, 8)])


def _norms() -> Iterator[Case]:
    statistics = [f32(4), f32(4).abs() + 0.5, f32(4), f32(4)]
    yield Case("batch_norm", F.batch_norm, [f32(2, 4, 5), *statistics])
    yield Case("batch_norm without weights", F.batch_norm, [f32(2, 4, 5, 3), *statistics[:2]])
    yield Case("batch_norm eps", lambda x, m, v: F.batch_norm(x, m, v, eps=0.3), [f32(2, 4), *statistics[:2]])
    yield Case("layer_norm", lambda x, w, b: F.layer_norm(x, (5,), w, b), [f32(2, 4, 5), f32(5), f32(5)])
    yield Case("layer_norm without weights", lambda x: F.layer_norm(x, (5,)), [f32(2, 4, 5)])
    yield Case("layer_norm without bias", lambda x, w: F.layer_norm(x, (5,), w), [f32(2, 4, 5), f32(5)])
    yield Case(
        "layer_norm of two dims",
        lambda x, w, b: F.layer_norm(x, (4, 5), w, b, 0.1),
        [f32(2, 4, 5), f32(4, 5), f32(4, 5)],
    )
    yield Case("layer_norm dynamic", lambda x: F.layer_norm(x, (5,)), [f32(2, 4, 5)], [f32(3, 6, 5)])
    yield Case("group_norm", lambda x, w, b: F.group_norm(x, 2, w, b), [f32(2, 4, 5), f32(4), f32(4)])
    yield Case("group_norm without weights", lambda x: F.group_norm(x, 2), [f32(2, 4, 5, 3)])
    yield Case("group_norm dynamic", lambda x: F.group_norm(x, 2), [f32(2, 4, 5, 3)], [f32(3, 4, 6, 7)])
    yield Case("instance_norm", lambda x, w, b: F.instance_norm(x, weight=w, bias=b), [f32(2, 4, 5), f32(4), f32(4)])
    yield Case("instance_norm 2d", F.instance_norm, [f32(2, 4, 5, 3)])
    yield Case("rms_norm", lambda x, w: F.rms_norm(x, (5,), w), [f32(2, 4, 5), f32(5)])
    yield Case("rms_norm without weights", lambda x: F.rms_norm(x, (5,)), [f32(2, 4, 5)])
    yield Case("rms_norm eps", lambda x, w: F.rms_norm(x, (4, 5), w, 0.1), [f32(2, 4, 5), f32(4, 5)])
    yield Case("rms_norm dynamic", lambda x, w: F.rms_norm(x, (5,), w), [f32(2, 4, 5), f32(5)], [f32(3, 6, 5), f32(5)])
    yield Case("local_response_norm", lambda x: F.local_response_norm(x, 3), [f32(2, 4, 5, 6)])
    for dim in (0, 1, -1):
        yield Case(f"softmax {dim}", lambda x, d=dim: x.softmax(d), [f32(3, 4, 5)])
        yield Case(f"log_softmax {dim}", lambda x, d=dim: x.log_softmax(d), [f32(3, 4, 5)])
    yield Case("softmax of a scalar", lambda x: x.softmax(0), [torch.tensor(2.0)])
    yield Case(
        "softmax of -inf rows",
        lambda x: x.softmax(-1),
        [torch.tensor([[-float("inf")] * 3, [1.0, -float("inf"), 2.0]])],
    )
    yield Case("softmax of int64 as float", lambda x: x.softmax(-1, dtype=torch.float32), [i64(3, 4)])
    yield Case("softmax of large values", lambda x: x.softmax(-1), [f32(3, 4) * 1e4])
    yield Case("softmax dynamic", lambda x: x.softmax(-1), [f32(3, 4)], [f32(5, 6)])
    yield Case("dropout in eval", lambda x: F.dropout(x, 0.5, training=False) + 1, [f32(3, 4)])


def _attention() -> Iterator[Case]:
    shape = (2, 4, 5, 8)
    three = [f32(*shape), f32(*shape), f32(*shape)]
    attend = F.scaled_dot_product_attention
    yield Case("attention", attend, three)
    yield Case("causal attention", lambda q, k, v: attend(q, k, v, is_causal=True), three)
    yield Case("scaled attention", lambda q, k, v: attend(q, k, v, scale=0.3), three)
    yield Case("causal scaled attention", lambda q, k, v: attend(q, k, v, is_causal=True, scale=0.3), three)
    yield Case("attention with a float mask", attend, [*three, f32(5, 5)])
    yield Case("attention with a bool mask", attend, [*three, boolean(2, 1, 5, 5) | torch.eye(5, dtype=torch.bool)])
    yield Case("attention with a mask per head", attend, [*three, f32(2, 4, 5, 5)])
    yield Case(
        "attention with hidden rows",
        attend,
        [*three, torch.zeros(5, 5, dtype=torch.bool).index_fill(0, torch.tensor([0, 2]), True)],
    )
    yield Case("attention with a visible mask", attend, [*three, torch.ones(5, 5, dtype=torch.bool)])
    yield Case("attention of other lengths", attend, [f32(*shape), f32(2, 4, 7, 8), f32(2, 4, 7, 6)])
    yield Case(
        "causal attention of other lengths",
        lambda q, k, v: attend(q, k, v, is_causal=True),
        [f32(*shape), f32(2, 4, 7, 8), f32(2, 4, 7, 8)],
    )
    yield Case("attention of rank 3", attend, [f32(2, 5, 8), f32(2, 5, 8), f32(2, 5, 8)])
    grouped = [f32(*shape), f32(2, 2, 5, 8), f32(2, 2, 5, 8)]
    yield Case("grouped-query attention", lambda q, k, v: attend(q, k, v, enable_gqa=True), grouped)
    yield Case(
        "causal grouped-query attention", lambda q, k, v: attend(q, k, v, is_causal=True, enable_gqa=True), grouped
    )
    yield Case("attention dynamic", attend, three, [f32(3, 4, 7, 8)] * 3)
    yield Case(
        "causal attention dynamic", lambda q, k, v: attend(q, k, v, is_causal=True), three, [f32(3, 4, 7, 8)] * 3
    )
    masked = [f32(3, 4, 7, 8)] * 3
    yield Case("masked attention dynamic", attend, [*three, f32(2, 1, 5, 5)], [*masked, f32(3, 1, 7, 7)])


def _resizing() -> Iterator[Case]:
    for mode, rank in (
        ("nearest", 1),
        ("nearest", 2),
        ("nearest", 3),
        ("linear", 1),
        ("bilinear", 2),
        ("trilinear", 3),
        ("bicubic", 2),
    ):
        given = [f32(2, 3, *(4, 5, 6)[:rank])]
        for align in (None,) if mode == "nearest" else (False, True):
            for size in (
                {"scale_factor": 2},
                {"scale_factor": 1.7},
                {"size": (7, 9, 5)[:rank]},
                {"size": (2, 3, 3)[:rank]},
            ):
                options = {"mode": mode, "align_corners": align, **size}
                yield Case(f"resize {rank}d {options}", lambda x, o=options: F.interpolate(x, **o), given)
    yield Case(
        "resize recomputed",
        lambda x: F.interpolate(x, scale_factor=1.7, recompute_scale_factor=True),
        [f32(2, 3, 4, 5)],
    )
    yield Case("resize nearest-exact", lambda x: F.interpolate(x, size=(7, 9), mode="nearest-exact"), [f32(2, 3, 4, 5)])
    yield Case(
        "resize antialiased",
        lambda x: F.interpolate(x, size=(2, 3), mode="bilinear", antialias=True),
        [f32(2, 3, 4, 5)],
    )
    yield Case("resize dynamic", _double, [f32(2, 3, 4, 5)], [f32(3, 3, 6, 7)])
    yield Case("resize bilinear dynamic", _double_smoothly, [f32(2, 3, 4, 5)], [f32(3, 3, 6, 7)])
    yield Case(
        "resize to another's size", _like, [f32(2, 3, 4, 5), f32(2, 3, 9, 8)], [f32(3, 3, 6, 7), f32(3, 3, 11, 12)]
    )
    for mode in ("bilinear", "nearest", "bicubic"):
        for padding in ("zeros", "border", "reflection"):
            yield Case(f"grid_sample {mode} {padding}", _sample(mode, padding), [f32(2, 3, 4, 5), f32(2, 6, 7, 2)])


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0)


def _double_smoothly(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


def _like(x: Tensor, y: Tensor) -> Tensor:
    return F.interpolate(x, size=y.shape[2:], mode="bilinear", align_corners=False) + y


def _sample(mode: str, padding: str):  # type: ignore[no-untyped-def]
    return lambda x, grid: F.grid_sample(x, grid, mode=mode, padding_mode=padding, align_corners=False)
