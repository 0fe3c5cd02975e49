"""Quantized numbers in graphs: the operators that PyTorch writes them with, which are registered on first use.

A number n stands for scale * (n - zero_point); n lies between quant_min and quant_max. The scale is one for a tensor, or one for
each index along an axis.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, fx
from torch._ops import OpOverload

from torch_tensorrt.graphs.editing import tensor_of
from torch_tensorrt.spec.quantized import NAMESPACE, register_quantized_operators


def quantized_operator(name: str, overload: str = "default") -> OpOverload:
    """torch.ops.quantized_decomposed.<name>.<overload>."""
    register_quantized_operators()
    found = getattr(getattr(torch.ops.quantized_decomposed, name), overload)
    assert isinstance(found, OpOverload)
    return found


def kind_of(node: fx.Node) -> str:
    """`quantize_per_tensor`, `dequantize_per_channel`, ... or "" for a node of another kind."""
    target = node.target
    if isinstance(target, OpOverload) and target.namespace == NAMESPACE:
        return target._schema.name.rpartition("::")[2]
    return ""


def arguments(node: fx.Node) -> Mapping[str, object]:
    """All arguments of an operator's call by the names of its schema, with defaults."""
    assert isinstance(node.target, OpOverload)
    declared = node.target._schema.arguments
    given = {each.name: each.default_value for each in declared if each.has_default_value()}
    given.update(zip((each.name for each in declared), node.args, strict=False))
    return {**given, **node.kwargs}


def constant(value: object) -> Tensor | None:
    """The tensor of a get_attr node; None for what is computed or given."""
    if isinstance(value, fx.Node) and value.op == "get_attr" and value.graph.owning_module is not None:
        return tensor_of(value.graph.owning_module, value)
    return None


def grid_of(node: fx.Node) -> tuple[object, ...]:
    """What a quantize or dequantize node rounds to or from: equal for two nodes that fit together."""
    names = ("scale", "scales", "zero_point", "zero_points", "axis", "quant_min", "quant_max", "dtype")
    given = arguments(node)
    return tuple(given.get(name) for name in names)
