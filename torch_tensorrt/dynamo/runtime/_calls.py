"""Kinds of calls: what a compiled module depends on, and the hooks around it."""

from __future__ import annotations

import copy
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from torch_tensorrt.dynamo.runtime._ranges import Ranges
from torch_tensorrt.refitting.swapping import put_attributes
from torch_tensorrt.spec.errors import InputError, UnsupportedError
from torch_tensorrt.trace.call_inputs import CallInputs

_SCALARS = (bool, int, float, complex, str, type(None), torch.dtype, torch.device, torch.layout, torch.memory_format)


def call_key(args: object, kwargs: object) -> object:
    """What a compiled module depends on: structure, shapes, dtypes, devices, and the values of what is no tensor."""
    if not kwargs and isinstance(args, tuple) and all(isinstance(given, Tensor) for given in args):
        return tuple([(given.shape, given.dtype, given.device) for given in args])
    leaves, structure = pytree.tree_flatten((args, kwargs))
    described: list[object] = []
    for leaf in leaves:
        if isinstance(leaf, Tensor):
            described.append((leaf.shape, leaf.dtype, leaf.device))
        elif isinstance(leaf, (*_SCALARS, torch.Size)):
            described.append((type(leaf), repr(leaf)))
        else:
            raise InputError(
                f"An argument is or holds a {type(leaf).__name__}; tensors, numbers, text and None can be passed."
            )
    return (str(structure), tuple(described))


def without_ranges(call: CallInputs, ranges: Ranges) -> tuple[object, dict[str, object]]:
    """The arguments, with all sizes that vary at 0, as meta tensors."""
    paths = iter(call.leaves())

    def fix(leaf: object) -> object:
        dims = ranges.get(next(paths)[0])
        if dims is None or not isinstance(leaf, Tensor):
            return leaf
        vary = {dim % leaf.dim() for dim in dims}
        shape = [0 if dim in vary else size for dim, size in enumerate(leaf.shape)]
        return torch.empty(shape, dtype=leaf.dtype, device=leaf.device)

    fixed = call.map(fix)
    return fixed.args, dict(fixed.kwargs)


def refuse_shapes(args: tuple[object, ...], kwargs: Mapping[str, object]) -> None:
    """The tracer would take numbers in a list for the shape of a tensor."""
    for place in pytree.tree_leaves((args, dict(kwargs)), is_leaf=_is_numbers):
        if _is_numbers(place):
            raise UnsupportedError(
                f"An argument holds the whole numbers {place!r}; pass them one by one, or as a tensor."
            )


def _is_numbers(value: object) -> bool:
    return isinstance(value, (tuple, list)) and bool(value) and all(type(size) is int for size in value)


def share_state(compiled: fx.GraphModule, model: nn.Module) -> list[Tensor]:
    """Buffers that the model writes in forward become one with those of the compiled model, which are returned.

    Raises UnsupportedError where the compiled model writes something else.
    """
    written: dict[str, Tensor] = {}
    for node in compiled.graph.nodes:
        first = node.args[0] if node.args else None
        if node.target is torch.ops.aten.copy_.default and isinstance(first, fx.Node) and first.op == "get_attr":
            name = str(first.target)
            written[name] = _buffer(model, name)
    if written:
        put_attributes(compiled, written)
        compiled.recompile()  # what it calls holds the tensors themselves
    return [*written.values()]


def _buffer(model: nn.Module, name: str) -> Tensor:
    found = {
        **dict(model.named_parameters(remove_duplicate=False)),
        **dict(model.named_buffers(remove_duplicate=False)),
    }
    if name not in found:
        raise UnsupportedError(
            f"The model writes {name!r} in forward, which is no buffer of it; make it one with register_buffer."
        )
    return found[name]


def without_hooks(model: nn.Module) -> nn.Module:
    """The model without its own hooks, which are called around the engines. Those of its submodules are compiled."""
    if not (model._forward_hooks or model._forward_pre_hooks):
        return model
    bare = copy.copy(model)  # shares parameters and submodules
    bare._forward_hooks, bare._forward_pre_hooks = OrderedDict(), OrderedDict()
    return bare


@contextmanager
def refusing_assigned_buffers() -> Iterator[None]:
    """torch.export's strict mode goes on without the state of a model that assigns its buffers, and only warns; this raises.

    Raises UnsupportedError.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=r"(?s)While compiling, we found certain side effects.*\._buffers")
        try:
            yield
        except UnsupportedError as error:
            if "certain side effects" not in str(error):
                raise
            raise UnsupportedError(
                "The model assigns a buffer in forward, and torch.export's strict mode, the default here, would drop what it assigns. "
                "Make the module with strict=False, or write the buffer in place: self.cache.copy_(...)."
            ) from error


def explain_constraints(module: nn.Module) -> None:
    """The hook by which an exported program checks its inputs raises InputError from now on."""
    for key, hook in module._forward_pre_hooks.items():
        module._forward_pre_hooks[key] = _as_input_error(hook)


def _as_input_error(hook: Callable[..., object]) -> Callable[..., object]:
    def checked(*given: object) -> object:
        try:
            return hook(*given)
        except RuntimeError as error:
            raise InputError(
                f"The saved module takes the kinds of inputs that it was saved with, and no others: {error}"
            ) from error

    return checked


def run_hooked(
    model: nn.Module, run: Callable[..., object], args: tuple[object, ...], kwargs: dict[str, object]
) -> object:
    """Runs with the model's own forward hooks around it, in the order and with the meaning that nn.Module gives them."""
    outside = nn.Module()
    for name in (
        "_forward_hooks",
        "_forward_hooks_with_kwargs",
        "_forward_hooks_always_called",
        "_forward_pre_hooks",
        "_forward_pre_hooks_with_kwargs",
    ):
        hooks = OrderedDict(getattr(model, name))
        outside.__dict__[name] = OrderedDict(
            (key, _about(model, hook) if callable(hook) else hook) for key, hook in hooks.items()
        )
    outside.__dict__["forward"] = run
    return outside(*args, **kwargs)


def _about(model: nn.Module, hook: Callable[..., object]) -> Callable[..., object]:
    return lambda _, *rest: hook(model, *rest)
