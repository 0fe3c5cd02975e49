"""The documented strategy for the memory of engines between runs."""

from __future__ import annotations

from types import TracebackType

import torch
from typing_extensions import Self

from torch_tensorrt.contracts.abilities import ReleasesMemory
from torch_tensorrt.observe.log import logger
from torch_tensorrt.runtime.modes import engines_in
from torch_tensorrt.runtime.native import SETTING, NativeEngine

__all__ = ["ResourceAllocationStrategy"]

_log = logger("runtime")


class ResourceAllocationStrategy(torch.nn.Module):
    """`with ResourceAllocationStrategy(compiled): compiled(x)`: engines keep no memory for intermediate results between runs.

    Each run gets it anew, which takes longer. The weights stay where they are; see torch_tensorrt.runtime.weight_streaming for
    those. Engines of backends that keep no such memory run as ever; those in the C++ runtime too, with a warning. At the end of
    the block all is as it was before it.

    Args:
        compiled_module: what torch_tensorrt.compile or load gave.
        dynamically_allocate_resources: False: inside, engines keep their memory.

    Raises InputError for a module without engines.
    """

    def __init__(self, compiled_module: torch.nn.Module, dynamically_allocate_resources: bool = True) -> None:
        super().__init__()
        self.compiled_module = compiled_module
        self.dynamically_allocate_resources = dynamically_allocate_resources
        engines = engines_in(compiled_module)
        self._engines = [engine for engine in engines if isinstance(engine, ReleasesMemory)]
        for engine in engines:
            if isinstance(engine, NativeEngine):
                _log.warning(
                    "Engine %r runs in the C++ runtime, which keeps memory between runs; set %s=off to let it go.",
                    engine.spec.name, SETTING,
                )  # fmt: skip
        self._before: list[tuple[ReleasesMemory, bool]] = []

    def __enter__(self) -> Self:
        for engine in self._engines:
            self._before.append((engine, engine.release_memory(self.dynamically_allocate_resources)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._before:
            engine, before = self._before.pop()
            engine.release_memory(before)

    def forward(self, *args: object, **kwargs: object) -> object:
        """Runs the module."""
        return self.compiled_module(*args, **kwargs)
