"""A plan that stands alone: what it takes and gives is read from the engine that the SDK makes of it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import torch

from torch_tensorrt.contracts.engine import EngineSpec
from torch_tensorrt.contracts.raw import RawEngine, in_order
from torch_tensorrt.engines.tensorrt import sdk as packages
from torch_tensorrt.engines.tensorrt.engine import TensorRTEngine
from torch_tensorrt.engines.tensorrt.payload import Payload
from torch_tensorrt.engines.tensorrt.sdk import DTYPES, Native, Sdk
from torch_tensorrt.spec.errors import EngineNotRunnable, UnsupportedError
from torch_tensorrt.spec.settings import CompilationSettings
from torch_tensorrt.spec.tensor_spec import Dim, TensorSpec

STARTS = {"tensorrt": b"ftrt", "tensorrt_rtx": b"vtrt"}  # of a plan, by what wrote it


def read_raw(raw: RawEngine, spec: EngineSpec, settings: CompilationSettings) -> TensorRTEngine:
    """The engine of a plan; `spec` has all but the tensors. Needs the GPU that it was built for.

    Sizes of outputs that vary are found by each run: a plan doesn't tell how they follow from those of the inputs. The tensors
    are on the GPU, unless `device` in the settings is the CPU. Raises as contracts/raw.py says.
    """
    title = packages.load(spec.backend).title
    if not torch.cuda.is_available():
        raise EngineNotRunnable(
            f"What the raw engine {raw.name!r} takes and gives is told by {title} on a GPU that it was built for, and there is none "
            "here. Embed it on a machine that has one; the module that comes of it can be loaded anywhere."
        )
    core = settings.device.dla_core if settings.device is not None else -1
    payload = Payload(raw.data, host_code=settings.version_compatible, dla_core=core)
    on_cpu = settings.device is not None and settings.device.torch_device().type == "cpu"

    def describe(chosen: Sdk, engine: Native) -> EngineSpec:
        return _Reader(raw, chosen, engine, "cpu" if on_cpu else "cuda").spec(spec)

    with _chosen_gpu(settings):
        return TensorRTEngine.of_plan(spec, payload, describe)


def _chosen_gpu(settings: CompilationSettings) -> AbstractContextManager[object]:
    device = settings.device.torch_device() if settings.device is not None else torch.device("cpu")
    return torch.cuda.device(device) if device.type == "cuda" and torch.cuda.is_available() else nullcontext()


@dataclass(frozen=True)
class _Reader:
    """Asks an engine what its tensors are; `device`: where callers have them."""

    raw: RawEngine
    sdk: Sdk
    engine: Native
    device: str

    def spec(self, spec: EngineSpec) -> EngineSpec:
        """`spec` with the tensors, and the version that could read the plan."""
        names = [str(self.engine.get_tensor_name(place)) for place in range(self.engine.num_io_tensors)]
        mode = self.sdk.member("TensorIOMode", "INPUT")
        taken = [name for name in names if self.engine.get_tensor_mode(name) == mode]
        given = [name for name in names if name not in taken]
        symbols = (f"s{number}" for number in itertools.count())
        return replace(
            spec,
            inputs=tuple(self._input(name, symbols) for name in in_order("inputs", taken, self.raw.inputs)),
            outputs=tuple(self._output(name, symbols) for name in in_order("outputs", given, self.raw.outputs)),
            versions={**spec.versions, self.sdk.name: self.sdk.version},
        )

    def _input(self, name: str, symbols: Iterator[str]) -> TensorSpec:
        profiles = range(int(self.engine.num_optimization_profiles))
        ranges = [self.engine.get_tensor_profile_shape(name, profile) for profile in profiles]
        shape: list[int | Dim] = list(self.engine.get_tensor_shape(name))
        for place, size in enumerate(shape):
            if size == -1:
                low, high = min(one[0][place] for one in ranges), max(one[2][place] for one in ranges)
                shape[place] = Dim(next(symbols), low, ranges[0][1][place], high)
        return TensorSpec(name, self._dtype(name), tuple(shape), self.device)

    def _output(self, name: str, symbols: Iterator[str]) -> TensorSpec:
        shape = tuple(Dim(next(symbols), 0, 1, None) if s == -1 else s for s in self.engine.get_tensor_shape(name))
        return TensorSpec(name, self._dtype(name), shape, self.device)

    def _dtype(self, name: str) -> torch.dtype:
        """Raises UnsupportedError unless the tensor is a plain one in the GPU's memory, of a type that PyTorch has."""
        kind, found = self.engine.get_tensor_dtype(name), str(self.engine.get_tensor_dtype(name)).rpartition(".")[2]
        told = [f"a {found}"] if found not in DTYPES.values() else []
        if self.engine.get_tensor_location(name) != self.sdk.member("TensorLocation", "DEVICE"):
            told.append("in the memory of the CPU")
        if self.engine.get_tensor_format(name) != self.sdk.member("TensorFormat", "LINEAR"):
            told.append(f"in the format {self.engine.get_tensor_format(name)}")
        if told:
            raise UnsupportedError(
                f"{name!r} of the raw engine {self.raw.name!r} is {', '.join(told)}; plain tensors of {', '.join(map(str, DTYPES))} on "
                "the GPU are what an embedded engine takes and gives. Run it with the SDK itself."
            )
        return self.sdk.torch_dtype(kind)
