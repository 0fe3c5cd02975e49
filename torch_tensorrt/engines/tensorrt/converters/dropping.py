"""Dropout: in inference it is the tensor itself."""

from __future__ import annotations

import torch
from torch import fx

from torch_tensorrt.engines.tensorrt.converters.registry import bind, converts, is_used
from torch_tensorrt.engines.tensorrt.net import Net
from torch_tensorrt.engines.tensorrt.sdk import ITensor
from torch_tensorrt.spec.settings import CompilationSettings

aten = torch.ops.aten


def drops(node: fx.Node, settings: CompilationSettings) -> str:
    """No `train` is training, for native_dropout."""
    bound = bind(node)
    if bound["train"] is False or bound["p"] == 0:
        return ""
    return (
        f"{node.target} in training draws from PyTorch's generator, whose numbers an engine can't give (model.eval())"
    )


@converts(
    aten.dropout.default,
    aten.feature_dropout.default,
    aten.alpha_dropout.default,
    aten.feature_alpha_dropout.default,
    refuse=drops,
)
def dropout(net: Net, input: ITensor, p: float, train: bool) -> ITensor:
    """dropout(Tensor input, float p, bool train) -> Tensor"""
    return net.cast(input, net.result)


@converts(aten.native_dropout.default, refuse=drops)
def native_dropout(net: Net, input: ITensor, p: float, train: bool | None) -> tuple[ITensor, ITensor | None]:
    """native_dropout(Tensor input, float p, bool? train) -> (Tensor, Tensor): with what is kept, which is all."""
    assert net.node is not None
    kept = net.expand(net.tensor(True, torch.bool, net.rank(input)), net.sizes(input)) if is_used(net.node, 1) else None
    return net.cast(input, net.result), kept
