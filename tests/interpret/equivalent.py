"""Why a mutant that no check notices computes the same: conditions, each looked at on the layer and on its values.

They are asked only about mutants that kept every shape, whose numbers are right, and that value numbering doesn't prove equal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import tensorrt_rtx as trt
import torch
from torch import Tensor

from interpret.reading import Layer, axes_of

SHIFT = "the largest is taken off so that nothing overflows: any shift cancels out"
_ALPHA = frozenset(["LEAKY_RELU", "ELU", "SELU", "SOFTPLUS", "CLIP", "HARD_SIGMOID", "SCALED_TANH", "THRESHOLDED_RELU"])
_BETA = frozenset(["SELU", "SOFTPLUS", "CLIP", "HARD_SIGMOID", "SCALED_TANH"])
_EXPLICIT = (trt.PaddingMode.EXPLICIT_ROUND_DOWN, trt.PaddingMode.EXPLICIT_ROUND_UP)
_KEEPS_ZERO = frozenset(["ABS", "NEG", "SQRT", "SIGN"])  # 0 for 0 alone
_OFTEN = 3
_ONE_BY_ONE = frozenset(["CONSTANT", "CAST", "UNARY", "ELEMENTWISE", "SELECT", "ACTIVATION", "IDENTITY"])
_MODE_PARAMETERS = {"cubic_coeff": "CUBIC", "exclude_outside": "CUBIC", "nearest_rounding": "NEAREST"}


# Every tensor by name, in the network as it was and in the mutant.
Run = tuple[dict[str, Tensor], dict[str, Tensor]]


@dataclass(frozen=True)
class Mutant:
    """A layer as it was, the property that was changed, and what the tensors around it are."""

    layer: Layer
    property: str
    new: Any
    run: Run
    runs: Sequence[Run]  # of all inputs that were tried
    layers: Sequence[Layer]  # of the whole network

    @property
    def values(self) -> dict[str, Tensor]:
        """Every tensor of the network as it was."""
        return self.run[0]

    @property
    def native(self) -> Any:
        """The SDK's layer, as it was."""
        return self.layer.native

    def given(self, place: int) -> Tensor:
        """An input's value."""
        return self.values[str(self.layer.inputs[place])]

    def made(self, place: int = 0) -> Tensor:
        """An output's value."""
        return self.values[self.layer.outputs[place]]

    @property
    def readers(self) -> list[Layer]:
        """The layers that take what this one gives."""
        return [other for other in self.layers if set(other.inputs) & set(self.layer.outputs)]


def reason_to_be_silent(mutant: Mutant) -> str:
    """Why it changes nothing of what the network gives, or "". A condition on values has to hold for all inputs."""
    if why := _all_bytes(mutant) or _two_formulas(mutant) or _hidden(mutant) or _is_nan(mutant):
        return why
    why = ""
    for run in mutant.runs:
        told = REASONS.get(mutant.layer.kind, _none)(replace(mutant, run=run))
        why = next((reason for reason in told if reason), "")
        if not why:
            return ""
    return why


def _all_bytes(m: Mutant) -> str:
    """Whether each element of the one input, of bytes, is looked at by itself, and all 256 were tried."""
    inputs = {name for layer in m.layers for name in layer.inputs if name} - {
        name for layer in m.layers for name in layer.outputs
    }
    if len(inputs) != 1 or not {layer.kind for layer in m.layers} <= _ONE_BY_ONE:
        return ""
    given = [before[name] for before, _ in m.runs for name in inputs]
    if (
        given[0].dtype not in (torch.uint8, torch.int8)
        or torch.cat([part.flatten() for part in given]).unique().numel() < 256
    ):
        return ""
    return "all 256 values of the input were tried"


def _two_formulas(m: Mutant) -> str:
    """Whether the layer only leads to the condition of a Select whose branches agree wherever the choice is another."""
    layers, name = m.readers, m.layer.outputs[0]
    while len(layers) == 1 and layers[0].kind in {"ELEMENTWISE", "UNARY"}:
        name, layers = layers[0].outputs[0], _behind(m, layers[0])
    if len(layers) != 1 or layers[0].kind != "SELECT" or layers[0].inputs[0] != name:
        return ""
    differ = 0
    for before, after in m.runs:
        one, other = (before[str(name)] for name in layers[0].inputs[1:])
        at, one, other = torch.broadcast_tensors(before[name] != after[name], one, other)
        differ += int(at.sum())
        if not torch.allclose(one[at], other[at], rtol=1e-5, atol=0, equal_nan=True):
            return ""
    return (
        "a Select of two formulas for one value: they agree wherever the choice is another" if differ >= _OFTEN else ""
    )


def _hidden(m: Mutant) -> str:
    """Whether it is a place counted by running sums of a mask, and other only where a Select takes its other branch."""
    source = next((layer for layer in m.layers if m.layer.inputs and m.layer.inputs[0] in layer.outputs), None)
    counts = next((layer for layer in m.layers if source and source.inputs and source.inputs[0] in layer.outputs), None)
    if m.layer.kind != "ELEMENTWISE" or counts is None or counts.kind != "CUMULATIVE":
        return ""
    layers, name = m.readers, m.layer.outputs[0]
    while len(layers) == 1 and layers[0].kind in {"SHUFFLE", "GATHER"}:
        name, layers = layers[0].outputs[0], _behind(m, layers[0])
    if len(layers) != 1 or layers[0].kind != "SELECT" or layers[0].inputs[1] != name:
        return ""
    differ = 0
    for before, after in m.runs:
        was, now = before[name], after[name]
        other = (was != now) & ~((was != was) & (now != now))
        at, taken = torch.broadcast_tensors(other, before[str(layers[0].inputs[0])])
        differ += int(at.sum())
        if bool((at & taken).any()):
            return ""
    return (
        "where it is another index, before the first of a mask, the mask hides what it picks"
        if differ >= _OFTEN
        else ""
    )


def _is_nan(m: Mutant) -> str:
    """Whether it gives NaN, and nothing else, in both networks."""
    name = m.layer.outputs[0]
    nothing = all(bool(values[name].isnan().all()) for run in m.runs for values in run)
    return "NaN in any case, as PyTorch has it" if nothing else ""


def _same(a: Tensor, b: Tensor) -> bool:
    """Equal, and NaN in the same places."""
    return a.shape == b.shape and a.dtype == b.dtype and bool(((a == b) | ((a != a) & (b != b))).all())


def _none(mutant: Mutant) -> Iterator[str]:
    yield ""


def _activation(m: Mutant) -> Iterator[str]:
    kind = m.native.type.name
    if m.property == "alpha" and kind not in _ALPHA:
        yield "this activation has no alpha"
    if m.property == "beta" and kind not in _BETA:
        yield "this activation has no beta"
    if m.property == "type" and kind == "RELU" and m.native.alpha == 0 and m.new.name in {"LEAKY_RELU", "ELU"}:
        yield "with alpha 0 it is a relu"
    if m.property == "type" and kind == "RELU" and m.new.name == "THRESHOLDED_RELU" and m.native.alpha == 0:
        yield "with alpha 0 it is a relu"
    if m.property == "alpha" and kind == "CLIP" and bool((m.given(0) >= m.new).all()):
        yield "no value lies below either bound"
    if m.property == "beta" and kind == "CLIP" and bool((m.given(0) <= m.native.beta).all()):
        yield "no value lies above either bound"


def _elementwise(m: Mutant) -> Iterator[str]:
    if m.property == "inputs" and _same(*torch.broadcast_tensors(m.given(0), m.given(1))):
        yield "both operands are equal"
    if m.property == "inputs" and m.native.op.name == "SUB" and all(_forgets_sign(reader) for reader in m.readers):
        yield "its square is taken, or its absolute value"
    if m.property == "op":
        yield _same_operation(m)


def _forgets_sign(reader: Layer) -> bool:
    kind, native = reader.kind, reader.native
    squares = kind == "ELEMENTWISE" and native.op.name == "PROD" and reader.inputs[0] == reader.inputs[1]
    return squares or (kind == "UNARY" and native.op.name == "ABS")


def _same_operation(m: Mutant) -> str:
    """Operations that agree on all operands of the kind that the layer gets here."""
    names = {m.native.op.name, m.new.name}
    first, second = m.given(0), m.given(1)
    if names <= {"SUM", "SUB", "PROD", "MAX", "MIN"} and _same(first, second) and bool((first.nan_to_num() == 0).all()):
        return "x - x on both sides: both are 0, or both NaN"
    if names == {"DIV", "FLOOR_DIV"} and not first.is_floating_point() and bool((first * second.sign() >= 0).all()):
        return "whole numbers of one sign: cutting off is rounding down"
    if (
        names <= {"SUM", "SUB", "MAX"}
        and bool((second == 0).all())
        and ("MAX" not in names or bool((first >= 0).all()))
    ):
        return "the second operand is 0"
    if names <= {"PROD", "DIV", "POW"} and bool((second == 1).all()):
        return "the second operand is 1"
    if names == {"PROD", "MIN"} and any(
        bool((a == 1).all()) and bool((b <= 1).all()) for a, b in ((first, second), (second, first))
    ):
        return "one operand is 1, the other at most 1"
    source = next((other for other in m.layers if m.layer.inputs[1] in other.outputs), None)
    if names <= {"SUB", "SUM", "MIN"} and source is not None and source.kind == "REDUCE" and _is_shift(source):
        return SHIFT
    reads = {reader.kind for reader in m.readers}
    if names == {"SUM", "MIN"} and first.dtype == torch.int64 and second.numel() == 1 and reads == {"SELECT"}:
        return "an index below 0 counts from the end in Gather too" if bool((first >= -second).all()) else ""
    if first.dtype == torch.bool and names <= {"OR", "XOR"} and not bool((first & second).any()):
        return "never are both true"
    return ""


def _unary(m: Mutant) -> Iterator[str]:
    if m.property == "op" and {m.native.op.name, m.new.name} <= _KEEPS_ZERO:
        yield _only_zero_counts(m)
    others = {"EXP": torch.exp, "LOG": torch.log, "SQRT": torch.sqrt, "RECIP": torch.reciprocal}
    if m.property == "op" and m.native.op.name == "SIGN" and m.new.name in others:
        same = torch.equal(others[m.new.name](m.given(0)).sign(), m.given(0).sign())
        yield "of the product of signs only its own sign is looked at" if same else ""


def _only_zero_counts(m: Mutant) -> str:
    looks = [_looks_for_zero(m, reader) for reader in m.readers]
    return "only whether it is 0 is looked at" if looks and all(looks) else ""


def _looks_for_zero(m: Mutant, reader: Layer) -> bool:
    if reader.kind == "ELEMENTWISE" and reader.native.op.name == "EQUAL":
        return any(bool((m.values[str(name)] == 0).all()) for name in reader.inputs if name != m.layer.outputs[0])
    return bool(reader.kind == "CAST" and reader.native.to_type == trt.bool)


def _is_shift(reduce: Layer) -> bool:
    return reduce.native.op.name == "MAX" and bool(reduce.native.keep_dims)


def _pads(m: Mutant) -> Iterator[str]:
    if m.property == "post_padding":
        yield "the padding behind reaches no further window, as the shape says"
    if m.property == "padding_mode":
        if m.new in _EXPLICIT and m.native.padding_mode in _EXPLICIT:
            yield "the windows divide the size, as the shape says"
        if m.new not in _EXPLICIT and tuple(m.native.pre_padding) == _same_padding(m):
            yield "it comes to the same padding in front"
    if m.layer.kind == "POOLING":
        yield from _pool(m)
    if m.property == "dilation_nd" and all(
        size == 1
        for size, old, new in zip(m.native.kernel_size_nd, m.native.dilation_nd, m.new, strict=True)
        if old != new
    ):
        yield "the kernel has one place there"
    if m.property == "stride_nd" and all(
        size == 1 for size, old, new in zip(m.made().shape[2:], m.native.stride_nd, m.new, strict=True) if old != new
    ):
        yield "there is one window"


def _same_padding(m: Mutant) -> tuple[int, ...]:
    """The padding in front that SAME_UPPER (the smaller half) or SAME_LOWER comes to."""
    pool = m.layer.kind == "POOLING"
    window = m.native.window_size_nd if pool else m.native.kernel_size_nd
    gaps = [1] * len(window) if pool else m.native.dilation_nd
    front = []
    for axis, (size, gap, step) in enumerate(zip(window, gaps, m.native.stride_nd, strict=True)):
        extent = m.given(0).shape[axis - len(window)]
        total = max((-(-extent // step) - 1) * step + gap * (size - 1) + 1 - extent, 0)
        front.append(total // 2 if m.new == trt.PaddingMode.SAME_UPPER else total - total // 2)
    return tuple(front)


def _pool(m: Mutant) -> Iterator[str]:
    native = m.native
    padded = any((*native.pre_padding, *native.post_padding)) or native.padding_mode not in _EXPLICIT
    if m.property == "blend_factor" and native.type != trt.PoolingType.MAX_AVERAGE_BLEND:
        yield "nothing is blended"
    if m.property == "type" and native.type == trt.PoolingType.MAX and m.new == trt.PoolingType.MAX_AVERAGE_BLEND:
        yield "the blend is 0" if native.blend_factor == 0 else ""
    if m.property == "type" and all(size == 1 for size in native.window_size_nd):
        yield "a window of one value"
    if m.property == "average_count_excludes_padding" and native.type == trt.PoolingType.MAX:
        yield "a largest value counts nothing"
    if m.property == "average_count_excludes_padding" and not padded:
        yield "there is no padding"


def _shuffle(m: Mutant) -> Iterator[str]:
    """A dimension of size 1 changes places before a pool whose windows have one place there."""
    order = list(m.new) if m.property == "second_transpose" else []
    moved = [place for place, axis in enumerate(order) if place != axis]
    rank = m.made().dim()
    pools = [reader.native for reader in m.readers if reader.kind == "POOLING"]
    if moved == [1, 2] and len(pools) == len(m.readers) and 1 in m.made().shape[1:3] and rank - 2 > 1:
        plain = all(
            (pool.window_size_nd[0], pool.stride_nd[0], pool.pre_padding[0], pool.post_padding[0]) == (1, 1, 0, 0)
            for pool in pools
        )
        yield "the pool behind it takes channels and rows one by one" if plain else ""
    if _attends_alone(m, moved):
        yield "each query is looked at by itself, be it a place or a head"
    norms = [reader for reader in m.readers if reader.kind == "NORMALIZATION" and reader.native.num_groups == 1]
    if moved and len(norms) == len(m.readers) and any(m.made().shape[axis] == 1 for axis in moved):
        apart = all(not set(moved) & set(axes_of(norm.native.axes, rank)) for norm in norms)
        single = all(m.values[str(name)].numel() == 1 for norm in norms for name in norm.inputs[1:])
        yield "what is behind it normalises each part by itself, with one scale" if apart and single else ""


def _attends_alone(m: Mutant, moved: list[int]) -> bool:
    """Whether these are the queries of an attention that hides nothing and has one head of keys: each is looked at by itself."""
    readers = [reader for reader in m.readers if reader.kind == "ATTENTION_INPUT"]
    if moved != [1, 2] or len(readers) != len(m.readers) or 1 not in m.made().shape[1:3]:
        return False
    return all(
        reader.inputs[0] == m.layer.outputs[0]
        and len([name for name in reader.inputs if name]) == 3
        and reader.attention.causal_kind == trt.CausalMaskKind.NONE
        and m.values[str(reader.inputs[1])].shape[1] == 1
        for reader in readers
    )


def _normalization(m: Mutant) -> Iterator[str]:
    if m.property == "axes":
        old, new = (set(axes_of(mask, m.given(0).dim())) for mask in (m.native.axes, m.new))
        if all(m.given(0).shape[axis] == 1 for axis in old ^ new):
            yield "the axes that come or go have one value"


def _reduce(m: Mutant) -> Iterator[str]:
    axes = axes_of(m.native.axes, m.given(0).dim())
    if m.property == "op" and all(m.given(0).shape[axis] == 1 for axis in axes):
        yield "there is one value to reduce"
    takes_off = [(reader.kind, reader.inputs[0]) for reader in m.readers]
    if m.property == "op" and _is_shift(m.layer) and takes_off == [("ELEMENTWISE", m.layer.inputs[0])]:
        yield SHIFT if m.readers[0].native.op.name == "SUB" else ""
    casts = [reader.native.to_type for reader in m.readers if reader.kind == "CAST"]
    if m.property == "op" and {m.native.op.name, m.new.name} == {"SUM", "MAX"} and bool((m.given(0) >= 0).all()):
        yield "only whether it is 0 is looked at" if casts == [trt.bool] and len(m.readers) == 1 else ""
    if m.property == "op" and m.given(0).dtype.is_floating_point and bool((m.given(0) == 0).all()):
        yield "all values are 0"


def _resize(m: Mutant) -> Iterator[str]:
    mode, native = m.native.resize_mode.name, m.native
    if m.property in _MODE_PARAMETERS and mode != _MODE_PARAMETERS[m.property]:
        yield "this mode has no such parameter"
    if m.property in {"cubic_coeff", "exclude_outside"} and _is_on_values(m):
        yield "every place lies on a value: the others have no weight"
    if m.property == "selector_for_single_pixel" and 1 not in m.made().shape[2:]:
        yield "no size becomes 1"
    if m.property == "shape" and (len(m.layer.inputs) > 1 or len(native.scales)):
        yield "sizes come as a tensor, or scales"


def _is_on_values(m: Mutant) -> bool:
    pairs = [(size, out) for size, out in zip(m.given(0).shape, m.made().shape, strict=True) if size != out]
    aligned = m.native.coordinate_transformation.name == "ALIGN_CORNERS"
    return aligned and all(out > 1 and (size - 1) % (out - 1) == 0 for size, out in pairs)


def _fill(m: Mutant) -> Iterator[str]:
    given = [name is not None for name in m.layer.inputs] + [False] * 3
    if (
        (m.property in {"alpha", "beta"} and given[1])
        or (m.property == "shape" and given[0])
        or (m.property == "to_type" and given[1])
    ):
        yield "it comes as a tensor"
    if m.property == "beta" and m.made().shape[-1] <= 1:
        yield "there is one place"


def _tuples(m: Mutant) -> Iterator[str]:
    if m.property == "axis" and m.native.mode.name == "ND":
        yield "tuples of indices have no axis"
    if m.property == "axis" and m.new % m.given(0).dim() == m.native.axis % m.given(0).dim():
        yield "a negative axis counts from the end: it is the same"


def _matmul(m: Mutant) -> Iterator[str]:
    place = {"op0": 0, "op1": 1}.get(m.property)
    if place is not None and _same(m.given(place), m.given(place).mT):
        yield "the matrix is symmetric"
    if m.property == "inputs" and _same(m.given(0), m.given(1)):
        yield "both factors are equal"


def _softmax(m: Mutant) -> Iterator[str]:
    shared = [axis for mask in (m.native.axes, m.new) for axis in axes_of(mask, m.given(0).dim())]
    if m.property == "axes" and all(m.given(0).shape[axis] == 1 for axis in shared):
        yield "there is one value, which is 1"


def _topk(m: Mutant) -> Iterator[str]:
    if m.property == "k" and len(m.layer.inputs) > 1:
        yield "the count comes as a tensor"
    masks = [m.native.axes, m.new if m.property == "axes" else m.native.axes]
    ranked = [axis for mask in masks for axis in axes_of(mask, m.given(0).dim())]
    if m.property in {"axes", "op"} and all(m.given(0).shape[axis] == 1 for axis in ranked):
        yield "there is one value to rank"


def _attention(m: Mutant) -> Iterator[str]:
    if m.property == "normalization_quantize_to_type" and m.layer.attention.normalization_quantize_scale is None:
        yield "nothing is quantized"
    square = m.made().shape[2:3] == m.given(1).shape[2:3]
    if m.property == "causal_kind" and square and trt.CausalMaskKind.NONE not in (m.new, m.layer.attention.causal_kind):
        yield "as many queries as keys: both corners are one"


def _behind(m: Mutant, layer: Layer) -> list[Layer]:
    return [other for other in m.layers if set(other.inputs) & set(layer.outputs)]


def _constant(m: Mutant) -> Iterator[str]:
    if m.property == "weights" and m.made().numel() == 1:
        readers = {reader.native.op.name if reader.kind == "ELEMENTWISE" else reader.kind for reader in m.readers}
        behind = [
            other.native.op.name for reader in m.readers for other in _behind(m, reader) if other.kind == "REDUCE"
        ]
        if readers == {"SELECT"} and behind and set(behind) <= {"MIN", "MAX"}:
            yield "it stands for no index, beyond all of them, and the least or the largest is taken"
    if m.property == "weights" and _is_beside_infinity(m):
        yield "it is taken off, and put on again, where the largest is infinite: any number is"
    if m.property == "weights" and _is_taken_off(m):
        yield "what groups are counted from, which is taken off again"


def _is_beside_infinity(m: Mutant) -> bool:
    """Whether the constant stands for a largest value that is infinite, in a Select: |largest| == inf."""
    layers, name = m.readers, m.layer.outputs[0]
    while len(layers) == 1 and layers[0].kind == "SHUFFLE":
        name, layers = layers[0].outputs[0], _behind(m, layers[0])
    if len(layers) != 1 or layers[0].kind != "SELECT" or layers[0].inputs[1] != name:
        return False
    sources = [next((s for s in m.layers if given in s.outputs), None) for given in layers[0].inputs[::2]]
    compare, largest = sources
    if compare is None or largest is None or compare.kind != "ELEMENTWISE" or not _is_shift_layer(largest):
        return False
    return compare.native.op.name == "EQUAL" and bool(m.values[str(compare.inputs[1])].isinf().all())


def _is_shift_layer(layer: Layer) -> bool:
    return layer.kind == "REDUCE" and _is_shift(layer)


def _is_taken_off(m: Mutant) -> bool:
    """Whether the constant stands before running sums, which all grow alike, and are subtracted in the end."""
    layers, sums = m.readers, ""
    while len(layers) == 1 and layers[0].kind in {"SLICE", "CONCATENATION", "CUMULATIVE"}:
        sums = layers[0].outputs[0] if layers[0].kind == "CUMULATIVE" else sums
        layers = _behind(m, layers[0])
    return bool(sums) and (m.run[1][sums] - m.run[0][sums]).unique().numel() <= 1


REASONS: dict[str, Callable[[Mutant], Iterator[str]]] = {
    "ACTIVATION": _activation,
    "ATTENTION_INPUT": _attention,
    "CONSTANT": _constant,
    "CONVOLUTION": _pads,
    "DECONVOLUTION": _pads,
    "ELEMENTWISE": _elementwise,
    "FILL": _fill,
    "GATHER": _tuples,
    "MATRIX_MULTIPLY": _matmul,
    "NORMALIZATION": _normalization,
    "POOLING": _pads,
    "REDUCE": _reduce,
    "RESIZE": _resize,
    "SCATTER": _tuples,
    "SHUFFLE": _shuffle,
    "SOFTMAX": _softmax,
    "TOPK": _topk,
    "UNARY": _unary,
}
