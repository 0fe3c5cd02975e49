"""Twenty architectures with random weights, and two with real ones: how each is built, called and judged.

The networks are small (two to four layers) but hold every kind of layer of the real ones. `Row.build("full")` gives
the published size, for benchmarks. `python -m torch_tensorrt coverage --zoo tests/zoo/models.py` reads `ROWS`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import torch
import transformers as hf
from torch import Tensor, nn

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2] / "examples")]

from networks import LstmTagger, Mlp, UNet  # noqa: E402  (found by the line above)

CNN, TRANSFORMER = 1e-5, 1e-4  # how far ||compiled - eager|| / ||eager|| may go in float32

Arguments: TypeAlias = "tuple[tuple[Tensor, ...], dict[str, Tensor]]"
Sample: TypeAlias = Callable[[int], Arguments]  # batch size -> fresh random (args, kwargs)
Sizes: TypeAlias = "Mapping[str, object]"


@dataclass(frozen=True)
class Row:
    """One architecture.

    make: called with the sizes, returns the module. sample: random inputs of a batch size. tiny, full: sizes.
    tolerance: greatest relative error in float32. trained: the weights come with an installed package.
    """

    name: str
    family: str
    make: Callable[..., nn.Module]
    sample: Sample
    tolerance: float
    tiny: Sizes = field(default_factory=dict)
    full: Sizes = field(default_factory=dict)
    trained: bool = False

    def build(self, size: str = "tiny") -> nn.Module:
        """The module in eval mode; always the same weights. `size`: "tiny" or "full"."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = self.make(**(self.tiny if size == "tiny" else self.full)).eval().requires_grad_(requires_grad=False)
            if not self.trained:
                vary_weights(model)
        return model


def vary_weights(model: nn.Module) -> None:
    """Weights of unit gain, and norms that are not 0 and 1: the output follows the input, and a lost constant shows."""
    for module in model.modules():
        for name, weight in module.named_parameters(recurse=False):
            if weight.dim() > 1:
                outputs = weight.shape[-1 if type(module).__name__ == "Conv1D" else 0]
                scale = 1.0 if isinstance(module, nn.Embedding) else (outputs / weight.numel()) ** 0.5
                nn.init.normal_(weight, std=scale)
            elif name.startswith("bias"):
                nn.init.normal_(weight, std=0.1)
            else:
                nn.init.uniform_(weight, 0.5, 1.5)
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)


def _config(kind: str, model: str) -> Callable[..., nn.Module]:
    def make(**sizes: object) -> nn.Module:
        config = getattr(hf, kind)(**sizes)
        attention = {"attn_implementation": "sdpa"} if getattr(hf, model)._supports_sdpa else {}
        return getattr(hf, model)._from_config(config, **attention)

    return make


def pixels(side: int, channels: int = 3) -> Sample:
    """Images [batch, channels, side, side]."""
    return lambda batch: ((torch.randn(batch, channels, side, side),), {})


def tokens(length: int, words: int = 100) -> Sample:
    """Token ids [batch, length] as a positional argument."""
    return lambda batch: ((torch.randint(3, words, (batch, length)),), {})


def masked_tokens(length: int, words: int = 100) -> Sample:
    """Token ids and attention mask [batch, length] as keyword arguments; the sentences have different lengths."""

    def sample(batch: int) -> Arguments:
        lengths = torch.randint(length // 2, length + 1, (batch, 1))
        mask = (torch.arange(length)[None] < lengths).long()
        return (), {"input_ids": torch.randint(3, words, (batch, length)) * mask, "attention_mask": mask}

    return sample


def _features(*shape: int) -> Sample:
    return lambda batch: ((torch.randn(batch, *shape),), {})


def _noise_and_step(batch: int) -> Arguments:
    return (torch.randn(batch, 3, 16, 16), torch.rand(batch) * 50), {}


_TEXT: Sizes = {
    "vocab_size": 100,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "max_position_embeddings": 64,
    "use_cache": False,
}
_DECODER: Sizes = {**_TEXT, "num_key_value_heads": 2}
_VISION: Sizes = {
    "image_size": 32,
    "patch_size": 8,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
}
_STAGES: Sizes = {"depths": [1, 1, 1, 1], "hidden_sizes": [16, 32, 48, 64]}
_RESNET: Sizes = {"embedding_size": 16, "layer_type": "bottleneck", **_STAGES, "depths": [1, 2, 1, 1]}
_MOBILENET: Sizes = {"image_size": 64, "depth_multiplier": 0.35}
_SWIN: Sizes = {
    "image_size": 32,
    "patch_size": 2,
    "embed_dim": 16,
    "depths": [2, 2],
    "num_heads": [2, 4],
    "window_size": 4,
}
_DISTILBERT: Sizes = {
    "vocab_size": 100,
    "dim": 64,
    "n_layers": 2,
    "n_heads": 4,
    "hidden_dim": 128,
    "max_position_embeddings": 64,
}
_GPT2: Sizes = {"vocab_size": 100, "n_positions": 64, "n_embd": 64, "n_layer": 2, "n_head": 4, "use_cache": False}
_T5: Sizes = {
    "vocab_size": 100,
    "d_model": 64,
    "d_kv": 16,
    "d_ff": 128,
    "num_layers": 2,
    "num_heads": 4,
    "use_cache": False,
}
_WHISPER: Sizes = {
    "d_model": 64,
    "encoder_layers": 2,
    "encoder_attention_heads": 4,
    "encoder_ffn_dim": 128,
    "max_source_positions": 32,
}
_SEGFORMER: Sizes = {
    **_STAGES,
    "num_attention_heads": [1, 2, 3, 4],
    "decoder_hidden_size": 32,
    "num_labels": 5,
    "image_size": 64,
}
_WAV2VEC2: Sizes = {
    "vocab_size": 32,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "conv_dim": (32, 32, 32),
    "conv_stride": (5, 4, 2),
    "conv_kernel": (10, 8, 4),
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "apply_spec_augment": False,
}


def _whisper_encoder(**sizes: object) -> nn.Module:
    return hf.models.whisper.modeling_whisper.WhisperEncoder._from_config(
        hf.WhisperConfig(**sizes), attn_implementation="sdpa"
    )


def _detr(**sizes: object) -> nn.Module:
    backbone = hf.ResNetConfig(**{**_RESNET, **sizes}, out_features=["stage4"])
    layers = {"encoder_layers": 1, "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4}
    width = {"d_model": 32, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "num_queries": 10, "num_labels": 5}
    config = hf.DetrConfig(backbone_config=backbone, use_timm_backbone=False, backbone=None, **layers, **width)
    return hf.DetrForObjectDetection._from_config(config)


# The packages with weights are imported where they are needed: machines with a GPU have none of them.
def _efficientnet() -> nn.Module:
    from efficientnet_lite0 import load_efficientnet

    return load_efficientnet()


def _minilm() -> nn.Module:
    from sentence_encoder import load_encoder

    return load_encoder()


_NO_CACHE: Sizes = {"use_cache": False}
resnet = _config("ResNetConfig", "ResNetForImageClassification")
mobilenet = _config("MobileNetV2Config", "MobileNetV2ForImageClassification")
convnext = _config("ConvNextConfig", "ConvNextForImageClassification")
vit = _config("ViTConfig", "ViTForImageClassification")
swin = _config("SwinConfig", "SwinForImageClassification")
segformer = _config("SegformerConfig", "SegformerForSemanticSegmentation")
bert, roberta = _config("BertConfig", "BertModel"), _config("RobertaConfig", "RobertaModel")
distilbert, gpt2 = _config("DistilBertConfig", "DistilBertModel"), _config("GPT2Config", "GPT2LMHeadModel")
llama, qwen2 = _config("LlamaConfig", "LlamaForCausalLM"), _config("Qwen2Config", "Qwen2ForCausalLM")
t5, clip = _config("T5Config", "T5EncoderModel"), _config("CLIPVisionConfig", "CLIPVisionModel")
wav2vec2 = _config("Wav2Vec2Config", "Wav2Vec2ForCTC")

ROWS: tuple[Row, ...] = (
    Row("resnet", "cnn", resnet, pixels(64), CNN, _RESNET),
    Row("mobilenet_v2", "cnn", mobilenet, pixels(64), CNN, _MOBILENET),
    Row("convnext", "cnn", convnext, pixels(64), CNN, _STAGES),
    Row("unet", "cnn", UNet, _noise_and_step, CNN, full={"width": 64}),
    Row("vit", "transformer", vit, pixels(32), TRANSFORMER, _VISION),
    Row("swin", "transformer", swin, pixels(32), TRANSFORMER, _SWIN, {"image_size": 224}),
    Row("bert", "transformer", bert, masked_tokens(24), TRANSFORMER, _TEXT),
    Row("roberta", "transformer", roberta, masked_tokens(24), TRANSFORMER, _TEXT),
    Row("distilbert", "transformer", distilbert, masked_tokens(24), TRANSFORMER, _DISTILBERT),
    Row("gpt2", "transformer", gpt2, tokens(24), TRANSFORMER, _GPT2, _NO_CACHE),
    Row("llama", "transformer", llama, tokens(24), TRANSFORMER, _DECODER, _NO_CACHE),
    Row("qwen2", "transformer", qwen2, masked_tokens(24), TRANSFORMER, _DECODER, _NO_CACHE),
    Row("t5_encoder", "transformer", t5, masked_tokens(24), TRANSFORMER, _T5, _NO_CACHE),
    Row("whisper_encoder", "transformer", _whisper_encoder, _features(80, 64), TRANSFORMER, _WHISPER),
    Row("clip_vision", "transformer", clip, pixels(32), TRANSFORMER, _VISION),
    Row("segformer", "transformer", segformer, pixels(64), TRANSFORMER, _SEGFORMER),
    Row("detr", "transformer", _detr, pixels(64), TRANSFORMER),
    Row("wav2vec2", "transformer", wav2vec2, _features(2000), TRANSFORMER, _WAV2VEC2),
    Row("mlp", "mlp", Mlp, _features(64), CNN, full={"hidden": 1024}),
    Row("lstm_tagger", "rnn", LstmTagger, tokens(12), CNN, full={"hidden": 256}),
    Row("efficientnet_lite0 (ImageNet weights)", "cnn", _efficientnet, pixels(224), CNN, trained=True),
    Row("minilm (real weights)", "transformer", _minilm, masked_tokens(24, 2000), TRANSFORMER, trained=True),
)
