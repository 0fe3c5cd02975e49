"""Whole transformers as one TensorRT-RTX engine each: defined, run by the reference interpreter, built for sm_89."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

pytest.importorskip("tensorrt_rtx")

from interpret.interpreter import Interpreter
from zoo.models import ROWS, Row

import torch_tensorrt
from torch_tensorrt.contracts.partition import Partition
from torch_tensorrt.engines.tensorrt import backend
from torch_tensorrt.engines.tensorrt.build import Definition, define
from torch_tensorrt.engines.tensorrt.sdk import Sdk
from torch_tensorrt.spec.settings import CompilationSettings
from torch_tensorrt.tools.coverage import dynamic_inputs

NAMES = [
    "vit",
    "swin",
    "bert",
    "gpt2",
    "llama",
    "t5_encoder",
    "whisper_encoder",
    "clip_vision",
    "wav2vec2",
    "minilm (real weights)",
]
MODELS = [row for row in ROWS if row.name in NAMES]
TOLERANCES = {torch.float32: 1e-4, torch.float16: 1e-2}


def _tensors(value: object) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
@pytest.mark.parametrize("row", MODELS, ids=lambda row: row.name)
def test_a_transformer_is_one_engine_that_agrees_with_pytorch(
    row: Row, dynamic: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Definition] = []

    def define_and_keep(sdk: Sdk, partition: Partition, settings: CompilationSettings) -> Definition:
        made.append(define(sdk, partition, settings))
        return made[-1]

    monkeypatch.setattr(backend, "define", define_and_keep)
    torch.manual_seed(0)
    model = row.build()
    args, kwargs = dynamic_inputs(row.sample) if dynamic else row.sample(2)
    torch_tensorrt.compile(
        model,
        arg_inputs=args,
        kwarg_inputs=kwargs,
        engine="tensorrt_rtx",
        device="sm_89",
        require_full_compilation=True,
        enabled_precisions={dtype},
    )
    assert len(made) == 1
    for batch in (2, 3) if dynamic else (2,):
        args, kwargs = row.sample(batch)
        with torch.no_grad():
            wanted = _tensors(model(*args, **kwargs))
        given = Interpreter(made[0].net.network).run_all(*_tensors((args, kwargs)))
        assert [tensor.dtype for tensor in given] == [tensor.dtype for tensor in wanted]
        errors = [float((a - b).norm() / b.norm()) for a, b in zip(given, wanted, strict=True)]
        assert max(errors) <= TOLERANCES[dtype], errors
