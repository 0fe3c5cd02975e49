"""Attention: the SDK's layer, which looks for a kernel of its own and may be taken apart where there is none."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, fx

from torch_tensorrt.engines.tensorrt.converters.registry import bind, converts, is_varying
from torch_tensorrt.engines.tensorrt.net import Net
from torch_tensorrt.engines.tensorrt.sdk import ITensor
from torch_tensorrt.spec.settings import CompilationSettings

aten = torch.ops.aten
_RANK = 4  # of the layer's tensors: batch, heads, places, width
_SINGLE = 2  # no batch and no heads


def no_attention(node: fx.Node, settings: CompilationSettings) -> str:
    """No dropout, no part of the result that only training needs; and see `_unbroadcast`."""
    given = bind(node)
    if given.get("dropout_p") or given.get("return_debug_mask"):
        return "TensorRT's attention has no dropout, and returns no mask of it"
    three = [given[name].meta["val"] for name in ("query", "key", "value")]
    if not three[0].dtype.is_floating_point or is_varying(three[0].shape[-1]):
        return "TensorRT's attention is of floats, and of a fixed width"
    if given["is_causal"] and (given.get("attn_mask") or given.get("attn_bias")) is not None:
        return "TensorRT's attention takes a mask or is causal, not both"
    return _used_beyond_first(node) or ("" if _fits_layer(three) else _unbroadcast(three, given["is_causal"]))


def _unbroadcast(three: Sequence[Tensor], causal: bool) -> str:
    """Why products and a softmax don't do it, which know no groups of heads, and a mask of known size only."""
    query, key, _ = three
    heads = {str(tensor.shape[-3]) for tensor in three if tensor.dim() > _SINGLE} - {"1"}
    if len(heads) > 1:
        return f"TensorRT's attention has groups of heads only where keys are as wide as values ({sorted(heads)} heads)"
    if causal and (is_varying(query.shape[-2]) or is_varying(key.shape[-2])):
        return "TensorRT's causal attention of this form needs fixed lengths"
    return ""


def _fits_layer(three: Sequence[Tensor]) -> bool:
    """Rank 4 at most, keys as large as values, equal batches, and heads that are equal or in groups."""
    query, key, value = (tensor.shape for tensor in three)
    if len(query) > _RANK or len(query) != len(key) or len(key) != len(value):
        return False
    if not _same_sizes(key, value) or not _same_sizes(query[:-3], key[:-3]):
        return False
    if len(query) <= _SINGLE or _same_sizes(query[-3:-2], key[-3:-2]):
        return True
    fixed = not is_varying(query[-3]) and not is_varying(key[-3])
    return len(query) == _RANK and fixed and query[-3] % key[-3] == 0


def _same_sizes(first: Sequence[int], second: Sequence[int]) -> bool:
    """Sizes that vary are not 1, which alone would be broadcast: two that PyTorch takes together are equal."""
    pairs = zip(first, second, strict=True)
    return all(
        (b != 1 if is_varying(a) else a != 1) if is_varying(a) != is_varying(b) else is_varying(a) or a == b
        for a, b in pairs
    )


def _used_beyond_first(node: fx.Node) -> str:
    if not isinstance(node.meta["val"], (tuple, list)):
        return ""
    used = [user for user in node.users if user.op == "output" or (user.args[1] != 0 and user.users)]
    return "TensorRT's attention gives its result only, not what training needs" if used else ""


@converts(aten.scaled_dot_product_attention.default, refuse=no_attention, whole=True)
def scaled_dot_product_attention(
    net: Net,
    query: ITensor,
    key: ITensor,
    value: ITensor,
    attn_mask: ITensor | None,
    dropout_p: float,
    is_causal: bool,
    scale: float | None,
    enable_gqa: bool,
) -> ITensor:
    """scaled_dot_product_attention(Tensor query, Tensor key, Tensor value, Tensor? attn_mask=None, ...) -> Tensor"""
    return _attend(net, [query, key, value], attn_mask, is_causal, scale)


@converts(aten._scaled_dot_product_flash_attention.default, refuse=no_attention, whole=True)
def flash_attention(
    net: Net,
    query: ITensor,
    key: ITensor,
    value: ITensor,
    dropout_p: float,
    is_causal: bool,
    return_debug_mask: bool,
    scale: float | None,
) -> Sequence[ITensor | None]:
    """_scaled_dot_product_flash_attention(Tensor query, Tensor key, Tensor value, ...) -> (Tensor output, ...)"""
    return _attend(net, [query, key, value], None, is_causal, scale), *[None] * 8


@converts(aten._scaled_dot_product_flash_attention_for_cpu.default, refuse=no_attention, whole=True)
def flash_attention_for_cpu(
    net: Net,
    query: ITensor,
    key: ITensor,
    value: ITensor,
    dropout_p: float,
    is_causal: bool,
    attn_mask: ITensor | None,
    scale: float | None,
) -> Sequence[ITensor | None]:
    """_scaled_dot_product_flash_attention_for_cpu(Tensor query, ...) -> (Tensor output, Tensor logsumexp)"""
    return _attend(net, [query, key, value], attn_mask, is_causal, scale), None


@converts(aten._scaled_dot_product_efficient_attention.default, refuse=no_attention, whole=True)
def efficient_attention(
    net: Net,
    query: ITensor,
    key: ITensor,
    value: ITensor,
    attn_bias: ITensor | None,
    compute_log_sumexp: bool,
    dropout_p: float,
    is_causal: bool,
    scale: float | None,
) -> Sequence[ITensor | None]:
    """_scaled_dot_product_efficient_attention(Tensor query, ...) -> (Tensor output, Tensor log_sumexp, ...)"""
    return _attend(net, [query, key, value], attn_bias, is_causal, scale), *[None] * 3


@converts(aten._scaled_dot_product_cudnn_attention.default, refuse=no_attention, whole=True)
def cudnn_attention(
    net: Net,
    query: ITensor,
    key: ITensor,
    value: ITensor,
    attn_bias: ITensor | None,
    compute_log_sumexp: bool,
    dropout_p: float,
    is_causal: bool,
    return_debug_mask: bool,
    scale: float | None,
) -> Sequence[ITensor | None]:
    """_scaled_dot_product_cudnn_attention(Tensor query, ...) -> (Tensor output, Tensor logsumexp, ...)"""
    return _attend(net, [query, key, value], attn_bias, is_causal, scale), *[None] * 8


def _attend(net: Net, three: list[ITensor], mask: ITensor | None, causal: bool, scale: float | None) -> ITensor:
    """The query is multiplied before, as the layer does not scale. Rows that a mask hides wholly are 0, as in PyTorch."""
    factor = 1 / math.sqrt(net.shape(three[0])[-1]) if scale is None else scale
    query = three[0] if factor == 1 else net.elementwise(three[0], factor, "PROD", net.result)
    assert net.node is not None
    given = bind(net.node)
    fits = _fits_layer([given[name].meta["val"] for name in ("query", "key", "value")])
    fits = fits and (mask is None or net.rank(mask) <= _RANK)
    result = (attend_in_one if fits else _in_parts)(net, [query, *three[1:]], mask, causal)
    return result if mask is None else net.select(_seen(net, mask), result, 0.0, net.result)


def attend_in_one(net: Net, three: Sequence[ITensor], mask: ITensor | None, causal: bool) -> ITensor:
    """The SDK's layer, of rank 4."""
    more = _RANK - net.rank(three[0])
    query, key, value = (net.unsqueeze(part, range(more)) for part in three)
    whole = None if mask is None else _whole_mask(net, mask, query, key)
    norm = net.member("AttentionNormalizationOp", "SOFTMAX")
    if hasattr(net.network, "add_attention_v2"):
        kind = net.member("CausalMaskKind", "UPPER_LEFT" if causal else "NONE")
        result = net.layer("attention_v2", query, key, value, norm, kind, mask=whole, decomposable=True)
    else:
        result = net.layer("attention", query, key, value, norm, causal, mask=whole, decomposable=True)
    return net.squeeze(result, range(more)) if more else result


def _in_parts(net: Net, three: Sequence[ITensor], mask: ITensor | None, causal: bool) -> ITensor:
    """Products and a softmax (in float32), which broadcast."""
    query, key, value = three
    scores = net.cast(net.multiply(query, key, transpose_second=True), torch.float32)
    if causal:
        mask = net.constant(torch.ones(net.shape(scores)[-2:], dtype=torch.bool).tril())
    if mask is not None and net.dtype(mask) is torch.bool:
        scores = net.select(mask, scores, -math.inf, torch.float32)
    elif mask is not None:
        scores = net.elementwise(scores, mask, "SUM", torch.float32)
    shares = net.layer("softmax", scores, axes=1 << (net.rank(scores) - 1))
    return net.multiply(net.cast(shares, net.result), value)


def _whole_mask(net: Net, mask: ITensor, query: ITensor, key: ITensor) -> ITensor:
    """The mask with rank 4 and all its rows and columns, bool or of the query's dtype: batches and heads are broadcast."""
    raised = net.unsqueeze(mask, range(_RANK - net.rank(mask)))
    typed = raised if net.dtype(raised) is torch.bool else net.cast(raised, net.result)
    return net.expand(typed, [-1, -1, net.size(query, 2), net.size(key, 2)])


def _seen(net: Net, mask: ITensor) -> ITensor:
    """Whether a row sees any column: [..., rows or 1, 1]."""
    if net.dtype(mask) is torch.bool:
        return net.cast(net.reduce(net.cast(mask, torch.int32), "MAX", [-1], keep=True), torch.bool)
    most = net.reduce(net.cast(mask, torch.float32), "MAX", [-1], keep=True)
    return net.elementwise(most, -math.inf, "GREATER", torch.float32)
