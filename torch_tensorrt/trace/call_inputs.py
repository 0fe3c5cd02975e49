"""The inputs that a caller describes, checked and brought into one form: example arguments, and which sizes may vary."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch.utils import _pytree as pytree

from torch_tensorrt.spec.errors import InputError
from torch_tensorrt.spec.input import Input

_SCALARS = (bool, int, float, complex, str, type(None), torch.dtype, torch.device, torch.layout, torch.memory_format)


@dataclass(frozen=True)
class CallInputs:
    """Positional and keyword arguments as pytrees whose leaves are Inputs, tensors, Python scalars or None."""

    args: tuple[object, ...]
    kwargs: Mapping[str, object]

    def map(self, function: Callable[[object], object]) -> CallInputs:
        """The same structure with `function` applied to each leaf."""
        args = tuple(pytree.tree_map(function, argument, is_leaf=_is_leaf) for argument in self.args)
        return CallInputs(
            args, {name: pytree.tree_map(function, value, is_leaf=_is_leaf) for name, value in self.kwargs.items()}
        )

    def leaves(self) -> list[tuple[str, object]]:
        """(readable path, leaf) pairs in flattening order: `inputs[0]`, `kwarg_inputs['mask']`."""
        found: list[tuple[str, object]] = []
        for place, tree in (("inputs", self.args), ("kwarg_inputs", dict(self.kwargs))):
            for path, leaf in pytree.tree_flatten_with_path(tree, is_leaf=_is_leaf)[0]:
                found.append((place + pytree.keystr(path), leaf))
        return found


def collect_inputs(
    inputs: object = None, arg_inputs: object = None, kwarg_inputs: Mapping[str, object] | None = None
) -> CallInputs:
    """One CallInputs from the three documented arguments.

    A tuple of ints counts as the shape of a float32 Input. Raises InputError when nothing or both `inputs` and
    `arg_inputs` are given, or when a leaf is of a type that a compiled model can't take.
    """
    if inputs is not None and arg_inputs is not None:
        raise InputError("Both `inputs` and `arg_inputs` were given; they mean the same, so give one of them.")
    positional = inputs if inputs is not None else arg_inputs
    if positional is None and not kwarg_inputs:
        raise InputError(
            "No inputs were given. Pass inputs=[torch_tensorrt.Input(shape=...)] or example tensors; "
            "inputs=[] is right for a model that takes none."
        )
    if kwarg_inputs is not None and not isinstance(kwarg_inputs, Mapping):
        raise InputError(
            f"`kwarg_inputs` is a {type(kwarg_inputs).__name__}; a dict from argument name to Input or tensor is needed."
        )
    call = CallInputs(_positional(positional), dict(kwarg_inputs or {}))
    call = call.map(_as_input)
    for path, leaf in call.leaves():
        _check_leaf(path, leaf)
    return call


def _positional(given: object) -> tuple[object, ...]:
    if given is None:
        return ()
    if isinstance(given, (Input, torch.Tensor)):
        return (given,)
    if isinstance(given, Sequence) and not isinstance(given, str):
        return tuple(given)
    raise InputError(
        f"`inputs` is a {type(given).__name__}; a list or tuple with one entry per positional argument is needed "
        "(keyword arguments go into kwarg_inputs)."
    )


def _is_shape(value: object) -> bool:
    return isinstance(value, (tuple, list)) and bool(value) and all(type(size) is int for size in value)


def _is_leaf(value: object) -> bool:
    return isinstance(value, Input) or _is_shape(value)


def _as_input(leaf: object) -> object:
    return Input(shape=tuple(leaf)) if _is_shape(leaf) and isinstance(leaf, (tuple, list)) else leaf


def _check_leaf(path: str, leaf: object) -> None:
    if isinstance(leaf, (Input, torch.Tensor, *_SCALARS)):
        return
    hint = "torch.from_numpy(array)" if type(leaf).__module__ == "numpy" else "a torch.Tensor or torch_tensorrt.Input"
    raise InputError(
        f"{path} is a {type(leaf).__module__}.{type(leaf).__qualname__}, which can't be an input; pass {hint}."
    )
