"""PyTorch's operators for quantized numbers: they are registered by a module that takes a fifth of a second to import."""

from __future__ import annotations

import importlib

NAMESPACE = "quantized_decomposed"


def register_quantized_operators() -> None:
    """Makes torch.ops.quantized_decomposed known, for a program that holds such operators."""
    importlib.import_module("torch.ao.quantization.fx._decomposed")
