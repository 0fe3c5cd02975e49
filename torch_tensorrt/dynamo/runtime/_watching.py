"""Notices that a model has changed since it was last looked at, whoever changed it and by whatever way.

A version counter doesn't see `weight.data += delta`, which is how LoRA weights are merged. So the watch holds a copy-on-write
clone of every tensor: it costs no memory until somebody writes, and any write through PyTorch moves the tensor to other memory.
"""

from __future__ import annotations

import types
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

_PLAIN = (Tensor, nn.Parameter, nn.Buffer)
_SCALARS = (bool, int, float, complex, str, type(None))
_DEPTH = 3  # of an object in an attribute of an object in an attribute of a module
_FOREIGN = ("torch.", "torch_tensorrt.", "logging", "threading", "builtins")
_address = torch._C._data_address  # type: ignore[attr-defined]


@dataclass(frozen=True)
class _Cell:
    """A container of attributes, and what was in it. `held` keeps the objects alive, so that an id stays theirs."""

    container: object
    keys: list[object]
    ids: list[int]
    held: list[object]

    def is_same(self) -> bool:
        keys, values = _content(self.container)
        return [*map(id, values)] == self.ids and keys == self.keys


@dataclass(frozen=True)
class _Watched:
    """A tensor and what it was. `address` is None where only a comparison of the values can tell."""

    tensor: Tensor
    address: int | None
    shape: torch.Size
    strides: tuple[int, ...]
    dtype: torch.dtype
    before: Tensor

    def is_untouched(self) -> bool:
        tensor = self.tensor
        if tensor.shape != self.shape or tensor.dtype != self.dtype:
            return False
        if self.address is None:
            return torch.equal(tensor.detach(), self.before)
        return _address(tensor) == self.address and tensor.stride() == self.strides

    def has_same_values(self) -> bool:
        now = self.tensor.detach()
        if now.shape != self.shape or now.dtype != self.dtype or now.device != self.before.device:
            return False
        return self.is_untouched() or torch.equal(now, self.before)


class ModelWatch:
    """What `model` is at this moment: its modules, parameters, buffers, hooks, and attributes with what is in them."""

    def __init__(self, model: nn.Module) -> None:
        self._cells: list[_Cell] = []
        self._description: list[
            object
        ] = []  # the same for equal containers, which torch.export puts in the place of others
        tensors: dict[int, Tensor] = {}
        self._enter(model, set(), tensors, 0)
        with torch.inference_mode(False), torch.no_grad():
            self._watched = [_watch(tensor) for tensor in tensors.values()]

    def is_untouched(self) -> bool:
        """False as soon as anything was written or exchanged, be it with equal values. Reads no weights, but for tensors that
        can't be copied on write.
        """
        for cell in self._cells:
            if not cell.is_same():
                return False
        return all(watched.is_untouched() for watched in self._watched)  # quick ones: an address and a shape

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
        self._cells.append(_Cell(container, keys, [*map(id, values)], values))
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
