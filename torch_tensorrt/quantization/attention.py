"""Attention's first product in int8, which torchao's quantizer for x86 leaves in float32: queries and keys are rounded for it.

Both around zero: kernels of attention take no zero points. What softmax gives, and the second product, stay as they are, as in NNCF's
settings for transformers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TypeGuard

import torch
from torch import fx

from torch_tensorrt.quantization.sources import aten

ATTENTION = frozenset({aten.scaled_dot_product_attention.default, aten._scaled_dot_product_flash_attention.default})
_SOFTMAX = frozenset({aten.softmax.int, aten._softmax.default})
_PRODUCTS = frozenset({aten.matmul.default, aten.bmm.default})
# What stands between the first product and softmax, with the scores as first argument.
_ON_SCORES = frozenset(
    {
        *(aten.mul.Tensor, aten.mul.Scalar, aten.div.Tensor, aten.div.Scalar, aten.add.Tensor, aten.add_.Tensor),
        *(aten.masked_fill.Scalar, aten.masked_fill.Tensor, aten.masked_fill_.Scalar, aten.view.default),
        *(aten.to.dtype, aten._to_copy.default, aten._assert_tensor_metadata.default),
    }
)
_VIEWS = frozenset(
    {
        *(aten.view.default, aten.reshape.default, aten.unflatten.int, aten.transpose.int, aten.permute.default),
        *(aten.contiguous.default, aten.clone.default, aten.unsqueeze.default, aten.t.default),
    }
)
Annotate = Callable[[fx.Node, Mapping[fx.Node, object]], object]  # a node, and input -> how it is to be rounded


def annotate_attention(graph: fx.Graph, spec: object, annotate: Annotate) -> None:
    """Has queries and keys rounded as `spec` says: before they are viewed and transposed, where nobody else reads them."""
    wanted: dict[fx.Node, dict[fx.Node, object]] = {}
    for attention in _first_products(graph):
        for operand in attention.args[:2]:
            if _is_float32(operand):
                reader, source = _before_views(attention, operand)
                wanted.setdefault(reader, {})[source] = spec
    for reader, inputs in wanted.items():
        annotate(reader, inputs)


def _is_float32(operand: object) -> TypeGuard[fx.Node]:
    value = operand.meta.get("val") if isinstance(operand, fx.Node) else None
    return isinstance(value, torch.Tensor) and value.dtype is torch.float32


def has_attention(graph: fx.Graph) -> bool:
    """Whether PyTorch's operator for it is in the graph."""
    return any(node.target in ATTENTION for node in graph.nodes)


def _first_products(graph: fx.Graph) -> Iterator[fx.Node]:
    """The operator itself, or the product that a softmax is of."""
    for node in graph.nodes:
        if node.target in ATTENTION:
            yield node
        elif node.target in _SOFTMAX:
            scores = node.args[0]
            while isinstance(scores, fx.Node) and scores.target in _ON_SCORES:
                scores = scores.args[0]
            if isinstance(scores, fx.Node) and scores.target in _PRODUCTS:
                yield scores


def _before_views(reader: fx.Node, source: fx.Node) -> tuple[fx.Node, fx.Node]:
    """(first view, what it shows), or `reader` and `source` themselves."""
    while source.target in _VIEWS and len(source.users) == 1 and isinstance(source.args[0], fx.Node):
        reader, source = source, source.args[0]
    return reader, source
