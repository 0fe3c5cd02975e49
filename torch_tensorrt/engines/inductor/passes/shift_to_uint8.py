"""Inductor's kernels for int8 on a CPU give results of their inputs' type, and fail where another one is asked for."""

from __future__ import annotations

import torch
from torch import fx

from torch_tensorrt.contracts.passes import lowering_pass
from torch_tensorrt.graphs.editing import add_call
from torch_tensorrt.graphs.quantized import arguments, grid_of, kind_of, quantized_operator
from torch_tensorrt.spec.settings import CompilationSettings

_SHIFT = 128


@lowering_pass
def shift_to_uint8(graph_module: fx.GraphModule, settings: CompilationSettings) -> bool:
    """dequantize(quantize(x, scale, zero, low, high, int8))  ->  the same with zero, low and high + 128, in uint8: equal numbers.

    On CPUs, where all that reads the numbers takes them back.
    """
    changed = False
    for node in list(graph_module.graph.nodes):
        if kind_of(node) != "quantize_per_tensor" or node.meta["val"].device.type != "cpu":
            continue
        users = list(node.users)
        together = all(kind_of(user) == "dequantize_per_tensor" and grid_of(user) == grid_of(node) for user in users)
        if together and arguments(node)["dtype"] is torch.int8 and isinstance(arguments(node)["scale"], float):
            _shift(graph_module, node, users)
            changed = True
    if changed:
        graph_module.graph.eliminate_dead_code()
    return changed


def _shift(module: fx.GraphModule, node: fx.Node, users: list[fx.Node]) -> None:
    given = arguments(node)
    moved = [int(str(given[name])) + _SHIFT for name in ("zero_point", "quant_min", "quant_max")]
    grid = (given["scale"], *moved, torch.uint8)
    with module.graph.inserting_before(node):
        number = add_call(module, quantized_operator("quantize_per_tensor"), (given["input"], *grid))  # type: ignore[arg-type]
    for user in users:
        with module.graph.inserting_before(user):
            back = add_call(module, quantized_operator("dequantize_per_tensor"), (number, *grid), dict(user.kwargs))  # type: ignore[arg-type]
        back.meta["stack_trace"] = user.meta.get("stack_trace")
        user.replace_all_uses_with(back)
        module.graph.erase_node(user)
