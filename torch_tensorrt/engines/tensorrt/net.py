"""What a converter is given: the network, the node, and the SDK's layers by PyTorch's habits (any operand, broadcasting)."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from torch_tensorrt.engines.tensorrt.network import Operand
from torch_tensorrt.engines.tensorrt.promotion import operand_dtype, result_dtype
from torch_tensorrt.engines.tensorrt.sdk import ITensor
from torch_tensorrt.engines.tensorrt.shaping import Shaping
from torch_tensorrt.spec.errors import InternalError

_INTEGERS = frozenset({torch.int8, torch.uint8, torch.int32, torch.int64})


class Net(Shaping):
    """The network that one partition becomes. See the docstring of `converters` for how it is used."""

    @property
    def result(self) -> torch.dtype:
        """The dtype that PyTorch gives the (first) result of the node: what most operators compute in."""
        assert self.node is not None
        return result_dtype(self.node)

    def known_size(self, axis: int) -> int | None:
        """The size of a dimension of the node's (first) result where PyTorch knows it; the SDK may know less."""
        assert self.node is not None
        value = self.node.meta["val"]
        size = (value[0] if isinstance(value, (tuple, list)) else value).shape[axis]
        return size if isinstance(size, int) else None

    @property
    def common(self) -> torch.dtype:
        """The dtype that PyTorch promotes the node's operands to: what comparisons compute in."""
        assert self.node is not None
        return operand_dtype(self.node)

    def operands(self, *values: Operand, dtype: torch.dtype) -> list[ITensor]:
        """`values` in the network, all of `dtype` and of equal rank."""
        ranks = [self.rank(value) if _is_in_network(value) else _rank(value) for value in values]  # type: ignore[arg-type]
        return self.same_rank([self.tensor(value, dtype, max(ranks)) for value in values])

    def elementwise(self, first: Operand, second: Operand, op: str, dtype: torch.dtype) -> ITensor:
        """An ElementWiseOperation on two operands, broadcast, computed in `dtype`."""
        a, b = self.operands(first, second, dtype=dtype)
        return self.layer("elementwise", a, b, self.member("ElementWiseOperation", op))

    def unary(self, value: ITensor, op: str) -> ITensor:
        """A UnaryOperation."""
        return self.layer("unary", value, self.member("UnaryOperation", op))

    def activation(self, value: ITensor, op: str, alpha: float | None = None, beta: float | None = None) -> ITensor:
        """An ActivationType, whose parameters are called alpha and beta."""
        return self.layer("activation", value, self.member("ActivationType", op), alpha=alpha, beta=beta)

    def select(self, condition: Operand, yes: Operand, no: Operand, dtype: torch.dtype) -> ITensor:
        """`yes` where `condition` holds, else `no`; broadcast, of `dtype`."""
        a, b = self.operands(yes, no, dtype=dtype)
        c = self.tensor(condition, torch.bool)
        c, a, b = self.same_rank([c, a, b])
        return self.layer("select", c, a, b)

    def reduce(self, value: ITensor, op: str, axes: Sequence[int], keep: bool) -> ITensor:
        """A ReduceOperation over `axes`; no axes: over all."""
        rank = self.rank(value)
        mask = sum(1 << axis for axis in {axis % rank for axis in axes}) if axes else (1 << rank) - 1
        return self.layer("reduce", value, self.member("ReduceOperation", op), mask, keep)

    def multiply(
        self, first: ITensor, second: ITensor, transpose_first: bool = False, transpose_second: bool = False
    ) -> ITensor:
        """Matrices of the last two dimensions multiplied, each transposed if asked; leading dimensions are broadcast."""
        ops = [
            self.member("MatrixOperation", "TRANSPOSE" if flag else "NONE")
            for flag in (transpose_first, transpose_second)
        ]
        a, b = self.same_rank([first, second])
        return self.layer("matrix_multiply", a, ops[0], b, ops[1])

    def as_integer(self, value: ITensor) -> ITensor:
        """A bool tensor as int32, which the SDK can count with; others as they are."""
        return self.cast(value, torch.int32) if self.dtype(value) is torch.bool else value

    def is_integer(self, value: ITensor) -> bool:
        """Whether its dtype is an integer type (bool is none)."""
        return self.dtype(value) in _INTEGERS


def _is_in_network(value: Operand) -> bool:
    return hasattr(value, "set_dimension_name")


def _rank(value: Operand) -> int:
    if isinstance(value, torch.Tensor):
        return value.dim()
    if isinstance(value, (bool, int, float)) or hasattr(value, "tensor"):
        return 0
    raise InternalError(f"A converter used {value!r:.100} as an operand; please report it.")
