"""How much of the weights stays on the GPU: the documented `torch_tensorrt.runtime.weight_streaming`."""

# mypy: disable-error-code="type-abstract"
# (an ability is asked for with isinstance, never made)
from __future__ import annotations

from types import TracebackType

import torch
from typing_extensions import Self

from torch_tensorrt.contracts.abilities import StreamsWeights
from torch_tensorrt.runtime.modes import engines_that
from torch_tensorrt.spec.errors import InputError, UnsupportedError


class WeightStreaming:
    """The weights of a module's engines that may stay in the CPU's memory. Sizes are in bytes, over all engines.

    A budget is shared out by the sizes of the engines' weights. At the end of the block all is as it was before it.
    """

    def __init__(self, module: torch.nn.Module) -> None:
        self._engines = engines_that(module, StreamsWeights, "does not stream weights")
        self._sizes = [engine.streamable_weights() for engine in self._engines]
        if not any(self._sizes):
            raise UnsupportedError(
                "No engine of this module streams its weights; compile with enable_weight_streaming=True for that."
            )
        self._before = [engine.streaming_budget() for engine in self._engines]

    @property
    def total_device_budget(self) -> int:
        """All weights that can be streamed: with this budget none is."""
        return sum(self._sizes)

    @property
    def device_budget(self) -> int:
        """How much of them stays on the GPU. Setting it waits for runs under way; more than all means all.

        Raises InputError for anything but a whole number of at least 0, UnsupportedError with the SDK's words.
        """
        return sum(engine.streaming_budget() for engine in self._engines)

    @device_budget.setter
    def device_budget(self, budget: int) -> None:
        if isinstance(budget, bool) or not isinstance(budget, int) or budget < 0:
            raise InputError(f"device_budget={budget!r}: a number of bytes, at least 0, is needed.")
        total = self.total_device_budget
        self._share_out([size if budget >= total else budget * size // total for size in self._sizes])

    def get_automatic_weight_streaming_budget(self) -> int:
        """What the SDK proposes for the memory that is free now; it is not set."""
        return sum(engine.automatic_streaming_budget() for engine in self._engines)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._share_out(self._before)

    def _share_out(self, budgets: list[int]) -> None:
        for engine, size, budget in zip(self._engines, self._sizes, budgets, strict=True):
            if size and engine.streaming_budget() != budget:
                engine.set_streaming_budget(budget)


def weight_streaming(module: torch.nn.Module) -> WeightStreaming:
    """`with weight_streaming(module) as streaming: streaming.device_budget = ...; module(x)`.

    For engines built with enable_weight_streaming=True; needs the GPU that they run on. Raises UnsupportedError for others.
    """
    return WeightStreaming(module)
