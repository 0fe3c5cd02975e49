"""The architectures of the zoo that `transformers` does not have, in plain PyTorch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Mlp(nn.Module):
    """Three linear layers."""

    def __init__(self, width: int = 64, hidden: int = 128, classes: int = 10) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, classes))
        )

    def forward(self, x: Tensor) -> Tensor:
        """x: [batch, width]."""
        result: Tensor = self.layers(x)
        return result


class LstmTagger(nn.Module):
    """Embedding, two bidirectional LSTM layers, one tag distribution per token."""

    def __init__(self, words: int = 100, width: int = 32, hidden: int = 24, tags: int = 7) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, width)
        self.lstm = nn.LSTM(width, hidden, num_layers=2, bidirectional=True, batch_first=True)
        self.out = nn.Linear(2 * hidden, tags)

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens: int64 [batch, length]."""
        states, _ = self.lstm(self.embedding(tokens))
        return self.out(states).log_softmax(-1)


class _Residual(nn.Module):
    def __init__(self, channels: int, out: int, time: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(4, channels), nn.GroupNorm(4, out)
        self.conv1, self.conv2 = nn.Conv2d(channels, out, 3, padding=1), nn.Conv2d(out, out, 3, padding=1)
        self.time = nn.Linear(time, out)
        self.skip = nn.Identity() if channels == out else nn.Conv2d(channels, out, 1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        y = self.conv1(F.silu(self.norm1(x))) + self.time(F.silu(time))[:, :, None, None]
        result: Tensor = self.skip(x) + self.conv2(F.silu(self.norm2(y)))
        return result


class _Attention(nn.Module):
    def __init__(self, channels: int, heads: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(4, channels)
        self.qkv, self.out = nn.Conv2d(channels, 3 * channels, 1), nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        parts = self.qkv(self.norm(x)).reshape(batch, 3, self.heads, channels // self.heads, height * width)
        query, key, value = parts.transpose(-1, -2).unbind(1)
        mixed = F.scaled_dot_product_attention(query, key, value).transpose(-1, -2)
        result: Tensor = x + self.out(mixed.reshape(batch, channels, height, width))
        return result


class UNet(nn.Module):
    """A small diffusion U-Net: time embedding, two scales, group norm, attention at the bottom, skips joined by cat."""

    def __init__(self, channels: int = 3, width: int = 16) -> None:
        super().__init__()
        self.time = nn.Sequential(nn.Linear(width, 4 * width), nn.SiLU(), nn.Linear(4 * width, 4 * width))
        self.enter = nn.Conv2d(channels, width, 3, padding=1)
        self.down1, self.down2 = _Residual(width, width, 4 * width), _Residual(width, 2 * width, 4 * width)
        self.shrink1 = nn.Conv2d(width, width, 3, stride=2, padding=1)
        self.shrink2 = nn.Conv2d(2 * width, 2 * width, 3, stride=2, padding=1)
        self.middle1, self.attention = _Residual(2 * width, 2 * width, 4 * width), _Attention(2 * width)
        self.middle2 = _Residual(2 * width, 2 * width, 4 * width)
        self.up2, self.up1 = _Residual(4 * width, width, 4 * width), _Residual(2 * width, width, 4 * width)
        self.norm, self.leave = nn.GroupNorm(4, width), nn.Conv2d(width, channels, 3, padding=1)

    def forward(self, x: Tensor, step: Tensor) -> Tensor:
        """x: [batch, channels, height, width]; step: float [batch]."""
        half = self.enter.out_channels // 2
        angles = step[:, None] * torch.exp(-9.0 * torch.arange(half, device=x.device) / half)
        time = self.time(torch.cat([angles.sin(), angles.cos()], dim=1))
        first = self.down1(self.enter(x), time)
        second = self.down2(self.shrink1(first), time)
        y = self.middle2(self.attention(self.middle1(self.shrink2(second), time)), time)
        y = F.interpolate(y, scale_factor=2.0, mode="nearest")
        y = self.up2(torch.cat([y, second], dim=1), time)
        y = F.interpolate(y, size=first.shape[-2:], mode="bilinear", align_corners=False)
        y = self.up1(torch.cat([y, first], dim=1), time)
        result: Tensor = self.leave(F.silu(self.norm(y)))
        return result
