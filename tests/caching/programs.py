"""Partitions for the tests of the engine cache, made by hand or as compilation makes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from torch_tensorrt import compiler, engines
from torch_tensorrt.caching.key import key_of
from torch_tensorrt.compiler import compile_program
from torch_tensorrt.contracts.partition import Partition
from torch_tensorrt.spec.settings import CompilationSettings
from torch_tensorrt.spec.tensor_spec import TensorSpec
from torch_tensorrt.trace.tracer import trace

aten = torch.ops.aten
MODE = FakeTensorMode()
EAGER = engines.backend("eager")


@dataclass(frozen=True)
class Given:
    """A one-operation graph: `target(x, *args, **kwargs)` on an x of this dtype, size and stride."""

    target: Callable[..., object] = aten.add.Tensor
    args: tuple[object, ...] = (1,)
    dtype: torch.dtype = torch.float32
    size: tuple[int, ...] = (2, 3)
    stride: tuple[int, ...] = (3, 1)

    def partition(self) -> Partition:
        """The graph with a weight `w` that is added to the result."""
        graph = fx.Graph()
        with MODE:
            value = torch.empty_strided(self.size, self.stride, dtype=self.dtype)
        x = graph.placeholder("x")
        x.meta["val"] = value
        y = graph.call_function(self.target, (x, *self.args))
        y.meta["val"] = value
        graph.output((y,))
        sizes = tuple(self.size)
        return Partition(
            "part_0",
            "eager",
            fx.GraphModule(nn.Module(), graph),
            (TensorSpec("x", self.dtype, sizes),),
            (TensorSpec("y", self.dtype, sizes),),
        )


def key(partition: Partition, **options: object) -> str:
    """The hash under which the eager engine of `partition` is kept."""
    return key_of(partition, EAGER, CompilationSettings.from_options(engine="eager", **options)).hash


def partitions_of(model: nn.Module, inputs: Sequence[object], **options: object) -> list[Partition]:
    """What compilation asks a backend to build for `model`."""
    settings = CompilationSettings.from_options(min_block_size=1, **options)
    call = compiler.collect_inputs(inputs, None, None)
    seen: list[Partition] = []
    taken = compiler.place_for

    def spy(partition: Partition, *rest: object) -> None:
        seen.append(partition)

    compiler.place_for = spy  # type: ignore[assignment]
    try:
        compile_program(trace(model.eval(), arg_inputs=call.args), call, settings)
    finally:
        compiler.place_for = taken
    return seen


class Net(nn.Module):
    """Two layers; the weights are the same each time."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Linear(8, width)
        self.second = nn.Linear(width, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.relu(self.first(x)))


class Renamed(nn.Module):
    """Net by other names."""

    def __init__(self) -> None:
        super().__init__()
        self.into, self.out_of = (part for part in Net().children())

    def forward(self, tokens: Tensor) -> Tensor:
        hidden = self.into(tokens)
        return self.out_of(hidden.relu())
