"""What each node of a graph takes, when PyTorch runs it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, fx

from torch_tensorrt.contracts.abilities import LayerTime
from torch_tensorrt.spec.tensor_spec import Json, dtype_name


class TimedInterpreter(fx.Interpreter):
    """Runs a graph node by node; `times` has one entry per operation. On a GPU each operation is waited for."""

    def __init__(self, module: fx.GraphModule, *, wait: Callable[[], object] | None) -> None:
        super().__init__(module)
        self.times: list[LayerTime] = []
        self._wait = wait

    def run_node(self, n: fx.Node) -> object:
        """One node, with its time."""
        if not is_layer(n):
            return super().run_node(n)
        start = time.perf_counter()
        result = super().run_node(n)
        if self._wait is not None:
            self._wait()
        self.times.append(LayerTime(n.name, str(n.target), (time.perf_counter() - start) * 1000))
        return result


def is_layer(node: fx.Node) -> bool:
    """Whether `node` computes something."""
    return node.op == "call_function" and isinstance(node.target, torch._ops.OpOverload)


def layer(node: fx.Node) -> Mapping[str, Json]:
    """What is known of `node`."""
    values = node.meta.get("val")
    given = [
        value for value in (values if isinstance(values, (tuple, list)) else [values]) if isinstance(value, Tensor)
    ]
    return {
        "Name": node.name,
        "LayerType": str(node.target),
        "Inputs": [source.name for source in node.all_input_nodes],
        "Outputs": [f"{dtype_name(value.dtype)}[{', '.join(map(str, value.shape))}]" for value in given],
    }
