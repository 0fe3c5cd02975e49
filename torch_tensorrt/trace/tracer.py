"""A model and its inputs become one ExportedProgram. The only place where dynamic sizes enter the pipeline."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import fx, nn
from torch.export import ExportedProgram
from torch.utils._sympy.value_ranges import ValueRanges

from torch_tensorrt.graphs.predictions import PREDICTING
from torch_tensorrt.observe.log import logger
from torch_tensorrt.observe.quiet import without_partial_graphs
from torch_tensorrt.spec.errors import InputError, InternalError
from torch_tensorrt.trace.call_inputs import CallInputs, collect_inputs
from torch_tensorrt.trace.dynamic_shapes import dynamic_shapes_for, example_tensor, ranges_of
from torch_tensorrt.trace.explaining import explained
from torch_tensorrt.trace.guards import check_guards, warn_of_narrowed_ranges
from torch_tensorrt.trace.symbols import tensor_inputs, tensor_leaves

_log = logger("trace")


def trace(
    mod: nn.Module | fx.GraphModule | ExportedProgram,
    inputs: object = None,
    *,
    arg_inputs: object = None,
    kwarg_inputs: Mapping[str, object] | None = None,
    **kwargs: object,
) -> ExportedProgram:
    """The ExportedProgram of `mod` for `inputs` (or `arg_inputs`) and `kwarg_inputs`.

    Args:
        mod: an nn.Module or fx.GraphModule; an ExportedProgram is given back as it is.
        inputs: one entry per positional argument: torch_tensorrt.Input, tensor, shape, scalar, None or a nest of these.
        arg_inputs: the same under its other documented name.
        kwarg_inputs: keyword arguments by name.
        **kwargs: `strict` (default False) and `dynamic_shapes` (overrides the ranges of the Inputs) go to torch.export;
            compile options are ignored, so that one dict can serve trace and compile.

    Raises:
        InputError: the inputs are missing, of a wrong type, don't fit forward, or a size that should vary can't.
        UnsupportedError: torch.export can't trace the model; its own words are quoted.
    """
    if isinstance(mod, ExportedProgram):
        return mod
    if not isinstance(mod, nn.Module):
        raise InputError(
            f"A {type(mod).__name__} can't be traced; pass an nn.Module, fx.GraphModule or ExportedProgram."
        )
    call = collect_inputs(inputs, arg_inputs, kwarg_inputs)
    device = _device_of(mod)
    examples = call.map(lambda leaf: example_tensor(leaf, device))
    dynamic_shapes = kwargs.get("dynamic_shapes") or dynamic_shapes_for(mod, call)
    with _evaluation_mode(mod), torch.no_grad(), without_autocast():
        program = _export(mod, examples, dynamic_shapes, strict=bool(kwargs.get("strict", False)))
    check_guards(program, call)
    _restore_lower_bounds(program, call)
    warn_of_narrowed_ranges(program, call)
    return program


def _export(model: nn.Module, examples: CallInputs, dynamic_shapes: object, *, strict: bool) -> ExportedProgram:
    kwargs = dict(examples.kwargs)
    try:
        with PREDICTING, without_partial_graphs():
            return torch.export.export(model, examples.args, kwargs, dynamic_shapes=dynamic_shapes, strict=strict)  # type: ignore[arg-type]
    except Exception as error:
        raise explained(model, error) from error


@contextmanager
def without_autocast() -> Iterator[None]:
    """Within, operators give the dtypes that the graph says: torch.export records autocast only where the model itself turns it on."""
    if torch._C._is_any_autocast_enabled():
        _log.warning(
            "The model is compiled as without the autocast that is on here, which isn't part of it. Turn autocast on in the model's "
            "forward, or let engines compute in a shorter dtype: enabled_precisions={torch.bfloat16}."
        )
    with torch._C._DisableAutocast():
        yield


def _device_of(model: nn.Module) -> torch.device:
    for tensor in (*model.parameters(), *model.buffers()):
        return tensor.device
    return torch.device("cpu")


@contextmanager
def _evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Traces as in eval(); every submodule's own mode is put back afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    if model.training and _mode_matters(model):
        _log.warning(
            "The model is in training mode; it is compiled as in eval(): dropout is off and batch norm uses its running "
            "statistics. Call model.eval() before compiling to make this explicit."
        )
    try:
        for module, _ in modes:
            module.training = False
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def _mode_matters(model: nn.Module) -> bool:
    return bool(list(model.children())) or type(model).__module__.startswith("torch.nn")


def _restore_lower_bounds(program: ExportedProgram, call: CallInputs) -> None:
    """torch.export narrows an inferred range to 2..max; the caller's own lower bound (0 or 1) is put back.

    That is what torch.export itself does for a named Dim: the graph is the same, only the recorded range differs.
    """
    leaves, nodes = tensor_leaves(call), tensor_inputs(program)
    if len(leaves) != len(nodes):
        raise InternalError(f"The exported program has {len(nodes)} tensor inputs for {len(leaves)} described ones.")
    lowest: dict[object, int] = {}
    for leaf, node in zip(leaves, nodes, strict=True):
        for dim, (low, _, _) in ranges_of(leaf).items():
            size = node.meta["val"].shape[dim]
            if isinstance(size, torch.SymInt) and size.node.expr.is_symbol:
                lowest[size.node.expr] = max(low, lowest.get(size.node.expr, 0))
    constraints: dict[Any, ValueRanges[Any]] = program.range_constraints
    for symbol, low in lowest.items():
        bounds = constraints.get(symbol)
        if bounds is not None and low < 2 and bounds.lower == 2:
            constraints[symbol] = ValueRanges(low, bounds.upper)
