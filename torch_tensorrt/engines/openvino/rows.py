"""Linear layers written over rows: `view(x, [-1, k])`, a product, and a view back, as GPT-2 and others have them."""

from __future__ import annotations

import torch
from torch import fx
from torch.fx.experimental.symbolic_shapes import statically_known_true

aten = torch.ops.aten
_Sizes = tuple[int | torch.SymInt, ...]


def keep_dimensions(node: fx.Node) -> None:
    """view(linear(view(x), weight, bias))  ->  linear(x, weight, bias), where the result's rows get back the dimensions of x.

    OpenVINO does it for one size that varies. Where views of several stay, they keep rounding and activations out of the kernels.
    """
    linear = node.args[0]
    if not isinstance(linear, fx.Node) or linear.target is not aten.linear.default or len(linear.users) > 1:
        return
    rows = linear.args[0]
    if not isinstance(rows, fx.Node) or rows.target is not aten.view.default or not isinstance(rows.args[0], fx.Node):
        return
    given = rows.args[0]
    layer = _same(_sizes(given)[-1:], _sizes(rows)[-1:]) and _same(_sizes(linear)[-1:], _sizes(node)[-1:])
    if layer and _is_for_any_rank(linear, rows) and _same(_sizes(given)[:-1], _sizes(node)[:-1]):
        linear.args = (given, *linear.args[1:])
        linear.meta["val"] = node.meta["val"]
        node.replace_all_uses_with(linear)
        node.graph.erase_node(node)


def _is_for_any_rank(linear: fx.Node, rows: fx.Node) -> bool:
    """Not so with a weight of one dimension, which takes one from the result, or a bias of two: one for each row."""
    bias = linear.args[2] if len(linear.args) > 2 else None
    return len(_sizes(linear)) == len(_sizes(rows)) and (
        bias is None or (isinstance(bias, fx.Node) and len(_sizes(bias)) == 1)
    )


def _same(one: _Sizes, other: _Sizes) -> bool:
    pairs = zip(one, other, strict=False)
    return len(one) == len(other) > 0 and all(statically_known_true(a == b) for a, b in pairs)


def _sizes(node: fx.Node) -> _Sizes:
    found = node.meta.get("val")
    return tuple(found.shape) if isinstance(found, torch.Tensor) else ()
