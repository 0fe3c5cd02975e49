"""Where linear layers read values, how large these get on typical inputs: scales for float8, which GPUs multiply twice as fast."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, fx, nn

from torch_tensorrt.graphs.editing import tensor_of
from torch_tensorrt.graphs.quantized import quantized_operator
from torch_tensorrt.quantization.samples import Sample, run_on
from torch_tensorrt.spec.errors import UnsupportedError

aten = torch.ops.aten
FLOAT8 = torch.float8_e4m3fn
_LARGEST = 448  # of this float8
_MARGIN = 1.05  # larger values than those that were seen are cut off beyond this


class _Watcher(nn.Module):
    """Hands on what it is given, and keeps the largest magnitude."""

    def __init__(self) -> None:
        super().__init__()
        self.largest = 0.0

    def forward(self, x: Tensor) -> Tensor:
        """x itself. Raises ValueError for NaN and infinities, which no scale is for."""
        largest = float(x.detach().abs().amax()) if x.numel() else 0.0
        if not math.isfinite(largest):
            raise ValueError(f"a linear layer reads {largest}, and scales are found from numbers")
        self.largest = max(self.largest, largest)
        return x


def calibrate_float8(module: fx.GraphModule, samples: Sequence[Sample]) -> fx.GraphModule:
    """linear(x, w)  ->  linear(dequantize(quantize(x, s)), w) with s = the largest |x| of all samples * 1.05 / 448, in place.

    Gives the module. Weights stay as they are: an engine that multiplies float8 rounds them itself. Raises
    UnsupportedError when there is no linear layer with a weight of the model's own, InputError when the model refuses a sample.
    """
    found = module.graph.find_nodes(op="call_function", target=aten.linear.default)
    layers = [node for node in found if _is_layer(module, node)]
    if not layers:
        raise UnsupportedError(
            "precision='float8' is for linear layers with weights of floats, and this model has none."
        )
    watchers = {
        source: _watch(module, source, at) for at, source in enumerate(dict.fromkeys(_source(node) for node in layers))
    }
    module.recompile()
    run_on(module, samples, "The model")
    for source, watcher in watchers.items():
        made = _rounded(module, source, watcher)
        for node in layers:
            if node.args[0] is source:
                node.update_arg(0, made)
    module.graph.eliminate_dead_code()
    module.delete_all_unused_submodules()
    module.recompile()
    return module


def _source(node: fx.Node) -> fx.Node:
    assert isinstance(node.args[0], fx.Node)
    return node.args[0]


def _is_layer(module: fx.GraphModule, node: fx.Node) -> bool:
    weight = tensor_of(module, node.args[1]) if isinstance(node.args[1], fx.Node) else None
    return weight is not None and weight.dtype in {torch.float32, torch.float16, torch.bfloat16}


def _watch(module: fx.GraphModule, source: fx.Node, number: int) -> fx.Node:
    name = f"_watcher_{number}"
    module.add_module(name, _Watcher())
    first = next(node for node in module.graph.nodes if node.target is aten.linear.default and node.args[0] is source)
    with module.graph.inserting_before(first):
        return module.graph.call_module(name, (source,))


def _rounded(module: fx.GraphModule, source: fx.Node, watcher: fx.Node) -> fx.Node:
    held = module.get_submodule(str(watcher.target))
    assert isinstance(held, _Watcher)
    scale = max(held.largest * _MARGIN / _LARGEST, torch.finfo(torch.float32).tiny)
    grid = (scale, 0, -_LARGEST, _LARGEST, FLOAT8)
    dtype = source.meta["val"].dtype if "val" in source.meta else torch.float32
    with module.graph.inserting_after(watcher):
        numbers = module.graph.call_function(quantized_operator("quantize_per_tensor"), (source, *grid))
    with module.graph.inserting_after(numbers):
        values = module.graph.call_function(
            quantized_operator("dequantize_per_tensor"),
            (numbers, *grid),
            {} if dtype is torch.float32 else {"out_dtype": dtype},
        )
    module.graph.erase_node(watcher)
    return values
