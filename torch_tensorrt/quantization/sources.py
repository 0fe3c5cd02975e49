"""What each operation of a graph was written as, in the words that torchao's quantizer looks for.

It finds layers by the modules that operations come from, and overlooks those called by function, or of a class derived from
PyTorch's own: they would stay in float32. Here operations say it themselves, whatever they come from.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping

import torch
from torch import fx, nn

aten = torch.ops.aten
_WEIGHTED: Mapping[object, type[nn.Module]] = {
    aten.conv1d.default: nn.Conv1d,
    aten.conv2d.default: nn.Conv2d,
    aten.linear.default: nn.Linear,
}
_OTHERS: Mapping[object, type[nn.Module]] = {
    aten.batch_norm.default: nn.BatchNorm2d,
    aten.relu.default: nn.ReLU,
    aten.relu_.default: nn.ReLU,
    aten.relu6.default: nn.ReLU6,
    aten.relu6_.default: nn.ReLU6,
    aten.hardtanh.default: nn.Hardtanh,
    aten.hardtanh_.default: nn.Hardtanh,
    aten.hardswish.default: nn.Hardswish,
    aten.hardswish_.default: nn.Hardswish,
    aten.silu.default: nn.SiLU,
    aten.silu_.default: nn.SiLU,
    aten.leaky_relu.default: nn.LeakyReLU,
    aten.tanh.default: nn.Tanh,
    aten.gelu.default: nn.GELU,
}
_ADDS = frozenset({aten.add.Tensor, aten.add_.Tensor})
_ENDS_OF_CONVOLUTIONS = frozenset({aten.conv2d.default, aten.batch_norm.default})


def name_sources(graph: fx.Graph) -> None:
    """Sets the "source_fn_stack" of layers, and of sums of a convolution's result and another tensor.

    Layers whose weights are computed stay as they are, and so do other sums: what transformers add up loses too much in eight bits.
    """
    for node in graph.nodes:
        source: object = _OTHERS.get(node.target)
        if node.target in _WEIGHTED and node.args[1].op == "get_attr":
            source = _WEIGHTED[node.target]
        if node.target in _ADDS and len(node.all_input_nodes) == 2:
            ends = [given for given in node.all_input_nodes if given.target in _ENDS_OF_CONVOLUTIONS]
            source = operator.add if ends else None
        if source is not None:
            node.meta["source_fn_stack"] = [(node.name, source)]
