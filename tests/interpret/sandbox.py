"""Networks built by hand, and NVIDIA's own evaluation of constants.

When a shape depends on constants, TensorRT computes them while the network is defined, and `ITensor.shape` tells the values: a
judge of the interpreter that is not ourselves. It is the symbolic evaluation of the library, not one of its kernels.
"""

from __future__ import annotations

from typing import Any

import tensorrt_rtx as trt
import torch
from torch import Tensor

from interpret.interpreter import Interpreter

DTYPES = {
    torch.float32: trt.float32,
    torch.float16: trt.float16,
    torch.int32: trt.int32,
    torch.int64: trt.int64,
    torch.bool: trt.bool,
}
_SCALE = 1e6  # a value's digits that are read back
_OFFSET = 10**9  # sizes are not negative
_AT_ONCE = 8  # a tensor has at most eight sizes


class NotFoldedError(Exception):
    """TensorRT does not evaluate this while the network is defined."""


class Sandbox:
    """A network being built by hand, with what has to stay alive."""

    def __init__(self) -> None:
        class Silent(trt.ILogger):  # type: ignore[misc, name-defined]
            def __init__(self) -> None:
                trt.ILogger.__init__(self)

            def log(self, severity: object, message: str) -> None:
                """TensorRT keeps to the first logger of a process; this may not be it."""

        self.logger = Silent()
        self.builder = trt.Builder(self.logger)
        self.network = self.builder.create_network(0)
        self.kept: list[Tensor] = []

    def input(self, value: Tensor) -> Any:
        name = f"input{self.network.num_inputs}"
        return self.network.add_input(name, DTYPES[value.dtype], (-1,) * value.dim())

    def weights(self, value: Tensor) -> Any:
        self.kept.append(value.contiguous())
        return trt.Weights(DTYPES[value.dtype], self.kept[-1].data_ptr(), value.numel())

    def constant(self, value: Tensor) -> Any:
        return self.network.add_constant(tuple(value.shape), self.weights(value)).get_output(0)

    def run(self, layer: Any, *inputs: Tensor) -> Tensor:
        self.network.mark_output(layer.get_output(0))
        (result,) = Interpreter(self.network).run_all(*inputs)
        return result

    def folded(self, tensor: Any) -> Tensor:
        """What TensorRT itself computes for `tensor`: float64 (to 1e-6, below 1000) or int64. Raises NotFoldedError."""
        shape = tuple(tensor.shape)
        if tensor.dtype in (trt.float32, trt.float16):
            wide = self._cast(tensor, trt.float32)
            scale = self.constant(torch.full((1,) * len(shape), _SCALE))
            digits = self.network.add_elementwise(wide, scale, trt.ElementWiseOperation.PROD).get_output(0)
            return self._sizes(digits, shape).double() / _SCALE
        return self._sizes(tensor, shape)

    def _cast(self, tensor: Any, dtype: Any) -> Any:
        return tensor if tensor.dtype == dtype else self.network.add_cast(tensor, dtype).get_output(0)

    def _sizes(self, tensor: Any, shape: tuple[int, ...]) -> Tensor:
        whole = self._cast(tensor, trt.int64)
        count = int(torch.tensor(shape).prod())
        flat = self.network.add_shuffle(whole)
        flat.reshape_dims = (count,)
        moved = self.network.add_elementwise(
            flat.get_output(0), self.constant(torch.tensor([_OFFSET])), trt.ElementWiseOperation.SUM
        ).get_output(0)
        values: list[int] = []
        for start in range(0, count, _AT_ONCE):
            size = min(_AT_ONCE, count - start)
            part = self.network.add_slice(moved, (start,), (size,), (1,)).get_output(0)
            fill = self.network.add_fill((1,) * size, trt.FillOperation.LINSPACE)
            fill.set_input(0, part)
            sizes = tuple(fill.get_output(0).shape)
            if -1 in sizes:
                raise NotFoldedError
            values += [size - _OFFSET for size in sizes]
        return torch.tensor(values).reshape(shape)
