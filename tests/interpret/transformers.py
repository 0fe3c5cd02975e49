"""Rotary embeddings and caches of keys and values."""

from __future__ import annotations

import torch
from torch import Tensor

from interpret.reading import Layer
from interpret.semantics import NotInterpretedError, runs


@runs("ROTARY_EMBEDDING")
def rotary_embedding(layer: Layer, x: Tensor, cos: Tensor, sin: Tensor, position: Tensor | None = None) -> Tensor:
    """IRotaryEmbeddingLayer: pairs are neighbours when interleaved, else halves apart."""
    size = layer.native.rotary_embedding_dim or x.shape[-1]
    if position is not None:
        cos, sin = cos[position.long()], sin[position.long()]
    cos, sin = cos.unsqueeze(1), sin.unsqueeze(1)  # [batch, 1, sequence, size / 2]
    head, tail = x[..., :size], x[..., size:]
    if layer.native.interleaved:
        a, b = head[..., 0::2], head[..., 1::2]
        head = torch.stack([a * cos - b * sin, a * sin + b * cos], -1).flatten(-2)
    else:
        a, b = head.chunk(2, -1)
        head = torch.cat([a * cos - b * sin, a * sin + b * cos], -1)
    return torch.cat([head, tail], -1)


@runs("KV_CACHE_UPDATE")
def kv_cache_update(
    layer: Layer, cache: Tensor, update: Tensor, write: Tensor, lengths: Tensor | None = None
) -> Tensor:
    """IKVCacheUpdateLayer: each row of the batch from its own place on."""
    if lengths is not None:
        raise NotInterpretedError(f"{layer.name}: packed update")
    out = cache.clone()
    for row, place in enumerate(write.tolist()):
        out[row, :, place : place + update.shape[2]] = update[row]
    return out
