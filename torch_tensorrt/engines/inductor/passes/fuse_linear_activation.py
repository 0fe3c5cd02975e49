"""A linear layer and the activation after it as one call of cuBLAS, which applies it before it writes."""

from __future__ import annotations

import torch
from torch import fx

from torch_tensorrt.contracts.passes import lowering_pass
from torch_tensorrt.engines.inductor.knobs import read_knobs
from torch_tensorrt.engines.inductor.passes.gate import on_gpu
from torch_tensorrt.graphs.editing import FUSED, add_call
from torch_tensorrt.spec.settings import CompilationSettings

aten = torch.ops.aten
_ACTIVATIONS = frozenset({aten.relu.default, aten.gelu.default})


@lowering_pass
def fuse_linear_activation(graph_module: fx.GraphModule, settings: CompilationSettings) -> bool:
    """y = relu(view(addmm(b, x, w)))  ->  y = view(_addmm_activation(b, x, w)), and the same for GELU with tanh.

    cuBLAS knows GELU in its form with tanh only; the form with erf becomes that one if the engine option `approximate_gelu`
    says so. The product, and the view if there is one, have one reader; b is of one dimension.
    """
    approximate = read_knobs(settings).approximate_gelu
    changed = False
    for node in list(graph_module.graph.nodes):
        if node.op == "call_function" and node.target in _ACTIVATIONS and on_gpu(node):
            tanh = node.kwargs.get("approximate", "none") == "tanh" or approximate
            if node.target is aten.relu.default or tanh:
                changed |= _fuse(graph_module, node)
    return changed


def _fuse(graph_module: fx.GraphModule, activation: fx.Node) -> bool:
    source = activation.args[0]
    assert isinstance(source, fx.Node)
    view = source if source.target is aten.view.default and len(source.users) == 1 else None
    product = view.args[0] if view is not None else source
    if not isinstance(product, fx.Node) or product.target is not aten.addmm.default or len(product.users) != 1:
        return False
    bias, x, weight = product.args
    assert isinstance(bias, fx.Node)
    if product.kwargs or bias.meta["val"].dim() != 1 or bias.meta["val"].shape[0] == 1 != product.meta["val"].shape[1]:
        return False
    gelu = activation.target is aten.gelu.default
    with graph_module.graph.inserting_before(product):
        fused = add_call(graph_module, aten._addmm_activation.default, (bias, x, weight), {"use_gelu": gelu})
    fused.meta["stack_trace"] = activation.meta.get("stack_trace")
    fused.meta[FUSED] = 1 + activation.meta.get(FUSED, 1)
    product.replace_all_uses_with(fused)
    activation.replace_all_uses_with(source if view is not None else fused)
    graph_module.graph.erase_node(activation)
    graph_module.graph.erase_node(product)
    return True
