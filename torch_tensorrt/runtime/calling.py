"""The door of a compiled module: the caller's arguments in, checked and flattened; flat results out, in the model's own form."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import fx
from torch.fx.graph import _PyTreeCodeGen
from torch.utils import _pytree as pytree

from torch_tensorrt.runtime import devices
from torch_tensorrt.runtime.devices import home_of
from torch_tensorrt.runtime.input_check import InputCheck
from torch_tensorrt.spec.errors import InputError, InternalError
from torch_tensorrt.spec.tensor_spec import TensorSpec

# Names of this file's own, because each is looked up in every call.
is_compiling, get_tracing_state = torch.compiler.is_compiling, torch._C._get_tracing_state
count_modes = torch._C._len_torch_dispatch_stack
_FIXED = (bool, int, float, complex, str, type(None))


class Door:
    """Flattens and checks arguments, and rebuilds results, for one graph with torch.export's calling convention.

    moves: whether tensors may be moved between GPUs on the way in, where set_multi_device_safe_mode says so.
    """

    def __init__(self, graph: fx.Graph, specs: Sequence[TensorSpec | None], *, moves: bool = False) -> None:
        codegen = graph._codegen
        if not isinstance(codegen, _PyTreeCodeGen):
            raise InternalError("A compiled graph lacks the model's calling convention.")
        self._names = [name for name in codegen.pytree_info.orig_args if name != "self"]
        in_spec, out_spec = codegen.pytree_info.in_spec, codegen.pytree_info.out_spec
        assert in_spec is not None
        self._in_spec = in_spec
        self._arg_specs, self._kwarg_spec = in_spec.children()
        self._count = in_spec.num_leaves
        self._plain = self._arg_specs.num_children == self._count and all(
            child.is_leaf() for child in self._arg_specs.children()
        )
        placeholders = [node for node in graph.nodes if node.op == "placeholder"]
        self._tensors = [at for at, spec in enumerate(specs) if spec is not None]
        self._all_tensors = len(self._tensors) == self._count
        self._fixed = [
            (at, node.name, node.meta.get("val"))
            for at, node in enumerate(placeholders)
            if specs[at] is None and isinstance(node.meta.get("val"), _FIXED)
        ]
        self._placeholders = [node.name for node in placeholders]
        home = home_of(graph)
        self._home = home if moves else None
        self._check = InputCheck("The compiled model", [spec for spec in specs if spec is not None], home)
        self._only_tensors = self._plain and self._all_tensors and self._count > 0
        self.result: Callable[[Sequence[object]], object] = _rebuild(out_spec)

    @property
    def checks_all(self) -> bool:
        """Whether each argument is checked: no size is passed as a number, and nothing is of a kind that isn't known here."""
        return len(self._tensors) + len(self._fixed) == self._count

    @property
    def is_exact(self) -> bool:
        """Whether only tensors of certain sizes are let in."""
        return self._check.is_static

    @property
    def takes_only_tensors(self) -> bool:
        """Whether what goes in is tensors by position: the flat inputs are the arguments."""
        return self._only_tensors

    def enter(self, args: tuple[object, ...], kwargs: Mapping[str, object]) -> Sequence[object]:
        """The flat inputs. Raises InputError when they are not what the model was compiled for."""
        moves = devices.moves_inputs and self._home is not None
        if self._only_tensors and not kwargs and not moves and self._check.is_like_the_last(args):
            return args
        flat: Sequence[object] = (
            args if self._plain and not kwargs and len(args) == self._count else self._flatten(args, kwargs)
        )
        if moves and self._home is not None:
            flat = self._home.bring(flat)
        tensors = flat if self._all_tensors else [flat[at] for at in self._tensors]
        for at, tensor in enumerate(tensors):
            if not isinstance(tensor, torch.Tensor):
                name = self._placeholders[self._tensors[at]]
                raise InputError(
                    f"The compiled model: input {name!r} is a {type(tensor).__name__}; a torch.Tensor is needed."
                )
        self._check(tensors)  # type: ignore[arg-type]
        for at, name, value in self._fixed:
            given = flat[at]
            if type(given) is not type(value) or given != value:
                raise InputError(
                    f"The compiled model: input {name!r} is {given!r}, but the model was compiled with {value!r}, which is part of "
                    "its code now; compile it again for another value."
                )
        return flat

    def _flatten(self, args: tuple[object, ...], kwargs: Mapping[str, object]) -> Sequence[object]:
        args, ordered = self._by_convention(args, dict(kwargs))
        try:
            return self._in_spec.flatten_up_to((args, ordered))  # dicts may come in any order
        except (ValueError, TypeError) as error:
            found = pytree.tree_structure((args, ordered))
            raise InputError(
                f"The compiled model takes arguments of the form {self._in_spec}, which these don't have: {found}. {error}"
            ) from error

    def _by_convention(
        self, args: tuple[object, ...], kwargs: dict[str, object]
    ) -> tuple[tuple[object, ...], dict[str, object]]:
        """Arguments as they were passed at compile time: some by position, the others by name, in that order."""
        wanted = list(self._kwarg_spec.context) if self._kwarg_spec.num_children else []
        positional = self._arg_specs.num_children
        given = list(args[:positional])
        for name, value in zip(self._names[positional:], args[positional:], strict=False):
            if name in kwargs:
                raise InputError(f"The compiled model got argument {name!r} twice, by position and by name.")
            kwargs[name] = value
        by_name = [name for name in self._names[len(given) : positional] if name in kwargs]
        given += [kwargs.pop(name) for name in by_name]
        missing = [*self._names[len(given) : positional], *(name for name in wanted if name not in kwargs)]
        extra = [name for name in kwargs if name not in wanted]
        if missing or extra or len(args) > max(positional, len(self._names)):
            raise InputError(
                f"The compiled model takes the arguments {[*self._names[:positional], *wanted]}; "
                f"missing: {missing or 'none'}, not known: {extra or 'none'}, given by position: {len(args)}."
            )
        return tuple(given), {name: kwargs[name] for name in wanted}


def is_traced() -> bool:
    """Whether what is called now is being recorded (by torch.export, torch.compile or torch.jit.trace), or a mode of PyTorch's
    wants to see each operator (FakeTensorMode, a counter of FLOPs).
    """
    return is_compiling() or get_tracing_state() is not None or count_modes() > 0


def _rebuild(spec: pytree.TreeSpec | None) -> Callable[[Sequence[object]], object]:
    if spec is None or spec.is_leaf():
        return operator.itemgetter(0)
    if spec.type in {tuple, list} and all(child.is_leaf() for child in spec.children()):
        return tuple if spec.type is tuple else list
    return lambda flat: pytree.tree_unflatten(flat, spec)
