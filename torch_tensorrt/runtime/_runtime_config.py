"""The documented settings of running engines. They change no engine, only how TensorRT-RTX runs it."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass

import torch

from torch_tensorrt.contracts.abilities import KeepsKernels, SpecialisesKernels
from torch_tensorrt.contracts.engine import Engine
from torch_tensorrt.runtime._runtime_cache import RuntimeCache
from torch_tensorrt.runtime.modes import engines_in
from torch_tensorrt.spec.errors import InputError, UnsupportedError

STRATEGIES = ("lazy", "eager", "none")
RTX = "tensorrt_rtx"  # the backend whose engines compile kernels when they run


@dataclass(frozen=True)
class RuntimeSettings:
    """How engines of TensorRT-RTX run; `runtime_config(module, ...)` applies them for a block.

    dynamic_shapes_kernel_specialization_strategy: when kernels are compiled for the sizes of inputs that vary. "lazy": in the
    background, while general ones run; "eager": before the run; "none": never. cuda_graph_strategy: only "disabled"; see
    `torch_tensorrt.runtime.enable_cudagraphs`. runtime_cache: a RuntimeCache, or the path of the file that compiled kernels are
    kept in; None: the usual one, in the user's cache folder; "": none.

    Raises InputError for other values, UnsupportedError for another cuda_graph_strategy.
    """

    dynamic_shapes_kernel_specialization_strategy: str = "lazy"
    cuda_graph_strategy: str = "disabled"
    runtime_cache: str | RuntimeCache | None = None

    def __post_init__(self) -> None:
        strategy = self.dynamic_shapes_kernel_specialization_strategy
        if strategy not in STRATEGIES:
            raise InputError(
                f"dynamic_shapes_kernel_specialization_strategy={strategy!r} is not known; it is {', '.join(map(repr, STRATEGIES))}."
            )
        if self.cuda_graph_strategy == "whole_graph_capture":
            raise UnsupportedError(
                "cuda_graph_strategy='whole_graph_capture' is not here: use torch_tensorrt.runtime.enable_cudagraphs."
            )
        if self.cuda_graph_strategy != "disabled":
            raise InputError(f"cuda_graph_strategy={self.cuda_graph_strategy!r} is not known; it is 'disabled'.")
        if not isinstance(self.runtime_cache, (str, RuntimeCache, type(None))):
            raise InputError(f"runtime_cache={self.runtime_cache!r}: a path, a RuntimeCache or None is needed.")

    def merge(self, **overrides: object) -> RuntimeSettings:
        """These settings with others in their place. Raises InputError for a name that there isn't."""
        known = [field.name for field in dataclasses.fields(self)]
        unknown = sorted(set(overrides) - set(known))
        if unknown:
            raise InputError(f"There is no runtime setting {unknown[0]!r}; there are {', '.join(known)}.")
        return dataclasses.replace(self, **overrides)  # type: ignore[arg-type]


@contextmanager
def runtime_config(
    target_or_targets: torch.nn.Module | Sequence[torch.nn.Module], **overrides: object
) -> Iterator[RuntimeSettings]:
    """Inside, the engines of the module or modules run with these settings (fields of RuntimeSettings); after it as before.

    What isn't named stays as it is. Engines of other backends compile nothing when they run: a UserWarning says that nothing
    changes for them. Raises InputError for unknown settings and values.
    """
    settings = RuntimeSettings().merge(**overrides)
    targets = target_or_targets if isinstance(target_or_targets, Sequence) else [target_or_targets]
    engines = [engine for module in targets for engine in engines_in(module)]
    _warn_others(engines, overrides)
    with ExitStack() as stack:
        for engine in engines:
            if "runtime_cache" in overrides and isinstance(engine, KeepsKernels):
                stack.callback(engine.keep_kernels, engine.keep_kernels(_path(settings.runtime_cache, engine)))
                stack.callback(engine.save_kernels)
            if "dynamic_shapes_kernel_specialization_strategy" in overrides and isinstance(engine, SpecialisesKernels):
                strategy = settings.dynamic_shapes_kernel_specialization_strategy
                stack.callback(engine.specialise_kernels, engine.specialise_kernels(strategy))
        yield settings


def set_dynamic_shapes_kernel_strategy(
    target_or_targets: torch.nn.Module | Sequence[torch.nn.Module], strategy: str
) -> AbstractContextManager[RuntimeSettings]:
    """`with set_dynamic_shapes_kernel_strategy(module, "eager"): ...`: that setting of `runtime_config` alone."""
    return runtime_config(target_or_targets, dynamic_shapes_kernel_specialization_strategy=strategy)


def _path(cache: str | RuntimeCache | None, engine: KeepsKernels) -> str | None:
    if isinstance(cache, RuntimeCache):
        cache.attach(engine)
        return str(cache.file)
    return cache


def _warn_others(engines: Sequence[Engine], overrides: dict[str, object]) -> None:
    others = sorted({engine.spec.backend for engine in engines if engine.spec.backend != RTX})
    if others and overrides:
        warnings.warn(
            f"{', '.join(overrides)}: engines of {', '.join(map(repr, others))} compile no kernels when they run, so that nothing "
            "changes for them; TensorRT-RTX does.",
            UserWarning,
            stacklevel=4,
        )
