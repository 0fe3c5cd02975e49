"""Rows: operators that move, pick, join and make values."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from suite.case import Case, boolean, f32, i64


def rows() -> Iterator[Case]:
    """All of them."""
    yield from _views()
    yield from _joins()
    yield from _indexing()
    yield from _made()
    yield from _boundary()


def _views() -> Iterator[Case]:
    yield Case("view", lambda x: x.view(4, -1), [f32(2, 4, 3)])
    yield Case("view of a scalar", lambda x: x.view(1, 1), [torch.tensor(2.0)])
    yield Case("view as a scalar", lambda x: x.view(()) + 1, [f32(1)])
    yield Case("view dynamic", lambda x: x.view(x.shape[0], 2, -1) + 1, [f32(3, 8)], [f32(5, 8)])
    yield Case("flatten dynamic", lambda x: x.flatten(0, 1) + 1, [f32(3, 2, 4)], [f32(5, 2, 4)])
    yield Case("view of two dynamic", lambda x: x.view(-1, x.shape[2]) + 1, [f32(3, 4, 5)], [f32(6, 7, 5)])
    yield Case("reshape by arithmetic", lambda x: x.reshape(x.shape[0] // 2, x.shape[1] * 2), [f32(4, 3)], [f32(6, 5)])
    for dims in ((1, 0, 2), (-1, 0, 1), (2, 1, 0)):
        yield Case(f"permute {dims}", lambda x, d=dims: x.permute(d), [f32(2, 3, 4)])
    yield Case("transpose negative", lambda x: x.transpose(-1, -2), [f32(2, 3, 4)])
    yield Case("t", lambda x: x.t(), [f32(2, 3)])
    yield Case("movedim", lambda x: x.movedim(0, -1), [f32(2, 3, 4)])
    yield Case("permute of bool", lambda x: x.permute(1, 0), [boolean(2, 3)])
    yield Case("permute of uint8", lambda x: x.permute(1, 0), [i64(2, 3, low=0).to(torch.uint8)])
    yield Case("permute of float64", lambda x: x.permute(1, 0), [f32(2, 3).double() / 3])
    yield Case("permute of large int64", lambda x: x.permute(1, 0), [i64(2, 3, low=2**40, high=2**50)])
    yield Case("squeeze", lambda x: x.squeeze(), [f32(2, 1, 4, 1)])
    yield Case("squeeze to a scalar", lambda x: x.squeeze() + 1, [f32(1, 1)])
    yield Case("squeeze of dims", lambda x: x.squeeze((1, -1)), [f32(2, 1, 4, 1)])
    yield Case("squeeze of a dim that isn't 1", lambda x: x.squeeze(0), [f32(2, 1)])
    yield Case("unsqueeze", lambda x: x.unsqueeze(-1).unsqueeze(0), [f32(2, 4)])
    yield Case("expand", lambda x: x.expand(3, -1, 4), [f32(2, 1)])
    yield Case("expand of a scalar", lambda x: x.expand(3, 2), [torch.tensor(2.0)])
    yield Case("expand to a scalar", lambda x: x.expand(()) + 1, [torch.tensor(2.0)])
    yield Case("expand to nothing", lambda x: x.expand(0, 3) + 1, [f32(1, 3)])
    yield Case(
        "expand dynamic", lambda x, y: x.expand(y.shape[0], -1) + y, [f32(1, 4), f32(3, 4)], [f32(1, 4), f32(5, 4)]
    )
    yield Case("repeat", lambda x: x.repeat(2, 1, 3), [f32(2, 3)])
    yield Case("repeat none", lambda x: x.repeat(0, 1), [f32(2, 3)])
    yield Case("repeat_interleave", lambda x: x.repeat_interleave(3, 1), [f32(2, 3)])
    yield Case("repeat_interleave flat", lambda x: x.repeat_interleave(3), [f32(2, 3)])
    yield Case("tile", lambda x: x.tile((2, 2)), [f32(2, 3)])
    yield Case("flip", lambda x: x.flip(0, -1), [f32(2, 3, 4)])
    yield Case("roll", lambda x: x.roll((1, -2), (0, 1)), [f32(4, 5)])
    yield Case("roll flat", lambda x: x.roll(3), [f32(4, 5)])
    yield Case("rot90", lambda x: x.rot90(1, (0, 1)), [f32(4, 5)])
    yield Case("unfold", lambda x: x.unfold(1, 3, 2), [f32(2, 8)])
    yield Case("im2col", lambda x: F.unfold(x, 3, padding=1, stride=2), [f32(2, 3, 7, 8)])
    yield Case("col2im", lambda x: F.fold(x, (7, 8), 3, padding=1, stride=2), [f32(2, 27, 16)])
    yield Case("pixel_shuffle", lambda x: F.pixel_shuffle(x, 2), [f32(2, 8, 3, 4)])
    yield Case("pixel_unshuffle", lambda x: F.pixel_unshuffle(x, 2), [f32(2, 2, 6, 4)])
    yield Case("channel_shuffle", lambda x: F.channel_shuffle(x, 2), [f32(2, 6, 3, 4)])
    yield Case("diagonal", lambda x: x.diagonal(1), [f32(4, 5)])
    for offset in (-1, 0, 2):
        yield Case(f"tril {offset}", lambda x, k=offset: x.tril(k), [f32(2, 4, 5)])
        yield Case(f"triu {offset}", lambda x, k=offset: x.triu(k), [f32(2, 4, 5)])
    yield Case("tril of bool", lambda x: x.tril(), [boolean(4, 5)])
    yield Case("triu of -inf", lambda x: x.triu(1), [torch.full((4, 4), float("-inf"))])


def _joins() -> Iterator[Case]:
    yield Case("cat", lambda x, y: torch.cat((x, y), -1), [f32(2, 3), f32(2, 4)])
    yield Case("cat with an empty one", lambda x, y: torch.cat((x, y)), [f32(0), f32(2, 4)])
    yield Case("cat with nothing in it", lambda x, y: torch.cat((x, y)), [f32(0, 4), f32(2, 4)])
    yield Case("cat of mixed dtypes", lambda x, y: torch.cat((x, y)), [f32(2, 4), i64(2, 4)])
    yield Case("cat of one", lambda x: torch.cat((x,)), [f32(2, 4)])
    yield Case("cat of bool", lambda x, y: torch.cat((x, y)), [boolean(2, 4), boolean(3, 4)])
    yield Case("cat dynamic", lambda x, y: torch.cat((x, y)), [f32(2, 4), f32(3, 4)], [f32(5, 4), f32(7, 4)])
    yield Case("stack", lambda x, y: torch.stack((x, y), 1), [f32(2, 3), f32(2, 3)])
    yield Case("stack of scalars", lambda x, y: torch.stack((x, y)), [torch.tensor(1.0), torch.tensor(2.0)])
    yield Case("stack negative", lambda x, y: torch.stack((x, y), -1), [f32(2, 3), f32(2, 3)])
    yield Case("split", lambda x: x.split(2, 1), [f32(2, 5)])
    yield Case("split by sizes", lambda x: x.split((1, 3, 1), -1), [f32(2, 5)])
    yield Case("one part of a split", lambda x: x.split((1, 3, 1), -1)[1] + 1, [f32(2, 5)])
    yield Case("chunk", lambda x: x.chunk(3, -1), [f32(2, 7)])
    yield Case("unbind", lambda x: x.unbind(1), [f32(2, 3)])
    yield Case("unbind negative", lambda x: [part + 1 for part in x.unbind(-1)], [f32(2, 3)])
    yield Case("meshgrid", lambda x, y: torch.meshgrid(x, y, indexing="ij"), [f32(3), f32(4)])
    for mode in ("constant", "reflect", "replicate", "circular"):
        yield Case(f"pad {mode}", lambda x, m=mode: F.pad(x, (1, 2, 2, 1), mode=m), [f32(1, 2, 4, 5)])
        yield Case(f"pad 1d {mode}", lambda x, m=mode: F.pad(x, (1, 2), mode=m), [f32(1, 2, 5)])
    yield Case("pad with a value", lambda x: F.pad(x, (1, 2), value=-3.5), [f32(2, 4)])
    yield Case("pad with -inf", lambda x: F.pad(x, (1, 2), value=float("-inf")), [f32(2, 4)])
    yield Case("pad by negative amounts", lambda x: F.pad(x, (-1, 2, 0, -1)), [f32(3, 4)])
    yield Case("pad of bool", lambda x: F.pad(x, (1, 1), value=True), [boolean(2, 3)])
    yield Case("pad of int64", lambda x: F.pad(x, (1, 1), value=-7), [i64(2, 3)])


def _indexing() -> Iterator[Case]:
    for start, stop, step in (
        (0, 3, 1),
        (1, None, 2),
        (-3, None, 1),
        (None, -2, 1),
        (2, 100, 3),
        (-100, 2, 1),
        (3, 1, 1),
    ):
        picked = slice(start, stop, step)
        yield Case(f"slice {start}:{stop}:{step}", lambda x, s=picked: x[:, s] + 0, [f32(2, 6)])
    yield Case("slice dynamic", lambda x: x[:, 1:-1] + 0, [f32(2, 6)], [f32(2, 9)])
    yield Case("slice to a dynamic size", lambda x, y: y[: x.shape[0]] + x, [f32(3), f32(20)], [f32(7), f32(20)])
    yield Case("select", lambda x: x[:, 1], [f32(2, 6)])
    yield Case("select negative", lambda x: x[:, -2], [f32(2, 6)])
    yield Case("select to a scalar", lambda x: x[1] + 1, [f32(3)])
    yield Case("last of dynamic", lambda x: x[:, -1] + 0, [f32(2, 6)], [f32(2, 9)])
    yield Case("select_scatter", lambda x, y: x.select_scatter(y, 1, -1), [f32(2, 3), f32(2)])
    yield Case("slice_scatter", lambda x, y: x.slice_scatter(y, 1, 1, None, 2), [f32(2, 6), f32(2, 3)])
    yield Case("slice_scatter to the end", lambda x, y: x.slice_scatter(y, 0, -2), [f32(5, 6), f32(2, 6)])
    index = i64(2, 2, low=0, high=3)
    yield Case("index", lambda x, i: x[i], [f32(3, 4), index])
    yield Case("index negative", lambda x, i: x[i], [f32(3, 4), torch.tensor([-1, 0, -3])])
    yield Case("index with None before", lambda x, i: x[:, i], [f32(2, 3, 4), index])
    other = (index + torch.tensor([[1, 0], [2, 1]])) % 3  # two indices that are one tensor would be one input
    yield Case("index twice", lambda x, i, j: x[i, j], [f32(3, 4), index, other])
    yield Case("index apart", lambda x, i, j: x[i, :, j], [f32(3, 5, 4), index, other])
    yield Case("index after a gap", lambda x, i, j: x[:, i, :, j], [f32(2, 3, 5, 4), index, other])
    yield Case("index broadcast", lambda x, i, j: x[i[:, :1], j[:1]], [f32(3, 4), index, other])
    yield Case("index of int32", lambda x, i: x[i], [f32(3, 4), index.int()])
    yield Case("index with a scalar", lambda x, i: x[i], [f32(3, 4), torch.tensor(1)])
    yield Case(
        "index dynamic", lambda x, i: x[i], [f32(3, 4), i64(5, low=0, high=3)], [f32(3, 4), i64(8, low=0, high=3)]
    )
    yield Case("index_select", lambda x, i: x.index_select(1, i), [f32(2, 3), i64(5, low=0, high=3)])
    yield Case("gather", lambda x, i: x.gather(1, i), [f32(3, 4), i64(3, 6, low=0, high=4)])
    yield Case("gather of fewer rows", lambda x, i: x.gather(1, i), [f32(3, 4), i64(2, 6, low=0, high=4)])
    yield Case("take_along_dim", lambda x, i: torch.take_along_dim(x, i, 1), [f32(3, 4), i64(3, 2, low=0, high=4)])
    distinct = torch.tensor([[0, 2, 1], [3, 1, 0]])
    yield Case("scatter", lambda x, i, y: x.scatter(1, i, y), [f32(3, 4), distinct, f32(2, 3)])
    yield Case("scatter a number", lambda x, i: x.scatter(1, i, 2.5), [f32(3, 4), distinct])
    yield Case("scatter a number into int64", lambda x, i: x.scatter(1, i, 2), [i64(3, 4), distinct])
    yield Case("scatter_add", lambda x, i, y: x.scatter_add(1, i, y), [f32(3, 4), i64(3, 4, low=0, high=4), f32(3, 4)])
    for how in ("sum", "prod", "mean", "amax", "amin"):
        given = [f32(3, 4), i64(3, 4, low=0, high=4), f32(3, 4)]
        yield Case(f"scatter_reduce {how}", lambda x, i, y, h=how: x.scatter_reduce(1, i, y, h), given)
        yield Case(
            f"scatter_reduce {how} alone",
            lambda x, i, y, h=how: x.scatter_reduce(1, i, y, h, include_self=False),
            given,
        )
    yield Case("index_add", lambda x, i, y: x.index_add(0, i, y), [f32(3, 4), torch.tensor([0, 2, 0]), f32(3, 4)])
    yield Case("index_copy", lambda x, i, y: x.index_copy(0, i, y), [f32(3, 4), torch.tensor([2, 0]), f32(2, 4)])
    yield Case("index_fill", lambda x, i: x.index_fill(1, i, 3.0), [f32(3, 4), torch.tensor([2, 0])])
    yield Case("index_put", lambda x, i, y: x.index_put((i,), y), [f32(3, 4), torch.tensor([2, 0]), f32(2, 4)])
    yield Case(
        "index_put adding", lambda x, i, y: x.index_put((i,), y, True), [f32(3, 4), torch.tensor([2, 2]), f32(2, 4)]
    )
    yield Case("index_put with None", _put_columns, [f32(3, 4), torch.tensor([2, 0]), f32(3, 2)])
    yield Case("index_put by mask", lambda x, m: x.index_put((m,), torch.tensor(0.5)), [f32(3, 4), boolean(3, 4)])
    yield Case("embedding", F.embedding, [i64(2, 5, low=0, high=7), f32(7, 4)])
    yield Case(
        "embedding with padding", lambda i, w: F.embedding(i, w, padding_idx=0), [i64(2, 5, low=0, high=7), f32(7, 4)]
    )
    yield Case(
        "embedding dynamic", F.embedding, [i64(2, 5, low=0, high=7), f32(7, 4)], [i64(3, 8, low=0, high=7), f32(7, 4)]
    )
    yield Case("embedding_bag", _bag, [i64(10, low=0, high=7), f32(7, 4), torch.tensor([0, 4])])
    yield Case("one_hot", lambda i: F.one_hot(i, 5), [i64(2, 3, low=0, high=5)])
    yield Case("masked_scatter", lambda x, m, y: x.masked_scatter(m, y), [f32(3, 4), boolean(3, 4), f32(12)])
    yield Case("searchsorted", torch.searchsorted, [torch.arange(8).float(), f32(5) * 5])
    yield Case(
        "bucketize",
        lambda x: torch.bucketize(x, torch.tensor([0.0, 1.0, 2.0])),
        [torch.tensor([-1.0, 0.0, 1.0, 1.5, 9.0])],
    )
    yield Case(
        "bucketize right",
        lambda x: torch.bucketize(x, torch.tensor([0.0, 1.0]), right=True),
        [torch.tensor([-1.0, 0.0, 1.0])],
    )


def _put_columns(x: Tensor, index: Tensor, values: Tensor) -> Tensor:
    x = x.clone()
    x[:, index] = values
    return x


def _bag(index: Tensor, weight: Tensor, offsets: Tensor) -> Tensor:
    return F.embedding_bag(index, weight, offsets, mode="sum")


def _made() -> Iterator[Case]:
    yield Case("arange", lambda x: torch.arange(x.shape[0]) + x, [i64(4)])
    yield Case("arange dynamic", lambda x: torch.arange(x.shape[0]) + x, [i64(4)], [i64(9)])
    yield Case("arange of floats", lambda x: torch.arange(0.0, 2.0, 0.25) + x, [f32(8)])
    yield Case("arange downwards", lambda x: torch.arange(5, -3, -2) + x, [i64(4)])
    yield Case("arange as float", lambda x: torch.arange(x.shape[0], dtype=torch.float32) * x, [f32(4)], [f32(7)])
    yield Case("linspace", lambda x: torch.linspace(-1, 2, 7) + x, [f32(7)])
    yield Case("full", lambda x: torch.full((2, 3), 2.5) + x, [f32(3)])
    yield Case("full of int64", lambda x: torch.full((2, 3), 7) + x, [i64(3)])
    yield Case("full of bool", lambda x: torch.full((3,), True) & x, [boolean(3)])
    yield Case("full of -inf", lambda x: torch.full((3,), float("-inf")) + x, [f32(3)])
    yield Case("full dynamic", lambda x: torch.full((x.shape[0], 2), 1.5), [f32(3)], [f32(5)])
    for name in ("full_like", "zeros_like", "ones_like"):
        function, extra = getattr(torch, name), (3,) if name == "full_like" else ()
        yield Case(name, lambda x, f=function, e=extra: f(x, *e) + x, [f32(2, 3)], [f32(5, 3)])
        yield Case(f"{name} as int64", lambda x, f=function, e=extra: f(x, *e, dtype=torch.int64), [f32(2, 3)])
    yield Case("new_zeros", lambda x: x.new_zeros(2, 3) + x, [f32(3)])
    yield Case("new_ones", lambda x: x.new_ones(x.shape[0], 3), [f32(3)], [f32(6)])
    yield Case("new_full", lambda x: x.new_full((2, 3), 1.5), [f32(3)])
    yield Case("eye", lambda x: torch.eye(3, 4) + x, [f32(4)])
    yield Case("scalar_tensor", lambda x: torch.scalar_tensor(2.5) * x, [f32(4)])
    yield Case("causal mask", _causal, [f32(2, 4, 4)], [f32(3, 7, 7)])


def _causal(x: Tensor) -> Tensor:
    place = torch.arange(x.shape[1])
    return x.masked_fill(place[None] > place[:, None], float("-inf")).softmax(-1)


def _boundary() -> Iterator[Case]:
    yield Case("the same output twice", lambda x: (lambda y: (y, y))(x.relu()), [f32(2, 3)])
    yield Case("an input as output", lambda x: (x, x.relu()), [f32(2, 3)])
    yield Case("a copy of an input as output", lambda x: (x.clone(), x.relu()), [i64(2, 3)])
    yield Case("a constant as output", lambda x: (torch.tensor([1.0, 2.0]), x.relu()), [f32(2, 3)])
    yield Case("an unused input", lambda x, y: x.relu(), [f32(2, 3), f32(4)])
    yield Case(
        "an input used for its size only",
        lambda x, y: x.expand(y.shape[0], 3) + 1,
        [f32(1, 3), f32(4)],
        [f32(1, 3), f32(6)],
    )
    yield Case("no inputs", lambda: torch.ones(2, 3) + 1, [])
    yield Case("a view of a result", lambda x: (lambda y: (y, y.view(-1)))(x.relu()), [f32(2, 3)])
    yield Case("a non-contiguous input", lambda x: x + 1, [f32(4, 3).t()])
    yield Case("an input that requires grad", lambda x: x + 1, [f32(4, 3).requires_grad_()])
    yield Case("an expanded input", lambda x: x + 1, [f32(1, 3).expand(4, 3)])
