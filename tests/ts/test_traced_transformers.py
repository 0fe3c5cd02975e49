"""Ten architectures of `transformers`, traced with torch.jit.trace: the same accuracy as through dynamo, in sizes that vary."""

from __future__ import annotations

import importlib.util

import pytest
import torch
from torch import Tensor, nn

import torch_tensorrt
from torch_tensorrt import Input, ts

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("transformers") is None, reason="transformers isn't installed"),
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
]
TEXT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64, "vocab_size": 100}
IMAGE = {**{name: TEXT[name] for name in list(TEXT)[:4]}, "image_size": 32, "patch_size": 8}
ARCHITECTURES: dict[str, dict[str, object]] = {
    "Bert": TEXT,
    "DistilBert": {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64, "vocab_size": 100},
    "Roberta": {**TEXT, "pad_token_id": 1},
    "Albert": {**TEXT, "embedding_size": 16},
    "Electra": {**TEXT, "embedding_size": 16},
    "GPT2": {"n_embd": 32, "n_layer": 2, "n_head": 2, "vocab_size": 100, "use_cache": False},
    "MobileBert": {**TEXT, "embedding_size": 16, "intra_bottleneck_size": 32},
    "ViT": IMAGE,
    "DeiT": IMAGE,
    "ConvNext": {"hidden_sizes": [8, 16, 16, 16], "depths": [1, 1, 1, 1], "image_size": 32},
}
FAST = {"Bert", "ViT"}


class First(nn.Module):
    """torch.jit.trace takes tensors only."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, given: Tensor) -> Tensor:
        return self.model(given, return_dict=False)[0]


def made(name: str) -> tuple[nn.Module, list[Tensor], Input]:
    """A model with random weights, examples in the sizes that it is to take (the typical first), and these sizes."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    attention = "eager" if name == "ConvNext" else "sdpa"
    config = getattr(transformers, f"{name}Config")(**ARCHITECTURES[name], attn_implementation=attention)
    model = First(getattr(transformers, f"{name}Model")(config)).eval()
    if name in {"ViT", "DeiT", "ConvNext"}:
        sizes = [(batch, 3, 32, 32) for batch in (2, 1, 4)]
        return (
            model,
            [torch.randn(size) for size in sizes],
            Input(min_shape=sizes[1], opt_shape=sizes[0], max_shape=sizes[2]),
        )
    texts = [torch.randint(2, 100, size) for size in ((2, 16), (1, 4), (3, 9), (4, 32))]
    return model, texts, Input(min_shape=(1, 4), opt_shape=(2, 16), max_shape=(4, 32), dtype=torch.int64)


@pytest.mark.parametrize(
    "name", [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in ARCHITECTURES]
)
@torch.no_grad()
def test_a_traced_architecture_is_as_accurate_as_through_dynamo_in_all_its_sizes(name: str) -> None:
    model, examples, sizes = made(name)
    traced = torch.jit.trace(model, examples[0], strict=False)
    compiled = ts.compile(traced, [sizes], engine="openvino", min_block_size=1)
    assert "tensorrt" in str(compiled.graph)
    through_dynamo = torch_tensorrt.compile(model, inputs=[examples[0]], engine="openvino", min_block_size=1)
    accuracy = float((through_dynamo(examples[0]) - model(examples[0])).abs().max())
    for given in examples:
        wanted = model(given)
        torch.testing.assert_close(compiled(given), wanted, rtol=0, atol=2 * accuracy + 1e-6)
        assert wanted.abs().max() > 1e-3  # a difference would show
