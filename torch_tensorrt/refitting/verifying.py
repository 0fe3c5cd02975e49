"""Does a refitted module give what the new program gives?"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from torch_tensorrt.refitting.swapping import swap_attributes, torch_constants
from torch_tensorrt.runtime.module import CompiledModule
from torch_tensorrt.spec.errors import InputError
from torch_tensorrt.trace.call_inputs import collect_inputs
from torch_tensorrt.trace.dynamic_shapes import example_tensor

# Largest difference that is taken for rounding, relative to the largest value of the result.
_EXACT, _ROUNDED = 1e-3, 3e-2


def verify(
    refitted: fx.GraphModule, program: ExportedProgram, arg_inputs: object, kwarg_inputs: Mapping[str, object] | None
) -> None:
    """Runs both, on copies of their state and inputs. Raises InputError naming the result that differs."""
    args, kwargs = _inputs(program, arg_inputs, kwarg_inputs)
    own_state = {name: tensor.clone() for name, tensor in torch_constants(refitted).items()}
    given = swap_attributes(refitted, own_state)(*copy.deepcopy(args), **copy.deepcopy(kwargs))
    wanted = copy.deepcopy(program.module())(*copy.deepcopy(args), **copy.deepcopy(kwargs))
    results = zip(pytree.tree_leaves(given), pytree.tree_leaves(wanted), strict=True)
    for place, (ours, theirs) in enumerate(results):
        if isinstance(ours, Tensor) and isinstance(theirs, Tensor) and theirs.numel():
            _compare(place, ours, theirs, _tolerance(refitted, theirs))


def _inputs(
    program: ExportedProgram, arg_inputs: object, kwarg_inputs: Mapping[str, object] | None
) -> tuple[tuple[object, ...], dict[str, object]]:
    if arg_inputs is None and not kwarg_inputs:
        if program.example_inputs is None:
            raise InputError(
                "verify_output=True needs inputs to run on, and the new program has none: pass arg_inputs."
            )
        args, kwargs = program.example_inputs
        return tuple(args), dict(kwargs)
    examples = collect_inputs(arg_inputs, None, kwarg_inputs).map(
        lambda leaf: example_tensor(leaf, torch.device("cpu"))
    )
    return examples.args, dict(examples.kwargs)


def _tolerance(refitted: fx.GraphModule, result: Tensor) -> float:
    lower = isinstance(refitted, CompiledModule) and refitted.settings.enabled_precisions - {torch.float32}
    return _ROUNDED if lower or result.dtype in (torch.float16, torch.bfloat16) else _EXACT


def _compare(place: int, ours: Tensor, theirs: Tensor, tolerance: float) -> None:
    first, second = ours.detach().double(), theirs.detach().double()
    if first.shape == second.shape:
        same = (first == second) | (first.isnan() & second.isnan())
        limit = tolerance * float(second[second.isfinite()].abs().max()) if bool(second.isfinite().any()) else 0.0
        worst = float((first - second)[~same].abs().max()) if not bool(same.all()) else 0.0
        if worst <= limit:  # False for NaN
            return
        found = f"by up to {worst:.3g}, where {limit:.3g} would be rounding"
    else:
        found = f"in shape: {list(first.shape)} instead of {list(second.shape)}"
    raise InputError(
        f"The refitted module's result {place} differs from the new program's {found}. The compiled module was left as it was; "
        "compile the new program, and please report this."
    )
