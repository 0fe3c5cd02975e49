"""The networks and the rows of benchmarks/cpu.py. Tiny ones are for trying it out."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers as hf
from gpu_models import First, calibrated
from torch import Tensor, nn
from torch.export import Dim

import torch_tensorrt

sys.path.append(str(Path(__file__).parents[1] / "examples"))

PRECISIONS = ("float32", "bfloat16", "int8")
BATCHES, TOKENS = (1, 2, 4, 8, 16, 32, 64), (32, 64, 128, 256, 512, 1024)
LENGTH, LARGEST_BATCH, LONGEST = 128, 64, 1024


@dataclass(frozen=True)
class Network:
    """`make(tiny)` builds it, `sample(tiny, batch, length)` its inputs; `dims` names the sizes that vary in dynamic rows.

    longest: the most tokens that it takes. convolutional: a quantizer is told so.
    """

    make: Callable[[bool], nn.Module]
    sample: Callable[[bool, int, int], tuple[Tensor, ...]]
    dims: tuple[str, ...] = ("batch",)
    longest: int = LONGEST
    convolutional: bool = False


@dataclass(frozen=True)
class Case:
    """A row. grows: "" in the table of models; "batch" or "tokens" where it is a point of a plot."""

    model: str
    precision: str = "float32"
    batch: int = 1
    dynamic: bool = False
    length: int = LENGTH
    grows: str = ""

    @property
    def name(self) -> str:
        """What `--rows` chooses by: "ResNet-50 x8 bfloat16 dynamic", "BERT-base x1 float32 tokens=256"."""
        shown = [self.model, f"x{self.batch}", self.precision, *["dynamic"] * self.dynamic]
        return " ".join(shown + ([f"{self.grows}={self.size}"] if self.grows else []))

    @property
    def size(self) -> int:
        """Where on the axis of its plot."""
        return self.length if self.grows == "tokens" else self.batch

    @property
    def network(self) -> Network:
        """Its entry in NETWORKS."""
        return NETWORKS[self.model]

    def inputs(self, tiny: bool, seed: int = 0, more: int = 0) -> tuple[Tensor, ...]:
        """Float32 or int64; the same for the same seed. more: so many more of each size that varies."""
        length = self.length if not tiny else 16
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            longer = more if "tokens" in self.network.dims and self.dynamic else 0
            return self.network.sample(tiny, self.batch + more, min(length + longer, self.network.longest))

    def module(self, tiny: bool) -> nn.Module:
        """The network in float32, always with the same weights."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return self.network.make(tiny).eval().requires_grad_(False)

    def ranges(self, inputs: tuple[Tensor, ...]) -> list[torch_tensorrt.Input]:
        """What our compiler is told of these inputs where sizes vary."""
        most = {"batch": LARGEST_BATCH, "tokens": self.network.longest}
        names, told = self.network.dims, []
        for tensor in inputs:
            fixed = tuple(tensor.shape[len(names) :])
            told.append(
                torch_tensorrt.Input(
                    min_shape=(*(1 for _ in names), *fixed),
                    opt_shape=tuple(tensor.shape),
                    max_shape=(*(most[name] for name in names), *fixed),
                    dtype=tensor.dtype,
                    shared_dims=dict(enumerate(names)),
                    torch_tensor=tensor,
                )
            )
        return told

    def dynamic_shapes(self, inputs: tuple[Tensor, ...]) -> list[dict[int, Dim]]:
        """The same for torch.export."""
        most = {"batch": LARGEST_BATCH, "tokens": self.network.longest}
        dims = {axis: Dim(name, min=1, max=most[name]) for axis, name in enumerate(self.network.dims)}
        return [dims for _ in inputs]


def image(tiny: bool, batch: int, length: int) -> tuple[Tensor, ...]:
    """(batch, 3, 224, 224)."""
    side = 64 if tiny else 224
    return (torch.randn(batch, 3, side, side),)


def tokens(tiny: bool, batch: int, length: int) -> tuple[Tensor, ...]:
    """Token ids (batch, length)."""
    return (torch.randint(3, 1000, (batch, length)),)


def masked_tokens(tiny: bool, batch: int, length: int) -> tuple[Tensor, ...]:
    """Token ids and their mask, (batch, length); the texts have different lengths, the first is the longest."""
    lengths = torch.randint(length // 2, length + 1, (batch, 1))
    lengths[0] = length
    mask = (torch.arange(length)[None] < lengths).long()
    return torch.randint(3, 1000, (batch, length)), mask


def _few(tiny: bool, **sizes: object) -> dict[str, object]:
    return sizes if tiny else {}


def _resnet(tiny: bool) -> nn.Module:
    config = hf.ResNetConfig(num_labels=1000, **_few(tiny, depths=[1, 1, 1, 1]))
    return calibrated(First(hf.ResNetForImageClassification(config)))


def _mobilenet(tiny: bool) -> nn.Module:
    return calibrated(First(hf.MobileNetV2ForImageClassification(hf.MobileNetV2Config(num_labels=1000))))


def _efficientnet(tiny: bool) -> nn.Module:
    from efficientnet_lite0 import load_efficientnet

    return load_efficientnet()


def _vit(tiny: bool) -> nn.Module:
    config = hf.ViTConfig(num_labels=1000, **_few(tiny, num_hidden_layers=2, image_size=64))
    return First(hf.ViTForImageClassification(config))


def _bert(tiny: bool) -> nn.Module:
    return First(hf.BertModel(hf.BertConfig(max_position_embeddings=LONGEST, **_few(tiny, num_hidden_layers=2))))


def _minilm(tiny: bool) -> nn.Module:
    from sentence_encoder import load_encoder

    return load_encoder()


def _minilm_long(tiny: bool) -> nn.Module:
    sizes = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}
    return First(hf.BertModel(hf.BertConfig(max_position_embeddings=LONGEST, **sizes), add_pooling_layer=False))


def _gpt2(tiny: bool) -> nn.Module:
    config = hf.GPT2Config(**_few(tiny, n_layer=2))
    return First(hf.GPT2LMHeadModel(config), use_cache=False)


def _mlp(tiny: bool) -> nn.Module:
    return nn.Sequential(
        nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10)
    )  # eager takes some tens of microseconds: what is measured is the call


TEXT = ("batch", "tokens")
NETWORKS: Mapping[str, Network] = {
    "MLP": Network(_mlp, lambda tiny, batch, length: (torch.randn(batch, 64),)),
    "MobileNetV2": Network(_mobilenet, image, convolutional=True),
    "EfficientNet-Lite0": Network(_efficientnet, image, convolutional=True),
    "MiniLM": Network(_minilm, masked_tokens, TEXT, 512),
    "ResNet-50": Network(_resnet, image, convolutional=True),
    "GPT-2": Network(_gpt2, tokens, TEXT),
    "BERT-base": Network(_bert, masked_tokens, TEXT),
    "ViT-B/16": Network(_vit, image),
    "MiniLM's sizes": Network(_minilm_long, masked_tokens, TEXT),
}
MODELS = tuple(name for name in NETWORKS if name != "MiniLM's sizes")


def rows() -> dict[str, Case]:
    """Name -> row: what users most often run first, so that a run that is cut short has it; the points of the plots last."""
    table = [
        Case(model, precision, batch, dynamic)
        for dynamic in (False, True)
        for batch in (1, 8)
        for precision in PRECISIONS
        for model in MODELS
    ]
    growing = [Case(model, batch=batch, grows="batch") for model in ("MobileNetV2", "ResNet-50") for batch in BATCHES]
    growing += [
        Case(model, length=length, grows="tokens") for model in ("MiniLM's sizes", "BERT-base") for length in TOKENS
    ]
    return {case.name: case for case in (*table, *growing)}


CASES = rows()
