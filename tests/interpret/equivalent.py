"""Why a mutant that no check notices computes the same: conditions, each looked at on the layer and on its values.

They are asked only about mutants that kept every shape, and whose numbers are right.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import tensorrt_rtx as trt
import torch
from torch import Tensor

from interpret.reading import Layer, axes_of

SHIFT = "the largest is taken off so that nothing overflows: any shift cancels out"
NOT_TOLD = "not equivalent: these inputs have no value near this bound"
NOT_TAKEN = "not equivalent: with these inputs a Select takes its other branch everywhere"
_FAR = 9  # layers
_COMMUTES = frozenset(["SUM", "PROD", "MAX", "MIN", "AND", "OR", "XOR", "EQUAL"])
_ALPHA = frozenset(["LEAKY_RELU", "ELU", "SELU", "SOFTPLUS", "CLIP", "HARD_SIGMOID", "SCALED_TANH", "THRESHOLDED_RELU"])
_BETA = frozenset(["SELU", "SOFTPLUS", "CLIP", "HARD_SIGMOID", "SCALED_TANH"])
_EXPLICIT = (trt.PaddingMode.EXPLICIT_ROUND_DOWN, trt.PaddingMode.EXPLICIT_ROUND_UP)
_MODE_PARAMETERS = {"cubic_coeff": "CUBIC", "exclude_outside": "CUBIC", "nearest_rounding": "NEAREST"}


@dataclass(frozen=True)
class Mutant:
    """A layer as it was, the property that was changed, and what the tensors around it are."""

    layer: Layer
    property: str
    new: Any
    values: dict[str, Tensor]
    layers: Sequence[Layer]  # of the whole network
    results: frozenset[str]  # names of its outputs

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
    """Why it changes nothing of what the network gives, or ""."""
    layer = mutant.layer
    if not _reaches_a_result(mutant):
        return "no result depends on the layer"
    return next((why for why in REASONS.get(layer.kind, _none)(mutant) if why), "")


def _reaches_a_result(m: Mutant) -> bool:
    met, waiting = {m.layer.name}, [m.layer]
    while waiting:
        layer = waiting.pop()
        if m.results & set(layer.outputs) or layer.loop or layer.conditional or layer.attention:
            return True
        behind = [other for other in _behind(m, layer) if other.name not in met]
        met.update(other.name for other in behind)
        waiting += behind
    return False


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
    if m.property == "inputs" and m.native.op.name in _COMMUTES:
        yield "the operation commutes"
    if m.property == "inputs" and torch.equal(*torch.broadcast_tensors(m.given(0), m.given(1))):
        yield "both operands are equal"
    if m.property == "inputs" and m.native.op.name == "SUB" and all(_forgets_sign(reader) for reader in m.readers):
        yield "its square is taken, or its absolute value"
    if m.property == "op":
        yield _same_operation(m)
        yield _never_taken(m)


def _forgets_sign(reader: Layer) -> bool:
    kind, native = reader.kind, reader.native
    squares = kind == "ELEMENTWISE" and native.op.name == "PROD" and reader.inputs[0] == reader.inputs[1]
    return squares or (kind == "UNARY" and native.op.name == "ABS")


def _never_taken(m: Mutant) -> str:
    """Whether each reader is a Select that takes its other branch everywhere."""
    name = m.layer.outputs[0]
    for reader in m.readers:
        if reader.kind != "SELECT" or reader.inputs[0] == name:
            return ""
        condition = m.values[str(reader.inputs[0])]
        if bool((condition if reader.inputs[1] == name else ~condition).any()):
            return ""
    return NOT_TAKEN if m.readers else ""


def _same_operation(m: Mutant) -> str:
    """Operations that agree on all operands of the kind that the layer gets here."""
    first, second = m.given(0), m.given(1)
    names = {m.native.op.name, m.new.name}
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
    others = {"EXP": torch.exp, "LOG": torch.log, "SQRT": torch.sqrt, "RECIP": torch.reciprocal}
    if m.property == "op" and m.native.op.name == "SIGN" and m.new.name in others:
        same = torch.equal(others[m.new.name](m.given(0)).sign(), m.given(0).sign())
        yield "of the product of signs only its own sign is looked at" if same else ""


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
    native, shape = m.native, m.given(0).shape
    sizes = native.reshape_dims if len(m.layer.inputs) < 2 else m.given(1).tolist()
    if m.property == "zero_is_placeholder" and (sizes is None or 0 not in list(sizes)):
        yield "no size is 0"
    if m.property == "zero_is_placeholder" and m.given(0).numel() == 0:
        yield "the size that is 0 stays 0"
    if m.property == "first_transpose" and _moves_nothing(native.first_transpose, m.new, shape):
        yield "only dimensions of size 1 change places"
    if m.property == "second_transpose":
        before = list(m.made().shape)
        for place, axis in enumerate(tuple(native.second_transpose)[: len(before)]):
            before[axis] = m.made().shape[place]
        if _moves_nothing(native.second_transpose, m.new, before):
            yield "only dimensions of size 1 change places"
    if m.property == "reshape_dims" and len(m.layer.inputs) > 1:
        yield "the sizes come as a tensor"
    if m.property == "reshape_dims" and m.native.reshape_dims is not None:
        yield _reshaped_anyway(m)


def _moves_nothing(old: Sequence[int], new: Sequence[int], shape: Sequence[int]) -> bool:
    wide = [[axis for axis in tuple(order)[: len(shape)] if shape[axis] != 1] for order in (old, new)]
    return wide[0] == wide[1]


def _slice(m: Mutant) -> Iterator[str]:
    native = m.native
    if m.property == "mode" and _is_within(m):
        yield "nothing lies outside"
    taken = {"start": 1, "shape": 2, "stride": 3}.get(m.property, 9)
    if taken < len(m.layer.inputs) and m.layer.inputs[taken] is not None:
        yield "it comes as a tensor"
    elif (
        m.property == "start"
        and native.mode.name in {"WRAP", "CLAMP", "REFLECT"}
        and all(size == 1 for size, old, new in zip(m.given(0).shape, native.start, m.new, strict=True) if old != new)
    ):
        yield "there is one value, wherever one looks"
    elif m.property == "stride" and all(
        size <= 1 for size, old, new in zip(m.made().shape, native.stride, m.new, strict=True) if old != new
    ):
        yield "at most one place is taken"
    elif m.property == "stride" and all(
        size == 1 for size, old, new in zip(m.given(0).shape, native.stride, m.new, strict=True) if old != new
    ):
        yield "there is one place to take"


def _is_within(m: Mutant) -> bool:
    native, count = m.native, len(m.layer.inputs)
    parts = [m.given(place).tolist() if place < count and m.layer.inputs[place] else None for place in (1, 2, 3)]
    start, size, stride = (
        given or list(own) for given, own in zip(parts, (native.start, native.shape, native.stride), strict=True)
    )
    ends = [first + (length - 1) * step for first, length, step in zip(start, size, stride, strict=True)]
    return all(
        0 <= first < extent and 0 <= last < extent
        for first, last, extent in zip(start, ends, m.given(0).shape, strict=True)
    )


def _reduce(m: Mutant) -> Iterator[str]:
    axes = axes_of(m.native.axes, m.given(0).dim())
    if m.property == "op" and all(m.given(0).shape[axis] == 1 for axis in axes):
        yield "there is one value to reduce"
    if _condition_is_one(m):
        yield NOT_TAKEN
    takes_off = [(reader.kind, reader.inputs[0]) for reader in m.readers]
    if m.property == "op" and _is_shift(m.layer) and takes_off == [("ELEMENTWISE", m.layer.inputs[0])]:
        yield SHIFT if m.readers[0].native.op.name == "SUB" else ""
    casts = [reader.native.to_type for reader in m.readers if reader.kind == "CAST"]
    if m.property == "op" and {m.native.op.name, m.new.name} == {"SUM", "MAX"} and bool((m.given(0) >= 0).all()):
        yield "only whether it is 0 is looked at" if casts == [trt.bool] and len(m.readers) == 1 else ""
    if m.property == "axes" and isinstance(m.new, int):
        changed = set(axes) ^ set(axes_of(m.new, m.given(0).dim()))
        if all(m.given(0).shape[axis] == 1 for axis in changed):
            yield "the axes that come or go have one value"
    if m.property == "op" and m.given(0).dtype.is_floating_point and bool((m.given(0) == 0).all()):
        yield "all values are 0"


def _resize(m: Mutant) -> Iterator[str]:
    mode, native = m.native.resize_mode.name, m.native
    if m.property in _MODE_PARAMETERS and mode != _MODE_PARAMETERS[m.property]:
        yield "this mode has no such parameter"
    given = m.given(0)
    if m.property == "nearest_rounding" and mode == "NEAREST" and given.unique().numel() == given.numel():
        yield "all values differ and the same are picked: these places are rounded alike"
    if m.property == "selector_for_single_pixel" and 1 not in m.made().shape[2:]:
        yield "no size becomes 1"
    if m.property == "shape" and (len(m.layer.inputs) > 1 or len(native.scales)):
        yield "sizes come as a tensor, or scales"


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


def _gather(m: Mutant) -> Iterator[str]:
    if m.property == "axis" and m.native.mode == trt.GatherMode.ND:
        yield "tuples of indices have no axis"
    if m.property == "mode" and m.given(0).dim() == 1:
        yield "of a vector, slices and single values are the same"
    if m.property == "inputs" and torch.equal(m.given(0), m.given(1)):
        yield "values and indices are equal"


def _scatter(m: Mutant) -> Iterator[str]:
    if m.property == "axis" and m.native.mode == trt.ScatterMode.ND:
        yield "tuples of indices have no axis"


def _matmul(m: Mutant) -> Iterator[str]:
    place = {"op0": 0, "op1": 1}.get(m.property)
    if place is not None and torch.equal(m.given(place), m.given(place).mT):
        yield "the matrix is symmetric"
    if m.property == "inputs" and torch.equal(m.given(0), m.given(1)):
        yield "both factors are equal"


def _topk(m: Mutant) -> Iterator[str]:
    if m.property == "k" and len(m.layer.inputs) > 1:
        yield "the count comes as a tensor"


def _attention(m: Mutant) -> Iterator[str]:
    if m.property == "normalization_quantize_to_type" and m.layer.attention.normalization_quantize_scale is None:
        yield "nothing is quantized"
    square = m.made().shape[2:3] == m.given(1).shape[2:3]
    if m.property == "causal_kind" and square and trt.CausalMaskKind.NONE not in (m.new, m.layer.attention.causal_kind):
        yield "as many queries as keys: both corners are one"


def _constant(m: Mutant) -> Iterator[str]:
    if m.property == "shape":
        yield _reshaped_anyway(m)
    if m.property == "weights" and m.made().numel() > 1 and _is_summed(m):
        yield "the same values in another order, and they are added up"
    if m.property == "weights":
        yield NOT_TAKEN if _condition_is_one(m) else _never_taken(m)
    if m.property == "weights" and m.made().numel() == 1:
        readers = {reader.native.op.name if reader.kind == "ELEMENTWISE" else reader.kind for reader in m.readers}
        if readers <= {"MIN", "MAX"}:
            yield "a bound that no size or index reaches" if not m.made().is_floating_point() else NOT_TOLD
        if readers <= {"GREATER", "LESS", "FLOOR_DIV"}:
            yield NOT_TOLD
        behind = [
            other.native.op.name for reader in m.readers for other in _behind(m, reader) if other.kind == "REDUCE"
        ]
        if readers == {"SELECT"} and behind and set(behind) <= {"MIN", "MAX"}:
            yield "it stands for no index, beyond all of them, and the least or the largest is taken"


def _is_summed(m: Mutant) -> bool:
    """Whether what the constant's values lead to is added up a few layers on."""
    layers = m.readers
    for _ in range(_FAR):
        if any(layer.kind == "REDUCE" and layer.native.op.name == "SUM" for layer in layers):
            return True
        layers = [other for layer in layers for other in _behind(m, layer)]
    return False


def _condition_is_one(m: Mutant) -> bool:
    """Whether all that the layer leads to, a few layers on, is a Select's condition, which has one value everywhere."""
    layers, name = m.readers, m.layer.outputs[0]
    for _ in range(_FAR):
        if len(layers) != 1:
            return False
        if layers[0].kind == "SELECT" and layers[0].inputs[0] == name:
            return m.values[name].unique().numel() == 1
        name, layers = layers[0].outputs[0], _behind(m, layers[0])
    return False


def _behind(m: Mutant, layer: Layer) -> list[Layer]:
    return [other for other in m.layers if set(other.inputs) & set(layer.outputs)]


def _reshaped_anyway(m: Mutant) -> str:
    """The values keep their order, and whoever reads them gives them a shape."""
    if sum(size != 1 for size in m.made().shape) <= 1 and not _rows_and_columns(m):
        return "a vector either way, as the shapes behind it say"
    shapes = [m.made().shape, *([m.new] if m.made().numel() == math.prod(m.new) else [])]
    orders = [_order_until_reshaped(m, reader, len(m.made().shape)) for reader in m.readers]
    if all(order and _moves_nothing(range(len(shape)), order, shape) for order in orders for shape in shapes):
        return "the next layer reshapes it anyway"
    return ""


def _order_until_reshaped(m: Mutant, reader: Layer, rank: int) -> list[int]:
    """The transposition that a tensor goes through before it is reshaped; [] when something else happens to it."""
    order = list(range(rank))
    while reader.kind == "SHUFFLE":
        order = [order[axis] for axis in list(reader.native.first_transpose)[:rank]]
        if reader.native.reshape_dims is not None:
            return order
        order = [order[axis] for axis in list(reader.native.second_transpose)[:rank]]
        behind = _behind(m, reader)
        if len(behind) != 1:
            return []
        reader = behind[0]
    return []


def _rows_and_columns(m: Mutant) -> bool:
    """Whether a vector that lies the other way would be another matrix factor, or meet another axis of its partner."""
    return any(reader.kind == "MATRIX_MULTIPLY" for reader in m.readers)


def _select(m: Mutant) -> Iterator[str]:
    if m.property == "inputs" and torch.equal(*torch.broadcast_tensors(m.given(0), m.given(1))):
        yield "both are equal"


def _concatenation(m: Mutant) -> Iterator[str]:
    if m.property == "inputs" and torch.equal(m.given(0), m.given(1)):
        yield "both parts are equal"
    if m.property == "inputs" and 0 in (m.given(0).numel(), m.given(1).numel()):
        yield "a part is empty"


REASONS: dict[str, Callable[[Mutant], Iterator[str]]] = {
    "ACTIVATION": _activation,
    "ATTENTION_INPUT": _attention,
    "CONCATENATION": _concatenation,
    "CONSTANT": _constant,
    "CONVOLUTION": _pads,
    "DECONVOLUTION": _pads,
    "ELEMENTWISE": _elementwise,
    "FILL": _fill,
    "GATHER": _gather,
    "MATRIX_MULTIPLY": _matmul,
    "POOLING": _pads,
    "REDUCE": _reduce,
    "RESIZE": _resize,
    "SCATTER": _scatter,
    "SELECT": _select,
    "SHUFFLE": _shuffle,
    "SLICE": _slice,
    "TOPK": _topk,
    "UNARY": _unary,
}
