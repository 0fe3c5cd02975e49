"""TensorRT and TensorRT-RTX: a partition becomes a network, operator by operator, and the network a plan.

Both are this code; what differs is in sdk.py and configuring.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import fx
from torch._ops import OpOverload

from torch_tensorrt.contracts.backend import EngineBackend, Support
from torch_tensorrt.contracts.engine import Engine, EngineSpec
from torch_tensorrt.contracts.partition import Partition
from torch_tensorrt.contracts.raw import RawEngine
from torch_tensorrt.engines.tensorrt import sdk
from torch_tensorrt.engines.tensorrt.build import define, serialize
from torch_tensorrt.engines.tensorrt.configuring import HONOURED, target, verbosity
from torch_tensorrt.engines.tensorrt.converters import converts
from torch_tensorrt.engines.tensorrt.engine import TensorRTEngine
from torch_tensorrt.engines.tensorrt.payload import read_payload
from torch_tensorrt.engines.tensorrt.platforms import portable_to, target_on_windows
from torch_tensorrt.engines.tensorrt.raw import STARTS, read_raw
from torch_tensorrt.engines.tensorrt.refitting import with_facts
from torch_tensorrt.spec.enums import Platform
from torch_tensorrt.spec.errors import EngineNotRunnable
from torch_tensorrt.spec.settings import CompilationSettings


class _NetworkBackend(EngineBackend):
    """What both have in common. `name` is that of the package that builds and runs the engines."""

    format_version: ClassVar[int] = 1
    builds_slowly: ClassVar[bool] = True
    strongly_typed: ClassVar[bool] = True
    measures_timings: ClassVar[bool]

    def available(self, device: torch.device) -> Support:
        """Where the package can be imported (and, for TensorRT, a GPU is there)."""
        try:
            sdk.load(self.name)
        except EngineNotRunnable as error:
            return Support(False, str(error))
        return Support(True)

    def builds_for(self, platform: Platform) -> Support:
        """Where it is built, and on Linux x86-64 for Windows x86-64 too (see platforms.py)."""
        return Support(True) if super().builds_for(platform) else portable_to(platform)

    def keep_whole(self, settings: CompilationSettings) -> frozenset[OpOverload]:
        """Operators that a layer of TensorRT does in one."""
        return converts.whole()

    def unhonoured(self, settings: CompilationSettings) -> Sequence[str]:
        """Options that have no meaning to this SDK; those that it refuses are errors of the build."""
        told = list(settings.unhonoured(self.name, honours=HONOURED))
        if not self.measures_timings and settings.is_set("timing_cache_path"):
            told.append("TensorRT-RTX measures no timings when it builds; timing_cache_path is not used.")
        return told

    def supports(self, node: fx.Node, settings: CompilationSettings) -> Support:
        """Operators with a converter that takes the node."""
        converter, reason = converts.find(node, settings)
        return Support(converter is not None, reason)

    def variants(self, settings: CompilationSettings, device: torch.device) -> Mapping[str, Mapping[str, object]]:
        """One, where there is a GPU to measure on: TensorRT measures its kernels itself."""
        return {"default": {}} if device.type == "cuda" and torch.cuda.is_available() else {}

    def runnable(self, device: torch.device) -> Support:
        """Any machine can hold an engine; what keeps it from running is said when it runs (see ChecksMachine)."""
        return Support(True)

    def build(self, partition: Partition, settings: CompilationSettings) -> Engine:
        """One plan. Raises BuildError with the SDK's own words, UnsupportedError, InputError or InternalError."""
        chosen = sdk.load(self.name)
        definition = define(chosen, partition, settings)
        plan = serialize(definition, settings)
        built_for = target(chosen, settings)
        spec = EngineSpec(
            name=partition.name,
            backend=self.name,
            format_version=self.format_version,
            target=target_on_windows(built_for) if settings.enable_cross_compile_for_windows else built_for,
            settings_key=settings.engine_key(),
            inputs=partition.inputs,
            outputs=partition.outputs,
            versions={self.name: chosen.version, "torch": torch.__version__},
        )
        return TensorRTEngine(spec, with_facts(plan, definition.net, settings))

    def fingerprint(self, partition: Partition, settings: CompilationSettings) -> Mapping[str, str] | None:
        """The SDK, what it builds for, and the names of inputs and outputs, which are in the plan.

        None as soon as there are users' converters: a whole program, which is asked about too, doesn't show what it is taken
        apart into.
        """
        if converts.users():
            return None
        chosen = sdk.load(self.name)
        return {
            self.name: chosen.version,
            "target": target(chosen, settings),
            "gpu": "" if chosen.names_targets or not torch.cuda.is_available() else torch.cuda.get_device_name(),
            "verbosity": verbosity(settings),
            "names": ", ".join(spec.name for spec in (*partition.inputs, *partition.outputs)),
        }

    def wrote(self, raw: bytes) -> bool:
        """Whether it is a plan of this package."""
        return raw.startswith(STARTS[self.name])

    def read_raw(self, raw: RawEngine, settings: CompilationSettings) -> Engine:
        """The engine of a plan, on the GPU that it was built for. Options: device, version_compatible."""
        spec = EngineSpec(
            name=raw.name,
            backend=self.name,
            format_version=self.format_version,
            target="a target that raw engines don't tell",
            settings_key=settings.engine_key(),
            inputs=(),
            outputs=(),
            versions={self.name: "(version not told)", "torch": torch.__version__},
        )
        return read_raw(raw, spec, settings)

    def from_bytes(self, blob: memoryview, spec: EngineSpec) -> Engine:
        """The engine of a plan; nothing is deserialised before its first run, so that any machine can hold it."""
        return TensorRTEngine(spec, read_payload(blob))


class TensorRTBackend(_NetworkBackend):
    """Builds with the package `tensorrt`, 10 or 11, on and for the GPU of this machine."""

    name: ClassVar[str] = "tensorrt"
    measures_timings: ClassVar[bool] = True

    def available(self, device: torch.device) -> Support:
        """Where `tensorrt` can be imported and a GPU is present."""
        found = super().available(device)
        if found and not torch.cuda.is_available():
            return Support(
                False, "TensorRT builds on a GPU, and none is here; engine='tensorrt_rtx' builds without one"
            )
        return found


class TensorRTRTXBackend(_NetworkBackend):
    """Builds with the package `tensorrt_rtx`, on any x86-64 CPU, for compute capabilities 7.5, 8.x and 12.x."""

    name: ClassVar[str] = "tensorrt_rtx"
    measures_timings: ClassVar[bool] = False
    builds_for_capabilities: ClassVar[bool] = True
