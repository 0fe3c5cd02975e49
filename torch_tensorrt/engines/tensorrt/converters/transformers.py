"""PyTorch's operators of a whole self-attention and of a whole encoder layer, as nn.Transformer calls them in inference."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import fx

from torch_tensorrt.engines.tensorrt.converters.attention import attend_in_one
from torch_tensorrt.engines.tensorrt.converters.matrices import linear
from torch_tensorrt.engines.tensorrt.converters.movement import cut
from torch_tensorrt.engines.tensorrt.converters.normalisation import normalize
from torch_tensorrt.engines.tensorrt.converters.registry import bind, converts, is_varying
from torch_tensorrt.engines.tensorrt.net import Net
from torch_tensorrt.engines.tensorrt.sdk import ITensor
from torch_tensorrt.spec.settings import CompilationSettings

aten = torch.ops.aten
_F32 = torch.float32
_OF_PAIRS, _OF_KEYS, _OF_ALL = range(3)  # the numbers that PyTorch gives masks: [L, L], [N, L], [N, heads, L, L]


@dataclass(frozen=True)
class Attention:
    """The weights of a self-attention: of query, key and value below one another, and of the result."""

    width: int
    heads: int
    weights: tuple[ITensor, ITensor]
    result: tuple[ITensor, ITensor]
    hidden: ITensor | None  # what is not looked at, broadcast to [N, heads, L, L]


def unknown_mask(node: fx.Node, settings: CompilationSettings) -> str:
    """A mask is of bools, and of a kind that is told."""
    bound = bind(node)
    if bound["mask"] is None:
        return ""
    if bound["mask"].meta["val"].dtype is not torch.bool or bound["mask_type"] not in (_OF_PAIRS, _OF_KEYS, _OF_ALL):
        return f"{node.target} is converted with masks of bools, of the kinds 0 to 2"
    return ""


def nested_attention(node: fx.Node, settings: CompilationSettings) -> str:
    """The three inputs are of one shape, of a fixed width."""
    query = bind(node)["query"].meta["val"]
    return "its width varies" if is_varying(query.shape[-1]) else unknown_mask(node, settings)


@converts(aten._native_multi_head_attention.default, refuse=nested_attention)
def native_multi_head_attention(
    net: Net,
    query: ITensor,
    key: ITensor,
    value: ITensor,
    embed_dim: int,
    num_head: int,
    qkv_weight: ITensor,
    qkv_bias: ITensor,
    proj_weight: ITensor,
    proj_bias: ITensor,
    mask: ITensor | None,
    need_weights: bool,
    average_attn_weights: bool,
    mask_type: int | None,
) -> tuple[ITensor, ITensor | None]:
    """_native_multi_head_attention(Tensor query, key, value, int embed_dim, int num_head, ...) -> (Tensor, Tensor)"""
    hidden = _hidden(net, mask, mask_type)
    given = Attention(embed_dim, num_head, (qkv_weight, qkv_bias), (proj_weight, proj_bias), hidden)
    made, shares = _attend(net, (query, key, value), given, need_weights)
    if shares is None or not average_attn_weights:
        return made, shares
    return made, net.cast(net.reduce(net.cast(shares, _F32), "AVG", [1], keep=False), net.result)


@converts(aten._transformer_encoder_layer_fwd.default, refuse=unknown_mask)
def transformer_encoder_layer(
    net: Net,
    src: ITensor,
    embed_dim: int,
    num_heads: int,
    qkv_weight: ITensor,
    qkv_bias: ITensor,
    proj_weight: ITensor,
    proj_bias: ITensor,
    use_gelu: bool,
    norm_first: bool,
    eps: float,
    norm_weight_1: ITensor,
    norm_bias_1: ITensor,
    norm_weight_2: ITensor,
    norm_bias_2: ITensor,
    ffn_weight_1: ITensor,
    ffn_bias_1: ITensor,
    ffn_weight_2: ITensor,
    ffn_bias_2: ITensor,
    mask: ITensor | None,
    mask_type: int | None,
) -> ITensor:
    """_transformer_encoder_layer_fwd(Tensor src, int embed_dim, int num_heads, ...) -> Tensor"""
    hidden = _hidden(net, mask, mask_type)
    given = Attention(embed_dim, num_heads, (qkv_weight, qkv_bias), (proj_weight, proj_bias), hidden)

    def norm(x: ITensor, weight: ITensor, bias: ITensor) -> ITensor:
        made = normalize(net, net.cast(x, _F32), [net.rank(x) - 1], [weight, bias], eps)
        return net.cast(made, net.result)

    def feed_forward(x: ITensor) -> ITensor:
        inner = net.activation(linear(net, x, ffn_weight_1, ffn_bias_1), "GELU_ERF" if use_gelu else "RELU")
        return linear(net, inner, ffn_weight_2, ffn_bias_2)

    def add(x: ITensor, y: ITensor) -> ITensor:
        return net.elementwise(x, y, "SUM", net.result)

    first, second = (norm_weight_1, norm_bias_1), (norm_weight_2, norm_bias_2)
    if norm_first:
        x = norm(src, *first)
        x = add(src, _attend(net, (x, x, x), given, False)[0])
        return add(x, feed_forward(norm(x, *second)))
    x = norm(add(src, _attend(net, (src, src, src), given, False)[0]), *first)
    return norm(add(x, feed_forward(x)), *second)


def _attend(
    net: Net, three: tuple[ITensor, ITensor, ITensor], given: Attention, with_shares: bool
) -> tuple[ITensor, ITensor | None]:
    """The result and, if asked for, what share each place has in it: [N, heads, L, L]."""
    query, key, value = (_in_heads(net, part, given, place) for place, part in enumerate(three))
    query = net.elementwise(query, 1 / math.sqrt(given.width // given.heads), "PROD", net.result)
    shares = None
    if given.hidden is None and not with_shares:
        made = attend_in_one(net, [query, key, value], None, False)
    else:  # a place that sees nothing is NaN, as in PyTorch
        scores = net.cast(net.multiply(query, key, transpose_second=True), _F32)
        if given.hidden is not None:
            scores = net.select(given.hidden, -math.inf, scores, _F32)
        shares = net.cast(net.layer("softmax", scores, axes=1 << 3), net.result)
        made = net.multiply(shares, value)
    joined = net.reshape(net.permute(made, (0, 2, 1, 3)), net.sizes(three[0]))
    return linear(net, joined, *given.result), shares if with_shares else None


def _in_heads(net: Net, part: ITensor, given: Attention, place: int) -> ITensor:
    """[N, L, width] through its third of the weights, as [N, heads, L, width / heads]."""
    weight, bias = (cut(net, whole, 0, place * given.width, given.width) for whole in given.weights)
    made = linear(net, part, weight, bias)
    batch, length, _ = net.sizes(made)
    apart = net.reshape(made, [batch, length, given.heads, given.width // given.heads])
    return net.permute(apart, (0, 2, 1, 3))


def _hidden(net: Net, mask: ITensor | None, kind: int | None) -> ITensor | None:
    if mask is None or kind != _OF_KEYS:
        return mask
    return net.unsqueeze(mask, [1, 2])
