"""Rows: transposed convolutions, pools, resizing and sampling in the forms, dtypes and varying sizes that reducing.py has not."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from suite.case import Case, f32

aten = torch.ops.aten
_LOW = {torch.float16: 1e-2, torch.bfloat16: 2e-2}
_SIZES = {1: (11,), 2: (7, 8), 3: (4, 5, 6)}


def rows() -> Iterator[Case]:
    """All of them."""
    yield from _convolved()
    yield from _transposed()
    yield from _pooled()
    yield from _adaptive()
    yield from _resized()
    yield from _whole_operators()
    yield from _sampled()


class _Held(nn.Module):
    """A convolution with weights of its own."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.layer(x)
        return result


def _convolved() -> Iterator[Case]:
    for dtype, tolerance in {torch.float32: 2e-5, **_LOW}.items():
        x = f32(2, 4, 7, 8).to(dtype)
        for bias in (True, False):
            layer = nn.Conv2d(4, 6, 3, 2, 1, groups=2, bias=bias).to(dtype)
            yield Case(f"own conv2d of {dtype}, bias {bias}", _Held(layer), [x], tolerance=tolerance)
    kernel = lambda x, w: F.conv2d(x, w * 2 + 1)  # noqa: E731
    yield Case("conv2d with computed weights", kernel, [f32(2, 4, 7, 8), f32(6, 4, 3, 3)], tolerance=2e-5)
    held = f32(6, 4, 3, 3)
    yield Case("conv2d with a computed bias", lambda x, b: F.conv2d(x, held, b + 1), [f32(2, 4, 7, 8), f32(6)])


def _transposed() -> Iterator[Case]:
    for rank, size in _SIZES.items():
        function = getattr(F, f"conv_transpose{rank}d")
        for options in (
            {"stride": 2, "dilation": 2, "padding": 1},
            {"stride": 3, "output_padding": 2},
            {"stride": 3, "dilation": 2, "output_padding": 2, "padding": 1, "groups": 2},
        ):
            groups = int(str(options.get("groups", 1)))
            given = [f32(2, 4, *size), f32(4, 6 // groups, *(3,) * rank), f32(6)]
            back = lambda x, w, b, f=function, o=options: f(x, w, b, **o)  # noqa: E731
            yield Case(f"conv_transpose{rank}d {options}", back, given, tolerance=2e-5)
        kind = getattr(nn, f"ConvTranspose{rank}d")
        for dtype, tolerance in {torch.float32: 2e-5, **_LOW}.items():
            held = _Held(kind(4, 6, 3, 2, 1, 1, groups=2, dilation=2).to(dtype))
            yield Case(f"own conv_transpose{rank}d of {dtype}", held, [f32(2, 4, *size).to(dtype)], tolerance=tolerance)
        larger = [f32(3, 4, *(extent + 2 for extent in size))]
        free = _Held(kind(4, 6, 3, 2, bias=False))
        yield Case(f"own conv_transpose{rank}d dynamic", free, [f32(2, 4, *size)], larger, tolerance=2e-5)
    low = [f32(2, 4, 5, 6).bfloat16(), f32(4, 3, 3, 3).bfloat16()]
    yield Case("conv_transpose2d of bfloat16 with computed weights", F.conv_transpose2d, low, tolerance=2e-2)


def _pooled() -> Iterator[Case]:
    for rank in (2, 3):
        size = _SIZES[rank]
        given, larger = [f32(2, 3, *size)], [f32(3, 3, *(extent + 3 for extent in size))]
        pools = getattr(F, f"max_pool{rank}d"), getattr(F, f"avg_pool{rank}d")
        for kernel, stride, padding in ((3, 2, 1), (2, 3, 1), (2, 3, 0)):
            options = {"kernel_size": kernel, "stride": stride, "padding": padding, "ceil_mode": True}
            largest = lambda x, f=pools[0], o=options: f(x, **o)  # noqa: E731
            yield Case(f"max_pool{rank}d {kernel}/{stride}/{padding} ceil dynamic", largest, given, larger)
            for count in (False, True):
                both = {**options, "count_include_pad": count}
                average = lambda x, f=pools[1], o=both: f(x, **o)  # noqa: E731
                name = f"avg_pool{rank}d {kernel}/{stride}/{padding} ceil counted={count}"
                yield Case(name, average, given)
                yield Case(f"{name} dynamic", average, given, larger)
        divided = lambda x, f=pools[1]: f(x, 3, 2, 1, True, True, 5)  # noqa: E731
        yield Case(f"avg_pool{rank}d ceil divisor dynamic", divided, given, larger)
    for dtype, tolerance in _LOW.items():
        two = [f32(2, 3, 8, 9).to(dtype)], [f32(3, 3, 9, 12).to(dtype)]
        yield Case(f"avg_pool2d ceil of {dtype}", lambda x: F.avg_pool2d(x, 3, 2, 1, True), *two, tolerance)
        yield Case(f"max_pool2d ceil of {dtype}", lambda x: F.max_pool2d(x, 3, 2, 1, 1, True), *two, tolerance)


def _adaptive() -> Iterator[Case]:
    for rank, size in _SIZES.items():
        given, larger = [f32(2, 3, *size)], [f32(3, 3, *(extent + 3 for extent in size))]
        for kind in ("avg", "max"):
            function = getattr(F, f"adaptive_{kind}_pool{rank}d")
            for target in (1, 3):
                pool = lambda x, f=function, t=target: f(x, t)  # noqa: E731
                yield Case(f"adaptive_{kind}_pool{rank}d {target} dynamic", pool, given, larger)
    for dtype, tolerance in _LOW.items():
        pools = lambda x: (F.adaptive_avg_pool2d(x, (3, 1)), F.adaptive_max_pool2d(x, (4, 3)))  # noqa: E731
        yield Case(f"adaptive pools of {dtype}", pools, [f32(2, 3, 8, 9).to(dtype)], tolerance=tolerance)
    even = [f32(2, 3, 8, 9)]
    yield Case("adaptive_avg_pool2d evenly", lambda x: F.adaptive_avg_pool2d(x, (4, 3)), even, [f32(3, 3, 8, 9)])
    yield Case("adaptive_avg_pool2d of one side", lambda x: F.adaptive_avg_pool2d(x, (None, 3)), even)
    yield Case("adaptive_avg_pool2d into a varying size", _shrink, even, [f32(2, 3, 9, 9)])
    yield Case("adaptive_max_pool2d without batch", lambda x: F.adaptive_max_pool2d(x, (4, 3)), [f32(3, 8, 9)])
    yield Case("adaptive_max_pool2d indices", lambda x: F.adaptive_max_pool2d(x, 2, True), even)


def _shrink(x: Tensor) -> Tensor:
    return F.adaptive_avg_pool2d(x, (None, 3))


_MODES = (
    ("nearest", 1), ("nearest", 2), ("nearest", 3), ("nearest-exact", 1), ("nearest-exact", 2), ("nearest-exact", 3),
    ("linear", 1), ("bilinear", 2), ("trilinear", 3), ("bicubic", 2),
)  # fmt: skip


def _resized() -> Iterator[Case]:
    for mode, rank in _MODES:
        given, larger = f32(2, 3, *(4, 5, 6)[:rank]), f32(3, 3, *(21, 8, 7)[:rank])
        for align in (None,) if "nearest" in mode else (False, True):
            name = f"{mode} {rank}d align={align}"
            for factor in (2.0, 3.0, 0.5, 1.1, 2.1):
                grow = lambda x, m=mode, a=align, f=factor: F.interpolate(x, scale_factor=f, mode=m, align_corners=a)  # noqa: E731
                yield Case(f"resize {name} by {factor}", grow, [given])
                yield Case(f"resize {name} by {factor} dynamic", grow, [given], [larger])
            for size in ((12, 15, 18)[:rank], (1, 9, 2)[:rank]):
                to = lambda x, m=mode, a=align, s=size: F.interpolate(x, s, mode=m, align_corners=a)  # noqa: E731
                yield Case(f"resize {name} to {size} dynamic", to, [given], [larger])
            like = lambda x, y, m=mode, a=align: F.interpolate(x, y.shape[2:], mode=m, align_corners=a)  # noqa: E731
            yield Case(f"resize {name} to another's size", like, [given, f32(2, 3, *(9, 8, 7)[:rank])], [larger, given])
            for dtype, tolerance in _LOW.items():
                odd = lambda x, m=mode, a=align: F.interpolate(x, scale_factor=1.7, mode=m, align_corners=a)  # noqa: E731
                double = lambda x, m=mode, a=align: F.interpolate(x, scale_factor=2.0, mode=m, align_corners=a)  # noqa: E731
                yield Case(f"resize {name} of {dtype} by 1.7", odd, [given.to(dtype)], tolerance=tolerance)
                yield Case(f"resize {name} of {dtype} by 2", double, [given.to(dtype)], tolerance=tolerance)
    for mode in ("bilinear", "bicubic"):
        smooth = lambda x, m=mode: F.interpolate(x, size=(2, 3), mode=m, antialias=True)  # noqa: E731
        yield Case(f"resize {mode} antialiased", smooth, [f32(2, 3, 4, 5)])
    yield Case("resize by two factors", lambda x: F.interpolate(x, scale_factor=(2.1, 1.5)), [f32(2, 3, 5, 4)])


def _whole_operators() -> Iterator[Case]:
    image, volume, row = f32(2, 3, 4, 5), f32(2, 3, 4, 5, 4), f32(2, 3, 4)
    yield Case("upsample_bilinear2d", lambda x: aten.upsample_bilinear2d.default(x, [7, 9], False, 1.9, 1.9), [image])
    yield Case("upsample_bicubic2d", lambda x: aten.upsample_bicubic2d.default(x, [8, 9], True), [image])
    yield Case("upsample_nearest1d", lambda x: aten.upsample_nearest1d.default(x, [8]), [row])
    yield Case("upsample_nearest2d", lambda x: aten.upsample_nearest2d.default(x, [8, 7]), [image])
    yield Case("upsample_nearest3d", lambda x: aten.upsample_nearest3d.default(x, [8, 7, 6], 2.0, None, 1.5), [volume])
    yield Case("upsample_linear1d", lambda x: aten.upsample_linear1d.default(x, [8], False), [row])
    yield Case("upsample_trilinear3d", lambda x: aten.upsample_trilinear3d.default(x, [8, 7, 6], False), [volume])
    for rank, given in enumerate((row, image, volume), 1):
        exact = getattr(aten, f"_upsample_nearest_exact{rank}d").default
        yield Case(f"_upsample_nearest_exact{rank}d", lambda x, f=exact, r=rank: f(x, [8, 7, 9][:r]), [given])


def _sampled() -> Iterator[Case]:
    for mode in ("bilinear", "nearest", "bicubic"):
        for padding in ("zeros", "border", "reflection"):
            take = lambda x, g, m=mode, p=padding: F.grid_sample(x, g, m, p, True)  # noqa: E731
            given, again = [f32(2, 3, 4, 5), f32(2, 6, 7, 2)], [f32(3, 3, 6, 5), f32(3, 6, 9, 2)]
            yield Case(f"grid_sample {mode} {padding} aligned dynamic", take, given, again)
            if mode != "bicubic":
                yield Case(f"grid_sample 3d {mode} {padding}", take, [f32(2, 3, 4, 5, 6), f32(2, 6, 7, 5, 3)])
    for dtype, tolerance in _LOW.items():
        given = [f32(2, 3, 4, 5).to(dtype), (f32(2, 6, 7, 2) / 3).to(dtype)]
        yield Case(
            f"grid_sample of {dtype}", lambda x, g: F.grid_sample(x, g, align_corners=False), given, None, tolerance
        )
    theta = lambda x, t: F.grid_sample(x, F.affine_grid(t, (2, 3, 6, 6), False), align_corners=False)  # noqa: E731
    yield Case("grid_sample on an affine grid", theta, [f32(2, 3, 4, 5), f32(2, 2, 3)])
