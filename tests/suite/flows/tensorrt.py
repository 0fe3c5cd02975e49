"""The suite with TensorRT-RTX, without a GPU: three checks of each row (see docs/verification.md).

The SDK's own inference of types and shapes agrees with PyTorch's metadata (`define` raises otherwise), the network read back
and run by tests/interpret agrees with PyTorch, and the SDK builds a plan of it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from interpret.interpreter import Interpreter
from torch import Tensor

from torch_tensorrt.contracts.partition import Partition
from torch_tensorrt.engines.tensorrt import sdk
from torch_tensorrt.engines.tensorrt.build import define, serialize
from torch_tensorrt.spec.settings import CompilationSettings
from torch_tensorrt.spec.tensor_spec import Dim, TensorSpec

BACKEND = "tensorrt_rtx"
# A row with an operator that has no converter yet is skipped. Every other refusal is listed.
UNFINISHED = "there is no converter for"
REFUSED: frozenset[str] = frozenset(
    {
        "a size of a fraction",
        "add of torch.int16",
        "adaptive_avg_pool2d into a varying size",
        "adaptive_max_pool2d indices",
        "as_strided of a view",
        "bitwise_and of int64",
        "bitwise_and of torch.int16",
        "bitwise_and of torch.int32",
        "bitwise_and of torch.int8",
        "bitwise_and of torch.uint8",
        "bitwise_or of int64",
        "bitwise_xor of int64",
        "conv_transpose2d of bfloat16 with computed weights",
        "cumprod of a varying size",
        "dropout in training",
        "eq of torch.int16",
        "eye",
        "index by a mask",
        "index with a scalar",
        "index_put by mask in turn",
        "index_put of bool adding",
        "masked_select",
        "layer_norm statistics of torch.bfloat16 by float32",
        "layer_norm statistics of torch.float16 by float32",
        "max_pool1d dilated",
        "max_pool1d indices",
        "max_pool2d dilated",
        "max_pool2d indices",
        "max_pool3d dilated",
        "max_pool3d indices",
        "mm of int64",
        "mul of torch.int16",
        "nonzero",
        "number pow tensor",
        "permute of float64",
        "permute of uint8",
        "pow of int32 and int64",
        "pow of int64",
        "random numbers",
        "resize antialiased",
        "resize bicubic antialiased",
        "resize bilinear antialiased",
        "scatter_add of very many",
        "scatter_reduce of bool",
        "sort of a varying size",
        "sub of torch.int16",
        "topk of more than TensorRT ranks",
        "torch.bfloat16 to torch.float64",
        "torch.bool to torch.float64",
        "torch.float16 to torch.float64",
        "torch.float32 to torch.float64",
        "torch.float64 to torch.bfloat16",
        "torch.float64 to torch.bool",
        "torch.float64 to torch.float16",
        "torch.float64 to torch.float32",
        "torch.float64 to torch.int32",
        "torch.float64 to torch.int64",
        "torch.float64 to torch.int8",
        "torch.float64 to torch.uint8",
        "torch.int32 to torch.float64",
        "torch.int64 to torch.float64",
        "torch.int8 to torch.float64",
        "torch.uint8 to torch.float64",
        "uint8 compared with a number outside",
        "unfold of a scalar",
    }
)
WRONG: Mapping[str, str] = {
    "torch.float64 to torch.float64": "no operator, so nothing to refuse; in a whole graph such a partition can't come about",
}


class Interpreted:
    """Stands for the engine: runs its network with PyTorch."""

    def __init__(self, partition: Partition, settings: CompilationSettings) -> None:
        self.definition = define(sdk.load(BACKEND), partition, settings)
        self.plan = serialize(self.definition, settings)

    def run(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        return Interpreter(self.definition.net.network).run_all(*inputs)


def build(partition: Partition, settings: CompilationSettings) -> Interpreted:
    """The network, built by the SDK; sizes get the bounds that its profiles need."""
    bounded = dataclasses.replace(partition, inputs=tuple(_bounded(spec) for spec in partition.inputs))
    return Interpreted(bounded, settings)


def _bounded(spec: TensorSpec) -> TensorSpec:
    shape = [
        Dim(size.expr, max(size.min, 1), size.opt, max(64, 2 * size.opt) if size.max is None else min(size.max, 4096))
        if isinstance(size, Dim)
        else size
        for size in spec.shape
    ]
    return dataclasses.replace(spec, shape=tuple(shape))
