"""Whole transformers, and an LSTM, as one TensorRT-RTX engine each: defined, run by the reference interpreter, built for sm_89."""

from __future__ import annotations

from collections.abc import Iterator
from unittest.mock import patch

import pytest
import torch
from torch import Tensor, fx
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


def _tensors(value: object) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]


class _Outer(fx.Interpreter):
    """The compiled graph, in which the reference interpreter stands for the engine."""

    def __init__(self, module: fx.GraphModule, network: object) -> None:
        super().__init__(module)
        self.engine = Interpreter(network)

    def call_function(self, target: object, args: tuple[object, ...], kwargs: dict[str, object]) -> object:
        if target is torch.ops.tensorrt.execute_engine.default:
            return self.engine.run_all(*args[0])  # type: ignore[misc]
        return super().call_function(target, args, kwargs)  # type: ignore[arg-type]


def errors(row: Row, dynamic: bool, dtype: torch.dtype) -> list[float]:
    """||interpreted - eager|| / ||eager|| of each output and batch size; the one engine is built by the SDK on the way."""
    made: list[Definition] = []

    def define_and_keep(sdk: Sdk, partition: Partition, settings: CompilationSettings) -> Definition:
        made.append(define(sdk, partition, settings))
        return made[-1]

    torch.manual_seed(0)
    model = row.build()
    args, kwargs = dynamic_inputs(row.sample) if dynamic else row.sample(2)
    with patch.object(backend, "define", define_and_keep):
        compiled = torch_tensorrt.compile(
            model,
            arg_inputs=args,
            kwarg_inputs=kwargs,
            engine="tensorrt_rtx",
            device="sm_89",
            require_full_compilation=True,
            enabled_precisions={dtype},
        )
    assert len(made) == 1
    found = []
    for batch in (2, 3) if dynamic else (2,):
        args, kwargs = row.sample(batch)
        with torch.no_grad():
            wanted = _tensors(model(*args, **kwargs))
        outer = _Outer(compiled, made[0].net.network)
        given = _tensors(outer.run(*_tensors((args, kwargs)), enable_io_processing=False))
        assert [tensor.dtype for tensor in given] == [tensor.dtype for tensor in wanted]
        found += [float((a - b).norm() / b.norm()) for a, b in zip(given, wanted, strict=True)]
    return found


@pytest.mark.parametrize(("row", "dynamic", "dtype"), _rows())
def test_a_network_is_one_engine_that_agrees_with_pytorch(row: Row, dynamic: bool, dtype: torch.dtype) -> None:
    assert max(errors(row, dynamic, dtype)) <= TOLERANCES[dtype]
