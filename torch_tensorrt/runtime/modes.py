"""Ways of running the engines of a compiled module: context managers that set something, and set it back."""

# mypy: disable-error-code="type-abstract"
# (an ability is asked for with isinstance, never made)
from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import TypeVar

import torch
from torch import fx

from torch_tensorrt.contracts.abilities import DescribesLayers, HasProfiles, KeepsKernels, PlacesOutputs
from torch_tensorrt.contracts.engine import Engine
from torch_tensorrt.runtime.cudagraphs import mode
from torch_tensorrt.runtime.cudagraphs.calls import Options
from torch_tensorrt.runtime.cudagraphs.module import CudaGraphsTorchTensorRTModule
from torch_tensorrt.runtime.direct import EXECUTE
from torch_tensorrt.runtime.module import CompiledModule
from torch_tensorrt.runtime.native import in_python
from torch_tensorrt.runtime.op import LiveEngine, live_engine
from torch_tensorrt.spec.errors import InputError, UnsupportedError

Ability = TypeVar("Ability")
State = TypeVar("State")


class Restored:
    """What a switch gives that may be used as a context manager: `restore` is called at the end of the block."""

    def __init__(self, restore: Callable[[], object]) -> None:
        self._restore = restore

    def __enter__(self) -> None:
        """It was switched already."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()


def engines_in(module: torch.nn.Module) -> list[Engine]:
    """The engines that the graph of `module` calls, in order. Raises InputError for anything without such a graph."""
    return [live.engine for live in _live_engines_in(module)]


def _live_engines_in(module: torch.nn.Module) -> list[LiveEngine]:
    if isinstance(module, CudaGraphsTorchTensorRTModule):
        module = module.compiled_module
    if not isinstance(module, fx.GraphModule):
        raise InputError(
            f"A {type(module).__name__} has no engines; what torch_tensorrt.compile or torch_tensorrt.load(...).module() returned "
            "is needed."
        )
    holders = dict.fromkeys(node.args[1] for node in module.graph.nodes if node.target is EXECUTE)
    found = [fx.graph_module._get_attr(module, str(node.target)) for node in holders if isinstance(node, fx.Node)]
    return [live_engine(constant) for constant in found]


def engines_that(module: torch.nn.Module, ability: type[Ability], what: str) -> list[Ability]:
    """All engines of `module`, each of which can do `ability`. Raises UnsupportedError naming one that can't do `what`."""
    found = engines_in(module)
    for engine in found:
        if not isinstance(engine, ability):
            raise UnsupportedError(
                f"Engine {engine.spec.name!r} of the {engine.spec.backend!r} backend {what}; the TensorRT engines do."
            )
    if not found:
        raise UnsupportedError(
            f"The module has no engine that {what.replace('does not', 'could')}: all runs in PyTorch."
        )
    return [engine for engine in found if isinstance(engine, ability)]


@contextmanager
def optimization_profile(module: torch.nn.Module, profile: int | str) -> Iterator[None]:
    """`with optimization_profile(module, 1): ...` runs with the second of the ranges of `Input(profiles=[...])`.

    profile: counted from 0, or "auto", the way of every run outside: the first range that the sizes are in. Engines with one
    range go on with it. Sizes outside the range are an InputError when the engine runs. Not for two threads at once: the
    choice is the module's. Raises InputError for a profile that there isn't, UnsupportedError for engines without profiles.
    """
    if profile != "auto" and (isinstance(profile, bool) or not isinstance(profile, int)):
        raise InputError(f"profile={profile!r}: a number, counted from 0, or 'auto' is needed.")
    engines = engines_that(module, HasProfiles, "does not have several profiles")
    counts = [len(engine.profiles()) for engine in engines]
    if isinstance(profile, int) and not 0 <= profile < max(counts):
        known = engines[counts.index(max(counts))].profiles()
        raise InputError(f"There is no profile {profile}; the module has {'; '.join(known)}.")
    number = profile if isinstance(profile, int) else None
    several = [engine for engine, count in zip(engines, counts, strict=True) if count > 1]
    with (
        _captured_anew(module),
        _set(several, lambda engine: engine.choose_profile(number), lambda engine, old: engine.choose_profile(old)),
    ):
        yield


@contextmanager
def enable_pre_allocated_outputs(module: torch.nn.Module) -> Iterator[None]:
    """Inside, no run waits for the memory of its outputs.

    Without CUDA graphs it is allocated after the run before, while the GPU is busy; results are as fresh as ever. Of calls that
    are replayed from CUDA graphs the results are the graph's own: they are valid until the next call with inputs of these sizes,
    which writes over them. Raises UnsupportedError for engines that can do neither.
    """
    replayed = isinstance(module, CudaGraphsTorchTensorRTModule) or mode.each_engine or mode.whole
    engines: Sequence[PlacesOutputs]
    if replayed:
        engines = [engine for engine in engines_in(module) if isinstance(engine, PlacesOutputs)]
    else:
        engines = engines_that(module, PlacesOutputs, "does not allocate outputs ahead")
    graphs = _graph_options(module) if replayed else []
    with (
        _set(graphs, lambda options: options.give(own=False), lambda options, old: options.give(own=old)),
        _set(engines, lambda engine: engine.place_outputs(ahead=True), _place_back),
    ):
        yield


@contextmanager
def _captured_anew(module: torch.nn.Module) -> Iterator[None]:
    """Engines run otherwise inside than outside: CUDA graphs of one are not replayed in the other."""
    forget_graphs(module)
    try:
        yield
    finally:
        forget_graphs(module)


def forget_graphs(module: torch.nn.Module) -> None:
    """Drops the CUDA graphs of the module and of its engines."""
    if isinstance(module, CudaGraphsTorchTensorRTModule):
        module.forget()
    elif isinstance(module, CompiledModule):
        module.whole_calls().forget()
    for live in _live_engines_in(module):
        live.graphs.forget()


def _graph_options(module: torch.nn.Module) -> list[Options]:
    """Of the module's graphs, and those of its engines."""
    if isinstance(module, CudaGraphsTorchTensorRTModule):
        return [module.options]
    whole = [module.whole_calls().options] if isinstance(module, CompiledModule) else []
    return [*whole, *(live.graphs.options for live in _live_engines_in(module))]


@contextmanager
def enable_output_allocator(module: torch.nn.Module) -> Iterator[None]:
    """Inside, the engines ask for the memory of all their outputs while they run.

    Outputs whose sizes depend on the data get theirs in this way always. Raises UnsupportedError for engines that can't.
    """
    engines = engines_that(module, PlacesOutputs, "does not ask for the memory of outputs")
    with _captured_anew(module), _set(engines, lambda engine: engine.place_outputs(by_engine=True), _place_back):
        yield


@contextmanager
def runtime_cache(
    target_or_targets: torch.nn.Module | Sequence[torch.nn.Module], path: str = "", autosave: bool = True
) -> Iterator[None]:
    """Inside, kernels that TensorRT-RTX compiles while it runs are taken from the file `path`, and kept in it.

    path: "" for the usual file, in the user's cache folder. autosave: write the file at the end. TensorRT compiles nothing
    when it runs: no file comes of it. Raises UnsupportedError for engines of other backends.
    """
    targets = target_or_targets if isinstance(target_or_targets, Sequence) else [target_or_targets]
    engines = [engine for module in targets for engine in engines_that(module, KeepsKernels, "does not keep kernels")]
    with _set(engines, lambda engine: engine.keep_kernels(path or None), lambda engine, old: engine.keep_kernels(old)):
        try:
            yield
        finally:
            for engine in engines if autosave else ():
                engine.save_kernels()


def get_layer_info(module: torch.nn.Module) -> Mapping[str, str]:
    """Name of each engine -> JSON with its layers, in the list "Layers", as its SDK tells them, and its "Bindings".

    TensorRT tells most with debug=True at compile time. Raises UnsupportedError for a module without engines, or with one of a
    backend that can't tell, EngineNotRunnable where TensorRT can't read the engine.
    """
    found = {engine.spec.name: in_python(engine) for engine in engines_in(module)}
    if not found:
        raise UnsupportedError("The module has no engine that could tell its layers: all runs in PyTorch.")
    told = {}
    for name, engine in found.items():
        if not isinstance(engine, DescribesLayers):
            raise UnsupportedError(f"Engine {name!r} of the {engine.spec.backend!r} backend does not tell its layers.")
        told[name] = engine.layer_information()
    return told


def _place_back(engine: PlacesOutputs, old: tuple[bool, bool]) -> None:
    engine.place_outputs(ahead=old[0], by_engine=old[1])


@contextmanager
def _set(
    engines: Sequence[Ability], change: Callable[[Ability], State], back: Callable[[Ability, State], object]
) -> Iterator[None]:
    """Changes all engines or, where one refuses, none; and sets all back."""
    done: list[tuple[Ability, State]] = []
    try:
        for engine in engines:
            done.append((engine, change(engine)))  # noqa: PERF401 - after an error those before it are set back
        yield
    finally:
        for engine, old in reversed(done):
            back(engine, old)
