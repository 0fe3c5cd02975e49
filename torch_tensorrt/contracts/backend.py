"""What an engine backend offers to the pipeline. Final in practice: share by plain functions, don't subclass a backend."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import fx
from torch._ops import OpOverload

from torch_tensorrt.contracts.engine import Engine, EngineSpec
from torch_tensorrt.contracts.partition import Partition
from torch_tensorrt.contracts.passes import LoweringPass
from torch_tensorrt.spec.enums import Platform
from torch_tensorrt.spec.settings import CompilationSettings


@dataclass(frozen=True)
class Support:
    """Yes, or no with a reason; `bool(support)` works."""

    ok: bool
    reason: str = ""

    def __bool__(self) -> bool:
        return self.ok


class EngineBackend(ABC):
    """Builds partitions into engines, and brings saved engines back."""

    name: ClassVar[str]  # written into saved files
    format_version: ClassVar[int]  # of the payload that to_bytes() writes
    # Whether it builds for the compute capabilities of device="sm_89", wherever the model's tensors are.
    builds_for_capabilities: ClassVar[bool] = False
    # Whether engines compute in the dtypes that the graph has: `enabled_precisions` then casts the graph.
    strongly_typed: ClassVar[bool] = False
    # Whether a build takes many seconds, as where a compiler is called: when times are measured, such ways are tried last.
    builds_slowly: ClassVar[bool] = False

    @abstractmethod
    def available(self, device: torch.device) -> Support:
        """Whether the SDK is importable and can build for `device`. Imports the SDK, at most."""

    def runnable(self, device: torch.device) -> Support:
        """Whether an engine that is built already can run on `device` here; for most SDKs, where it can also be built."""
        return self.available(device)

    def builds_for(self, platform: Platform) -> Support:
        """Whether engines that are built here run on `platform`; for most SDKs, only where it is that of this process.

        For Windows from Linux, `build` is told by the setting enable_cross_compile_for_windows.
        """
        here = Platform.current_platform()
        return Support(platform is here, f"it builds for {here.value} only, where this process runs")

    def keep_whole(self, settings: CompilationSettings) -> frozenset[OpOverload]:
        """Operators that the backend wants undecomposed."""
        return frozenset()

    def passes(self, settings: CompilationSettings) -> Sequence[LoweringPass]:
        """Lowering passes to run after the shared ones."""
        return ()

    def unhonoured(self, settings: CompilationSettings) -> Sequence[str]:
        """One sentence for each option, set by the user, that this backend can't honour; warned about once."""
        return settings.unhonoured(self.name)

    def variants(self, settings: CompilationSettings, device: torch.device) -> Mapping[str, Mapping[str, object]]:
        """Ways of building that are worth measuring: label -> options to change, the usual one first.

        "engine_options" and "disabled_passes" are added to what the user gave; other options are replaced. Only ways that can
        be built here, and that the settings allow.
        """
        return {"default": {}}

    @abstractmethod
    def supports(self, node: fx.Node, settings: CompilationSettings) -> Support:
        """Whether `node` (a call_function) can go into an engine. Reads metadata only; no side effect."""

    @abstractmethod
    def build(self, partition: Partition, settings: CompilationSettings) -> Engine:
        """Builds one partition. Raises BuildError with the SDK's own words and the nodes concerned."""

    def fingerprint(self, partition: Partition, settings: CompilationSettings) -> Mapping[str, str] | None:
        """What `build` depends on besides `partition`, `settings` and this backend's own source, as name -> value.

        That is the versions of the SDK, the target that it builds for here, and whatever else of the process or machine
        changes the engine. None, the default: unknown, so that engines of this backend are never taken from a cache.
        """
        return None

    @abstractmethod
    def from_bytes(self, blob: memoryview, spec: EngineSpec) -> Engine:
        """The engine that `to_bytes` wrote. Raises FileFormatError or EngineNotRunnable."""
