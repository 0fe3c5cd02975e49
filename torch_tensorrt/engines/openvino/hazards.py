"""Graphs that crash OpenVINO's compiler (2026.4: a segmentation fault, no error to catch), found before it sees them."""

from __future__ import annotations

import torch
from torch import fx

aten = torch.ops.aten
_PRODUCTS = {aten.linear.default: 1, aten.mm.default: 1, aten.addmm.default: 2}  # operator -> place of the weight
# Crashes were seen with up to 64 features, none with 512; the tokenizer of small MLPs doesn't take larger ones.
_SMALL = 512


def crashes_with_snippets(module: fx.GraphModule) -> bool:
    """linear -> pointwise -> linear -> pointwise(result, computed tensor), all small and of fixed size.

    OpenVINO's fusion of small MLPs crashes when the tensor that comes in after the second product is itself computed; with
    `SNIPPETS_MODE` off the same graph compiles.
    """
    return any(_is_small(node) and _takes_product(node) and _meets_computed(node) for node in module.graph.nodes)


def _is_small(node: fx.Node) -> bool:
    if node.op != "call_function" or node.target not in _PRODUCTS:
        return False
    weight = node.args[_PRODUCTS[node.target]]
    value = weight.meta.get("val") if isinstance(weight, fx.Node) else None
    return isinstance(value, torch.Tensor) and all(isinstance(size, int) and size < _SMALL for size in value.shape)


def _takes_product(node: fx.Node) -> bool:
    """Whether the first factor comes from a small product through pointwise operators."""
    assert node.op == "call_function"
    source = node.args[_PRODUCTS[node.target] - 1]  # type: ignore[index]
    while isinstance(source, fx.Node) and source.op == "call_function":
        if _is_small(source):
            return True
        if not _is_pointwise(source):
            return False
        source = source.all_input_nodes[0] if source.all_input_nodes else None
    return False


def _meets_computed(node: fx.Node) -> bool:
    waiting, seen = list(node.users), set[fx.Node]()
    came_from = {node}
    while waiting:
        user = waiting.pop()
        if user in seen or not _is_pointwise(user):
            continue
        seen.add(user)
        others = [given for given in user.all_input_nodes if given not in came_from and given not in seen]
        if any(other.op == "call_function" for other in others):
            return True
        waiting.extend(user.users)
    return False


def _is_pointwise(node: fx.Node) -> bool:
    return isinstance(node.target, torch._ops.OpOverload) and torch.Tag.pointwise in node.target.tags
