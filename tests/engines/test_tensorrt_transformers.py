"""Whole transformers, and an LSTM, as one TensorRT-RTX engine each: defined, run by the reference interpreter, built for sm_89."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

pytest.importorskip("tensorrt_rtx")

from zoo.models import ROWS, Row

from engines.whole_networks import errors

NAMES = [
    "vit",
    "swin",
    "bert",
    "gpt2",
    "llama",
    "t5_encoder",
    "whisper_encoder",
    "clip_vision",
    "segformer",
    "wav2vec2",
    "lstm_tagger",
    "minilm (real weights)",
]
MODELS = [row for row in ROWS if row.name in NAMES]
TOLERANCES = {torch.float32: 1e-4, torch.float16: 1e-2}


FAST = (("vit", False, torch.float32), ("llama", True, torch.float16), ("minilm (real weights)", True, torch.float32))


def _rows() -> Iterator[object]:
    for row in MODELS:
        for dynamic in (False, True):
            for dtype in TOLERANCES:
                marks = [] if (row.name, dynamic, dtype) in FAST else [pytest.mark.slow]
                name = f"{row.name}-{'dynamic' if dynamic else 'static'}-{dtype}"
                yield pytest.param(row, dynamic, dtype, id=name, marks=marks)


@pytest.mark.parametrize(("row", "dynamic", "dtype"), _rows())
def test_a_network_is_one_engine_that_agrees_with_pytorch(row: Row, dynamic: bool, dtype: torch.dtype) -> None:
    assert max(errors(row, dynamic, dtype)) <= TOLERANCES[dtype]
