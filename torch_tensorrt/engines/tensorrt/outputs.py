"""Memory for what an engine gives: sizes that follow from the inputs, and sizes that only a run knows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from torch_tensorrt.contracts.engine import EngineSpec
from torch_tensorrt.spec.errors import InternalError
from torch_tensorrt.spec.shape_expr import parse, solve, symbols_in
from torch_tensorrt.spec.tensor_spec import Dim, TensorSpec


@dataclass(frozen=True)
class Sizes:
    """The sizes of an engine's outputs, from those of its inputs."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    known: tuple[bool, ...]  # per output: whether the inputs' sizes say it; if not, the data does

    @classmethod
    def of(cls, spec: EngineSpec) -> Sizes:
        """What the expressions in `spec` say."""
        given: set[str] = set()
        for tensor in spec.inputs:
            for size in tensor.shape:
                if isinstance(size, Dim):
                    given |= symbols_in(size.expr)
        known = tuple(
            all(symbols_in(size.expr) <= given for size in tensor.shape if isinstance(size, Dim))
            for tensor in spec.outputs
        )
        return cls(spec.inputs, spec.outputs, known)

    def compute(self, inputs: Sequence[Tensor]) -> tuple[tuple[int, ...] | None, ...]:
        """The shape of each output; None where only the run knows."""
        shapes = [(spec.sizes, tuple(tensor.shape)) for spec, tensor in zip(self.inputs, inputs, strict=True)]
        symbols = solve(shapes) if not all(spec.is_static for spec in self.inputs) else {}
        return tuple(
            tuple(int(parse(size)(symbols)) if isinstance(size, str) else size for size in spec.sizes)
            if known
            else None
            for spec, known in zip(self.outputs, self.known, strict=True)
        )


class FoundMemory:
    """Memory that the SDK asks for while a run finds out how much there is to give. One per run.

    Exceptions must not pass through the SDK: what PyTorch raises (no memory left) is kept, and raised by `tensor`.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._buffers: dict[str, Tensor] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        self.failure: RuntimeError | None = None

    def reallocate(self, name: str, size: int, alignment: int) -> int:
        """The address of at least `size` bytes for the output `name`; 0, and the run fails, when there are none."""
        try:
            buffer = torch.empty(max(size, 1) + alignment, dtype=torch.uint8, device=self._device)
        except RuntimeError as error:  # torch.OutOfMemoryError is one
            self.failure = error
            return 0
        kept = buffer[-buffer.data_ptr() % max(alignment, 1) :]
        self._buffers[name] = kept
        return kept.data_ptr()

    def notify(self, name: str, shape: tuple[int, ...]) -> None:
        """The sizes of the output `name`: they are known when the run has been enqueued."""
        self._shapes[name] = shape

    def tensor(self, name: str, dtype: torch.dtype) -> Tensor:
        """What the run put into the output `name`. Raises InternalError where the SDK never said its sizes."""
        if name not in self._shapes:
            raise InternalError(f"The SDK ran an engine and gave no sizes for its output {name!r}; please report this.")
        shape = self._shapes[name]
        elements = 1
        for size in shape:
            elements *= size
        if not elements:
            return torch.empty(shape, dtype=dtype, device=self._device)
        return self._buffers[name][: elements * dtype.itemsize].view(dtype).view(shape)


def empty_outputs(
    shapes: Sequence[tuple[int, ...] | None], specs: Sequence[TensorSpec], device: torch.device
) -> list[Tensor | None]:
    """Fresh memory on `device` for the outputs whose sizes are known."""
    return [
        None if shape is None else torch.empty(shape, dtype=spec.dtype, device=device)
        for shape, spec in zip(shapes, specs, strict=True)
    ]
