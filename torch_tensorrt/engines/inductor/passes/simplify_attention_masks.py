"""Attention masks that hide nothing, or just what comes later: the fast kernels take no mask, and know causality by themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, fx
from torch.fx.node import Argument

from torch_tensorrt.contracts.passes import lowering_pass
from torch_tensorrt.engines.inductor.passes.gate import on_gpu
from torch_tensorrt.engines.inductor.passes.masks.forms import Form, Hidden, Linear, Truth, is_causal
from torch_tensorrt.engines.inductor.passes.masks.reader import arguments_of, sizes_of
from torch_tensorrt.engines.inductor.passes.masks.values import mask_reader
from torch_tensorrt.spec.settings import CompilationSettings

attention = torch.ops.aten.scaled_dot_product_attention.default


@lowering_pass
def simplify_attention_masks(graph_module: fx.GraphModule, settings: CompilationSettings) -> bool:
    """attention(q, k, v, all true)  ->  attention(q, k, v); with as many queries as keys, (i >= j)  ->  is_causal=True.

    What a mask holds has to be proven from the graph that makes it; one that depends on an input of the program stays. A mask of
    numbers shows what it adds 0 to, and hides what it adds numbers near its dtype's lowest to.
    """
    reader = mask_reader(graph_module)
    changed = False
    for node in graph_module.graph.find_nodes(op="call_function", target=attention):
        mask = arguments_of(node)["attn_mask"]
        if not isinstance(mask, fx.Node) or not on_gpu(node):
            continue
        causal = _judge(reader.read(mask), mask, node)
        if causal is not None:
            _replace(node, causal=causal)
            changed = True
    if changed:
        graph_module.graph.eliminate_dead_code()
    return changed


def _judge(form: Form | None, mask: fx.Node, node: fx.Node) -> bool | None:
    """True for a causal mask, False for one that shows everything, None for any other."""
    sizes, conditions = sizes_of(mask), _conditions(form, mask)
    if not conditions:
        return None if conditions is None else False
    given = arguments_of(node)
    query, key = given["query"], given["key"]
    assert isinstance(query, fx.Node)
    assert isinstance(key, fx.Node)
    square = sizes_of(query)[-2] == sizes_of(key)[-2] and sizes[-2:] == (sizes_of(query)[-2], sizes_of(key)[-2])
    return True if square and all(map(is_causal, conditions)) else None


def _conditions(form: Form | None, mask: fx.Node) -> frozenset[Linear] | None:
    value = mask.meta["val"]
    assert isinstance(value, Tensor)
    if isinstance(form, Hidden):
        return form.shown.conditions
    if value.dtype is torch.bool:
        return form.conditions if isinstance(form, Truth) else None
    return frozenset() if isinstance(form, Linear) and form.constant == 0 else None


def _replace(node: fx.Node, *, causal: bool) -> None:
    given = cast("Mapping[str, Argument]", {**arguments_of(node), "attn_mask": None, "is_causal": causal})
    node.args = tuple(given[name] for name in ("query", "key", "value", "attn_mask", "dropout_p", "is_causal"))
    node.kwargs = {name: given[name] for name in ("scale", "enable_gqa")}
