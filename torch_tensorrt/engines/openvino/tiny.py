"""Partitions with so little work that a second thread costs more than it takes over."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, fx
from torch._ops import OpOverload
from torch.utils.flop_counter import flop_registry

aten = torch.ops.aten
# Floating-point operations and elements moved. Measured by benchmarks/overhead.py's way on 2 cores: networks of linears with 0.17 million
# take 15 microseconds on one thread and 20 on two; those with 0.6 million take longer on one.
_LITTLE = 250_000
_UNKNOWN = frozenset({aten.scaled_dot_product_attention, aten.lstm, aten.gru, aten.rnn_tanh, aten.rnn_relu})


def is_tiny(module: fx.GraphModule) -> bool:
    """Whether one run is less work than that; False where sizes vary or where the work isn't known."""
    done = 0
    for node in module.graph.nodes:
        if node.op in {"call_function", "placeholder"}:
            work = _work(node)
            if work is None:
                return False
            done += work
    return done <= _LITTLE


def _work(node: fx.Node) -> int | None:
    tensors = [tensor for each in (node, *node.all_input_nodes) for tensor in _tensors(each)]
    sizes = [tensor.numel() for tensor in tensors]
    if not all(isinstance(size, int) for size in sizes):
        return None
    packet = node.target.overloadpacket if isinstance(node.target, OpOverload) else None
    if packet is aten.linear:
        given, weight = node.args[:2]
        return 2 * next(_tensors(given)).numel() * next(_tensors(weight)).shape[0]  # type: ignore[arg-type]
    if packet in _UNKNOWN:
        return None
    if packet not in flop_registry:
        return sum(sizes)
    args, kwargs = fx.map_arg((node.args, node.kwargs), lambda given: given.meta.get("val"))
    return int(flop_registry[packet](*args, **kwargs, out_val=node.meta.get("val")))


def _tensors(node: fx.Node) -> Iterator[Tensor]:
    value = node.meta.get("val")
    for part in value if isinstance(value, (tuple, list)) else (value,):
        if isinstance(part, Tensor):
            yield part
