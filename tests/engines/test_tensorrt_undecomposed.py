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
from suite.case import f32, i64, pos
from suite.flows import tensorrt as flow
from suite.programs import make_partition

from torch_tensorrt import engines
from torch_tensorrt.engines.tensorrt.converters import converts
from torch_tensorrt.spec.errors import InternalError
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
    (aten.layer_norm.default, lambda x, w: aten.layer_norm.default(x, [4], w, None), [f32(2, 3, 4), f32(4)]),
    (aten.group_norm.default, lambda x, w: aten.group_norm.default(x, 2, w), [f32(2, 4, 3), f32(4)]),
    (aten.group_norm.default, lambda x: aten.group_norm.default(x, 2), [f32(2, 4)]),
    (
        aten.instance_norm.default,
        lambda x, w: aten.instance_norm.default(x, w, None, None, None, True, 0.1, 1e-5, False),
        [f32(2, 4, 3), f32(4)],
    ),
    (
        aten.instance_norm.default,
        lambda x, m, v: aten.instance_norm.default(x, None, None, m, v, False, 0.1, 1e-5, False),
        [f32(2, 4, 3), f32(4), pos(4)],
    ),
    (aten.rms_norm.default, lambda x, w: aten.rms_norm.default(x, [4], w, 0.1), [f32(2, 3, 4), f32(4)]),
    (aten._fused_rms_norm.default, lambda x: aten._fused_rms_norm.default(x, [3, 4], None, None)[1], [f32(2, 3, 4)]),
    (aten.split.Tensor, lambda x: aten.split.Tensor(x, 2, 1)[2] + 1, [f32(3, 5)]),
    (aten.addr.default, lambda s, x, y: aten.addr.default(s, x, y, alpha=2), [f32(4), f32(3), f32(4)]),
    (aten._addmm_activation.default, aten._addmm_activation.default, [f32(5), f32(3, 4), f32(4, 5)]),
    (
        aten._addmm_activation.default,
        lambda s, x, y: aten._addmm_activation.default(s, x, y, use_gelu=True),
        [f32(5), f32(3, 4), f32(4, 5)],
    ),
    (
        aten.embedding_bag.default,
        lambda w, i, o: aten.embedding_bag.default(w, i, o, False, 1)[0],
        [f32(7, 3), i64(5, low=0, high=7), torch.tensor([0, 2])],
    ),
    (
        aten.embedding_bag.padding_idx,
        lambda w, i, o: aten.embedding_bag.padding_idx(w, i, o, False, 0, False, None, False, -7)[0],
        [f32(7, 3), torch.tensor([0, 3, 0, 6, 0]), torch.tensor([0, 2])],
    ),
    (prims.sum.default, lambda x: prims.sum.default(x, [0, 2]), [f32(2, 3, 4)]),
    (aten.max_pool1d.default, lambda x: aten.max_pool1d.default(x, 3, 2, 1), [f32(2, 3, 9)]),
    (aten.max_pool2d.default, lambda x: aten.max_pool2d.default(x, 3, 2, 1, 1, True), [f32(2, 3, 8, 9)]),
    (aten.max_pool3d.default, lambda x: aten.max_pool3d.default(x, 2), [f32(2, 3, 4, 5, 6)]),
    (aten.avg_pool1d.default, lambda x: aten.avg_pool1d.default(x, 3, 2, 1, True), [f32(2, 3, 10)]),
    (aten.adaptive_avg_pool1d.default, lambda x: aten.adaptive_avg_pool1d.default(x, 4), [f32(2, 3, 9)]),
    (aten.adaptive_avg_pool2d.default, lambda x: aten.adaptive_avg_pool2d.default(x, [2, 5]), [f32(2, 3, 8, 9)]),
    (aten.adaptive_avg_pool3d.default, lambda x: aten.adaptive_avg_pool3d.default(x, [1, 2, 3]), [f32(3, 4, 5, 6)]),
    (aten.adaptive_max_pool1d.default, lambda x: aten.adaptive_max_pool1d.default(x, 4)[0], [f32(2, 3, 9)]),
    (
        aten.grid_sampler.default,
        lambda x, grid: aten.grid_sampler.default(x, grid, 0, 1, True),
        [f32(2, 3, 4, 5), f32(2, 6, 7, 2)],
    ),
)


# torch.export leaves these whole, and every decomposition takes them apart.
EXPORTED: Sequence[tuple[object, Callable[..., Tensor], Sequence[Tensor]]] = (
    (
        aten.batch_norm.default,
        lambda x, m, v: aten.batch_norm.default(x, None, m, m, v, False, 0.1, 1e-5, False),
        [f32(2, 4, 3), f32(4), pos(4)],
    ),
    (
        aten.batch_norm.default,
        lambda x: aten.batch_norm.default(x, None, None, None, None, True, 0.1, 1e-5, False),
        [f32(2, 4, 3)],
    ),
    (
        aten.native_batch_norm.default,
        lambda x, m, v: aten.native_batch_norm.default(x, m, None, m, v, False, 0.1, 1e-5)[0],
        [f32(2, 4, 3), f32(4), pos(4)],
    ),
    (
        aten.native_batch_norm.default,
        lambda x: aten.native_batch_norm.default(x, None, None, None, None, True, 0.1, 1e-5)[2],
        [f32(2, 4, 3)],
    ),
    (aten.dropout.default, lambda x: aten.dropout.default(x, 0.5, False) + 1, [f32(3)]),
    (aten.alpha_dropout.default, lambda x: aten.alpha_dropout.default(x, 0.5, False) + 1, [f32(3)]),
    (aten.split.sizes, lambda x: aten.split.sizes(x, [1, 4], -1)[1] + 1, [f32(3, 5)]),
)


def _is_operator(key: object) -> bool:
    """Not the name of an operator whose package need not be installed."""
    return isinstance(key, torch._ops.OpOverload)


@pytest.mark.parametrize(("operator", "function", "inputs"), ROWS, ids=[str(row[0]) for row in ROWS])
def test_an_operator_is_converted_as_it_is(
    operator: object, function: Callable[..., Tensor], inputs: Sequence[Tensor]
) -> None:
    backend = engines.backend(flow.BACKEND)
    with patch.object(
        type(backend), "keep_whole", lambda self, settings: frozenset(filter(_is_operator, converts.operators()))
    ):
        partition = make_partition(function, inputs, backend, None, SETTINGS)
    assert operator in {node.target for node in partition.module.graph.nodes}
    (given,) = flow.build(partition, SETTINGS).run(inputs)
    assert not disagreement(given, function(*inputs), 1e-5)


@pytest.mark.parametrize(("operator", "function", "inputs"), EXPORTED, ids=[str(row[0]) for row in EXPORTED])
def test_an_operator_is_converted_as_torch_export_leaves_it(
    operator: object, function: Callable[..., Tensor], inputs: Sequence[Tensor]
) -> None:
    with patch.object(torch.export.ExportedProgram, "run_decompositions", lambda self, table: self):
        partition = make_partition(function, inputs, engines.backend(flow.BACKEND), None, SETTINGS)
    assert operator in {node.target for node in partition.module.graph.nodes}
    (given,) = flow.build(partition, SETTINGS).run(inputs)
    assert not disagreement(given, function(*inputs), 1e-5)


def _encoder_layer(norm_first: bool, use_gelu: bool) -> Callable[..., Tensor]:
    def function(x: Tensor, *weights: Tensor) -> Tensor:
        norms = (weights[4], weights[5], weights[4], weights[5])
        feed = (weights[6], weights[7], weights[8], weights[5])
        mask = torch.arange(5).expand(2, 5) > 3
        return aten._transformer_encoder_layer_fwd(
            x, 8, 2, *weights[:4], use_gelu, norm_first, 1e-5, *norms, *feed, mask, 1
        )

    return function


@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("use_gelu", [True, False])
def test_an_encoder_layer_is_converted_as_it_is(norm_first: bool, use_gelu: bool) -> None:
    shapes = ((24, 8), (24,), (8, 8), (8,), (8,), (8,), (16, 8), (16,), (8, 16))
    inputs = [f32(2, 5, 8), *(f32(*shape) for shape in shapes)]
    partition = make_partition(
        _encoder_layer(norm_first, use_gelu), inputs, engines.backend(flow.BACKEND), None, SETTINGS
    )
    assert aten._transformer_encoder_layer_fwd.default in {node.target for node in partition.module.graph.nodes}
    (given,) = flow.build(partition, SETTINGS).run(inputs)
    with torch.no_grad():
        wanted = _encoder_layer(norm_first, use_gelu)(*inputs)
    assert not disagreement(given, wanted, 1e-5)


def test_an_operator_of_a_package_that_is_not_installed_is_converted_by_name() -> None:
    schema = "(Tensor input, Tensor amax, int num_bits, int exponent_bits, bool unsigned, bool narrow_range) -> Tensor"
    library = torch.library.Library("tensorrt", "FRAGMENT")
    library.define(f"quantize_op{schema}")
    try:
        library.impl("quantize_op", _fake_int8, "CompositeExplicitAutograd")
        inputs = [f32(3, 4), torch.tensor([[1.0], [2.0], [0.5]])]
        call = torch.ops.tensorrt.quantize_op
        partition = make_partition(
            lambda x, a: call(x.clamp(-a, a), a, 8, 0, False, True),
            inputs,
            engines.backend(flow.BACKEND),
            None,
            SETTINGS,
        )
        (given,) = flow.build(partition, SETTINGS).run(inputs)
        assert not disagreement(
            given, _fake_int8(inputs[0].clamp(-inputs[1], inputs[1]), inputs[1], 8, 0, False, True), 1e-5
        )
    finally:
        library._destroy()


def _fake_int8(x: Tensor, amax: Tensor, bits: int, exponent: int, unsigned: bool, narrow: bool) -> Tensor:
    scale = 127 / amax
    return (x * scale).round().clamp(-127, 127) / scale


def test_an_operator_that_no_engine_can_have_is_refused_with_its_reason() -> None:
    partition = make_partition(lambda x: x + torch.randn(3), [f32(3)], engines.backend(flow.BACKEND), None, SETTINGS)
    (node,) = [node for node in partition.module.graph.nodes if node.target is aten.randn.default]
    support = engines.backend(flow.BACKEND).supports(node, SETTINGS)
    assert not support
    assert support.reason == converts.refused()["aten.randn.default"]
    assert "generator" in support.reason


def test_an_operator_is_converted_or_refused_by_name_but_not_both() -> None:
    assert not {str(operator) for operator in converts.operators()} & set(converts.refused())
    with pytest.raises(InternalError, match=r"aten\.add\.Tensor"):
        converts.refuse("twice", "aten.add.Tensor")
