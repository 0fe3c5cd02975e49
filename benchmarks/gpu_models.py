"""The networks of benchmarks/gpu.py, all with random weights of their usual sizes. Tiny ones are for trying it out on a CPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import transformers as hf
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Case:
    """A row: the network, its inputs in float32 or int64, and how it is measured.

    images: channels-last memory for the network and its inputs, which is what its users are told to do. float8: also measured in
    float8.
    """

    make: Callable[[bool], nn.Module]
    sample: Callable[[bool], tuple[Tensor, ...]]
    batch: int
    images: bool = False
    float8: bool = False


class First(nn.Module):
    """A Hugging Face model with tensors in and its first result out."""

    def __init__(self, model: nn.Module, **given: object) -> None:
        super().__init__()
        self.model, self.given = model, given

    def forward(self, *inputs: Tensor) -> Tensor:
        """The first result."""
        return self.model(*inputs, return_dict=False, **self.given)[0]


class DecodeStep(nn.Module):
    """One token more, after a cache of keys and values (batch, heads, tokens, width), two per layer.

    Gives the logits of the new token and the new keys and values.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, token: Tensor, place: Tensor, *cache: Tensor) -> tuple[Tensor, ...]:
        """Logits (batch, vocabulary), then the cache with one token more."""
        held = hf.DynamicCache()
        for layer in range(len(cache) // 2):
            held.update(cache[2 * layer], cache[2 * layer + 1], layer)
        result = self.model(token, position_ids=place, past_key_values=held, use_cache=True, logits_to_keep=1)
        made = [tensor[:, :, -1:] for layer in result.past_key_values.layers for tensor in (layer.keys, layer.values)]
        return (result.logits[:, -1], *made)


class UNetBlock(nn.Module):
    """A block of a latent-diffusion U-Net: residual convolutions with group norms, then self and cross attention and a GEGLU."""

    def __init__(self, channels: int, context: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.GroupNorm(32, channels), nn.GroupNorm(32, channels)
        self.conv1, self.conv2 = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
        self.time = nn.Linear(4 * channels, channels)
        self.norm, self.entry, self.leave = (
            nn.GroupNorm(32, channels),
            nn.Conv2d(channels, channels, 1),
            nn.Conv2d(channels, channels, 1),
        )
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(3))
        self.q = nn.ModuleList(nn.Linear(channels, channels, bias=False) for _ in range(2))
        self.k = nn.ModuleList(nn.Linear(width, channels, bias=False) for width in (channels, context))
        self.v = nn.ModuleList(nn.Linear(width, channels, bias=False) for width in (channels, context))
        self.out = nn.ModuleList(nn.Linear(channels, channels) for _ in range(2))
        self.wide, self.narrow = nn.Linear(channels, 8 * channels), nn.Linear(4 * channels, channels)

    def _attend(self, at: int, x: Tensor, to: Tensor) -> Tensor:
        q, k, v = (
            layer(value).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer, value in ((self.q[at], x), (self.k[at], to), (self.v[at], to))
        )
        return self.out[at](F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))

    def forward(self, x: Tensor, time: Tensor, context: Tensor) -> Tensor:
        """Latents (batch, channels, height, width), time embedding (batch, 4 * channels), context (batch, tokens, width)."""
        h = self.conv1(F.silu(self.norm1(x))) + self.time(F.silu(time))[:, :, None, None]
        x = x + self.conv2(F.silu(self.norm2(h)))
        y = self.entry(self.norm(x)).flatten(2).transpose(1, 2)
        normed = self.norms[0](y)
        y = y + self._attend(0, normed, normed)
        y = y + self._attend(1, self.norms[1](y), context)
        value, gate = self.wide(self.norms[2](y)).chunk(2, dim=-1)
        y = y + self.narrow(value * F.gelu(gate))
        return x + self.leave(y.transpose(1, 2).unflatten(2, x.shape[2:]))


def calibrated(model: nn.Module) -> nn.Module:
    """Weights of unit gain, and batch norms with the statistics of random pictures: no number vanishes or grows on the way."""
    for parameter in model.parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=(2 / parameter[0].numel()) ** 0.5)
    norms = {name: module for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)}
    for name, norm in norms.items():
        norm.reset_parameters()
        if name.endswith(
            ("layer.2.normalization", "project_bn")
        ):  # ends a residual branch: small, as at the start of training,
            nn.init.constant_(norm.weight, 0.25)  # or rounding errors grow from block to block as in no trained network
        norm.momentum = None  # the mean over all batches, and there is one
        norm.reset_running_stats()
    with torch.no_grad():
        model.train()(torch.randn(4, 3, 224, 224))
    return model.eval()


def _image(batch: int) -> Callable[[bool], tuple[Tensor, ...]]:
    return lambda tiny: (torch.randn(min(batch, 2) if tiny else batch, 3, *((64, 64) if tiny else (224, 224))),)


def _tokens(batch: int, length: int, *, mask: bool) -> Callable[[bool], tuple[Tensor, ...]]:
    def sample(tiny: bool) -> tuple[Tensor, ...]:
        shape = (2, 16) if tiny else (batch, length)
        ids = torch.randint(0, 1000, shape)
        return (ids, torch.ones(shape, dtype=torch.int64)) if mask else (ids,)

    return sample


def _cache(batch: int, length: int, layers: int, heads: int, width: int) -> Callable[[bool], tuple[Tensor, ...]]:
    def sample(tiny: bool) -> tuple[Tensor, ...]:
        shape = (batch, heads if not tiny else 2, 15 if tiny else length, 16 if tiny else width)
        held = tuple(torch.randn(shape) for _ in range(2 * (2 if tiny else layers)))
        return (torch.randint(0, 1000, (batch, 1)), torch.full((batch, 1), shape[2]), *held)

    return sample


def _resnet(tiny: bool) -> nn.Module:
    small: dict[str, object] = {"depths": [1, 1, 1, 1]} if tiny else {}
    return calibrated(First(hf.ResNetForImageClassification(hf.ResNetConfig(num_labels=1000, **small))))


def _efficientnet(tiny: bool) -> nn.Module:
    sizes: dict[str, object] = {
        "width_coefficient": 1.0,
        "depth_coefficient": 1.0,
        "image_size": 224,
        "hidden_dim": 1280,
    }
    config = hf.EfficientNetConfig(num_labels=1000, dropout_rate=0.2, **sizes)
    return calibrated(First(hf.EfficientNetForImageClassification(config)))


def _convnext(tiny: bool) -> nn.Module:
    small: dict[str, object] = {"depths": [1, 1, 1, 1]} if tiny else {}
    return First(hf.ConvNextForImageClassification(hf.ConvNextConfig(num_labels=1000, **small)))


def _vit(tiny: bool) -> nn.Module:
    small: dict[str, object] = {"num_hidden_layers": 2, "image_size": 64} if tiny else {}
    return First(hf.ViTForImageClassification(hf.ViTConfig(num_labels=1000, **small)))


def _swin(tiny: bool) -> nn.Module:
    small: dict[str, object] = (
        {"depths": [2, 2], "num_heads": [3, 6], "image_size": 64, "window_size": 4} if tiny else {}
    )
    return First(hf.SwinForImageClassification(hf.SwinConfig(num_labels=1000, **small)))


def _bert(tiny: bool) -> nn.Module:
    small: dict[str, object] = {"num_hidden_layers": 2} if tiny else {}
    return First(hf.BertModel(hf.BertConfig(**small)))


def _gpt2(tiny: bool) -> nn.Module:
    small: dict[str, object] = {"n_layer": 2, "n_head": 2, "n_embd": 32} if tiny else {}
    return hf.GPT2LMHeadModel(hf.GPT2Config(**small))


def _llama(tiny: bool) -> nn.Module:
    sizes: dict[str, object] = (
        {
            "hidden_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "intermediate_size": 128,
        }
        if tiny
        else {
            "hidden_size": 2048,
            "num_hidden_layers": 16,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "intermediate_size": 8192,
        }
    )
    return hf.LlamaForCausalLM(hf.LlamaConfig(vocab_size=32000, max_position_embeddings=4096, **sizes))


def _whisper(tiny: bool) -> nn.Module:
    sizes: dict[str, object] = {"d_model": 32 if tiny else 768, "encoder_layers": 2 if tiny else 12}
    heads = 2 if tiny else 12
    sizes |= {"encoder_attention_heads": heads, "decoder_attention_heads": heads, "decoder_layers": 1}
    config = hf.WhisperConfig(encoder_ffn_dim=4 * int(str(sizes["d_model"])), **sizes)
    return First(hf.WhisperModel(config).encoder)


def _unet(tiny: bool) -> nn.Module:
    return UNetBlock(64, 32, 2) if tiny else UNetBlock(320, 768, 8)


def _latents(tiny: bool) -> tuple[Tensor, ...]:
    channels, size, context = (64, 8, 32) if tiny else (320, 64, 768)
    return torch.randn(2, channels, size, size), torch.randn(2, 4 * channels), torch.randn(2, 77, context)


def _prefill(make: Callable[[bool], nn.Module]) -> Callable[[bool], nn.Module]:
    return lambda tiny: First(make(tiny), use_cache=False)


def _step(make: Callable[[bool], nn.Module]) -> Callable[[bool], nn.Module]:
    return lambda tiny: DecodeStep(make(tiny))


# Those whose kernels take longest to choose come first, for the sake of the time of a whole run.
CASES: Mapping[str, Case] = {
    "EfficientNet-B0": Case(_efficientnet, _image(1), 1, images=True),
    "ResNet-50 x256": Case(_resnet, _image(256), 256, images=True),
    "ConvNeXt-T": Case(_convnext, _image(1), 1, images=True),
    "ResNet-50": Case(_resnet, _image(1), 1, images=True),
    "ResNet-50 x32": Case(_resnet, _image(32), 32, images=True),
    "U-Net block x2": Case(_unet, _latents, 2, images=True),
    "Swin-T": Case(_swin, _image(1), 1),
    "ViT-B/16 x64": Case(_vit, _image(64), 64, float8=True),
    "GPT-2 prefill 8x1024": Case(_prefill(_gpt2), _tokens(8, 1024, mask=False), 8, float8=True),
    "ViT-B/16": Case(_vit, _image(1), 1),
    "Whisper encoder": Case(_whisper, lambda tiny: (torch.randn(1, 80, 3000),), 1),
    "Llama-1B prefill 1x1024": Case(_prefill(_llama), _tokens(1, 1024, mask=False), 1, float8=True),
    "BERT-base 32x384": Case(_bert, _tokens(32, 384, mask=False), 32, float8=True),
    "BERT-base 1x128": Case(_bert, _tokens(1, 128, mask=True), 1),
    "Llama-1B decode": Case(_step(_llama), _cache(1, 1023, 16, 8, 64), 1),
    "GPT-2 decode": Case(_step(_gpt2), _cache(1, 1023, 12, 12, 64), 1),
}
