"""Operators that no engine can have, or that no graph of ours holds, with the reason; it is found when a graph is planned."""

from __future__ import annotations

from torch_tensorrt.engines.tensorrt.converters.registry import converts

_RANDOM = "it draws from PyTorch's generator (torch.manual_seed), whose numbers an engine can't give"
_WRITES = "it writes into a tensor of its caller's, and an engine only gives new ones"
_COLLECTIVE = "it needs several processes that run at once, and an engine here is of one"
_ELSEWHERE = "it is a Python function of another compiler's lowering, not an operator; a graph here does not hold it"

converts.refuse(
    _RANDOM,
    "aten.bernoulli.default",
    "aten.bernoulli.p",
    "aten.multinomial.default",
    "aten.normal_functional.default",
    "aten.rand.default",
    "aten.rand_like.default",
    "aten.randint.default",
    "aten.randint.low",
    "aten.randint_like.default",
    "aten.randint_like.low_dtype",
    "aten.randn.default",
    "aten.randn_like.default",
    "aten.randperm.default",
    "aten.uniform.default",
)
converts.refuse(_WRITES, "aten.atan2.out", "aten.resize_.default")
converts.refuse(
    _COLLECTIVE,
    "_c10d_functional.all_gather_into_tensor.default",
    "_c10d_functional.all_reduce.default",
    "_c10d_functional.all_to_all_single.default",
    "_c10d_functional.broadcast.default",
    "_c10d_functional.reduce_scatter_tensor.default",
    "_c10d_functional.wait_tensor.default",
    "tensorrt_fused_nccl_all_gather_op",
    "tensorrt_fused_nccl_all_reduce_op",
    "tensorrt_fused_nccl_all_to_all_op",
    "tensorrt_fused_nccl_gather_op",
    "tensorrt_fused_nccl_reduce_scatter_op",
    "tensorrt_fused_nccl_scatter_op",
)
# Its parts are: constant_pad_nd and convolution.
converts.refuse(_ELSEWHERE, "tensorrt_conv_asym_pad_op")
converts.refuse(
    "it quantizes blocks to 4 bits by scales that a run computes, and there is no converter for its three layers",
    "tensorrt.dynamic_block_quantize_op.default",
)
