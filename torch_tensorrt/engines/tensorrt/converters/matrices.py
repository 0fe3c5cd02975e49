"""Products of matrices and vectors."""

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
    return multiply(net, self, mat2)


@converts(aten.matmul.default, refuse=of_floats, whole=True)
def matmul(net: Net, self: ITensor, other: ITensor) -> ITensor:
    """matmul(Tensor self, Tensor other) -> Tensor: a vector is a row on the left, a column on the right."""
    row, column = net.rank(self) == 1, net.rank(other) == 1
    rows = net.unsqueeze(self, [0]) if row else self
    columns = net.unsqueeze(other, [1]) if column else other
    product = multiply(net, rows, columns)
    gone = ([-2] if row else []) + ([-1] if column else [])
    return net.squeeze(product, gone) if gone else product


@converts(aten.mv.default, refuse=of_floats, whole=True)
def mv(net: Net, self: ITensor, vec: ITensor) -> ITensor:
    """mv(Tensor self, Tensor vec) -> Tensor"""
    return matmul(net, self, vec)


@converts(aten.dot.default, refuse=of_floats, whole=True)
def dot(net: Net, self: ITensor, tensor: ITensor) -> ITensor:
    """dot(Tensor self, Tensor tensor) -> Tensor"""
    return matmul(net, self, tensor)


@converts(aten.addmm.default, refuse=of_floats)
def addmm(net: Net, self: ITensor, mat1: ITensor, mat2: ITensor, beta: float, alpha: float) -> ITensor:
    """addmm(Tensor self, Tensor mat1, Tensor mat2, *, Scalar beta=1, Scalar alpha=1) -> Tensor; beta=0 ignores `self`."""
    return _add(net, self, multiply(net, mat1, mat2), beta, alpha)


@converts(aten.baddbmm.default, refuse=of_floats, whole=True)
def baddbmm(net: Net, self: ITensor, batch1: ITensor, batch2: ITensor, beta: float, alpha: float) -> ITensor:
    """baddbmm(Tensor self, Tensor batch1, Tensor batch2, *, Scalar beta=1, Scalar alpha=1) -> Tensor"""
    return _add(net, self, multiply(net, batch1, batch2), beta, alpha)


@converts(aten.addbmm.default, refuse=of_floats)
def addbmm(net: Net, self: ITensor, batch1: ITensor, batch2: ITensor, beta: float, alpha: float) -> ITensor:
    """addbmm(Tensor self, Tensor batch1, Tensor batch2, *, Scalar beta=1, Scalar alpha=1) -> Tensor; the sum of a batch.

    That is one product of wide matrices: batches stand side by side in the first, and below one another in the second.
    """
    batch, rows, inner = net.sizes(batch1)
    columns = net.size(batch2, 2)
    every = net.compute_size(batch, inner, "PROD")
    wide = net.reshape(net.permute(batch1, (1, 0, 2)), [rows, every])
    return _add(net, self, multiply(net, wide, net.reshape(batch2, [every, columns])), beta, alpha)


@converts(aten._addmm_activation.default, refuse=of_floats)
def addmm_activation(
    net: Net, self: ITensor, mat1: ITensor, mat2: ITensor, beta: float, alpha: float, use_gelu: bool
) -> ITensor:
    """_addmm_activation(Tensor self, Tensor mat1, Tensor mat2, *, Scalar beta=1, alpha=1, bool use_gelu=False) -> Tensor"""
    return net.activation(addmm(net, self, mat1, mat2, beta, alpha), "GELU_ERF" if use_gelu else "RELU")


@converts(aten.addr.default, refuse=of_floats)
def addr(net: Net, self: ITensor, vec1: ITensor, vec2: ITensor, beta: float, alpha: float) -> ITensor:
    """addr(Tensor self, Tensor vec1, Tensor vec2, *, Scalar beta=1, Scalar alpha=1) -> Tensor"""
    outer = net.elementwise(net.unsqueeze(vec1, [1]), net.unsqueeze(vec2, [0]), "PROD", net.result)
    return _add(net, net.cast(self, net.result), outer, beta, alpha)


@converts(aten.addmv.default, refuse=of_floats, whole=True)
def addmv(net: Net, self: ITensor, mat: ITensor, vec: ITensor, beta: float, alpha: float) -> ITensor:
    """addmv(Tensor self, Tensor mat, Tensor vec, *, Scalar beta=1, Scalar alpha=1) -> Tensor"""
    return _add(net, self, matmul(net, mat, vec), beta, alpha)


@converts(aten.linear.default, refuse=of_floats, whole=True)
def linear(net: Net, input: ITensor, weight: ITensor, bias: ITensor | None) -> ITensor:
    """linear(Tensor input, Tensor weight, Tensor? bias=None) -> Tensor"""
    vector = net.rank(input) == 1
    rows = net.unsqueeze(input, [0]) if vector else input
    columns = net.unsqueeze(weight, [0]) if net.rank(weight) == 1 else weight
    product = multiply(net, rows, columns, transposed=True)
    if net.rank(weight) == 1:
        product = net.squeeze(product, [-1])
    if vector:
        product = net.squeeze(product, [0])
    return product if bias is None else net.elementwise(product, bias, "SUM", net.result)


@converts(aten._trilinear.default, refuse=of_floats)
def trilinear(
    net: Net,
    i1: ITensor,
    i2: ITensor,
    i3: ITensor,
    expand1: list[int],
    expand2: list[int],
    expand3: list[int],
    sumdim: list[int],
    unroll_dim: int,
) -> ITensor:
    """_trilinear(Tensor i1, Tensor i2, Tensor i3, int[] expand1, ..., int[] sumdim, int unroll_dim=1) -> Tensor"""
    a, b, c = (
        net.unsqueeze(given, axes) if axes else given for given, axes in ((i1, expand1), (i2, expand2), (i3, expand3))
    )
    product = net.elementwise(net.elementwise(a, b, "PROD", net.result), c, "PROD", net.result)
    return net.reduce(product, "SUM", sumdim, keep=False) if sumdim else product


def multiply(net: Net, first: ITensor, second: ITensor, transposed: bool = False) -> ITensor:
    """`first` @ `second` (its transpose if `transposed`); float16 is added up in float32 with `use_fp32_acc`."""
    if net.settings.use_fp32_acc and net.dtype(first) is torch.float16:
        a, b = net.cast(first, torch.float32), net.cast(second, torch.float32)
        return net.cast(net.multiply(a, b, transpose_second=transposed), torch.float16)
    return net.multiply(first, second, transpose_second=transposed)


def _add(net: Net, added: ITensor, product: ITensor, beta: float, alpha: float) -> ITensor:
    """beta * added + alpha * product; with beta=0 a NaN in `added` does not count."""
    if alpha != 1:
        product = net.elementwise(product, alpha, "PROD", net.result)
    if beta == 0:
        return product
    scaled = added if beta == 1 else net.elementwise(added, beta, "PROD", net.result)
    return net.elementwise(product, scaled, "SUM", net.result)
