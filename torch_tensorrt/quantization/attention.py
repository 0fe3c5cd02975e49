"""Attention's first product in int8, which torchao's quantizer for x86 leaves in float32: queries and keys are rounded for it.

Both around zero: kernels of attention take no zero points. What softmax gives, and values, stay as they are, as in NNCF's settings
for transformers. Left alone is attention whose queries or keys are weights or written to in place: torchao rounds what a node gives
at once, before the writing, and weights only once.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple, TypeGuard

import torch
from torch import fx
from torch._ops import OpOverload

from torch_tensorrt.quantization.sources import aten

ATTENTION = frozenset({aten.scaled_dot_product_attention.default, aten._scaled_dot_product_flash_attention.default})
_SOFTMAX = frozenset({aten.softmax.int, aten._softmax.default})
_PRODUCTS = frozenset({aten.matmul.default, aten.bmm.default})
_CONVERTED = frozenset({aten.view.default, aten.to.dtype, aten._to_copy.default})
# What stands between the first product and softmax, with the scores as first argument.
_ON_SCORES = _CONVERTED | {
    *(aten.mul.Tensor, aten.mul.Scalar, aten.div.Tensor, aten.div.Scalar, aten.add.Tensor),
    *(aten.masked_fill.Scalar, aten.masked_fill.Tensor),
}
# What stands between softmax and the second product.
_ON_SHARES = _CONVERTED | {aten.dropout.default, aten.contiguous.default, aten.clone.default, aten.expand.default}
_VIEWS = frozenset(
    {
        *(aten.view.default, aten.reshape.default, aten.unflatten.int, aten.transpose.int, aten.permute.default),
        *(aten.contiguous.default, aten.clone.default, aten.unsqueeze.default, aten.t.default),
    }
)
Annotate = Callable[[fx.Node, Mapping[fx.Node, object]], object]  # a node, and input -> how it is to be rounded


class _Attention(NamedTuple):
    """The node that multiplies queries and keys, these two, and the values."""

    product: fx.Node
    query: object
    key: object
    value: object


def annotate_attention(graph: fx.Graph, spec: object, annotate: Annotate) -> None:
    """Has queries and keys rounded as `spec` says: before they are viewed and transposed, where nobody else reads them."""
    written = _written_to(graph)
    wanted: dict[fx.Node, dict[fx.Node, object]] = {}
    for found in _attentions(graph):
        operands = [each for each in (found.query, found.key) if _can_be_rounded(each, written)]
        places = [_before_views(found.product, each) for each in operands]
        values = set(_seen_through(found.value))
        if len(places) == 2 and not any(
            (source if reader is found.product else reader) in values for reader, source in places
        ):
            for reader, source in places:
                wanted.setdefault(reader, {})[source] = spec
    for reader, inputs in wanted.items():
        annotate(reader, inputs)


def has_attention(graph: fx.Graph) -> bool:
    """Whether PyTorch's operator for it is in the graph."""
    return any(node.target in ATTENTION for node in graph.nodes)


def _attentions(graph: fx.Graph) -> Iterator[_Attention]:
    """The operator itself, or a softmax between two products."""
    for node in graph.nodes:
        if node.target in ATTENTION:
            query, key, value = node.args[:3]
            yield _Attention(node, query, key, value)
        elif node.target in _SOFTMAX and node.args[1] in (-1, node.meta["val"].dim() - 1):
            scores, shares = node.args[0], node
            while isinstance(scores, fx.Node) and scores.target in _ON_SCORES:
                scores = scores.args[0]
            while len(shares.users) == 1 and next(iter(shares.users)).target in _ON_SHARES:
                shares = next(iter(shares.users))
            seconds = [user for user in shares.users if user.target in _PRODUCTS and user.args[0] is shares]
            if seconds and isinstance(scores, fx.Node) and scores.target in _PRODUCTS:
                yield _Attention(scores, scores.args[0], scores.args[1], seconds[0].args[1])


def _can_be_rounded(operand: object, written: set[fx.Node]) -> TypeGuard[fx.Node]:
    value = operand.meta.get("val") if isinstance(operand, fx.Node) else None
    if not isinstance(value, torch.Tensor) or value.dtype is not torch.float32:
        return False
    memory = list(_seen_through(operand))
    return memory[-1].op != "get_attr" and written.isdisjoint(memory)


def _written_to(graph: fx.Graph) -> set[fx.Node]:
    """Nodes whose memory an operator writes to."""
    found: set[fx.Node] = set()
    for node in graph.nodes:
        if isinstance(node.target, OpOverload):
            for place, argument in enumerate(node.target._schema.arguments[: len(node.args)]):
                if argument.alias_info is not None and argument.alias_info.is_write:
                    found.update(_seen_through(node.args[place]))
    return found


def _seen_through(node: object) -> Iterator[fx.Node]:
    """The node, what it is a view of, and so on to where the memory comes from."""
    while isinstance(node, fx.Node):
        yield node
        target, first = node.target, node.args[0] if node.args else None
        views = isinstance(target, OpOverload) and target._schema.arguments and target._schema.arguments[0].alias_info
        node = first if views or target is operator.getitem or target in _VIEWS else None


def _before_views(reader: fx.Node, source: fx.Node) -> tuple[fx.Node, fx.Node]:
    """(first view, what it shows), or `reader` and `source` themselves."""
    while source.target in _VIEWS and len(source.users) == 1 and isinstance(source.args[0], fx.Node):
        reader, source = source, source.args[0]
    return reader, source
