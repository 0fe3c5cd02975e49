"""Which ExportedProgram a module is saved as: its own graph, or one traced again for given inputs or Dims."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sympy
import torch
from torch import fx, nn
from torch.export import ExportedProgram
from torch.fx.graph import _PyTreeCodeGen
from torch.utils import _pytree as pytree
from torch.utils._sympy.value_ranges import ValueRanges

from torch_tensorrt.graphs.predictions import PREDICTING
from torch_tensorrt.observe.log import logger
from torch_tensorrt.package.describing import input_specs
from torch_tensorrt.package.lifting import lift
from torch_tensorrt.runtime.module import CompiledModule
from torch_tensorrt.spec.errors import InputError, UnsupportedError
from torch_tensorrt.spec.input import Input
from torch_tensorrt.spec.tensor_spec import Dim, TensorSpec
from torch_tensorrt.trace.call_inputs import CallInputs
from torch_tensorrt.trace.dynamic_shapes import example_tensor, ranges_of

_log = logger("package")


@dataclass(frozen=True)
class ExportOptions:
    """How `save` was asked to make the program."""

    call: CallInputs | None
    dynamic_shapes: object
    retrace: bool


def program_of(module: object, options: ExportOptions) -> ExportedProgram:
    """The program to write for `module`.

    Raises InputError for a module that wasn't compiled, or for sizes that the module doesn't take.
    """
    described = [leaf for _, leaf in options.call.leaves()] if options.call is not None else []
    asked = [_Asked(f"{leaf!r:.200}", *_bounds(leaf)) for leaf in described if isinstance(leaf, (Input, torch.Tensor))]
    by_inputs = options.call is not None and options.dynamic_shapes is None
    if isinstance(module, CompiledModule) and by_inputs:
        _check_ranges([spec for spec in module.input_specs if spec is not None], asked)  # before the work
    program = _program(module, options, described)
    specs = input_specs(program)
    if isinstance(module, CompiledModule) and options.dynamic_shapes is not None:
        _check_ranges([spec for spec in module.input_specs if spec is not None], [_asked(spec) for spec in specs])
    elif by_inputs and not _is_mixed(described):
        _check_ranges(specs, asked)
    return program


def _program(module: object, options: ExportOptions, described: list[object]) -> ExportedProgram:
    if isinstance(module, ExportedProgram):
        if options.dynamic_shapes is not None:
            _log.warning("An ExportedProgram keeps its own sizes; dynamic_shapes is not used.")
        return module
    if not isinstance(module, fx.GraphModule):
        raise InputError(_refusal(module))
    if options.dynamic_shapes is not None:
        if any(ranges_of(leaf) for leaf in described):
            _log.warning("Both dynamic_shapes and Inputs with ranges were given; dynamic_shapes is used.")
        return _trace_again(module, options.call, options.dynamic_shapes)
    if _is_mixed(described):
        _log.warning("Inputs with ranges and tensors were mixed; the sizes of all of them are taken as fixed.")
        return _trace_again(module, options.call, None)
    if _is_symbolic(module) or not options.retrace:
        constraints = module.range_constraints if isinstance(module, CompiledModule) else _constraints(module)
        return lift(module, constraints)
    return _trace_again(module, options.call, None)


def _refusal(module: object) -> str:
    if isinstance(module, torch.jit.ScriptModule):
        return "A ScriptModule can't be saved as an exported program; use torch.jit.save."
    if isinstance(module, nn.Module):
        return f"{type(module).__name__} was not compiled; compile it with torch_tensorrt.compile first, or use torch.save for its weights."
    return (
        f"A {type(module).__name__} can't be saved; pass what torch_tensorrt.compile returned, or an ExportedProgram."
    )


def _is_symbolic(module: fx.GraphModule) -> bool:
    values = [node.meta.get("val") for node in module.graph.nodes if node.op == "placeholder"]
    return any(
        isinstance(size, torch.SymInt) for value in values if isinstance(value, torch.Tensor) for size in value.shape
    )


def _is_mixed(leaves: list[object]) -> bool:
    return any(ranges_of(leaf) for leaf in leaves) and any(isinstance(leaf, torch.Tensor) for leaf in leaves)


def _constraints(module: fx.GraphModule) -> Mapping[sympy.Symbol, ValueRanges[sympy.Expr]]:
    constraints: dict[sympy.Symbol, ValueRanges[sympy.Expr]] = {}
    for node in module.graph.nodes:
        value = node.meta.get("val")
        for size in value.shape if node.op == "placeholder" and isinstance(value, torch.Tensor) else ():
            if isinstance(size, torch.SymInt):
                known = size.node.shape_env.var_to_range
                constraints.update({symbol: known[symbol] for symbol in size.node.expr.free_symbols if symbol in known})
    return constraints


def _trace_again(module: fx.GraphModule, call: CallInputs | None, dynamic_shapes: object) -> ExportedProgram:
    args, kwargs = _examples(module, call)
    try:
        with PREDICTING, torch.no_grad():
            return torch.export.export(module, args, kwargs, dynamic_shapes=dynamic_shapes, strict=False)  # type: ignore[arg-type]
    except Exception as error:
        raise UnsupportedError(
            f"The compiled module can't be exported for these inputs: {type(error).__name__}: {error}\n"
            "Give inputs and dynamic_shapes that lie inside the ranges it was compiled for, or save with retrace=False."
        ) from error


def _examples(module: fx.GraphModule, call: CallInputs | None) -> tuple[tuple[object, ...], dict[str, object]]:
    if call is not None:
        examples = call.map(lambda leaf: example_tensor(leaf, torch.device("cpu")))
        return examples.args, dict(examples.kwargs)
    codegen = module.graph._codegen
    if not isinstance(module, CompiledModule) or not isinstance(codegen, _PyTreeCodeGen):
        raise InputError(
            "Saving this GraphModule traces it again, for which its inputs are needed: pass inputs=[...], or retrace=False."
        )
    values = [node.meta.get("val") for node in module.graph.nodes if node.op == "placeholder"]
    leaves = [
        _example(spec) if spec is not None else value for spec, value in zip(module.input_specs, values, strict=True)
    ]
    in_spec = codegen.pytree_info.in_spec
    assert in_spec is not None
    args, kwargs = pytree.tree_unflatten(leaves, in_spec)
    return args, kwargs


def _example(spec: TensorSpec) -> torch.Tensor:
    return torch.ones(spec.shape_at("opt"), dtype=spec.dtype, device=spec.device)


@dataclass(frozen=True)
class _Asked:
    """The sizes that a file shall accept for one tensor: least and greatest (None: no bound)."""

    shown: str
    low: tuple[int, ...]
    high: tuple[int | None, ...]


def _asked(spec: TensorSpec) -> _Asked:
    low = tuple(size.min if isinstance(size, Dim) else size for size in spec.shape)
    high = tuple(size.max if isinstance(size, Dim) else size for size in spec.shape)
    return _Asked(f"dynamic_shapes, which gives {spec.name!r} the sizes {low} to {high},", low, high)


def _check_ranges(specs: Sequence[TensorSpec], asked: Sequence[_Asked]) -> None:
    """What is asked for must lie inside what the module takes."""
    if len(asked) != len(specs):
        raise InputError(f"The module takes {len(specs)} tensors; inputs for {len(asked)} were given to save.")
    for one, spec in zip(asked, specs, strict=True):
        for dim, size in enumerate(spec.shape):
            least, most = (size.min, size.max) if isinstance(size, Dim) else (size, size)
            fits = len(one.low) == len(spec.shape) and one.low[dim] >= least
            high = one.high[dim] if fits else None
            if not fits or (most is not None and (high is None or high > most)):
                raise InputError(
                    f"save: {one.shown} doesn't fit input {spec.name!r}, which was compiled for sizes {least} to {most} in "
                    f"dimension {dim}; compile for the range that is to be saved."
                )


def _bounds(leaf: Input | torch.Tensor) -> tuple[tuple[int, ...], tuple[int, ...]]:
    if isinstance(leaf, torch.Tensor):
        return tuple(leaf.shape), tuple(leaf.shape)
    if isinstance(leaf.shape, dict):
        return leaf.shape["min_shape"], leaf.shape["max_shape"]
    return leaf.shape, leaf.shape
