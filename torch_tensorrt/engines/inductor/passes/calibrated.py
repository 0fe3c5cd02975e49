"""Scales for float8 that were found with data: `torch_tensorrt.quantize(precision="float8")` writes them as rounding."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import fx

from torch_tensorrt.engines.inductor.passes.gate import on_gpu
from torch_tensorrt.graphs.quantized import arguments, grid_of, kind_of

_DTYPE = torch.float8_e4m3fn


def take_calibrated(graph_module: fx.GraphModule) -> Mapping[fx.Node, float]:
    """f(dequantize(quantize(x, s)))  ->  f(x) on a GPU, in place; gives the largest |x| that s was made for, s * 448, of each x.

    Where several pairs round one tensor, the largest counts.
    """
    found: dict[fx.Node, float] = {}
    for node in list(graph_module.graph.nodes):
        rounded = _rounded(node)
        if rounded is None:
            continue
        given = arguments(node)
        scale, largest = given["scale"], given["quant_max"]
        if isinstance(scale, float) and isinstance(largest, int):
            found[rounded] = max(found.get(rounded, 0.0), scale * largest)
            node.replace_all_uses_with(rounded)
    if found:
        graph_module.graph.eliminate_dead_code()
    return found


def _rounded(node: fx.Node) -> fx.Node | None:
    """What a pair of operators rounds to float8, and gives back in its own dtype."""
    source = node.args[0] if node.args else None
    if kind_of(node) != "dequantize_per_tensor" or not isinstance(source, fx.Node) or not on_gpu(node):
        return None
    if (
        kind_of(source) != "quantize_per_tensor"
        or grid_of(source) != grid_of(node)
        or arguments(node)["dtype"] is not _DTYPE
    ):
        return None
    x = source.args[0]
    same = isinstance(x, fx.Node) and x.meta["val"].dtype is node.meta["val"].dtype
    return x if same else None  # type: ignore[return-value]
