"""Native code made by AOTInductor as an Engine. It is loaded, which runs code from it, when the engine is first run."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Mapping, Sequence
from contextlib import nullcontext

import torch
from torch import Tensor
from torch.export import ExportedProgram

from torch_tensorrt.contracts.abilities import LayerTime, layers_as_json
from torch_tensorrt.contracts.engine import Engine, EngineSpec
from torch_tensorrt.engines.inductor import sdk
from torch_tensorrt.engines.inductor.copies import Copies
from torch_tensorrt.engines.inductor.cxx import compiler
from torch_tensorrt.engines.inductor.first_runs import FirstRuns, measuring
from torch_tensorrt.engines.inductor.kernels import read_kernels, time_kernels
from torch_tensorrt.engines.inductor.payload import Payload
from torch_tensorrt.engines.inductor.programs import FORMATS, give_examples, read_program
from torch_tensorrt.observe.log import logger
from torch_tensorrt.spec.errors import BuildError, EngineNotRunnable, FileFormatError, InputError, UnsupportedError

_log = logger(__name__)


@dataclasses.dataclass(frozen=True)
class _Loaded:
    """A package in the memory of a device, and the weights that it borrows."""

    loader: sdk.Loader
    weights: Mapping[str, Tensor]


class InductorEngine(Engine):
    """Runs a package of native code; one copy per GPU that its inputs come from."""

    def __init__(self, spec: EngineSpec, payload: Payload) -> None:
        self.spec = spec
        self._payload = payload
        self._copies: dict[torch.device, Copies[_Loaded]] = {}
        self._lock = threading.RLock()
        self._timed: InductorEngine | None = None
        tensors = (*spec.inputs, *spec.outputs)
        self._on_gpu = any(tensor.device == "cuda" for tensor in tensors)
        self._formats = tuple(FORMATS[name] for name in payload.formats)
        self._exact = self._on_gpu and not payload.choices.tf32
        self._first_runs = FirstRuns() if self._on_gpu and payload.choices.measured else None
        plain = all(form is torch.contiguous_format for form in self._formats)
        whole = not any(tensor.dtype.is_complex for tensor in tensors)
        self._alone = not self._on_gpu and plain and whole and len(spec.outputs) == 1
        self._loader: sdk.Loader | None = None  # of the code on a CPU, once it has run

    def run(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Outputs for `inputs`, contiguous and in memory of their own; on a GPU on the current stream of its device.

        What PyTorch raises passes through. Raises EngineNotRunnable, on the first run, when the code is for another machine
        and can't be compiled again here, FileFormatError when it can't be loaded.
        """
        if self._alone:
            return self._run_alone(inputs)
        device = self._device(inputs) if self._on_gpu else _CPU
        if (
            self._on_gpu and device.index != torch.cuda.current_device()
        ):  # the code runs on the current GPU's current stream
            with torch.cuda.device(device):
                return self.run(inputs)
        loaded = self._loaded(device)
        given = [_in_format(tensor, form) for tensor, form in zip(inputs, self._formats, strict=True)]
        taken = [_memory(tensor) for tensor in (*inputs, *given)]
        outputs = self._call(loaded.loader, given)
        return tuple([_own(output, taken) for output in outputs])

    def _run_alone(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The same on a CPU, for one result: looking at the storages of all tensors is a fourth of what a small network takes.

        All that the code reads lies densely from an input's address on, and so does what it returns of it.
        """
        loader = self._loader
        if loader is None:
            loader = self._loader = self._loaded(_CPU).loader
        given = [
            tensor if tensor.is_contiguous() and not tensor.is_neg() else _in_format(tensor, torch.contiguous_format)
            for tensor in inputs
        ]
        read = [(tensor.data_ptr(), tensor.nbytes) for tensor in given]
        (output,) = loader.boxed_run(given)
        start, size = output.data_ptr(), output.nbytes
        for other, extent in read:
            if start < other + extent and other < start + size:
                return (output.detach().clone(memory_format=torch.contiguous_format),)
        return (output if output.is_contiguous() else output.contiguous(),)

    def _call(self, loader: sdk.Loader, given: list[Tensor]) -> list[Tensor]:
        measures = self._first_runs is not None and self._first_runs.is_first(given)
        with sdk.exact_float32() if self._exact else nullcontext(), measuring() if measures else nullcontext():
            return loader.boxed_run(given)

    def layer_information(self) -> str:
        """The kernels that Inductor made, and the calls of PyTorch's own; on a GPU the package may not tell all."""
        return layers_as_json(self.spec, read_kernels(self._payload.package))

    def run_timed(self, inputs: Sequence[Tensor]) -> tuple[tuple[Tensor, ...], Sequence[LayerTime]]:
        """Runs under torch.profiler, one run at a time; for a CPU the engine is compiled again first, with marks in its code."""
        with self._lock:
            if self._timed is None:
                self._timed = self if self._on_gpu else self._marked()
            timed = self._timed
            timed.run(inputs)  # loads it, which is no part of a run
            return time_kernels(lambda: timed.run(inputs), on_gpu=self._on_gpu)

    def _marked(self) -> InductorEngine:
        program = self.program()
        give_examples(program, self.spec.inputs, _CPU)
        try:
            package, choices = sdk.compile_package(program, self._payload.choices, _CPU, marked=True)
        except EngineNotRunnable:  # there is no compiler
            raise
        except Exception as error:  # Inductor raises classes of its own and those of what it calls
            raise BuildError(f"Engine {self.spec.name!r} could not be compiled to be timed: {error}") from error
        return InductorEngine(self.spec, dataclasses.replace(self._payload, package=package, choices=choices))

    def _device(self, inputs: Sequence[Tensor]) -> torch.device:
        devices = {tensor.device for tensor in inputs if tensor.is_cuda}
        if len(devices) > 1:
            raise InputError(
                f"Engine {self.spec.name!r} was given inputs on {', '.join(sorted(map(str, devices)))}; move them to one device."
            )
        return devices.pop() if devices else torch.device("cuda", torch.cuda.current_device())

    def _loaded(self, device: torch.device) -> _Loaded:
        """The code in memory, for a run on the current stream."""
        copies = self._copies.get(device) or self._make_copies(device)
        captured = self._on_gpu and torch.cuda.is_current_stream_capturing()
        return (None if captured else copies.ready) or copies.take()

    def _make_copies(self, device: torch.device) -> Copies[_Loaded]:
        with self._lock:
            if device not in self._copies:
                self._check_home(device)
                self._fit(device)
                runners = sdk.RUNNERS if self._on_gpu else 0
                self._copies[device] = Copies(self.spec.name, lambda other: self._place(device, other), runners)
            return self._copies[device]

    def _check_home(self, device: torch.device) -> None:
        """Raises InputError unless `device` is where the weights are, or where the engine ran before.

        On a second GPU of one process results were seen that are wrong.
        """
        weights = {weight.device for weight in self._payload.weights.values() if weight.is_cuda}
        homes = weights | set(self._copies)
        if homes and device not in homes:
            raise InputError(
                f"Engine {self.spec.name!r} was given inputs on {device}, and is on {', '.join(sorted(map(str, homes)))}. Move the "
                "inputs there (torch_tensorrt.runtime.set_multi_device_safe_mode(True) does at every call), or compile or load the "
                "model once more for the other GPU."
            )

    def _place(self, device: torch.device, other: _Loaded | None) -> _Loaded:
        """Another copy of the code. The weights are those of the `other`, where there is one."""
        payload = self._payload
        borrows = payload.choices.apart or payload.choices.refittable
        try:
            loader = sdk.load_package(payload.package, device)
            weights: Mapping[str, Tensor] = {}
            if borrows:
                weights = other.weights if other else {name: w.to(device) for name, w in payload.weights.items()}
            if weights:
                sdk.load_weights(loader, weights, apart=payload.choices.apart)
        except RuntimeError as error:
            raise FileFormatError(
                f"The code of engine {self.spec.name!r}, built for {_built(self.spec)}, can't be loaded: {error}"
            ) from error
        return _Loaded(loader, weights)

    def check_fits(self) -> None:
        """Raises EngineNotRunnable where the code is for another processor and nothing can compile it again."""
        if not self._on_gpu:
            self._needed_compiler(_CPU)

    def _needed_compiler(self, device: torch.device) -> str:
        """What compiles the program again where the code is another PyTorch's or another machine's; "" where the code fits."""
        same_torch = self.spec.versions.get("torch") == torch.__version__
        if same_torch and sdk.runs_on(self.spec.target, device):
            return ""
        try:
            return compiler()
        except EngineNotRunnable as error:
            raise EngineNotRunnable(
                f"Engine {self.spec.name!r} was built for {_built(self.spec)}; this is {_here(device)}. It could be compiled again "
                f"here, but: {error} Or save the model again on a machine like this one."
            ) from error

    def _fit(self, device: torch.device) -> None:
        """Compiles the program again when the code was made by another PyTorch or for another machine."""
        command, here = self._needed_compiler(device), _here(device)
        if not command:
            return
        _log.warning(
            "Engine %r was built for %s; this is %s. It is compiled again now, with %s; save it here to load it fast.",
            self.spec.name, _built(self.spec), here, command,
        )  # fmt: skip
        program = self.program()
        give_examples(program, self.spec.inputs, device)
        try:
            package, choices = sdk.compile_package(program, self._payload.choices, device)
        except Exception as error:  # Inductor raises classes of its own and those of what it calls
            raise BuildError(f"Engine {self.spec.name!r} could not be compiled again for {here}: {error}") from error
        self._payload = dataclasses.replace(self._payload, package=package, choices=choices)
        versions = {**self.spec.versions, "torch": torch.__version__}
        self.spec = dataclasses.replace(self.spec, target=sdk.target(device), versions=versions)

    def program(self) -> ExportedProgram:
        """What the code was compiled from, with the weights of now. Nothing native is loaded."""
        return read_program(memoryview(self._payload.program), self._payload.weights)

    def raw_bytes(self) -> bytes:
        """The package that `torch._inductor.aoti_load_package` reads, with its weights: compiled again where it has none.

        Raises BuildError when that fails.
        """
        choices = self._payload.choices
        if not choices.apart:
            return bytes(self._payload.package)
        device = torch.device("cuda" if self._on_gpu else "cpu")
        program = self.program()
        give_examples(program, self.spec.inputs, device)
        try:
            package, _ = sdk.compile_package(program, dataclasses.replace(choices, apart=False), device)
        except Exception as error:  # Inductor raises classes of its own and those of what it calls
            raise BuildError(f"Engine {self.spec.name!r} could not be compiled with its weights: {error}") from error
        return package

    def to_bytes(self) -> bytes:
        """The code, the program and the weights, as payload.py describes."""
        return self._payload.write()

    def refit(self, weights: Mapping[str, Tensor]) -> Engine:
        """The engine with copies of `weights` as its constants. Nothing is compiled.

        Raises UnsupportedError unless it was built with immutable_weights=False, InputError when a constant is missing or of
        another dtype or shape.
        """
        if not self._payload.choices.refittable:
            raise UnsupportedError(
                f"Engine {self.spec.name!r} was built to keep its weights; compile the model again, with immutable_weights=False "
                "to be able to replace them."
            )
        known = self._payload.weights
        replaced = {name: _replacement(name, old, weights.get(name)) for name, old in known.items()}
        return InductorEngine(self.spec, dataclasses.replace(self._payload, weights=replaced))


_CPU = torch.device("cpu")


def _here(device: torch.device) -> str:
    return f"{sdk.target(device)!r} with PyTorch {torch.__version__}"


def _built(spec: EngineSpec) -> str:
    return f"{spec.target!r} with PyTorch {spec.versions.get('torch')}"


def _in_format(tensor: Tensor, memory_format: torch.memory_format) -> Tensor:
    if tensor.is_contiguous(memory_format=memory_format) and not tensor.is_neg() and not tensor.is_conj():
        return tensor
    return tensor.detach().resolve_neg().resolve_conj().contiguous(memory_format=memory_format)


def _own(output: Tensor, taken: list[tuple[int, int]]) -> Tensor:
    """`output`, or a copy where it isn't contiguous or lies in memory that is `taken`: an input's, or another result's."""
    start, end = _memory(output)
    if not output.is_contiguous() or any(start < other and first < end for first, other in taken):
        output = output.detach().clone(memory_format=torch.contiguous_format)
        start, end = _memory(output)
    taken.append((start, end))
    return output


def _memory(tensor: Tensor) -> tuple[int, int]:
    """First address of its storage, and the one after the last. Native code may give one piece of memory two storages."""
    storage = tensor.untyped_storage()
    start = storage.data_ptr()
    return start, start + storage.nbytes()


def _replacement(name: str, old: Tensor, new: Tensor | None) -> Tensor:
    if new is None or new.dtype != old.dtype or new.shape != old.shape:
        given = "nothing" if new is None else f"{new.dtype} {tuple(new.shape)}"
        raise InputError(f"Weight {name!r} is {old.dtype} {tuple(old.shape)}; {given} was given to replace it.")
    return torch.empty_strided(old.shape, old.stride(), dtype=old.dtype, device=old.device).copy_(new.detach())
