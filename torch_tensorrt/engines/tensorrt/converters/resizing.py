"""Resizing of images, rows and volumes: one Resize layer where its formula is PyTorch's, else taps gathered per dimension.

The layer maps places by the two sizes of a dimension. PyTorch maps them by the scale factor that it was given, which is
something else where the factor times the size is no whole number; and it takes the nearest place by arithmetic in float32.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeAlias

import torch
from torch import fx

from torch_tensorrt.engines.tensorrt.converters.constructors import count_up
from torch_tensorrt.engines.tensorrt.converters.registry import bind, converts, is_varying
from torch_tensorrt.engines.tensorrt.net import Net
from torch_tensorrt.engines.tensorrt.network import Operand, Size
from torch_tensorrt.engines.tensorrt.promotion import result_dtype
from torch_tensorrt.engines.tensorrt.sdk import ITensor
from torch_tensorrt.spec.settings import CompilationSettings

aten = torch.ops.aten
Taps: TypeAlias = "list[tuple[ITensor, ITensor]]"  # places along a dimension, and their weights
_SHARPNESS = -0.75  # PyTorch's coefficient of cubic convolution
_MOST = 2**14  # sizes up to this one are tried

converts.refuse(
    "TensorRT's Resize layer has no antialiasing",
    "aten._upsample_bilinear2d_aa.default",
    "aten._upsample_bicubic2d_aa.default",
    "aten._upsample_lanczos2d_aa.default",
)


@dataclass(frozen=True)
class _Axis:
    """A dimension to be resized. factor: what the caller scaled by, None where the sizes alone decide.

    plain: where `out` is `size` this often, PyTorch's kernels forget the factor.
    """

    place: int
    size: Size
    out: Size
    factor: float | None
    plain: tuple[int, ...]

    @property
    def by_sizes(self) -> float | None:
        """out / size where that is what PyTorch maps places by, and known; -1 where it is what a run finds. None: it isn't."""
        if not (isinstance(self.size, int) and isinstance(self.out, int)):
            return -1 if self.factor is None else self.factor if self.factor.is_integer() else None
        if self.factor is None or self.factor * self.size == self.out:
            return self.out / self.size
        return None

    @property
    def is_kept(self) -> bool:
        """Whether nothing changes."""
        return self.by_sizes == 1


def no_resizing(node: fx.Node, settings: CompilationSettings) -> str:
    """Floats; factors of varying sizes whose results can be computed in whole numbers."""
    if not result_dtype(node).is_floating_point:
        return "TensorRT resizes floats only"
    given = bind(node)
    factors = given["scale_factors"] if given["output_size"] is None else ()
    sizes = node.all_input_nodes[0].meta["val"].shape[2:]
    for size, factor in zip(sizes, factors, strict=False):
        if is_varying(size) and _as_fraction(factor) is None:
            return f"a varying size times {factor} can't be computed exactly in TensorRT"
    return ""


def _as_fraction(factor: float) -> Fraction | None:
    """A fraction that gives the same sizes as PyTorch's floor(size * factor)."""
    sizes = torch.arange(_MOST, dtype=torch.float64)
    for most in (1, 100, 10_000):
        found = Fraction(factor).limit_denominator(most)
        exact = torch.arange(_MOST) * found.numerator // found.denominator
        if torch.equal((sizes * factor).floor().long(), exact):
            return found
    return None


@converts(
    aten.upsample_nearest1d.vec,
    aten.upsample_nearest2d.vec,
    aten.upsample_nearest3d.vec,
    aten._upsample_nearest_exact1d.vec,
    aten._upsample_nearest_exact2d.vec,
    aten._upsample_nearest_exact3d.vec,
    refuse=no_resizing,
    whole=True,
)
def resize_nearest(
    net: Net, input: ITensor, output_size: Sequence[Size] | None, scale_factors: Sequence[float] | None
) -> ITensor:
    """upsample_nearest2d.vec(Tensor input, SymInt[]? output_size, float[]? scale_factors) -> Tensor"""
    return _resize(net, input, output_size, scale_factors or ())


@converts(
    aten.upsample_linear1d.vec,
    aten.upsample_bilinear2d.vec,
    aten.upsample_trilinear3d.vec,
    aten.upsample_bicubic2d.vec,
    refuse=no_resizing,
    whole=True,
)
def resize_smoothly(
    net: Net, input: ITensor, output_size: Sequence[Size] | None, align_corners: bool,
    scale_factors: Sequence[float] | None,
) -> ITensor:  # fmt: skip
    """upsample_bilinear2d.vec(Tensor input, SymInt[]? output_size, bool align_corners, float[]? scale_factors) -> Tensor"""
    return _resize(net, input, output_size, scale_factors or (), align_corners)


@converts(aten.upsample_nearest1d.default, aten._upsample_nearest_exact1d.default, refuse=no_resizing, whole=True)
def resize_row_nearest(net: Net, self: ITensor, output_size: Sequence[Size], scales: float | None) -> ITensor:
    """upsample_nearest1d(Tensor self, SymInt[1] output_size, float? scales=None) -> Tensor"""
    return _resize(net, self, output_size, (scales,))


@converts(aten.upsample_nearest2d.default, aten._upsample_nearest_exact2d.default, refuse=no_resizing, whole=True)
def resize_image_nearest(
    net: Net, self: ITensor, output_size: Sequence[Size], scales_h: float | None, scales_w: float | None
) -> ITensor:
    """upsample_nearest2d(Tensor self, SymInt[2] output_size, float? scales_h=None, float? scales_w=None) -> Tensor"""
    return _resize(net, self, output_size, (scales_h, scales_w))


@converts(aten.upsample_nearest3d.default, aten._upsample_nearest_exact3d.default, refuse=no_resizing, whole=True)
def resize_volume_nearest(
    net: Net, self: ITensor, output_size: Sequence[Size], scales_d: float | None, scales_h: float | None,
    scales_w: float | None,
) -> ITensor:  # fmt: skip
    """upsample_nearest3d(Tensor self, SymInt[3] output_size, float? scales_d, scales_h, scales_w) -> Tensor"""
    return _resize(net, self, output_size, (scales_d, scales_h, scales_w))


@converts(aten.upsample_linear1d.default, refuse=no_resizing, whole=True)
def resize_row(
    net: Net, self: ITensor, output_size: Sequence[Size], align_corners: bool, scales: float | None
) -> ITensor:
    """upsample_linear1d(Tensor self, SymInt[1] output_size, bool align_corners, float? scales=None) -> Tensor"""
    return _resize(net, self, output_size, (scales,), align_corners)


@converts(aten.upsample_bilinear2d.default, aten.upsample_bicubic2d.default, refuse=no_resizing, whole=True)
def resize_image(
    net: Net, self: ITensor, output_size: Sequence[Size], align_corners: bool, scales_h: float | None,
    scales_w: float | None,
) -> ITensor:  # fmt: skip
    """upsample_bilinear2d(Tensor self, SymInt[2] output_size, bool align_corners, float? scales_h, scales_w) -> Tensor"""
    return _resize(net, self, output_size, (scales_h, scales_w), align_corners)


@converts(aten.upsample_trilinear3d.default, refuse=no_resizing, whole=True)
def resize_volume(
    net: Net, self: ITensor, output_size: Sequence[Size], align_corners: bool, scales_d: float | None,
    scales_h: float | None, scales_w: float | None,
) -> ITensor:  # fmt: skip
    """upsample_trilinear3d(Tensor self, SymInt[3] output_size, bool align_corners, float? scales_d, ...) -> Tensor"""
    return _resize(net, self, output_size, (scales_d, scales_h, scales_w), align_corners)


def _resize(
    net: Net, value: ITensor, wanted: Sequence[Size] | None, factors: Sequence[float | None], align: bool = False
) -> ITensor:
    assert net.node is not None
    name, dtype = str(net.node.target), net.dtype(value)
    mode = "NEAREST" if "nearest" in name else "CUBIC" if "cubic" in name else "LINEAR"
    axes = [axis for axis in _axes(net, value, wanted, factors) if not axis.is_kept]
    if not axes:
        return value
    how = "ALIGN_CORNERS" if align else "HALF_PIXEL" if mode != "NEAREST" or "exact" in name else "ASYMMETRIC"
    if all(_is_layers(axis, mode, align) for axis in axes):
        # The SDK's documentation lists float32 and float16 for its Resize layer.
        given = net.cast(value, torch.float32) if dtype is torch.bfloat16 else value
        return net.cast(_layer(net, given, axes, mode, how), dtype)
    result = value if mode == "NEAREST" else net.cast(value, torch.float32)
    for axis in axes:
        result = _gather(net, result, axis, mode, _places(net, axis, mode, how))
    return net.cast(result, dtype)


def _axes(net: Net, value: ITensor, wanted: Sequence[Size] | None, factors: Sequence[float | None]) -> list[_Axis]:
    assert net.node is not None
    name, spatial = str(net.node.target), net.rank(value) - 2
    plain = (1, 2) if "nearest2d" in name else (1,) if "linear" in name else ()
    axes = []
    for place, factor in zip(range(2, 2 + spatial), factors or [None] * spatial, strict=True):
        size, known = net.size(value, place), net.known_size(place)
        if known is not None:
            out: Size = known
        elif wanted is not None:
            out = wanted[place - 2]
        else:
            fraction = _as_fraction(factor or 1)
            assert fraction is not None
            scaled = net.compute_size(size, fraction.numerator, "PROD")
            out = net.compute_size(scaled, fraction.denominator, "FLOOR_DIV")
        forgotten = isinstance(size, int) and any(out == size * times for times in plain)
        axes.append(_Axis(place, size, out, None if forgotten else factor, plain))
    return axes


def _is_layers(axis: _Axis, mode: str, align: bool) -> bool:
    """Whether the layer's formula is PyTorch's for this dimension, whatever the sizes are."""
    ratio = axis.by_sizes
    if align:  # one place alone is a case of its own
        return (isinstance(axis.out, int) and axis.out > 1) or (ratio is not None and ratio > 1)
    if ratio is None or mode != "NEAREST":
        return ratio is not None
    return ratio > 0 and math.frexp(ratio)[0] == 0.5  # powers of two are exact in any arithmetic


def _layer(net: Net, value: ITensor, axes: Sequence[_Axis], mode: str, how: str) -> ITensor:
    sizes = net.sizes(value)
    for axis in axes:
        sizes[axis.place] = axis.out
    known = tuple(size for size in sizes if isinstance(size, int))
    fixed = len(known) == len(sizes)
    return net.layer(
        "resize",
        value,
        inputs={} if fixed else {1: net.size_tensor(sizes)},
        shape=known if fixed else None,
        resize_mode=net.member("InterpolationMode", mode),
        coordinate_transformation=net.member("ResizeCoordinateTransformation", how),
        nearest_rounding=net.member("ResizeRoundMode", "HALF_UP" if how == "HALF_PIXEL" else "FLOOR"),
        cubic_coeff=_SHARPNESS if mode == "CUBIC" else None,
    )


def _places(net: Net, axis: _Axis, mode: str, how: str) -> ITensor:
    """Where in the input each place of the output lies: float32, of shape [out], in PyTorch's arithmetic."""
    size, out = axis.size, axis.out
    number = net.cast(count_up(net, out), torch.float32)
    if how == "ALIGN_CORNERS":
        last = net.compute_size(net.compute_size(out, -1, "SUM"), 1, "MAX")
        ratio = _divide(net, net.compute_size(size, -1, "SUM"), last)
        return net.elementwise(number, ratio, "PROD", torch.float32)
    ratio = _ratio(net, axis)
    if how == "ASYMMETRIC":
        return net.elementwise(number, ratio, "PROD", torch.float32)
    middle = net.elementwise(_shift(net, number, 0.5), ratio, "PROD", torch.float32)
    return middle if mode == "NEAREST" else _shift(net, middle, -0.5)


def _ratio(net: Net, axis: _Axis) -> Operand:
    """How far two places of the output lie apart in the input."""
    if axis.factor is None:
        return _divide(net, axis.size, axis.out)
    ratio: Operand = 1 / axis.factor
    for times in () if isinstance(axis.size, int) else axis.plain:
        scaled = net.size_tensor([net.compute_size(axis.size, times, "PROD")])
        same = net.elementwise(net.size_tensor([axis.out]), scaled, "EQUAL", torch.int64)
        ratio = net.select(same, 1 / times, ratio, torch.float32)
    return ratio


def _divide(net: Net, size: Size, by: Size) -> Operand:
    if isinstance(size, int) and isinstance(by, int):
        return float(torch.tensor(size, dtype=torch.float32) / by)
    return net.elementwise(net.size_tensor([size]), net.size_tensor([by]), "DIV", torch.float32)


def _gather(net: Net, value: ITensor, axis: _Axis, mode: str, at: ITensor) -> ITensor:
    """The weighted sum of the values at the taps of each place; what lies beyond an edge is the value at the edge."""
    if mode == "NEAREST":
        return net.gather(value, _within(net, net.unary(at, "FLOOR"), axis), axis.place)
    behind = net.rank(value) - axis.place
    total: ITensor | None = None
    for place, weight in _taps(net, axis, mode, at):
        picked = net.gather(value, _within(net, place, axis), axis.place)
        part = net.elementwise(picked, net.unsqueeze(weight, range(1, behind)), "PROD", torch.float32)
        total = part if total is None else net.elementwise(total, part, "SUM", torch.float32)
    assert total is not None
    return total


def _within(net: Net, place: ITensor, axis: _Axis) -> ITensor:
    last = net.compute_size(axis.size, -1, "SUM")
    whole = net.elementwise(net.cast(place, torch.int64), 0, "MAX", torch.int64)
    return net.elementwise(whole, last, "MIN", torch.int64)


def _taps(net: Net, axis: _Axis, mode: str, at: ITensor) -> Taps:
    if mode == "LINEAR":
        at = net.elementwise(at, 0.0, "MAX", torch.float32)
    base = net.unary(at, "FLOOR")
    part = net.elementwise(at, base, "SUB", torch.float32)
    rest = net.elementwise(1.0, part, "SUB", torch.float32)
    if mode == "LINEAR":
        return [(base, rest), (_shift(net, base, 1.0), part)]
    a = _SHARPNESS
    near, far = (a + 2, -(a + 3), 0.0, 1.0), (a, -5 * a, 8 * a, -4 * a)  # for distances up to 1, and from 1 to 2
    return [
        (_shift(net, base, -1.0), _polynomial(net, _shift(net, part, 1.0), far)),
        (base, _polynomial(net, part, near)),
        (_shift(net, base, 1.0), _polynomial(net, rest, near)),
        (_shift(net, base, 2.0), _polynomial(net, _shift(net, rest, 1.0), far)),
    ]


def _shift(net: Net, value: ITensor, by: float) -> ITensor:
    return net.elementwise(value, by, "SUM", torch.float32)


def _polynomial(net: Net, value: ITensor, factors: Sequence[float]) -> ITensor:
    """The polynomial with these factors, the highest power first."""
    result = net.elementwise(value, factors[0], "PROD", torch.float32)
    for factor in factors[1:-1]:
        result = net.elementwise(_shift(net, result, factor), value, "PROD", torch.float32)
    return _shift(net, result, factors[-1])
