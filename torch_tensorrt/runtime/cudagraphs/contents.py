"""What is to be captured in a CUDA graph, as far as the capture needs to know it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from torch_tensorrt.contracts.engine import EngineSpec
from torch_tensorrt.spec.shape_expr import symbols_in
from torch_tensorrt.spec.tensor_spec import Dim


@dataclass(frozen=True)
class Contents:
    """What is captured. refusal: why it can't be, or "". on_gpu: whether any of it is. random: whether it draws random numbers.

    state: gives the tensors of the model that a run writes.
    """

    refusal: str
    on_gpu: bool
    random: bool
    state: Callable[[], Sequence[Tensor]]


def contents_of_engine(spec: EngineSpec) -> Contents:
    """Of a single engine."""
    tensors = (*spec.inputs, *spec.outputs)
    on_gpu = bool(tensors) and all(tensor.device == "cuda" for tensor in tensors)
    refusal = "" if on_gpu else "its inputs and outputs are on the CPU"
    given = {name for tensor in spec.inputs for name in _symbols(tensor.shape)}
    unknown = [tensor.name for tensor in spec.outputs if not set(_symbols(tensor.shape)) <= given]
    if on_gpu and unknown:
        refusal = f"the size of its output {unknown[0]!r} depends on the data"
    return Contents(refusal, on_gpu, random=False, state=tuple)


def _symbols(shape: Sequence[int | Dim]) -> Iterator[str]:
    for size in shape:
        if isinstance(size, Dim):
            yield from symbols_in(size.expr)
