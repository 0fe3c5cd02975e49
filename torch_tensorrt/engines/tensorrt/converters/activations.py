"""Activation functions: a layer of the SDK where it has one."""

from __future__ import annotations

import torch
from torch import fx

from torch_tensorrt.engines.tensorrt.converters.registry import bind, converts
from torch_tensorrt.engines.tensorrt.net import Net
from torch_tensorrt.engines.tensorrt.sdk import ITensor
from torch_tensorrt.spec.settings import CompilationSettings

aten = torch.ops.aten
# Of the paper, "Self-Normalizing Neural Networks", as PyTorch has them.
_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772, 1.0507009873554805


@converts(aten.leaky_relu.default)
def leaky_relu(net: Net, self: ITensor, negative_slope: float) -> ITensor:
    """leaky_relu(Tensor self, Scalar negative_slope=0.01) -> Tensor"""
    return net.activation(self, "LEAKY_RELU", alpha=negative_slope)


def turned_round(node: fx.Node, settings: CompilationSettings) -> str:
    """elu with a negative input_scale grows on the wrong side."""
    return "" if bind(node)["input_scale"] > 0 else "TensorRT's ELU takes no input_scale of 0 or below"


@converts(aten.elu.default, refuse=turned_round)
def elu(net: Net, self: ITensor, alpha: float, scale: float, input_scale: float) -> ITensor:
    """elu(Tensor self, Scalar alpha=1, Scalar scale=1, Scalar input_scale=1) -> Tensor"""
    value = self if input_scale == 1 else net.elementwise(self, input_scale, "PROD", net.result)
    curve = net.activation(value, "ELU", alpha=alpha * input_scale)
    return curve if scale == input_scale else net.elementwise(curve, scale / input_scale, "PROD", net.result)


def alpha_below_zero(node: fx.Node, settings: CompilationSettings) -> str:
    """celu with a negative alpha is not what its curve is for."""
    return "" if bind(node)["alpha"] > 0 else "TensorRT's ELU takes no alpha of 0 or below for celu"


@converts(aten.celu.default, refuse=alpha_below_zero, whole=True)
def celu(net: Net, self: ITensor, alpha: float) -> ITensor:
    """celu(Tensor self, Scalar alpha=1.0) -> Tensor"""
    return elu(net, self, alpha, 1.0, 1.0 / alpha)


@converts(aten.selu.default, whole=True)
def selu(net: Net, self: ITensor) -> ITensor:
    """selu(Tensor self) -> Tensor"""
    return net.activation(self, "SELU", alpha=_SELU_ALPHA, beta=_SELU_SCALE)


@converts(aten.hardsigmoid.default, whole=True)
def hardsigmoid(net: Net, self: ITensor) -> ITensor:
    """hardsigmoid(Tensor self) -> Tensor"""
    return net.activation(self, "HARD_SIGMOID", alpha=1 / 6, beta=0.5)


@converts(aten.hardswish.default, whole=True)
def hardswish(net: Net, self: ITensor) -> ITensor:
    """hardswish(Tensor self) -> Tensor"""
    return net.elementwise(self, hardsigmoid(net, self), "PROD", net.result)


@converts(aten.softplus.default, whole=True)
def softplus(net: Net, self: ITensor, beta: float, threshold: float) -> ITensor:
    """softplus(Tensor self, Scalar beta=1, Scalar threshold=20) -> Tensor: itself where beta * self > threshold."""
    scaled = self if beta == 1 else net.elementwise(self, beta, "PROD", net.result)
    above = net.elementwise(scaled, threshold, "GREATER", net.result)
    return net.select(above, self, net.activation(self, "SOFTPLUS", alpha=1 / beta, beta=beta), net.result)


@converts(aten.mish.default, whole=True)
def mish(net: Net, self: ITensor) -> ITensor:
    """mish(Tensor self) -> Tensor: self * tanh(softplus(self))."""
    return net.elementwise(self, net.activation(softplus(net, self, 1, 20), "TANH"), "PROD", net.result)


@converts(aten._prelu_kernel.default, whole=True)
def prelu(net: Net, self: ITensor, weight: ITensor) -> ITensor:
    """_prelu_kernel(Tensor self, Tensor weight) -> Tensor; the weight has the rank of `self` already."""
    return net.layer("parametric_relu", *net.same_rank([self, weight]))
