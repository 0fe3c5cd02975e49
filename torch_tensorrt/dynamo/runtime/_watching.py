"""Notices that a model has changed since it was last looked at, whoever changed it and by whatever way.

A version counter doesn't see `weight.data += delta`, which is how LoRA weights are merged. So the watch holds a copy-on-write
clone of every tensor: it costs no memory until somebody writes, and any write through PyTorch moves the tensor to other memory.
"""

from __future__ import annotations

import itertools
import operator
import types
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

_PLAIN = (Tensor, nn.Parameter, nn.Buffer)
_SCALARS = (bool, int, float, complex, str, type(None))
_DEPTH = 3  # of an object in an attribute of an object in an attribute of a module
_FOREIGN = ("torch.", "torch_tensorrt.", "logging", "threading", "builtins")
_address: Callable[[Tensor], int] = torch._C._data_address  # type: ignore[attr-defined]
_VALUES = operator.methodcaller("values")
# Of a tensor: where it is, then what `tensor.data = other` may change without moving it.
_QUESTIONS: Sequence[Callable[[Tensor], object]] = (
    _address,
    Tensor.shape.__get__,  # type: ignore[attr-defined]
    Tensor.stride,
    Tensor.dtype.__get__,  # type: ignore[attr-defined]
)


class _Containers:
    """Containers, and what was in them: the very same objects, in the same order. All are looked at in few steps of C."""

    def __init__(self) -> None:
        self._dicts: list[dict[object, object]] = []
        self._others: list[dict[object, object]] = []  # whose order is their own: OrderedDict
        self._rows: list[Collection[object]] = []
        self._empty: list[Collection[object]] = []
        self._held: list[object] = []  # keeps them alive: the identity of an object that is gone may be another's

    def add(self, container: Collection[object]) -> None:
        """`container` is a dict, list or set; tuples never change."""
        if not container:
            self._empty.append(container)
        elif type(container) is dict:
            self._dicts.append(container)
        elif isinstance(container, dict):
            self._others.append(container)
        elif not isinstance(container, tuple):
            self._rows.append(container)

    def remember(self) -> None:
        """What is in them now is what `are_same` compares with."""
        self._named: list[dict[object, object]] = [*self._dicts, *self._others]
        self._all: list[Collection[object]] = [*self._named, *self._rows]
        self._held, self._sizes = [*self._values()], [*map(len, self._all)]
        self._keys = [*itertools.chain.from_iterable(self._named)]

    def are_same(self) -> bool:
        """Whether nothing was added, removed, exchanged or moved."""
        return (
            not any(self._empty)
            and [*map(len, self._all)] == self._sizes
            and all(map(operator.is_, self._values(), self._held))
            and [*itertools.chain.from_iterable(self._named)] == self._keys
        )

    def _values(self) -> Iterator[object]:
        chained = itertools.chain.from_iterable
        return chained(
            (chained(map(dict.values, self._dicts)), chained(map(_VALUES, self._others)), chained(self._rows))
        )


@dataclass(frozen=True)
class _Watched:
    """A tensor and what it was.

    address: None where only a comparison of the values can tell. before: its values; None for a tensor that the model writes
    itself, which the compiled model reads where it is: its values don't matter.
    """

    tensor: Tensor
    address: int | None
    shape: torch.Size
    strides: tuple[int, ...]
    dtype: torch.dtype
    before: Tensor | None

    def is_untouched(self) -> bool:
        tensor = self.tensor
        if tensor.shape != self.shape or tensor.dtype != self.dtype:
            return False
        if self.before is None:
            return True
        if self.address is None:
            return torch.equal(tensor.detach(), self.before)
        return _address(tensor) == self.address and tensor.stride() == self.strides

    def has_same_values(self) -> bool:
        now, before = self.tensor.detach(), self.before
        if now.shape != self.shape or now.dtype != self.dtype or (before is not None and now.device != before.device):
            return False
        return before is None or self.is_untouched() or torch.equal(now, before)


class ModelWatch:
    """What `model` is at this moment: its modules, parameters, buffers, hooks, and attributes with what is in them."""

    def __init__(self, model: nn.Module) -> None:
        self.state: Sequence[Tensor] = ()  # what the model writes itself
        self._containers = _Containers()
        self._description: list[
            object
        ] = []  # the same for equal containers, which torch.export puts in the place of others
        tensors: dict[int, Tensor] = {}
        self._enter(model, set(), tensors, 0)
        self._containers.remember()
        with torch.inference_mode(False), torch.no_grad():
            self._set([_watch(tensor) for tensor in tensors.values()])

    def _set(self, watched: Sequence[_Watched]) -> None:
        self._watched = watched
        quick = [known for known in watched if known.address is not None and known.before is not None]
        self._slow = [known for known in watched if known.address is None or known.before is None]
        self._tensors = [known.tensor for known in quick]
        self._were = [
            [known.address for known in quick],
            [known.shape for known in quick],
            [known.strides for known in quick],
            [known.dtype for known in quick],
        ]

    def leave_state(self, state: Collection[Tensor]) -> None:
        """From now on the values of the tensors in `state` don't matter; their shapes and dtypes, and who holds them, do."""
        self.state = [*state]
        ids = {id(tensor) for tensor in state}
        self._set([replace(known, before=None) if id(known.tensor) in ids else known for known in self._watched])

    def is_untouched(self) -> bool:
        """False as soon as anything was written or exchanged, be it with equal values. Reads no weights, but for tensors that
        can't be copied on write.
        """
        if not self._containers.are_same():
            return False
        for question, were in zip(_QUESTIONS, self._were, strict=True):  # each over all tensors, in C
            if [*map(question, self._tensors)] != were:
                return False
        return all(known.is_untouched() for known in self._slow)

    def has_same_values(self, again: ModelWatch) -> bool:
        """Whether the model has the values that it had, as it is in `again`, a later watch of it.

        Reads and compares the weights that were written; one that was exchanged counts as another value.
        """
        return self._description == again._description and all(w.has_same_values() for w in self._watched)

    def _enter(self, thing: object, seen: set[int], tensors: dict[int, Tensor], depth: int) -> None:
        if isinstance(thing, Tensor):
            tensors[id(thing)] = thing
            self._description.append(id(thing))
            return
        if id(thing) in seen or not _is_container(thing, depth):
            self._description.append((type(thing), thing) if type(thing) in _SCALARS else id(thing))
            return
        seen.add(id(thing))
        container = thing if isinstance(thing, (dict, list, tuple, set)) else vars(thing)
        keys, values = _content(container)
        self._description.append((type(thing), keys, len(values), id(thing) if isinstance(thing, nn.Module) else None))
        self._containers.add(container)
        inner = 0 if isinstance(thing, nn.Module) else depth + (container is not thing)
        for value in values:
            self._enter(value, seen, tensors, inner)


def _content(container: object) -> tuple[list[object], list[object]]:
    if isinstance(container, dict):
        return [*container], [*container.values()]
    assert isinstance(container, Iterable)
    return [], [*container]


def _is_container(thing: object, depth: int) -> bool:
    if isinstance(thing, (dict, list, tuple, set, nn.Module)):
        return True
    if isinstance(thing, (type, types.FunctionType, types.MethodType, types.ModuleType)) or not hasattr(
        thing, "__dict__"
    ):
        return False
    return depth < _DEPTH and not f"{type(thing).__module__}.".startswith(_FOREIGN)


def _watch(tensor: Tensor) -> _Watched:
    strides: Sequence[int] = tensor.stride() if tensor.layout is torch.strided else ()
    before, address = _clone(tensor)
    return _Watched(tensor, address, tensor.shape, tuple(strides), tensor.dtype, before)


def _clone(tensor: Tensor) -> tuple[Tensor, int | None]:
    """A clone, and the address by which a write shows; None where PyTorch can't copy this memory on write (memory of NumPy, of
    a file, of other processes, or of a subclass): then values are compared at each call.
    """
    plain = tensor.detach()
    if type(tensor) in _PLAIN and tensor.layout is torch.strided and tensor.numel():
        if (
            not plain.untyped_storage().resizable()
        ):  # memory without an allocator, from which PyTorch would crash in copying
            return plain.clone(), None
        try:
            lazy = torch._lazy_clone(plain)
        except RuntimeError:
            return plain.clone(), None
        address = _address(tensor)
        if address == _address(lazy):
            return lazy, address
    return plain.clone(), None
