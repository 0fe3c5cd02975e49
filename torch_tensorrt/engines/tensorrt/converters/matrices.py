"""Products of matrices."""

from __future__ import annotations

import torch
from torch import fx

from torch_tensorrt.engines.tensorrt.converters.registry import converts
from torch_tensorrt.engines.tensorrt.net import Net
from torch_tensorrt.engines.tensorrt.promotion import result_dtype
from torch_tensorrt.engines.tensorrt.sdk import ITensor
from torch_tensorrt.spec.settings import CompilationSettings

aten = torch.ops.aten


def of_floats(node: fx.Node, settings: CompilationSettings) -> str:
    """MATRIX_MULTIPLY is of floats."""
    return "" if result_dtype(node).is_floating_point else "TensorRT multiplies matrices of floats only"


@converts(aten.mm.default, aten.bmm.default, refuse=of_floats)
def mm(net: Net, self: ITensor, mat2: ITensor) -> ITensor:
    """mm(Tensor self, Tensor mat2) -> Tensor"""
    return net.multiply(self, mat2)


@converts(aten.addmm.default, refuse=of_floats)
def addmm(net: Net, self: ITensor, mat1: ITensor, mat2: ITensor, beta: float, alpha: float) -> ITensor:
    """addmm(Tensor self, Tensor mat1, Tensor mat2, *, Scalar beta=1, Scalar alpha=1) -> Tensor; beta=0 ignores `self`."""
    product = net.multiply(mat1, mat2)
    if alpha != 1:
        product = net.elementwise(product, alpha, "PROD", net.result)
    if beta == 0:
        return product
    added = self if beta == 1 else net.elementwise(self, beta, "PROD", net.result)
    return net.elementwise(product, added, "SUM", net.result)


@converts(aten.linear.default, refuse=of_floats, whole=True)
def linear(net: Net, input: ITensor, weight: ITensor, bias: ITensor | None) -> ITensor:
    """linear(Tensor input, Tensor weight, Tensor? bias=None) -> Tensor"""
    vector = net.rank(input) == 1
    rows = net.unsqueeze(input, [0]) if vector else input
    columns = net.unsqueeze(weight, [0]) if net.rank(weight) == 1 else weight
    product = net.multiply(rows, columns, transpose_second=True)
    if net.rank(weight) == 1:
        product = net.squeeze(product, [-1])
    if vector:
        product = net.squeeze(product, [0])
    return product if bias is None else net.elementwise(product, bias, "SUM", net.result)
