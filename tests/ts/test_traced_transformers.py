"""Ten architectures of `transformers`, traced with torch.jit.trace: the same numbers as the model, as through dynamo."""

from __future__ import annotations

import importlib.util

import pytest
import torch
from torch import Tensor, nn

from torch_tensorrt import ts

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


@pytest.mark.parametrize(
    "name", [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in ARCHITECTURES]
)
def test_a_traced_architecture_gives_the_models_numbers(name: str) -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**ARCHITECTURES[name], attn_implementation="eager")
    model = First(getattr(transformers, f"{name}Model")(config)).eval()
    images = name in {"ViT", "DeiT", "ConvNext"}
    given = torch.randn(2, 3, 32, 32) if images else torch.randint(2, 100, (2, 16))
    with torch.no_grad():
        traced = torch.jit.trace(model, given, strict=False)
        compiled = ts.compile(traced, [given], engine="openvino", min_block_size=1)
        torch.testing.assert_close(compiled(given), model(given), rtol=1e-3, atol=1e-4)
    assert "tensorrt" in str(compiled.graph)
