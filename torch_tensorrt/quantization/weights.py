"""Weights of linear layers in eight or four bits; all else stays float32. For decoding, where reading weights takes the time."""

from __future__ import annotations

import torch
from torch import Tensor, fx

from torch_tensorrt.graphs.editing import tensor_of
from torch_tensorrt.graphs.quantized import quantized_operator
from torch_tensorrt.observe.log import logger
from torch_tensorrt.spec.errors import UnsupportedError

aten = torch.ops.aten
_log = logger(__name__)


def compress_weights(module: fx.GraphModule, *, bits: int, group_size: int | None) -> int:
    """linear(x, w)  ->  linear(x, dequantize_per_channel(numbers)), in place; gives how many layers there were.

    bits: 8, or 4 for all layers but the last, whose errors reach the results directly. group_size: so many columns of a row have a
    scale of their own; None: the whole row has one. Raises UnsupportedError when there is no linear layer with float32 weights.
    """
    found = module.graph.find_nodes(op="call_function", target=aten.linear.default)
    layers = [node for node in found if _weight(module, node) is not None]
    if not layers:
        raise UnsupportedError(
            "weight_only=True compresses linear layers with float32 weights, and this model has none; quantize it with "
            "calibration_data instead."
        )
    made: dict[tuple[str, int], fx.Node] = {}
    wide = []
    for node in layers:
        weight = _weight(module, node)
        assert weight is not None and isinstance(node.args[1], fx.Node)
        few = bits if node is not layers[-1] else 8
        size = group_size if group_size is not None and weight.shape[1] % group_size == 0 else weight.shape[1]
        if few == 4 and group_size is not None and size != group_size:
            wide.append(f"{node.args[1].target} ({weight.shape[1]} columns)")
            few = 8
        key = (str(node.args[1].target), few)
        if key not in made:
            with module.graph.inserting_before(layers[0]):
                made[key] = _compressed(module, weight, (few, size), f"_compressed_{len(made)}")
        node.update_arg(1, made[key])
    if wide:
        _log.warning("A group of %d columns doesn't divide %s: int8 there.", group_size, ", ".join(wide))
    module.graph.eliminate_dead_code()
    module.delete_all_unused_submodules()
    module.recompile()
    return len(layers)


def _weight(module: fx.GraphModule, node: fx.Node) -> Tensor | None:
    given = node.args[1]
    found = tensor_of(module, given) if isinstance(given, fx.Node) else None
    return found.detach() if found is not None and found.dtype is torch.float32 and found.dim() == 2 else None


def _compressed(module: fx.GraphModule, weight: Tensor, form: tuple[int, int], name: str) -> fx.Node:
    bits, size = form
    numbers, scales = round_weight(weight.reshape(-1, size), bits=bits)
    held = {
        "numbers": numbers,
        "scales": scales,
        "zeros": torch.zeros(len(scales), dtype=torch.int64, device=numbers.device),
    }
    for what, tensor in held.items():
        module.register_buffer(f"{name}_{what}", tensor)
    nodes = tuple(module.graph.get_attr(f"{name}_{what}") for what in held)
    bounds = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    target = quantized_operator("dequantize_per_channel")
    made = module.graph.call_function(target, (*nodes, 0, *bounds, torch.int8))
    return (
        made if size == weight.shape[1] else module.graph.call_function(aten.view.default, (made, list(weight.shape)))
    )


def round_weight(rows: Tensor, *, bits: int) -> tuple[Tensor, Tensor]:
    """int8 numbers of so many bits, and a float32 scale for each row.

    The scale is negative where the number farthest from 0 is positive: that one becomes -128 or -8, so that all numbers are used.
    """
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    farthest = rows.gather(1, rows.abs().argmax(1, keepdim=True))
    scales = farthest / low
    scales[scales == 0] = 1.0  # a row of zeros
    return (rows / scales).round_().clamp_(low, high).to(torch.int8), scales.reshape(-1)
