"""Rows: operators that move, pick and put values, in more forms and dtypes than shaping.py has, and with sizes that vary."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from suite.case import Case, boolean, f32, i64

aten = torch.ops.aten
_PLACES = torch.tensor([[0, 2, 1], [3, 1, 0]])


def rows() -> Iterator[Case]:
    """All of them."""
    yield from _padded()
    yield from _turned()
    yield from _parts()
    yield from _indexed()
    yield from _put()
    yield from _scattered()
    yield from _looked_up()
    yield from _of_other_dtypes()


def _padded() -> Iterator[Case]:
    for mode in ("reflect", "replicate", "circular"):
        pad = lambda x, m=mode: F.pad(x, (1, 1, 2, 0, 0, 1), mode=m)  # noqa: E731
        yield Case(f"pad 3d {mode}", pad, [f32(1, 2, 3, 4, 5)])
        wide = lambda x, m=mode: F.pad(x, (1, 2), mode=m)  # noqa: E731
        yield Case(f"pad {mode} dynamic", wide, [f32(2, 3, 5)], [f32(4, 3, 8)])
        yield Case(f"pad {mode} of float16", wide, [f32(2, 3, 5).half()])
    yield Case("pad dynamic", lambda x: F.pad(x, (1, 2, 0, 3), value=2.0), [f32(2, 3)], [f32(4, 7)])
    yield Case("pad to a dynamic size", lambda x, y: F.pad(x, (0, y.shape[0])), [f32(3), f32(2)], [f32(3), f32(5)])
    yield Case("pad of dynamic by negative amounts", lambda x: F.pad(x, (-1, -2)) + 0, [f32(2, 6)], [f32(3, 9)])
    yield Case("pad of dynamic bool", lambda x: F.pad(x, (1, 1), value=True), [boolean(2, 3)], [boolean(5, 3)])
    yield Case("pad of a dynamic int64", lambda x: F.pad(x, (2, 1), value=2**40), [i64(2, 3)], [i64(5, 3)])
    yield Case("reflection_pad2d", lambda x: aten.reflection_pad2d(x, (1, 2, 3, 0)), [f32(2, 4, 5)])
    yield Case("reflection_pad3d", lambda x: aten.reflection_pad3d(x, (1, 2, 1, 0, 0, 1)), [f32(2, 3, 4, 5)])
    yield Case("replication_pad1d", lambda x: aten.replication_pad1d(x, (7, 2)), [f32(4, 5)])
    yield Case("replication_pad3d", lambda x: aten.replication_pad3d(x, (1, 2, 1, 0, 0, 4)), [f32(2, 3, 4, 5)])
    yield Case("_pad_circular", lambda x: aten._pad_circular(x, (1, 2, 3, 0)), [f32(1, 2, 4, 5)])


def _turned() -> Iterator[Case]:
    yield Case("repeat dynamic", lambda x: x.repeat(2, 1, 3), [f32(2, 3)], [f32(5, 3)])
    yield Case(
        "repeat a dynamic number of times", lambda x, y: x.repeat(y.shape[0], 2), [f32(3), f32(2)], [f32(3), f32(4)]
    )
    yield Case("tile of more dimensions", lambda x: x.tile((2,)), [f32(2, 3)])
    yield Case("tile of fewer dimensions", lambda x: x.tile((2, 1, 2)), [f32(2, 3)])
    yield Case("repeat of bool", lambda x: x.repeat(2, 2), [boolean(2, 3)])
    yield Case("flip dynamic", lambda x: x.flip(0, 1), [f32(2, 3)], [f32(5, 3)])
    yield Case("flip of nothing in it", lambda x: x.flip(0) + 1, [f32(0, 3)])
    yield Case("flip no dims", lambda x: x.flip(()) + 1, [f32(2, 3)])
    yield Case("flip of a scalar", lambda x: x.flip(0) + 1, [torch.tensor(2.0)])
    yield Case("roll dynamic", lambda x: x.roll((2, -1), (0, 1)), [f32(3, 4)], [f32(5, 4)])
    yield Case("roll further than the size", lambda x: x.roll((11, -9), (0, 1)), [f32(3, 4)])
    yield Case("roll dynamic further than the size", lambda x: x.roll((11, -9), (0, 1)), [f32(3, 4)], [f32(5, 6)])
    yield Case("roll one dim twice", lambda x: x.roll((1, 1), (1, 1)), [f32(3, 4)])
    yield Case("roll flat dynamic", lambda x: x.roll(3), [f32(3, 4)], [f32(5, 4)])
    yield Case("roll by a size", lambda x, y: x.roll(y.shape[0], 0), [f32(5), f32(2)], [f32(5), f32(3)])
    yield Case("roll of nothing in it", lambda x: x.roll(1, 0) + 1, [f32(0, 3)])


def _parts() -> Iterator[Case]:
    for offset in (-2, 0, 1, 4):
        yield Case(f"diagonal {offset} of three", lambda x, k=offset: x.diagonal(k, -1, 0) + 0, [f32(3, 2, 4)])
    yield Case("diagonal dynamic", lambda x: x.diagonal(1, 1, 2) + 0, [f32(2, 3, 5)], [f32(4, 4, 6)])
    yield Case("diagonal below dynamic", lambda x: x.diagonal(-1) + 0, [f32(3, 5)], [f32(6, 4)])
    yield Case("trace", torch.trace, [f32(3, 4)])
    yield Case("tril dynamic", lambda x: x.tril(1), [f32(2, 4, 5)], [f32(2, 6, 3)])
    yield Case("triu dynamic", lambda x: x.triu(-1), [f32(4, 5)], [f32(6, 3)])
    yield Case("triu of int64", lambda x: x.triu(), [i64(4, 5)])
    yield Case("tril of bool dynamic", lambda x: x.tril(), [boolean(4, 5)], [boolean(7, 5)])
    yield Case("unfold dynamic", lambda x: x.unfold(-1, 3, 2) + 0, [f32(2, 8)], [f32(3, 11)])
    yield Case("unfold of the first", lambda x: x.unfold(0, 2, 1) + 0, [f32(4, 3, 2)])
    yield Case("unfold with gaps", lambda x: x.unfold(0, 2, 3) + 0, [f32(9)])
    yield Case("unfold of a scalar", lambda x: x.unfold(0, 1, 1) + 0, [torch.tensor(2.0)])
    yield Case("im2col dilated", lambda x: F.unfold(x, (2, 3), (2, 1), (1, 0), (1, 2)), [f32(1, 2, 6, 7)])
    yield Case("as_strided within", lambda x: x.as_strided((2, 3), (1, 2)) + 0, [f32(4, 3)])
    yield Case("as_strided overlapping", lambda x: x.as_strided((4, 3), (1, 1), 2) + 0, [f32(8)])
    yield Case("as_strided of a view", lambda x: x.t().as_strided((2, 2), (1, 2)) + 0, [f32(4, 3)])
    yield Case("pixel_shuffle dynamic", lambda x: F.pixel_shuffle(x, 2), [f32(2, 8, 3, 4)], [f32(3, 8, 5, 6)])
    yield Case("pixel_shuffle of three", lambda x: F.pixel_shuffle(x, 3), [f32(9, 2, 3)])
    yield Case("pixel_unshuffle dynamic", lambda x: F.pixel_unshuffle(x, 2), [f32(2, 2, 6, 4)], [f32(3, 2, 4, 8)])
    yield Case("slice with a step dynamic", lambda x: x[1::2] + 0, [f32(6, 2)], [f32(9, 2)])
    yield Case("slice of the middle of dynamic", lambda x: x[1 : x.shape[0] // 2 + 1] + 0, [f32(6, 2)], [f32(9, 2)])
    yield Case("split dynamic", lambda x: [part + 0 for part in x.split(2, 1)], [f32(3, 5)], [f32(6, 5)])
    yield Case("split to nothing", lambda x: [part + 0 for part in x.split((0, 5), 1)], [f32(3, 5)])
    yield Case("chunk dynamic", lambda x: [part + 0 for part in x.chunk(2, 1)], [f32(3, 6)], [f32(6, 6)])
    yield Case("stack dynamic", lambda x, y: torch.stack((x, y), 1), [f32(2, 3), f32(2, 3)], [f32(4, 3), f32(4, 3)])
    yield Case("squeeze dynamic", lambda x: x.squeeze(1) + 0, [f32(2, 1, 3)], [f32(5, 1, 3)])
    yield Case("squeeze of what a view made 1", lambda x: x.view(-1, 1).squeeze(1) + 0, [f32(2, 3)], [f32(5, 3)])
    yield Case("unsqueeze of two dynamic", lambda x: x.unsqueeze(1) + 0, [f32(2, 3)], [f32(5, 4)])
    yield Case("permute dynamic", lambda x: x.permute(2, 0, 1) + 0, [f32(2, 3, 4)], [f32(5, 6, 4)])
    yield Case("view by the number of elements", lambda x: x.view(x.numel() // 2, 2) + 0, [f32(3, 4)], [f32(5, 4)])


def _indexed() -> Iterator[Case]:
    index, small = torch.tensor([[-1, 0], [2, -3]]), torch.tensor([0, 2, 1, 2])
    yield Case("index twice negative", lambda x, i, j: x[i, j], [f32(3, 4), index, index.flip(0)])
    yield Case("index of the last two", lambda x, i, j: x[:, i, j], [f32(2, 3, 4), index, index.flip(0)])
    yield Case("index apart, broadcast", lambda x, i, j: x[i, :, j], [f32(3, 5, 4), index, small[:2]])
    yield Case("index three times", lambda x, i, j, k: x[i, j, k], [f32(3, 4, 5), index, index[0], index.flip(0)])
    yield Case("index by a scalar tensor and a tensor", lambda x, i, j: x[i, j], [f32(3, 4), torch.tensor([1]), small])
    yield Case("index by a column and a row", lambda x, i, j: x[i[:, None], j[None]], [f32(3, 4), small, small[:3]])
    yield Case(
        "index twice dynamic",
        lambda x, i, j: x[:, i, j],
        [f32(2, 3, 4), small, small.flip(0)],
        [f32(5, 3, 4), torch.arange(-3, 3), torch.arange(-2, 4)],
    )
    yield Case(
        "index apart dynamic", lambda x, i: x[i, :, i], [f32(3, 5, 4), small], [f32(6, 7, 4), i64(9, low=0, high=3)]
    )
    yield Case("index with a list", lambda x: x[[0, 2], [1, -1]], [f32(3, 4)])
    yield Case("index of bool", lambda x, i: x[i], [boolean(3, 4), index])
    yield Case("index of nothing", lambda x, i: x[i] + 1, [f32(3, 4), i64(0)])
    yield Case("index by a mask", lambda x, m: x[m], [f32(3, 4), boolean(3, 4)])
    yield Case("nonzero", lambda x: x.nonzero(), [boolean(3, 4)])
    yield Case("masked_select", torch.masked_select, [f32(3, 4), boolean(3, 4)])
    yield Case("index_select by a scalar", lambda x, i: x.index_select(0, i), [f32(3, 4), torch.tensor(1)])
    yield Case(
        "index_select of a scalar", lambda x, i: x.index_select(0, i) + 0, [torch.tensor(2.0), torch.tensor([0])]
    )
    yield Case("index_select negative", lambda x, i: x.index_select(-1, i), [i64(3, 4), small])
    yield Case(
        "gather dynamic", lambda x, i: x.gather(1, i), [f32(3, 4), _PLACES], [f32(7, 4), i64(5, 8, low=0, high=4)]
    )
    yield Case("gather of a scalar", lambda x, i: x.gather(0, i) + 0, [torch.tensor(2.0), torch.tensor([0, 0])])
    yield Case("gather by a scalar", lambda x, i: x.gather(0, i) + 0, [f32(3), torch.tensor(1)])
    yield Case("gather along the first", lambda x, i: x.gather(-2, i), [i64(4, 3), _PLACES])
    yield Case("take", torch.take, [f32(3, 4), i64(2, 3, low=-12, high=12)])


def _add_rows(x: Tensor, index: Tensor, values: Tensor) -> Tensor:
    return aten.index_put(x, (None, index), values, True)


def _put() -> Iterator[Case]:
    index, other = torch.tensor([2, 0]), torch.tensor([1, 3])
    yield Case("index_put of a number", lambda x, i: x.index_put((i,), torch.tensor(2.5)), [f32(3, 4), index])
    yield Case("index_put negative", lambda x, i, y: x.index_put((i,), y), [f32(3, 4), torch.tensor([-1, 0]), f32(4)])
    yield Case("index_put twice", lambda x, i, j, y: x.index_put((i, j), y), [f32(3, 4), index, other, f32(2)])
    yield Case(
        "index_put apart",
        lambda x, i, j, y: aten.index_put(x, (i, None, j), y),
        [f32(3, 5, 4), index, other, f32(2, 5)],
    )
    yield Case(
        "index_put of a block",
        lambda x, i, y: aten.index_put(x, (None, i), y),
        [f32(3, 4, 5), index[None] + 1, f32(3, 1, 2, 5)],
    )
    yield Case(
        "index_put dynamic",
        lambda x, i, y: x.index_put((i,), y),
        [f32(3, 4), index, f32(2, 4)],
        [f32(8, 4), torch.tensor([7, -2, 1]), f32(3, 4)],
    )
    yield Case("index_put adding in rows", _add_rows, [f32(2, 3, 4), torch.tensor([2, -1, 0]), f32(2, 3, 4)])
    yield Case("index_put adding inf", _add_rows, [f32(1, 3), torch.tensor([2, 2]), torch.tensor([[torch.inf, 1.0]])])
    yield Case("index_put adding int64", _add_rows, [i64(2, 3), torch.tensor([2, 2]), i64(2, 2)])
    yield Case(
        "index_put adding dynamic",
        lambda x, i, y: x.index_put((i,), y, True),
        [f32(3, 4), torch.tensor([2, 2]), f32(2, 4)],
        [f32(5, 4), torch.tensor([0, 4, 0]), f32(3, 4)],
    )
    yield Case("index_put of bool adding", _add_rows, [boolean(2, 3), torch.tensor([2, 2]), boolean(2, 2)])
    yield Case("index_put by mask of rows", lambda x, m, y: x.index_put((m,), y), [f32(3, 4), boolean(3), f32(4)])
    yield Case(
        "index_put by mask adding",
        lambda x, m: x.index_put((m,), torch.tensor([0.5]), True),
        [f32(3, 4), boolean(3, 4)],
    )
    yield Case(
        "index_put by mask in turn", lambda x, m, y: x.index_put((m,), y), [f32(2), torch.tensor([True, True]), f32(2)]
    )
    yield Case("index_copy negative dim", lambda x, i, y: x.index_copy(-1, i, y), [f32(3, 4), index, f32(3, 2)])
    yield Case("index_add alpha", lambda x, i, y: x.index_add(1, i, y, alpha=2), [f32(3, 4), index, f32(3, 2)])
    for start, end, step in ((0, None, 1), (1, 5, 1), (-3, -1, 1), (1, None, 3), (4, 2, 1)):
        count = len(range(6)[start:end:step])
        put = lambda x, y, s=start, e=end, t=step: x.slice_scatter(y, 1, s, e, t)  # noqa: E731
        yield Case(f"slice_scatter {start}:{end}:{step}", put, [f32(2, 6), f32(2, count)])
    yield Case(
        "slice_scatter dynamic",
        lambda x, y: x.slice_scatter(y, 1, 1, -2),
        [f32(2, 6), f32(2, 3)],
        [f32(5, 9), f32(5, 6)],
    )
    yield Case(
        "slice_scatter at a dynamic place",
        lambda x, y: x.slice_scatter(y, 0, 0, y.shape[0]),
        [f32(20, 3), f32(2, 3)],
        [f32(20, 3), f32(5, 3)],
    )
    yield Case(
        "slice_scatter of other steps dynamic",
        lambda x, y: x.slice_scatter(y, 0, 0, None, 2),
        [f32(6, 2), f32(3, 2)],
        [f32(10, 2), f32(5, 2)],
    )
    yield Case("slice_scatter into int64", lambda x, y: x.slice_scatter(y, 1, 1, 3), [i64(2, 6), i64(2, 2)])
    yield Case(
        "select_scatter dynamic", lambda x, y: x.select_scatter(y, 1, -1), [f32(2, 3), f32(2)], [f32(5, 6), f32(5)]
    )
    yield Case("select_scatter of bool", lambda x, y: x.select_scatter(y, 0, 1), [boolean(3, 2), boolean(2)])
    yield Case("masked_scatter broadcast", lambda x, m, y: x.masked_scatter(m, y), [f32(3, 4), boolean(4), f32(12)])


def _scattered() -> Iterator[Case]:
    given = [f32(3, 4), i64(2, 3, low=0, high=4), f32(5, 6)]
    yield Case("scatter of a larger source", lambda x, i, y: x.scatter(1, i, y), [f32(3, 4), _PLACES, f32(5, 6)])
    yield Case(
        "scatter dynamic",
        lambda x, i, y: x.scatter(1, i, y),
        [f32(3, 4), _PLACES, f32(2, 3)],
        [f32(6, 4), _PLACES[:, :2], f32(2, 2)],
    )
    yield Case("scatter along the first", lambda x, i, y: x.scatter(-2, i, y), [i64(4, 3), _PLACES, i64(2, 3)])
    yield Case("scatter bool", lambda x, i: x.scatter(1, i, True), [boolean(3, 4), _PLACES])
    yield Case("scatter into a scalar", lambda x, i: x.scatter(0, i, 2.0), [torch.tensor(1.0), torch.tensor(0)])
    yield Case("scatter of nothing", lambda x, i, y: x.scatter(0, i, y) + 1, [f32(3), i64(0), f32(0)])
    for how in ("add", "multiply"):
        yield Case(f"scatter {how}", lambda x, i, y, h=how: x.scatter(1, i, y, reduce=h), given)
        yield Case(f"scatter {how} a number", lambda x, i, h=how: x.scatter(1, i, 2.5, reduce=h), given[:2])
    for how in ("sum", "prod", "mean", "amax", "amin"):
        whole = [i64(3, 4), i64(2, 3, low=0, high=4), i64(2, 3)]
        yield Case(f"scatter_reduce {how} of a part", lambda x, i, y, h=how: x.scatter_reduce(1, i, y, h), given)
        alone = lambda x, i, y, h=how: x.scatter_reduce(1, i, y, h, include_self=False)  # noqa: E731
        yield Case(f"scatter_reduce {how} of a part alone", alone, given)
        yield Case(
            f"scatter_reduce {how} of int64",
            lambda x, i, y, h=how: x.scatter_reduce(0, i, y, h),
            [*whole[:1], whole[1] % 3, whole[2]],
        )
    yield Case(
        "scatter_reduce of bool",
        lambda x, i, y: x.scatter_reduce(1, i, y, "amax"),
        [boolean(3, 4), _PLACES, boolean(2, 3)],
    )
    yield Case(
        "scatter_add dynamic",
        lambda x, i, y: x.scatter_add(0, i, y),
        [f32(3, 4), i64(5, 4, low=0, high=3), f32(5, 4)],
        [f32(6, 4), i64(7, 4, low=0, high=6), f32(7, 4)],
    )
    huge = [f32(9000), i64(9000, low=0, high=9), f32(9000)]
    yield Case("scatter_add of very many", lambda x, i, y: x.scatter_add(0, i, y), huge)


def _looked_up() -> Iterator[Case]:
    words, places = f32(7, 4), i64(10, low=0, high=7)
    for mode in ("sum", "mean", "max"):
        bag = lambda i, w, o, m=mode: F.embedding_bag(i, w, o, mode=m)  # noqa: E731
        yield Case(f"embedding_bag {mode} with an empty bag", bag, [places, words, torch.tensor([0, 4, 4])])
        padded = lambda i, w, o, m=mode: F.embedding_bag(i, w, o, mode=m, padding_idx=3)  # noqa: E731
        yield Case(f"embedding_bag {mode} with padding", padded, [places, words, torch.tensor([0, 4, 6])])
    yield Case(
        "embedding_bag with the last offset",
        lambda i, w, o: F.embedding_bag(i, w, o, mode="sum", include_last_offset=True),
        [places, words, torch.tensor([0, 4, 10])],
    )
    yield Case(
        "embedding_bag with weights",
        lambda i, w, o, s: F.embedding_bag(i, w, o, mode="sum", per_sample_weights=s),
        [places, words, torch.tensor([0, 4]), f32(10)],
    )
    yield Case(
        "embedding_bag of rows", lambda i, w: F.embedding_bag(i, w, mode="mean"), [i64(3, 5, low=0, high=7), words]
    )
    yield Case("embedding of int32", lambda i, w: F.embedding(i, w), [i64(2, 5, low=0, high=7).int(), words])
    yield Case("embedding of a scalar", lambda i, w: F.embedding(i, w), [torch.tensor(3), words])
    edges = torch.tensor([[0.0, 1.0, 1.0, 3.0], [-1.0, 0.0, 2.0, 5.0]])
    values = torch.tensor([[0.0, 1.0, 9.0], [torch.nan, -3.0, 2.0]])
    for right in (False, True):
        yield Case(
            f"searchsorted in rows, right {right}",
            lambda e, v, r=right: torch.searchsorted(e, v, right=r),
            [edges, values],
        )
    yield Case(
        "searchsorted as int32", lambda e, v: torch.searchsorted(e, v, out_int32=True, side="right"), [edges[0], values]
    )
    yield Case(
        "searchsorted dynamic", torch.searchsorted, [edges[1], values[0]], [torch.arange(9.0), torch.arange(5.0)]
    )
    yield Case("bucketize of int64", lambda x: torch.bucketize(x, torch.tensor([0, 3, 5])), [i64(3, 4)])


def _of_other_dtypes() -> Iterator[Case]:
    for dtype in (torch.float16, torch.bfloat16, torch.int32, torch.int64, torch.bool):
        x, y = (torch.arange(24).reshape(4, 6) % 5).to(dtype), (torch.arange(6).reshape(2, 3) % 3).to(dtype)
        yield Case(f"index of {dtype}", lambda x, i: x[i, i], [x, torch.tensor([-1, 2])])
        yield Case(f"gather of {dtype}", lambda x, i: x.gather(1, i), [x, _PLACES])
        yield Case(f"scatter of {dtype}", lambda x, i, y: x.scatter(1, i, y), [x, _PLACES, y])
        yield Case(
            f"index_put of {dtype}", lambda x, i, y: x.index_put((i, i), y), [x, torch.tensor([-1, 2]), y[0, :2]]
        )
        yield Case(f"slice_scatter of {dtype}", lambda x, y: x.slice_scatter(y, 1, 1, 4), [x[:2].contiguous(), y])
        yield Case(f"flip and roll of {dtype}", lambda x: x.flip(0).roll(1, 1), [x])
        yield Case(f"cat and repeat of {dtype}", lambda x: torch.cat((x, x[:1])).repeat(1, 2), [x])
        yield Case(f"tril of {dtype}", lambda x: x.tril(), [x])
        yield Case(f"where of {dtype}", lambda c, x: torch.where(c, x, x.flip(0)), [boolean(6), x])
