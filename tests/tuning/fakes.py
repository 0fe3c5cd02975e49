"""Engines that take as long as they are told to, on a clock of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, fx

from torch_tensorrt import engines
from torch_tensorrt.contracts.backend import EngineBackend, Support
from torch_tensorrt.contracts.engine import Engine, EngineSpec
from torch_tensorrt.contracts.partition import Partition
from torch_tensorrt.contracts.passes import LoweringPass
from torch_tensorrt.spec.errors import BuildError, InputError
from torch_tensorrt.spec.settings import CompilationSettings


class Clock:
    """What `time` is for the code under test: it goes on only when an engine runs, or is built."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        """Seconds."""
        return self.now

    monotonic = perf_counter

    def process_time(self) -> float:
        """No thread is ever busy."""
        return 0.0

    def sleep(self, seconds: float) -> None:
        """Takes no time."""


class FakeEngine(Engine):
    """Runs `inner`, takes `seconds`, and adds `wrong` to what comes out."""

    def __init__(self, inner: Engine, clock: Clock, seconds: float, wrong: float = 0.0) -> None:
        self.spec, self.inner, self.clock, self.seconds, self.wrong = inner.spec, inner, clock, seconds, wrong

    def run(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        self.clock.now += self.seconds
        return tuple(result + self.wrong if self.wrong else result for result in self.inner.run(inputs))

    def to_bytes(self) -> bytes:
        return self.inner.to_bytes()

    def refit(self, weights: Mapping[str, Tensor]) -> Engine:
        return FakeEngine(self.inner.refit(weights), self.clock, self.seconds, self.wrong)


class FakeBackend(EngineBackend):
    """PyTorch under another name. milliseconds: of a run, by the engine option "speed" (or "" for none)."""

    format_version = 1

    def __init__(
        self,
        name: str,
        clock: Clock,
        milliseconds: Mapping[str, float],
        refuses: Callable[[fx.Node], bool] = lambda node: False,
        passes: Sequence[LoweringPass] = (),
    ) -> None:
        self.name = name  # type: ignore[misc]
        self.clock, self.milliseconds, self.refuses, self.own_passes = clock, milliseconds, refuses, passes
        self.wrong: set[str] = set()
        self.broken: set[str] = set()
        self.build_seconds = 1.0
        self.built: list[str] = []

    def available(self, device: torch.device) -> Support:
        return Support(device.type == "cpu")

    def variants(self, settings: CompilationSettings, device: torch.device) -> Mapping[str, Mapping[str, object]]:
        ways = {speed or "usual": {"engine_options": {"speed": speed}} if speed else {} for speed in self.milliseconds}
        return {**ways, **{f"without {one.name}": {"disabled_passes": {one.name}} for one in self.own_passes}}

    def passes(self, settings: CompilationSettings) -> Sequence[LoweringPass]:
        return [one for one in self.own_passes if one.name not in settings.disabled_passes]

    def fingerprint(self, partition: Partition, settings: CompilationSettings) -> Mapping[str, str]:
        return {"fake": "1"}

    def supports(self, node: fx.Node, settings: CompilationSettings) -> Support:
        return Support(not self.refuses(node), f"{self.name} has no such operator")

    def build(self, partition: Partition, settings: CompilationSettings) -> Engine:
        speed = str(dict(settings.engine_options).get("speed", ""))
        if speed not in self.milliseconds:
            raise InputError(f"{self.name} knows no speed {speed!r}")
        self.built.append(speed)
        self.clock.now += self.build_seconds
        if speed in self.broken:
            raise BuildError(f"{self.name} can't build it")
        inner = REAL.build(partition, settings)
        inner.spec = EngineSpec(**{**vars(inner.spec), "backend": self.name})
        return FakeEngine(inner, self.clock, self.milliseconds[speed] / 1000, 1.0 if speed in self.wrong else 0.0)

    def from_bytes(self, blob: memoryview, spec: EngineSpec) -> Engine:
        return FakeEngine(REAL.from_bytes(blob, spec), self.clock, self.milliseconds[""] / 1000)


REAL = engines.backend("eager")
