"""What some engines can do beside running. Whether one can is asked with isinstance; the rest of the package knows no more."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor

from torch_tensorrt.contracts.engine import EngineSpec
from torch_tensorrt.spec.tensor_spec import Json


@runtime_checkable
class ChecksMachine(Protocol):
    """An engine that any machine can hold, though not every one can run it."""

    def require_machine(self) -> None:
        """Raises EngineNotRunnable, saying what the engine was built for and what is here, where it can't run."""


@runtime_checkable
class DescribesLayers(Protocol):
    """An engine that can say what it consists of."""

    def layer_information(self) -> str:
        """JSON with the list "Layers" (the SDK decides what is told of each; mostly "Name" and "LayerType") and "Bindings"."""


def layers_as_json(spec: EngineSpec, layers: Sequence[Mapping[str, Json]]) -> str:
    """What `layer_information` gives, for engines whose SDK has no such form: "Bindings" are the inputs and outputs."""
    bindings = [tensor.name for tensor in (*spec.inputs, *spec.outputs)]
    return json.dumps({"Layers": [dict(layer) for layer in layers], "Bindings": bindings}, indent=1)


@dataclass(frozen=True)
class LayerTime:
    """What one layer took in one run. kind: what computes it, in the SDK's words."""

    name: str
    kind: str
    milliseconds: float


@runtime_checkable
class TimesLayers(Protocol):
    """An engine that can say what each of its layers takes."""

    def run_timed(self, inputs: Sequence[Tensor]) -> tuple[tuple[Tensor, ...], Sequence[LayerTime]]:
        """What `run` gives for `inputs`, and the times of the layers of that run, in the order in which they ran.

        The first call may take long: most SDKs need the engine to be compiled for it once more. Raises EngineNotRunnable or
        BuildError where that can't be.
        """


@runtime_checkable
class StreamsWeights(Protocol):
    """An engine whose weights may stay in the CPU's memory, to be streamed to the GPU when they are needed. All in bytes."""

    def streamable_weights(self) -> int:
        """The size of the weights that can be streamed; 0 where the engine was not built for it."""

    def streaming_budget(self) -> int:
        """How much of them stays on the GPU now."""

    def set_streaming_budget(self, budget: int) -> None:
        """How much of them is to stay on the GPU. Waits for runs that are under way."""

    def automatic_streaming_budget(self) -> int:
        """What the SDK would choose for the memory that is free now."""


@runtime_checkable
class HasProfiles(Protocol):
    """An engine that was tuned for several ranges of sizes."""

    def profiles(self) -> Sequence[str]:
        """What each range is, for people; as many as there are."""

    def choose_profile(self, profile: int | None) -> int | None:
        """Runs use this range from now on; None: the first that the sizes are in. Returns what was chosen before."""


@runtime_checkable
class PlacesOutputs(Protocol):
    """An engine that can get the memory of its outputs in other ways than right before the run."""

    def place_outputs(self, *, ahead: bool | None = None, by_engine: bool | None = None) -> tuple[bool, bool]:
        """`ahead`: allocated after a run for the next one. `by_engine`: asked for by the SDK while it runs. None: no change.

        Returns what both were before.
        """


@runtime_checkable
class SpecialisesKernels(Protocol):
    """An engine that can choose when its kernels are compiled for the sizes that it meets."""

    def specialise_kernels(self, strategy: str) -> str:
        """`strategy` is "lazy" (in the background, while general ones run), "eager" (before the run) or "none" (never).

        Returns what was set before.
        """


@runtime_checkable
class ReleasesMemory(Protocol):
    """An engine that keeps memory between runs, and can do without."""

    def release_memory(self, always: bool) -> bool:
        """True: all that it keeps for runs goes now, and after each run. False: it keeps it. Returns what was set before."""


@runtime_checkable
class KeepsKernels(Protocol):
    """An engine whose kernels are compiled when it first runs, and kept in a file."""

    def keep_kernels(self, path: str | None) -> str | None:
        """Runs use this file from now on, ""  for none, None for the usual one. Returns what was set before."""

    def save_kernels(self) -> None:
        """Writes the file now, whole or not at all."""


class Run(Protocol):
    """A run of an engine that was started."""

    def poll(self) -> None:
        """Raises what went wrong where it ended so, which `tell` is not called for; nothing otherwise. Doesn't wait."""

    def outputs(self) -> tuple[Tensor, ...]:
        """Waits for the end of it. What `Engine.run` gives, or raises. To be called once."""


@runtime_checkable
class RunsAhead(Protocol):
    """An engine that has several runs under way without a thread of Python's for each."""

    def preferred_runs(self) -> int:
        """How many keep the device busy."""

    def start(self, inputs: Sequence[Tensor], tell: Callable[[], None]) -> Run:
        """Begins what `Engine.run` does. `tell` is called in a thread of the SDK's when it is done. Raises what `run` raises."""
