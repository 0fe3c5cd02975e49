"""Which operators go to OpenVINO: those that its frontend has a rule for, in the forms that tests/suite found right."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias

import torch
from torch import fx
from torch._ops import OpOverload

from torch_tensorrt.engines.openvino import checks, quantized
from torch_tensorrt.graphs.quantized import kind_of

Check: TypeAlias = "Callable[[fx.Node], str]"  # why this node can't go to OpenVINO, or ""

# Overloads of torch.ops.aten under the check that their arguments must pass.
_ROWS: Mapping[Check, str] = {
    checks.moves: """
        alias.default alias_copy.default clone.default constant_pad_nd.default detach.default embedding.default
        full.default full_like.default lift_fresh_copy.default masked_fill.Scalar masked_fill.Tensor
        new_full.default new_ones.default new_zeros.default ones.default ones_like.default permute.default
        permute_copy.default repeat.default scalar_tensor.default select_copy.int select_scatter.default
        slice_copy.Tensor slice_scatter.default split.Tensor split_with_sizes.default
        split_with_sizes_copy.default squeeze.dim squeeze.dims squeeze_copy.dims stack.default t.default
        _to_copy.default transpose.int tril.default triu.default unfold.default _unsafe_view.default
        unsqueeze.default unsqueeze_copy.default view.default view_copy.default where.self zeros.default
        zeros_like.default
    """,
    checks.computes: """
        abs.default acos.default acosh.default add.Scalar add.Tensor addcmul.default asin.default asinh.default
        atan.default atanh.default bmm.default ceil.default celu.default col2im.default cos.default cosh.default
        div.Scalar div.Tensor div.Tensor_mode dot.default elu.default erf.default erfc.default exp.default
        expm1.default floor.default fmod.Scalar fmod.Tensor gelu.default glu.default grid_sampler_2d.default
        hardsigmoid.default hardswish.default hardtanh.default index_add.default leaky_relu.default
        linear.default log.default log10.default log1p.default log2.default log_sigmoid_forward.default
        _log_softmax.default logaddexp.default logsumexp.default mean.default mean.dim mish.default mm.default
        mul.Scalar mul.Tensor neg.default pixel_shuffle.default pixel_unshuffle.default prod.default
        prod.dim_int reciprocal.default reflection_pad1d.default reflection_pad2d.default
        reflection_pad3d.default relu.default remainder.Scalar remainder.Tensor repeat_interleave.self_int
        rms_norm.default round.default rsqrt.default rsub.Scalar rsub.Tensor _safe_softmax.default
        scatter_add.default sigmoid.default silu.default sin.default sinh.default _softmax.default sqrt.default
        sub.Scalar sub.Tensor sum.default sum.dim_IntList tan.default tanh.default
    """,
    checks.blends: """
        upsample_bicubic2d.vec upsample_bilinear2d.default upsample_bilinear2d.vec upsample_linear1d.vec
        upsample_trilinear3d.vec
    """,
    checks.picks_nearest: """
        upsample_nearest1d.vec upsample_nearest2d.default upsample_nearest2d.vec upsample_nearest3d.vec
    """,
    checks.expands: """
        expand.default expand_copy.default
    """,
    checks.not_bool: """
        max.default maximum.default min.default minimum.default sign.default
    """,
    checks.clamps: """
        clamp.Tensor clamp.default clamp_max.Tensor clamp_max.default clamp_min.Tensor clamp_min.default
    """,
    checks.first_is_float: """
        adaptive_max_pool1d.default adaptive_max_pool2d.default adaptive_max_pool3d.default atan2.default
        isfinite.default isinf.default isnan.default max_pool2d_with_indices.default
        max_pool3d_with_indices.default
    """,
    checks.powers: """
        pow.Scalar pow.Tensor_Scalar pow.Tensor_Tensor
    """,
    checks.averages: """
        avg_pool2d.default avg_pool3d.default
    """,
    checks.normalizes: """
        _native_batch_norm_legit.no_stats _native_batch_norm_legit_no_training.default native_group_norm.default
        native_layer_norm.default
    """,
    checks.attends: """
        scaled_dot_product_attention.default
    """,
    checks.counts: """
        arange.default arange.start arange.start_step
    """,
    checks.computes_floats: """
        _adaptive_avg_pool2d.default _adaptive_avg_pool3d.default convolution.default
    """,
    checks.compares: """
        all.default any.default any.dim any.dims bitwise_and.Scalar bitwise_and.Tensor bitwise_not.default
        bitwise_or.Tensor bitwise_xor.Tensor eq.Scalar eq.Tensor ge.Scalar ge.Tensor gt.Scalar gt.Tensor
        le.Scalar le.Tensor logical_and.default logical_not.default logical_or.default logical_xor.default
        lt.Scalar lt.Tensor ne.Scalar ne.Tensor
    """,
    checks.varies: """
        std.correction var.correction var_mean.correction
    """,
    checks.measures: """
        linalg_vector_norm.default
    """,
    checks.adds_product: """
        addmm.default baddbmm.default
    """,
    checks.gathers: """
        gather.default
    """,
    checks.indexes: """
        index.Tensor
    """,
    checks.puts: """
        index_put.default
    """,
    checks.picks: """
        cat.default flip.default index_select.default roll.default scatter.src scatter.value select.int
        slice.Tensor unbind.int
    """,
    checks.orders: """
        amax.default amin.default argmax.default argmin.default max.dim min.dim sort.default sort.stable
        topk.default
    """,
    checks.reduces: """
        cumsum.default
    """,
}

_KEPT_WHOLE = """
    linear.default scaled_dot_product_attention.default gelu.default silu.default hardswish.default
    hardsigmoid.default mish.default rms_norm.default pixel_shuffle.default pixel_unshuffle.default
    upsample_bicubic2d.vec upsample_bilinear2d.vec upsample_linear1d.vec upsample_nearest1d.vec
    upsample_nearest2d.vec upsample_nearest3d.vec upsample_trilinear3d.vec
"""
_DATA_DEPENDENT = "nonzero.default _local_scalar_dense.default masked_select.default unique_consecutive.default"


def _overloads(names: str) -> Iterator[OpOverload]:
    for name in names.split():
        packet, _, overload = name.partition(".")
        found = getattr(getattr(torch.ops.aten, packet, None), overload, None)
        if found is not None:  # another PyTorch version may lack an overload
            yield found


_TABLE: Mapping[OpOverload, Check] = {
    overload: check for check, names in _ROWS.items() for overload in _overloads(names)
}
KEPT_WHOLE: frozenset[OpOverload] = frozenset(_overloads(_KEPT_WHOLE))
_SIZES_FROM_DATA = frozenset(_overloads(_DATA_DEPENDENT))


def refusal(node: fx.Node) -> str:
    """Why `node` can't go to OpenVINO, or "" when it can."""
    operator = node.target
    if not isinstance(operator, OpOverload):
        return f"{operator} is not an operator with a schema"
    if operator._schema.is_mutable:
        return f"{operator} writes to one of its arguments"
    if operator in _SIZES_FROM_DATA:
        return f"the result of {operator} depends on the data in its size, or is a number"
    if torch.Tag.nondeterministic_seeded in operator.tags and operator not in _TABLE:
        return f"{operator} is random, and OpenVINO's random numbers are not PyTorch's"
    if number := checks.unknown_number(node):
        return f"it needs {number.name!r}, a number made of sizes by {number.target}, for which OpenVINO's frontend has no rule"
    if kind_of(node):
        return quantized.refusal(node)
    if operator not in _TABLE:
        return f"OpenVINO's PyTorch frontend has no tested rule for {operator}"
    return _TABLE[operator](node)
