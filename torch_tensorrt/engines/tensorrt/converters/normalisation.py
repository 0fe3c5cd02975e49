"""Layer, group, instance, batch and root-mean-square norms, in float32 whatever the dtype: squares leave float16's range.

The SDK's normalization layer does the first four where statistics come from the data. Mean and reciprocal deviation, which
PyTorch gives beside the result, are computed only where somebody uses them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import fx

from torch_tensorrt.engines.tensorrt.converters.registry import bind, converts, is_used
from torch_tensorrt.engines.tensorrt.net import Net
from torch_tensorrt.engines.tensorrt.network import Size
from torch_tensorrt.engines.tensorrt.promotion import tensor_values
from torch_tensorrt.engines.tensorrt.sdk import ITensor
from torch_tensorrt.spec.settings import CompilationSettings

aten = torch.ops.aten
_F32 = torch.float32
Statistics: TypeAlias = "tuple[ITensor, ITensor]"  # mean and variance
_FEWEST_GROUPED = 3  # dimensions of a tensor that the layer can split into groups of channels


def mixed_statistics(node: fx.Node, settings: CompilationSettings) -> str:
    """PyTorch's metadata has mean and deviation in the input's dtype, its kernels in that of the weights."""
    kinds = {value.dtype for value in tensor_values(node) if value.dtype.is_floating_point}
    used = is_used(node, 1) or is_used(node, 2)
    if len(kinds) > 1 and used:
        return "mean and deviation of a norm of mixed precision have another dtype in PyTorch than its metadata says"
    return ""


@converts(aten.native_layer_norm.default, refuse=mixed_statistics)
def native_layer_norm(
    net: Net, input: ITensor, normalized_shape: Sequence[Size], weight: ITensor | None, bias: ITensor | None, eps: float
) -> tuple[ITensor | None, ...]:
    """native_layer_norm(Tensor input, SymInt[] normalized_shape, Tensor? weight, Tensor? bias, float eps) -> 3 Tensors"""
    x, rank = net.cast(input, _F32), net.rank(input)
    axes = range(rank - len(normalized_shape), rank)
    made = normalize(net, x, axes, [weight, bias], eps)
    mean, reciprocal = _used_statistics(net, x, axes, eps)
    return net.cast(made, net.result), mean, reciprocal


@converts(aten.layer_norm.default)
def layer_norm(
    net: Net,
    input: ITensor,
    normalized_shape: Sequence[Size],
    weight: ITensor | None,
    bias: ITensor | None,
    eps: float,
    cudnn_enable: bool,
) -> ITensor:
    """layer_norm(Tensor input, SymInt[] normalized_shape, Tensor? weight, Tensor? bias, float eps, ...) -> Tensor"""
    rank = net.rank(input)
    axes = range(rank - len(normalized_shape), rank)
    return net.cast(normalize(net, net.cast(input, _F32), axes, [weight, bias], eps), net.result)


@converts(aten.native_group_norm.default, refuse=mixed_statistics)
def native_group_norm(
    net: Net,
    input: ITensor,
    weight: ITensor | None,
    bias: ITensor | None,
    N: Size,  # noqa: N803  (PyTorch's name, as the next two)
    C: Size,  # noqa: N803
    HxW: Size,  # noqa: N803
    group: int,
    eps: float,
) -> tuple[ITensor | None, ...]:
    """native_group_norm(Tensor input, Tensor? weight, Tensor? bias, SymInt N, C, HxW, int group, float eps) -> 3 Tensors"""
    made = _normalize_groups(net, input, group, [weight, bias], eps)
    assert net.node is not None
    if not (is_used(net.node, 1) or is_used(net.node, 2)):
        return made, None, None
    grouped = net.reshape(net.cast(input, _F32), _in_groups(net, input, group))
    return made, *_used_statistics(net, grouped, [2], eps, keep=False)


@converts(aten.group_norm.default)
def group_norm(
    net: Net,
    input: ITensor,
    num_groups: int,
    weight: ITensor | None,
    bias: ITensor | None,
    eps: float,
    cudnn_enabled: bool,
) -> ITensor:
    """group_norm(Tensor input, int num_groups, Tensor? weight=None, Tensor? bias=None, float eps=1e-05, ...) -> Tensor"""
    return _normalize_groups(net, input, num_groups, [weight, bias], eps)


def updates_statistics(node: fx.Node, settings: CompilationSettings) -> str:
    """In training, running statistics are written in place."""
    bound = bind(node)
    training = bound.get("training", bound.get("use_input_stats"))
    if training and bound["running_mean"] is not None:
        return f"{node.target} in training writes running statistics, and an engine only gives new tensors"
    if not training and bound["running_mean"] is None:
        return f"{node.target} without running statistics is one of training"
    return mixed_statistics(node, settings)


@converts(aten.instance_norm.default, refuse=updates_statistics)
def instance_norm(
    net: Net,
    input: ITensor,
    weight: ITensor | None,
    bias: ITensor | None,
    running_mean: ITensor | None,
    running_var: ITensor | None,
    use_input_stats: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool,
) -> ITensor:
    """instance_norm(Tensor input, Tensor? weight, Tensor? bias, Tensor? running_mean, ..., float eps, ...) -> Tensor"""
    if running_mean is not None and running_var is not None:
        return _scale_by(net, input, [weight, bias], (running_mean, running_var), eps)
    x = net.cast(input, _F32)
    return net.cast(normalize(net, x, range(2, net.rank(x)), [weight, bias], eps, place=1), net.result)


@converts(aten.batch_norm.default, refuse=updates_statistics)
def batch_norm(
    net: Net,
    input: ITensor,
    weight: ITensor | None,
    bias: ITensor | None,
    running_mean: ITensor | None,
    running_var: ITensor | None,
    training: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool,
) -> ITensor:
    """batch_norm(Tensor input, Tensor? weight, Tensor? bias, Tensor? running_mean, ..., float eps, ...) -> Tensor"""
    if running_mean is not None and running_var is not None:
        return _scale_by(net, input, [weight, bias], (running_mean, running_var), eps)
    return net.cast(_normalize_batch(net, net.cast(input, _F32), [weight, bias], eps), net.result)


@converts(aten.native_batch_norm.default, aten._native_batch_norm_legit.default, refuse=updates_statistics)
def native_batch_norm(
    net: Net,
    input: ITensor,
    weight: ITensor | None,
    bias: ITensor | None,
    running_mean: ITensor | None,
    running_var: ITensor | None,
    training: bool,
    momentum: float,
    eps: float,
) -> tuple[ITensor | None, ...]:
    """native_batch_norm(Tensor input, Tensor? weight, Tensor? bias, Tensor? running_mean, ...) -> 3 Tensors"""
    if running_mean is not None and running_var is not None:
        return batch_norm_by(net, input, weight, bias, running_mean, running_var, momentum, eps)
    return batch_norm_of_batch(net, input, weight, bias, True, momentum, eps)


@converts(aten._native_batch_norm_legit_no_training.default)
def batch_norm_by(
    net: Net,
    input: ITensor,
    weight: ITensor | None,
    bias: ITensor | None,
    running_mean: ITensor,
    running_var: ITensor,
    momentum: float,
    eps: float,
) -> tuple[ITensor | None, ...]:
    """_native_batch_norm_legit_no_training(Tensor input, Tensor? weight, Tensor? bias, ...) -> 3 Tensors; two are empty."""
    made = _scale_by(net, input, [weight, bias], (running_mean, running_var), eps)
    return made, *(_nothing(net, place) for place in (1, 2))


def no_statistics(node: fx.Node, settings: CompilationSettings) -> str:
    """Without running statistics the batch has to have its own."""
    if not bind(node)["training"]:
        return f"{node.target} has no statistics when it is not in training"
    return mixed_statistics(node, settings)


@converts(aten._native_batch_norm_legit.no_stats, refuse=no_statistics)
def batch_norm_of_batch(
    net: Net,
    input: ITensor,
    weight: ITensor | None,
    bias: ITensor | None,
    training: bool,
    momentum: float,
    eps: float,
) -> tuple[ITensor | None, ...]:
    """_native_batch_norm_legit.no_stats(Tensor input, Tensor? weight, Tensor? bias, bool training, ...) -> 3 Tensors"""
    x = net.cast(input, _F32)
    mean, reciprocal = _used_statistics(net, x, _all_but_channels(net, x), eps, keep=False)
    return net.cast(_normalize_batch(net, x, [weight, bias], eps), net.result), mean, reciprocal


def updated_statistics(node: fx.Node, settings: CompilationSettings) -> str:
    """Running statistics of float16 are float32 after an update in PyTorch's metadata, and float16 in its results."""
    given, after = bind(node)["running_mean"].meta["val"], node.meta["val"][3]
    if given.dtype is not after.dtype:
        return f"running statistics of {given.dtype} have another dtype in PyTorch than its metadata says"
    return mixed_statistics(node, settings)


@converts(aten._native_batch_norm_legit_functional.default, refuse=updated_statistics)
def batch_norm_with_update(
    net: Net,
    input: ITensor,
    weight: ITensor | None,
    bias: ITensor | None,
    running_mean: ITensor,
    running_var: ITensor,
    training: bool,
    momentum: float,
    eps: float,
) -> tuple[ITensor | None, ...]:
    """_native_batch_norm_legit_functional(...) -> (out, mean, reciprocal deviation, running mean and variance after it)"""
    if not training:
        made = batch_norm_by(net, input, weight, bias, running_mean, running_var, momentum, eps)
        return (*made, running_mean, running_var)
    x = net.cast(input, _F32)
    axes = _all_but_channels(net, x)
    mean, variance = _statistics(net, x, axes, keep=False)
    count = net.product([net.size(x, axis) for axis in axes])
    fewer = net.elementwise(net.size_tensor([count]), -1, "SUM", _F32)
    total = net.elementwise(variance, net.size_tensor([count]), "PROD", _F32)
    unbiased = net.elementwise(total, fewer, "DIV", _F32)
    after = [_moved(net, old, new, momentum) for old, new in ((running_mean, mean), (running_var, unbiased))]
    return (*batch_norm_of_batch(net, input, weight, bias, True, momentum, eps), *after)


@converts(aten.rms_norm.default)
def rms_norm(
    net: Net, input: ITensor, normalized_shape: Sequence[Size], weight: ITensor | None, eps: float | None
) -> ITensor:
    """rms_norm(Tensor input, SymInt[] normalized_shape, Tensor? weight=None, float? eps=None) -> Tensor"""
    return _fused_rms_norm(net, input, normalized_shape, weight, eps)[0]


@converts(aten._fused_rms_norm.default)
def _fused_rms_norm(
    net: Net, input: ITensor, normalized_shape: Sequence[Size], weight: ITensor | None, eps: float | None
) -> tuple[ITensor, ITensor]:
    """_fused_rms_norm(Tensor input, int[] normalized_shape, Tensor? weight, float? eps) -> (Tensor, Tensor)"""
    x, count = net.cast(input, _F32), len(normalized_shape)
    square = net.reduce(net.elementwise(x, x, "PROD", _F32), "AVG", range(-count, 0), keep=True)
    reciprocal = _reciprocal_root(net, square, torch.finfo(_F32).eps if eps is None else eps)
    made = net.elementwise(x, reciprocal, "PROD", _F32)
    if weight is not None:
        made = net.elementwise(made, weight, "PROD", _F32)
    return net.cast(made, net.result), reciprocal


def normalize(
    net: Net,
    x: ITensor,
    axes: Sequence[int],
    parameters: Sequence[ITensor | None],
    eps: float,
    place: int | None = None,
) -> ITensor:
    """The SDK's layer. parameters: weight and bias, along the dimension `place`, or along the last ones."""
    scale, shift = _raised(net, parameters, net.rank(x), place)
    mask = sum(1 << axis for axis in axes)
    return net.layer(_kind(net), x, scale, shift, mask, epsilon=eps)


def _kind(net: Net) -> str:
    return "normalization_v2" if hasattr(net.network, "add_normalization_v2") else "normalization"


def _raised(net: Net, parameters: Sequence[ITensor | None], rank: int, place: int | None) -> list[ITensor]:
    """Weight and bias in float32, of one shape and of `rank`; 1 and 0 where there are none."""
    given = [None if value is None else net.cast(value, _F32) for value in parameters]
    known = [net.sizes(value) for value in given if value is not None]
    sizes: Sequence[Size] = known[0] if known else [1]
    full = [
        net.expand(net.tensor(other, _F32, rank=len(sizes)), sizes) if value is None else value
        for value, other in zip(given, (1.0, 0.0), strict=True)
    ]
    start = rank - len(sizes) if place is None else place
    return [net.reshape(value, [*[1] * start, *sizes, *[1] * (rank - start - len(sizes))]) for value in full]


def _normalize_batch(net: Net, x: ITensor, parameters: Sequence[ITensor | None], eps: float) -> ITensor:
    """A batch of one is normalised in its places, which the SDK knows as instance norm."""
    alone = net.shape(x)[0] == 1 and net.rank(x) > _FEWEST_GROUPED - 1
    axes = range(2, net.rank(x)) if alone else _all_but_channels(net, x)
    return normalize(net, x, axes, parameters, eps, place=1)


def _normalize_groups(
    net: Net, input: ITensor, groups: int, parameters: Sequence[ITensor | None], eps: float
) -> ITensor:
    """One group is a norm over all but the batch; of several, the layer's second version takes weights by channel."""
    x, rank = net.cast(input, _F32), net.rank(input)
    if groups == 1:
        return net.cast(normalize(net, x, range(1, rank), parameters, eps, place=1), net.result)
    if rank >= _FEWEST_GROUPED and _kind(net) == "normalization_v2":
        weights = parameters if any(value is not None for value in parameters) else [_ones(net, net.size(x, 1)), None]
        scale, shift = _raised(net, weights, rank, 1)
        mask = sum(1 << axis for axis in range(2, rank))
        made = net.layer("normalization_v2", x, scale, shift, mask, epsilon=eps, num_groups=groups)
        return net.cast(made, net.result)
    grouped = net.reshape(x, _in_groups(net, x, groups))
    made = net.reshape(normalize(net, grouped, [2], [None, None], eps), net.sizes(x))
    if any(value is not None for value in parameters):
        scale, shift = _raised(net, parameters, rank, 1)
        made = net.elementwise(net.elementwise(made, scale, "PROD", _F32), shift, "SUM", _F32)
    return net.cast(made, net.result)


def _ones(net: Net, count: Size) -> ITensor:
    return net.expand(net.tensor(1.0, _F32, rank=1), [count])


def _in_groups(net: Net, x: ITensor, groups: int) -> list[Size]:
    """[batch, groups, values of a group]"""
    batch, *others = net.sizes(x)
    return [batch, groups, net.compute_size(net.product(others), groups, "FLOOR_DIV")]


def _scale_by(net: Net, input: ITensor, parameters: Sequence[ITensor | None], known: Statistics, eps: float) -> ITensor:
    """(x - mean) / sqrt(variance + eps) * weight + bias, as one factor and one summand by channel."""
    mean, variance = (net.cast(value, _F32) for value in known)
    weight, bias = parameters
    factor = _reciprocal_root(net, variance, eps)
    if weight is not None:
        factor = net.elementwise(factor, weight, "PROD", _F32)
    summand = net.unary(net.elementwise(mean, factor, "PROD", _F32), "NEG")
    if bias is not None:
        summand = net.elementwise(summand, bias, "SUM", _F32)
    scale, shift = _raised(net, [factor, summand], net.rank(input), 1)
    scaled = net.elementwise(net.cast(input, _F32), scale, "PROD", _F32)
    return net.cast(net.elementwise(scaled, shift, "SUM", _F32), net.result)


def _statistics(net: Net, x: ITensor, axes: Sequence[int], keep: bool) -> Statistics:
    """Mean and variance (of the values themselves, not of what they are drawn from)."""
    mean = net.reduce(x, "AVG", axes, keep=True)
    spread = net.elementwise(x, mean, "SUB", _F32)
    variance = net.reduce(net.elementwise(spread, spread, "PROD", _F32), "AVG", axes, keep)
    return (mean if keep else net.squeeze(mean, axes)), variance


def _used_statistics(
    net: Net, x: ITensor, axes: Sequence[int], eps: float, keep: bool = True
) -> tuple[ITensor | None, ITensor | None]:
    """The second and third result: mean and 1 / sqrt(variance + eps); None where nobody uses them."""
    assert net.node is not None
    if not (is_used(net.node, 1) or is_used(net.node, 2)):
        return None, None
    mean, variance = _statistics(net, x, axes, keep)
    kind = net.node.meta["val"][1].dtype
    return net.cast(mean, kind), net.cast(_reciprocal_root(net, variance, eps), kind)


def _nothing(net: Net, place: int) -> ITensor | None:
    """The empty tensor that PyTorch gives in place of statistics."""
    assert net.node is not None
    kind = net.node.meta["val"][place].dtype
    return net.constant(torch.empty(0, dtype=kind)) if is_used(net.node, place) else None


def _reciprocal_root(net: Net, variance: ITensor, eps: float) -> ITensor:
    return net.unary(net.unary(net.elementwise(variance, eps, "SUM", _F32), "SQRT"), "RECIP")


def _all_but_channels(net: Net, x: ITensor) -> list[int]:
    return [axis for axis in range(net.rank(x)) if axis != 1]


def _moved(net: Net, old: ITensor, new: ITensor, momentum: float) -> ITensor:
    """(1 - momentum) * old + momentum * new, in the dtype of `old`."""
    kept = net.elementwise(old, 1 - momentum, "PROD", _F32)
    made = net.elementwise(kept, net.elementwise(new, momentum, "PROD", _F32), "SUM", _F32)
    return net.cast(made, net.dtype(old))
