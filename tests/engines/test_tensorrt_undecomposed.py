"""Operators that lowering takes apart are converted as they are too, for graphs that come without it."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from unittest.mock import patch

import pytest
import torch
from torch import Tensor

if importlib.util.find_spec("tensorrt_rtx") is None:
    pytest.skip("tensorrt_rtx is not installed", allow_module_level=True)

from suite.agreement import disagreement
from suite.case import f32, i64
from suite.flows import tensorrt as flow
from suite.programs import make_partition

from torch_tensorrt import engines
from torch_tensorrt.engines.tensorrt.converters import converts
from torch_tensorrt.spec.settings import CompilationSettings

aten, prims = torch.ops.aten, torch.ops.prims
SETTINGS = CompilationSettings.from_options()
ROWS: Sequence[tuple[object, Callable[..., Tensor], Sequence[Tensor]]] = (
    (aten.sum.default, lambda x: x.sum(), [f32(3, 4)]),
    (aten.mean.default, lambda x: x.mean(), [f32(3, 4)]),
    (aten.max.default, lambda x: x.max(), [i64(3, 4)]),
    (aten.prod.default, lambda x: x.prod(), [f32(3, 4)]),
    (aten.all.default, lambda x: (x > -9).all(), [f32(3, 4)]),
    (aten.any.default, lambda x: (x > 9).any(), [f32(3, 4)]),
    (aten.argsort.default, lambda x: aten.argsort.default(x, 1), [f32(3, 4)]),
    (aten.clip.default, lambda x: aten.clip.default(x, -1, 0.5), [f32(3, 4)]),
    (aten.clip.Tensor, aten.clip.Tensor, [f32(3, 4), f32(4)]),
    (aten.clamp.Tensor, lambda x, high: aten.clamp.Tensor(x, None, high), [f32(3, 4), f32(3, 1)]),
    (aten.floor_divide.default, aten.floor_divide.default, [i64(3, 4), i64(4, low=1)]),
    (aten.floor_divide.Scalar, lambda x: aten.floor_divide.Scalar(x, -3), [i64(3, 4)]),
    (aten.remainder.Scalar_Tensor, lambda x: aten.remainder.Scalar_Tensor(7, x), [i64(4, low=1)]),
    (aten.bitwise_or.Scalar_Tensor, lambda x: aten.bitwise_or.Scalar_Tensor(False, x > 0), [f32(4)]),
    (aten.bitwise_left_shift.Tensor_Scalar, lambda x: aten.bitwise_left_shift.Tensor_Scalar(x, 3), [i64(4)]),
    (aten.bitwise_right_shift.Tensor_Scalar, lambda x: aten.bitwise_right_shift.Tensor_Scalar(x, 2), [i64(9)]),
    (aten.exp2.default, torch.exp2, [f32(4)]),
    (aten._prelu_kernel.default, lambda x, w: aten._prelu_kernel.default(x, w), [f32(2, 3), f32(1, 3)]),
    (aten.arange.default, lambda x: aten.arange.default(x.shape[0]) + x, [f32(4)]),
    (aten.arange.start, lambda x: aten.arange.start(-1, 3) + x, [f32(4)]),
    (aten.zeros.default, lambda x: aten.zeros.default([2, 3]) + x, [f32(3)]),
    (aten.ones.default, lambda x: aten.ones.default([2, 3]) + x, [f32(3)]),
    (aten.zeros_like.default, lambda x: aten.zeros_like.default(x) + 1, [f32(3)]),
    (aten.ones_like.default, lambda x: aten.ones_like.default(x) + x, [i64(3)]),
    (aten.new_zeros.default, lambda x: aten.new_zeros.default(x, [3]) + x, [f32(3)]),
    (aten.new_ones.default, lambda x: aten.new_ones.default(x, [2, 1]) + x, [f32(3)]),
    (aten.new_full.default, lambda x: aten.new_full.default(x, [2, 1], 0.5) + x, [f32(3)]),
    (aten.new_empty.default, lambda x: torch.where(x > -99, x, aten.new_empty.default(x, [3])), [f32(3)]),
    (aten.empty_like.default, lambda x: torch.where(x > -99, x, aten.empty_like.default(x)), [f32(3)]),
    (aten.empty.memory_format, lambda x: torch.where(x > -99, x, aten.empty.memory_format([2, 3])), [f32(3)]),
    (
        aten.empty_permuted.default,
        lambda x: torch.where(x > -99, x, aten.empty_permuted.default([2, 3], [1, 0])),
        [f32(3)],
    ),
    (aten.fill.Scalar, lambda x: aten.fill.Scalar(x, 2.5), [f32(3)]),
    (prims.div.default, prims.div.default, [i64(9), i64(9, low=1)]),
    (prims.sum.default, lambda x: prims.sum.default(x, [0, 2]), [f32(2, 3, 4)]),
)


@pytest.mark.parametrize(("operator", "function", "inputs"), ROWS, ids=[str(row[0]) for row in ROWS])
def test_an_operator_is_converted_as_it_is(
    operator: object, function: Callable[..., Tensor], inputs: Sequence[Tensor]
) -> None:
    backend = engines.backend(flow.BACKEND)
    with patch.object(type(backend), "keep_whole", lambda self, settings: frozenset(converts.operators())):
        partition = make_partition(function, inputs, backend, None, SETTINGS)
    assert operator in {node.target for node in partition.module.graph.nodes}
    (given,) = flow.build(partition, SETTINGS).run(inputs)
    assert not disagreement(given, function(*inputs), 1e-5)
