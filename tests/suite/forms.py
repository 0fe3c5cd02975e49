"""Rows: pointwise operators, reductions and constructors in dtypes, ranks and forms that the other tables leave out."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from suite.case import Case, boolean, f32, i64, pos, special

_INF = float("inf")
_LOW: tuple[tuple[str, Callable[[Tensor], object]], ...] = (
    ("log1p", torch.log1p),
    ("expm1", torch.expm1),
    ("trunc", torch.trunc),
    ("elu", F.elu),
    ("hardswish", F.hardswish),
    ("softplus", F.softplus),
    ("mish", F.mish),
    ("atan2", lambda x: torch.atan2(x, x - 1)),
    ("fmod", lambda x: torch.fmod(x * 8, 3)),
    ("softmax", lambda x: x.softmax(-1)),
    ("log_softmax", lambda x: x.log_softmax(0)),
    ("var", lambda x: x.var(1)),
    ("std", lambda x: x.std(1)),
    ("vector_norm", lambda x: torch.linalg.vector_norm(x, 2, dim=1)),
    ("logsumexp", lambda x: x.logsumexp(1)),
    ("mean of everything", lambda x: x.mean()),
    ("max dim", lambda x: x.max(1)),
    ("argmin", lambda x: x.argmin(0)),
    ("topk", lambda x: x.topk(2)[0]),
    ("cumsum", lambda x: x.cumsum(1)),
)


def rows() -> Iterator[Case]:
    """All of them."""
    for dtype, tolerance in ((torch.float16, 1e-2), (torch.bfloat16, 2e-2)):
        for name, function in _LOW:
            yield Case(f"{name} of {dtype}", function, [pos(3, 5).to(dtype)], tolerance=tolerance)
    yield from _accuracy()
    yield from _bytes()
    yield from _ranks()
    yield from _varying()
    yield from _nothing()
    yield from _order()
    yield from _constructors()


def _accuracy() -> Iterator[Case]:
    tiny = torch.tensor([1e-7, -3e-8, 2e-6, -1e-5])
    yield Case("log1p near 0", torch.log1p, [tiny])
    yield Case("expm1 near 0", torch.expm1, [tiny])
    yield Case("expm1 of large values", torch.expm1, [torch.tensor([-200.0, -20.0, 20.0, 200.0])])
    yield Case("log1p at its edge", torch.log1p, [torch.tensor([-1.0, -1.5, -2.0, 1e20, -0.999999])])
    every = torch.tensor([0.0, -0.0, 1.0, -1.0, _INF, -_INF, 1e-38, 2e38])
    yield Case("atan2 of all quadrants", torch.atan2, [every.reshape(8, 1), every.reshape(1, 8)])
    yield Case("fmod by infinity", torch.fmod, [torch.tensor([1.5, -2.5, 0.0]), torch.tensor([_INF, -_INF, _INF])])
    yield Case("norm of large float16", lambda x: torch.linalg.vector_norm(x), [torch.full((4,), 300.0).half()])
    yield Case("softplus of large values", F.softplus, [torch.tensor([-100.0, 10.0, 19.0, 21.0, 200.0])])


def _bytes() -> Iterator[Case]:
    for dtype in (torch.uint8, torch.int8):
        given = [i64(4, 6, low=0, high=127).to(dtype), i64(4, 6, low=1, high=127).to(dtype)]
        yield Case(f"wrapping to {dtype}", lambda x, d=dtype: x.to(d), [torch.tensor([300, -1, -129, 128, 2**31 + 5])])
        for function in (torch.maximum, torch.le, torch.ne, torch.div, torch.logical_or):
            yield Case(f"{function.__name__} of {dtype}", function, given)
        yield Case(f"add of {dtype} with alpha", lambda x, y: torch.add(x, y, alpha=3), given)
        yield Case(f"{dtype} times float32", lambda x, y: x * y, [given[0], f32(6)])
        yield Case(f"{dtype} plus a number", lambda x: x + 300, given[:1])
    yield Case("uint8 image to float32", lambda x: x.float() / 255 - 0.5, [i64(2, 3, low=0, high=256).to(torch.uint8)])
    yield Case("uint8 compared with a number outside", lambda x: x > 300, [i64(4, low=0, high=256).to(torch.uint8)])
    yield Case("bitwise_not of int32", torch.bitwise_not, [i64(5).int()])
    yield Case("number and bools", lambda x: torch.bitwise_and(True, x), [boolean(5)])


def _ranks() -> Iterator[Case]:
    vector, scalar = f32(7), torch.tensor(0.5)
    for name, function in (
        ("softmax", lambda x: x.softmax(-1)),
        ("log_softmax", lambda x: x.log_softmax(0)),
        ("argmax", lambda x: x.argmax(0)),
        ("max", lambda x: x.max(0)),
        ("cumsum", lambda x: x.cumsum(-1)),
        ("sum", lambda x: x.sum(0)),
        ("prod", lambda x: x.prod(0)),
        ("sort", lambda x: x.sort()),
        ("topk", lambda x: x.topk(1)),
        ("vector_norm", lambda x: torch.linalg.vector_norm(x)),
        ("var", lambda x: x.var(correction=0)),
    ):
        yield Case(f"{name} of a vector", function, [vector])
        yield Case(f"{name} of one number", function, [scalar])
    many = f32(3, 2, 2, 2, 2, 2)
    yield Case("topk along the first of six dims", lambda x: x.topk(2, 0), [many])
    yield Case("argmax of everything, keeping dims", lambda x: torch.argmax(x, keepdim=True), [f32(3, 4)])
    yield Case("any of two dims", lambda x: torch.any(x, (0, -1)), [boolean(2, 3, 4)])
    yield Case("all of two dims", lambda x: torch.all(x > -1, (0, 2), keepdim=True), [f32(2, 3, 4)])
    yield Case("any of floats with nan", lambda x: torch.any(x, 0), [special()])
    yield Case("amax of all dims", lambda x: torch.amax(x, ()), [f32(2, 3)])
    yield Case("var_mean of everything", lambda x: torch.var_mean(x), [f32(2, 3)])
    yield Case("std of one value", lambda x: x.std(1), [f32(3, 1)])
    yield Case("vector_norm of two dims", lambda x: torch.linalg.vector_norm(x, 3, (0, 2), True), [f32(2, 3, 4)])
    yield Case("max dim of bool", lambda x: x.max(1), [boolean(3, 4)])
    yield Case("min of bool everything", lambda x: x.min(), [boolean(6)])
    yield Case("prod of int32", lambda x: x.prod(1), [i64(3, 4).int()])
    yield Case("cumsum of int32", lambda x: x.cumsum(-2), [i64(3, 4).int()])
    yield Case("cumprod of int64", lambda x: x.cumprod(-1), [i64(3, 7, low=-3, high=4)])


def _varying() -> Iterator[Case]:
    two = ([f32(3, 4)], [f32(5, 7)])
    for name, function in (
        ("argmax", lambda x: x.argmax(-1, keepdim=True)),
        ("argmax of everything", lambda x: x.argmax()),
        ("min dim", lambda x: x.min(0)),
        ("var", lambda x: x.var(1, keepdim=True)),
        ("var of everything", lambda x: x.var()),
        ("std", lambda x: x.std((0, 1), correction=2)),
        ("mean of everything", lambda x: x.mean()),
        ("any", lambda x: (x > 1).any(1)),
        ("all", lambda x: (x > -1).all(0, keepdim=True)),
        ("log_softmax", lambda x: x.log_softmax(0)),
        ("vector_norm", lambda x: torch.linalg.vector_norm(x, 1, dim=0)),
        ("logsumexp", lambda x: x.logsumexp((0, 1))),
        ("hardsigmoid and selu", lambda x: F.selu(F.hardsigmoid(x))),
        ("fmod and atan2", lambda x: torch.atan2(torch.fmod(x, 0.5), x)),
    ):
        yield Case(f"{name} of varying sizes", function, *two)
    yield Case("sort beside a varying size", lambda x: x.sort(1), [f32(3, 4)], [f32(5, 4)])
    yield Case("sort of a varying size", lambda x: x.sort(0), [f32(3, 4)], [f32(5, 4)])
    yield Case("cumprod of a varying size", lambda x: x.cumprod(0), [f32(3, 4)], [f32(5, 4)])
    yield Case("clamp with varying tensors", torch.clamp, [f32(3, 5), f32(5) - 1], [f32(6, 5), f32(5) - 1])
    yield Case("prelu of varying sizes", F.prelu, [f32(2, 4, 3), f32(4)], [f32(5, 4, 6), f32(4)])


def _nothing() -> Iterator[Case]:
    yield Case("any of nothing", lambda x: x.any(1), [boolean(3, 0)])
    yield Case("all of nothing in a row", lambda x: x.all(1), [boolean(3, 0)])
    yield Case("prod of nothing", lambda x: x.prod(1), [f32(3, 0)])
    yield Case("var of nothing", lambda x: x.var(1), [f32(3, 0)])
    yield Case("softmax of nothing", lambda x: x.softmax(1), [f32(0, 3)])
    yield Case("cumsum of nothing", lambda x: x.cumsum(0), [f32(0, 3)])
    yield Case("argmax of no rows", lambda x: x.argmax(1), [f32(0, 3)])


def _order() -> Iterator[Case]:
    ties = torch.tensor([[2.0, 1, 2, 1, 2, 0, 1], [5, 5, 5, 5, 5, 5, 5]])
    for descending in (True, False):
        yield Case(
            f"stable sort of floats descending={descending}",
            lambda x, d=descending: torch.sort(x, dim=1, descending=d, stable=True),
            [ties],
        )
    yield Case("stable sort of bool", lambda x: torch.sort(x, dim=0, stable=True), [boolean(9, 2)])
    yield Case("sort of one column", lambda x: torch.sort(x, dim=1, stable=True), [f32(3, 1)])
    yield Case("argmin with nan", lambda x: x.argmin(0), [special()])
    yield Case("max dim with nan", lambda x: x.max(0), [special()])
    yield Case("topk of int32", lambda x: x.topk(2, 0)[0], [i64(6, 3).int()])
    yield Case("topk of none", lambda x: x.topk(0, 1), [f32(2, 3)])
    yield Case("kthvalue keepdim", lambda x: x.kthvalue(3, 0, True), [f32(5, 3)])
    yield Case("topk of more than TensorRT ranks", lambda x: x.topk(4000)[0], [f32(4001)])


def _constructors() -> Iterator[Case]:
    sizes = ([f32(3, 4)], [f32(6, 4)])
    yield Case("arange with a varying start", lambda x: torch.arange(x.shape[0], 99), *sizes)
    yield Case("arange by 2 to a varying end", lambda x: torch.arange(1, x.shape[0] + 2, 2), *sizes)
    yield Case("arange downwards from a varying start", lambda x: torch.arange(x.shape[0], -3, -2), *sizes)
    yield Case("arange of int32", lambda x: torch.arange(x.shape[0], dtype=torch.int32), *sizes)
    yield Case("full of a varying number", lambda x: torch.full((2, x.shape[0]), x.shape[0]), *sizes)
    yield Case("full of two varying sizes", lambda x: torch.full((x.shape[0], 2, x.shape[0]), 0.5), *sizes)
    yield Case("full of a number alone", lambda x: torch.full((), 0.5) + x, *sizes)
    yield Case("full of nothing", lambda x: torch.full((0, 2), 0.5), [f32(2)])
    yield Case("scalar_tensor of a size", lambda x: torch.scalar_tensor(x.shape[0], dtype=torch.int64), *sizes)
    yield Case("zeros of varying sizes", lambda x: torch.zeros(x.shape[0], 2, dtype=torch.bool), *sizes)
    yield Case("empty and filled", lambda x: torch.empty(2, 4).fill_(1.5) + x[:2], *sizes)
    yield Case("empty_like and filled", lambda x: torch.empty_like(x).fill_(2) + x, *sizes)
    yield Case("empty without elements", lambda x: torch.empty(0, 3), [f32(2)])
