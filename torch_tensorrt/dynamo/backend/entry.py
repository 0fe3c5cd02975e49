"""The backend function that torch.compile calls with each graph, and the verb that calls torch.compile."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace

import torch
from torch import Tensor, fx, nn

from torch_tensorrt.compiler import compile_graph
from torch_tensorrt.dynamo.backend.capture import Boxed, Captured, capture
from torch_tensorrt.dynamo.backend.gradients import DifferentiableGraph
from torch_tensorrt.dynamo.backend.weights import WeightedGraph
from torch_tensorrt.engine_choice import choose_backend_for
from torch_tensorrt.lowering.decompositions import decomposition_table
from torch_tensorrt.observe.log import AtLevel, logger, warn_once
from torch_tensorrt.observe.quiet import quiet_torch
from torch_tensorrt.spec.errors import BuildError, InputError, InternalError, UnsupportedError
from torch_tensorrt.spec.settings import CompilationSettings

_log = logger("dynamo.backend")


def torch_compile(
    module: nn.Module | Callable[..., object], *, dynamic: bool | None = None, fullgraph: bool = False, **kwargs: object
) -> Callable[..., object]:
    """`torch.compile(module, backend="torch_tensorrt", options=kwargs)`, with the options checked at once.

    Nothing is compiled before the result is called.

    Args:
        module: an nn.Module or a function.
        dynamic: as for torch.compile: None lets sizes vary once they have, True from the start, False never.
        fullgraph: as for torch.compile: True refuses Python that can't be in one graph.
        **kwargs: the options of CompilationSettings.

    Raises:
        InputError: an option is unknown or has a wrong value.
    """
    _settings({"options": kwargs})
    backend = torch_tensorrt_backend  # the function itself, so that it is found where nothing is installed
    compiled: Callable[..., object] = torch.compile(
        module,
        backend=backend,
        dynamic=dynamic,
        fullgraph=fullgraph,
        options=kwargs,  # type: ignore[arg-type]
    )
    return compiled


def torch_tensorrt_backend(
    gm: fx.GraphModule, sample_inputs: Sequence[object], **kwargs: object
) -> Callable[..., Sequence[object]]:
    """What runs in place of `gm`, for torch.compile.

    Args:
        gm: a graph of PyTorch calls, as Dynamo makes it.
        sample_inputs: one per input of the graph: tensors, ints and symbolic ints.
        **kwargs: `options`, a dict with the options of CompilationSettings; or these themselves.

    Returns:
        A function of the graph's inputs. When no engine can be built for the graph it is `gm` itself, after a warning that
        says why.

    Raises:
        InputError: an option is unknown or has a wrong value, or the engine that was asked for can't be used here.
        UnsupportedError, BuildError: instead of that warning, with pass_through_build_failures or require_full_compilation.
    """
    settings = _settings(kwargs)
    try:
        with quiet_torch(), AtLevel(logging.DEBUG) if settings.debug else nullcontext():
            return _compile(gm, sample_inputs, settings)
    except (UnsupportedError, BuildError, InternalError) as error:
        if settings.pass_through_build_failures or settings.require_full_compilation:
            raise
        _log.warning("A graph of %d node(s) runs in PyTorch: %s: %s", len(gm.graph.nodes), type(error).__name__, error)
        run: Callable[..., Sequence[object]] = gm.forward
        return run


def _settings(kwargs: Mapping[str, object]) -> CompilationSettings:
    others = {name: value for name, value in kwargs.items() if name not in {"options", "mode"}}
    options = kwargs.get("options") or {}
    if not isinstance(options, Mapping) or not all(isinstance(name, str) for name in options):
        raise InputError(f"options is {options!r:.200}; a dict from option name to value is needed.")
    if kwargs.get("mode"):
        raise InputError(
            f"mode={kwargs['mode']!r} is for Inductor; say what is meant in options, as in options={{'optimization_level': 5}}."
        )
    return CompilationSettings.from_options(**{**options, **others})


def _compile(
    gm: fx.GraphModule, inputs: Sequence[object], settings: CompilationSettings
) -> Callable[..., Sequence[object]]:
    tensors = [given for given in (*inputs, *gm.parameters(), *gm.buffers()) if isinstance(given, Tensor)]
    choice = choose_backend_for(_device(tensors), settings)
    backend = choice[0]
    for told in backend.unhonoured(settings):
        warn_once(f"{backend.name}: {told}", told)
    gradients = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    if gradients:
        _require_repeatable(_unrepeatable(gm))
    # Constants that could be exchanged are of no use here: a changed weight builds the engine again, or is an input.
    for_engines = replace(settings, immutable_weights=True)

    def compile_captured(captured: Captured) -> Boxed:
        if gradients:
            _require_repeatable(captured.impure)

        def build(graph_module: fx.GraphModule) -> fx.GraphModule:
            with quiet_torch(), torch.no_grad(), torch._C._DisableAutocast():  # its casts are in the graph
                return compile_graph(graph_module, choice, captured.ranges, for_engines)[0]

        return WeightedGraph(captured.module, captured.weights if settings.immutable_weights else {}, build)

    run = capture(gm, inputs, decomposition_table(backend.keep_whole(settings)), compile_captured)
    return DifferentiableGraph(run, gm) if gradients else run


def _device(tensors: Sequence[Tensor]) -> torch.device:
    """Where the graph computes: a graph with anything on an accelerator computes there."""
    devices = [tensor.device for tensor in tensors]
    return next((device for device in devices if device.type != "cpu"), torch.device("cpu"))


def _unrepeatable(gm: fx.GraphModule) -> str:
    if any(parameter.requires_grad for parameter in gm.parameters()):
        return "the graph holds parameters of its own"
    return "autocast is on" if any(torch.is_autocast_enabled(kind) for kind in ("cpu", "cuda")) else ""


def _require_repeatable(why: str) -> None:
    """Gradients are computed by running the graph a second time, in PyTorch."""
    if why:
        raise UnsupportedError(
            f"engines only infer, this call records gradients, and they could not be computed afterwards: {why}. To infer, call the "
            "model in eval() and in torch.no_grad() or torch.inference_mode()."
        )
