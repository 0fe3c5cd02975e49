"""How large values can get, proven from the weights: what a normalisation gives has a known length, whatever goes in.

float8 has an exponent, so a bound that is a hundred times too large costs no precision; that spares looking for the largest value.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, fx
from torch._ops import OpOverload

from torch_tensorrt.engines.inductor.passes.attention_kernels import KERNELS
from torch_tensorrt.engines.inductor.passes.linears import linear_of
from torch_tensorrt.engines.inductor.passes.masks.reader import arguments_of
from torch_tensorrt.graphs.editing import tensor_of, written_attributes

aten = torch.ops.aten
_UNEVEN = (
    16.0  # the largest factor of a normalisation may be so many times the usual one; else the bound says too little
)
_MOVES = frozenset(
    {
        aten.view.default,
        aten._unsafe_view.default,
        aten.reshape.default,
        aten.permute.default,
        aten.transpose.int,
        aten.clone.default,
        aten.slice.Tensor,
        aten.expand.default,
        aten.unsqueeze.default,
        aten.squeeze.dims,
        aten._to_copy.default,
    }
)
# No value gets further from 0 by these.
_SHRINKING = frozenset({aten.gelu.default, aten.relu.default, aten.silu.default, aten.tanh.default, aten.neg.default})
_SPLITS = frozenset({aten.split.Tensor, aten.split_with_sizes.default, aten.unbind.int})
_ATTENTION = frozenset({aten.scaled_dot_product_attention.default, *KERNELS})


@dataclass(frozen=True)
class Bound:
    """No value is further from 0 than `most`; no row along the last dimension is longer than `length`, where that is known."""

    most: float
    length: float | None = None


class Magnitudes:
    """Bounds of the nodes of one graph. `given`: those that are known otherwise."""

    def __init__(self, graph_module: fx.GraphModule, given: Mapping[fx.Node, float] | None = None) -> None:
        self._module = graph_module
        self._written = written_attributes(graph_module)
        self._known: dict[fx.Node, Bound | None] = {node: Bound(most) for node, most in (given or {}).items()}

    def of(self, node: object, depth: int = 24) -> Bound | None:
        """What bounds `node`'s values; None where nothing is known to."""
        if not isinstance(node, fx.Node) or depth == 0:
            return None
        if node not in self._known:
            found = self._read(node, depth - 1) if node.op == "call_function" else None
            self._known[node] = found if found is not None and math.isfinite(found.most) else None
        return self._known[node]

    def _read(self, node: fx.Node, depth: int) -> Bound | None:
        if node.target is operator.getitem:
            return self._part(node, depth)
        if not isinstance(node.target, OpOverload):
            return None
        if node.target in {aten.mm.default, aten.addmm.default}:
            return self._product(node, depth)
        given = arguments_of(node)
        if node.target in _MOVES:
            return self._moved(node, given, depth)
        if node.target in _SHRINKING:
            return self.of(given["self"], depth)
        if node.target is aten.sigmoid.default:
            return Bound(1.0)
        if node.target in _ATTENTION:
            value = self.of(given["value"], depth)  # averages of values
            return None if value is None else Bound(value.most)
        return self._combined(node, given, depth)

    def _moved(self, node: fx.Node, given: Mapping[str, object], depth: int) -> Bound | None:
        source, inner = given["self"], self.of(given["self"], depth)
        if inner is None or not isinstance(source, fx.Node):
            return None
        rows = source.meta["val"].shape[-1:] == node.meta["val"].shape[-1:] and node.target is not aten.permute.default
        return Bound(inner.most, inner.length if rows and node.target is not aten.transpose.int else None)

    def _part(self, node: fx.Node, depth: int) -> Bound | None:
        source, index = node.args
        if not isinstance(source, fx.Node) or not isinstance(source.target, OpOverload):
            return None
        if source.target in _SPLITS or (source.target in KERNELS and index == 0):
            whole = self.of(arguments_of(source)["value" if source.target in KERNELS else "self"], depth)
            return None if whole is None else Bound(whole.most)
        if source.target is not aten.native_layer_norm.default or index != 0:
            return None
        given = arguments_of(source)
        weight, bias = (self._constant(given[name]) for name in ("weight", "bias"))
        shape = given["normalized_shape"]
        missing = any((given[name] is None) != (held is None) for name, held in (("weight", weight), ("bias", bias)))
        if missing or not isinstance(shape, (list, tuple)) or len(shape) != 1 or not isinstance(shape[0], int):
            return None
        return _normalised(shape[0], weight, bias)

    def _product(self, node: fx.Node, depth: int) -> Bound | None:
        """By Cauchy and Schwarz: a row times a column is at most the product of their lengths."""
        linear = linear_of(self._module, node, self._written)
        inner = None if linear is None else self.of(linear.x, depth)
        if linear is None or inner is None:
            return None
        columns = linear.weight.detach().float()
        length = inner.length if inner.length is not None else inner.most * math.sqrt(columns.shape[0])
        most = columns.norm(dim=0) * length
        return Bound(float((most if linear.bias is None else most + linear.bias.detach().float().abs()).max()))

    def _combined(self, node: fx.Node, given: Mapping[str, object], depth: int) -> Bound | None:
        if node.target not in {aten.mul.Tensor, aten.add.Tensor} or given.get("alpha", 1) != 1:
            return None
        if node.target is aten.mul.Tensor:
            scaled = _normalised_by_hand(node) or self._scaled(given, depth)
            if scaled is not None:
                return scaled
        sides = [self._side(given[name], depth) for name in ("self", "other")]
        if any(side is None for side in sides):
            return None
        first, second = (side for side in sides if side is not None)
        return Bound(first * second if node.target is aten.mul.Tensor else first + second)

    def _scaled(self, given: Mapping[str, object], depth: int) -> Bound | None:
        """A constant times rows of known length."""
        for factor, rows in ((given["self"], given["other"]), (given["other"], given["self"])):
            constant, inner = self._constant(factor), self.of(rows, depth)
            if constant is None or inner is None or inner.length is None or constant.dim() != 1:
                continue
            bound = _normalised(constant.shape[0], constant, None)
            if bound is not None and bound.length is not None:
                by = bound.length / math.sqrt(constant.shape[0])
                return Bound(inner.most * by, inner.length * by)
        return None

    def _side(self, given: object, depth: int) -> float | None:
        if isinstance(given, (int, float)):
            return abs(float(given))
        constant = self._constant(given)
        if constant is not None:
            return float(constant.detach().abs().max()) if constant.numel() else None
        inner = self.of(given, depth)
        return None if inner is None else inner.most

    def _constant(self, given: object) -> Tensor | None:
        if not isinstance(given, fx.Node) or str(given.target) in self._written:
            return None
        return tensor_of(self._module, given)


def _normalised_by_hand(node: fx.Node) -> Bound | None:
    """x * rsqrt(mean(x^2) + a little), as RMSNorm is written: the mean of the squares of the result is at most 1."""
    for x, factor in (node.args, node.args[::-1]):
        chain = [factor] if isinstance(factor, fx.Node) else []
        for target in (aten.rsqrt.default, aten.add.Tensor, aten.mean.dim, aten.pow.Tensor_Scalar):
            if not chain or chain[-1].target is not target or not isinstance(chain[-1].args[0], fx.Node):
                break
            chain.append(chain[-1].args[0])
        if len(chain) != 5 or chain[4] is not x or not isinstance(x, fx.Node) or chain[3].args[1] != 2:
            continue
        little, count = chain[1].args[1], x.meta["val"].shape[-1]
        if chain[2].args[1:] == ([-1], True) and isinstance(little, float) and little >= 0 and isinstance(count, int):
            return Bound(math.sqrt(count), math.sqrt(count))
    return None


def _normalised(count: int, weight: Tensor | None, bias: Tensor | None) -> Bound | None:
    """Numbers of mean 0 and variance 1 are a row of length sqrt(count), so none is larger than that."""
    root, scale = math.sqrt(count), 1.0
    if weight is not None:
        sizes = weight.detach().float().abs()
        scale = float(sizes.max())
        if scale > _UNEVEN * float(sizes.square().mean().sqrt()):
            return None
    if bias is None:
        return Bound(scale * root, scale * root)
    shift = bias.detach().float()
    return Bound(scale * root + float(shift.abs().max()), scale * root + float(shift.norm()))
