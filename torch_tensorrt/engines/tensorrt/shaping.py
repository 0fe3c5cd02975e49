"""Sizes and movements of data: what a converter does with shapes, known or known at run time only."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence

import torch

from torch_tensorrt.engines.tensorrt.network import Definition, Scalar, Size
from torch_tensorrt.engines.tensorrt.sdk import ITensor, Native, Sdk
from torch_tensorrt.spec.errors import InternalError
from torch_tensorrt.spec.settings import CompilationSettings

# The SDK's operation -> the same on Python's integers.
ON_INTEGERS: Mapping[str, Callable[[int, int], int]] = {
    "SUM": operator.add,
    "SUB": operator.sub,
    "PROD": operator.mul,
    "FLOOR_DIV": operator.floordiv,
    "MAX": max,
    "MIN": min,
}


class Shaping(Definition):
    """Sizes are ints where the network knows them, and Scalars (int64, shape [1]) where a run decides."""

    def __init__(self, sdk: Sdk, builder: Native, settings: CompilationSettings, partition: str) -> None:
        super().__init__(sdk, builder, settings, partition)
        self._sizes: dict[tuple[str, int], Scalar] = {}

    def size(self, tensor: ITensor, axis: int) -> Size:
        """The size of one dimension, which may be counted from the end."""
        axis %= self.rank(tensor)
        known = self.shape(tensor)[axis]
        if known >= 0:
            return known
        key = (tensor.name, axis)
        if key not in self._sizes:
            every = self.layer("shape", tensor)
            self._sizes[key] = Scalar(self.layer("slice", every, (axis,), (1,), (1,)))
        return self._sizes[key]

    def sizes(self, tensor: ITensor) -> list[Size]:
        """All sizes."""
        return [self.size(tensor, axis) for axis in range(self.rank(tensor))]

    def compute_size(self, first: Size, second: Size, op: str) -> Size:
        """SUM, SUB, PROD, FLOOR_DIV, MAX or MIN of two sizes; an int where both are."""
        if isinstance(first, int) and isinstance(second, int):
            return ON_INTEGERS[op](first, second)
        a, b = self.size_tensor([first]), self.size_tensor([second])
        return Scalar(self.layer("elementwise", a, b, self.member("ElementWiseOperation", op)))

    def product(self, sizes: Sequence[Size]) -> Size:
        """The sizes multiplied."""
        result: Size = 1
        for size in sizes:
            result = size if result == 1 else self.compute_size(result, size, "PROD")
        return result

    def size_tensor(self, sizes: Sequence[Size]) -> ITensor:
        """Sizes as one int64 tensor of shape [len(sizes)]."""
        parts: list[ITensor] = []
        run: list[int] = []
        for size in (*sizes, None):
            if isinstance(size, int):
                run.append(size)
                continue
            if run:
                parts.append(self.constant(torch.tensor(run, dtype=torch.int64)))
                run = []
            if size is not None:
                parts.append(size.tensor)
        if not parts:
            return self.constant(torch.empty(0, dtype=torch.int64))
        return parts[0] if len(parts) == 1 else self.layer("concatenation", parts, axis=0)

    def reshape(self, tensor: ITensor, sizes: Sequence[Size]) -> ITensor:
        """`tensor` with other sizes; one of them may be -1, as in PyTorch."""
        known = tuple(size if isinstance(size, int) else -1 for size in sizes)
        if known == self.shape(tensor) and -1 not in known:
            return tensor
        if known.count(-1) <= 1 and (0 not in known or -1 not in known):
            return self.layer("shuffle", tensor, zero_is_placeholder=False, reshape_dims=known)
        return self.layer("shuffle", tensor, inputs={1: self.size_tensor(sizes)}, zero_is_placeholder=False)

    def permute(self, tensor: ITensor, order: Sequence[int]) -> ITensor:
        """Dimension `i` of the result is dimension `order[i]` of `tensor`."""
        rank = self.rank(tensor)
        wanted = tuple(axis % rank for axis in order)
        return tensor if wanted == tuple(range(rank)) else self.layer("shuffle", tensor, first_transpose=wanted)

    def squeeze(self, tensor: ITensor, axes: Sequence[int]) -> ITensor:
        """`tensor` without the dimensions `axes`, whose sizes are 1."""
        rank = self.rank(tensor)
        gone = {axis % rank for axis in axes}
        return self.reshape(tensor, [self.size(tensor, axis) for axis in range(rank) if axis not in gone])

    def slice(
        self,
        tensor: ITensor,
        start: Sequence[Size],
        sizes: Sequence[Size],
        stride: Sequence[int],
        mode: str | None = None,
        fill: ITensor | None = None,
    ) -> ITensor:
        """Element `start + i * stride` for each `i` below `sizes`; `mode` (SampleMode) says what is outside of `tensor`.

        fill: a scalar, what mode "FILL" puts there.
        """
        what = self.member("SampleMode", mode) if mode is not None else None
        step = tuple(stride)
        filled = {} if fill is None else {4: fill}
        fixed = [tuple(size for size in given if isinstance(size, int)) for given in (start, sizes)]
        if len(fixed[0]) == len(start) and len(fixed[1]) == len(sizes):
            return self.layer("slice", tensor, *fixed, step, inputs=filled, mode=what)
        unused = (0,) * self.rank(tensor)
        inputs = {1: self.size_tensor(start), 2: self.size_tensor(sizes), **filled}
        return self.layer("slice", tensor, unused, unused, step, inputs=inputs, mode=what)

    def expand(self, tensor: ITensor, sizes: Sequence[Size]) -> ITensor:
        """`tensor` repeated along its dimensions of size 1, and along new ones in front; -1 leaves a dimension as it is."""
        raised = self.unsqueeze(tensor, range(len(sizes) - self.rank(tensor)))
        shape = self.shape(raised)
        wanted = [self.size(raised, axis) if size == -1 else size for axis, size in enumerate(sizes)]
        stride = [0 if known == 1 else 1 for known in shape]
        if all(step or size == 1 for step, size in zip(stride, wanted, strict=True)):
            return raised
        return self.slice(raised, [0] * len(shape), wanted, stride)

    def concatenate(self, tensors: Sequence[ITensor], axis: int) -> ITensor:
        """`tensors`, of one dtype, one after the other along `axis`."""
        if not tensors:
            raise InternalError("A converter asked to concatenate nothing; please report it.")
        axis %= self.rank(tensors[0])
        return tensors[0] if len(tensors) == 1 else self.layer("concatenation", list(tensors), axis=axis)

    def gather(self, tensor: ITensor, index: ITensor, axis: int) -> ITensor:
        """The slices of `tensor` at `index` along `axis`, whose place the dimensions of `index` take.

        Negative indices count from the end.
        """
        return self.layer("gather", tensor, index, axis % self.rank(tensor))
