"""Ways of running the engines of a compiled module: context managers that set something, and set it back."""

# mypy: disable-error-code="type-abstract"
# (an ability is asked for with isinstance, never made)
from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import fx

from torch_tensorrt.contracts.abilities import DescribesLayers, HasProfiles, KeepsKernels, PlacesOutputs
from torch_tensorrt.contracts.engine import Engine
from torch_tensorrt.runtime.direct import EXECUTE
from torch_tensorrt.runtime.op import live_engine
from torch_tensorrt.spec.errors import InputError, UnsupportedError

Ability = TypeVar("Ability")
State = TypeVar("State")


def engines_in(module: torch.nn.Module) -> list[Engine]:
    """The engines that the graph of `module` calls, in order. Raises InputError for anything without such a graph."""
    if not isinstance(module, fx.GraphModule):
        raise InputError(
            f"A {type(module).__name__} has no engines; what torch_tensorrt.compile or torch_tensorrt.load(...).module() returned "
            "is needed."
        )
    holders = dict.fromkeys(node.args[1] for node in module.graph.nodes if node.target is EXECUTE)
    found = [fx.graph_module._get_attr(module, str(node.target)) for node in holders if isinstance(node, fx.Node)]
    return [live_engine(constant).engine for constant in found]


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
    with _set(several, lambda engine: engine.choose_profile(number), lambda engine, old: engine.choose_profile(old)):
        yield


@contextmanager
def enable_pre_allocated_outputs(module: torch.nn.Module) -> Iterator[None]:
    """Inside, the memory of a run's outputs is allocated after the run before it, while the GPU is busy.

    Results are as fresh as ever: each belongs to its caller. Raises UnsupportedError for engines that can't.
    """
    engines = engines_that(module, PlacesOutputs, "does not allocate outputs ahead")
    with _set(engines, lambda engine: engine.place_outputs(ahead=True), _place_back):
        yield


@contextmanager
def enable_output_allocator(module: torch.nn.Module) -> Iterator[None]:
    """Inside, the engines ask for the memory of all their outputs while they run.

    Outputs whose sizes depend on the data get theirs in this way always. Raises UnsupportedError for engines that can't.
    """
    engines = engines_that(module, PlacesOutputs, "does not ask for the memory of outputs")
    with _set(engines, lambda engine: engine.place_outputs(by_engine=True), _place_back):
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
    """Name of each engine -> its layers, as JSON in the SDK's own form. With debug=True at compile time it tells most.

    Raises UnsupportedError for engines of other backends, EngineNotRunnable where TensorRT can't read the engine.
    """
    engines = engines_that(module, DescribesLayers, "does not describe its layers")
    names = [engine.spec.name for engine in engines_in(module)]
    return {name: engine.layer_information() for name, engine in zip(names, engines, strict=True)}


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
