"""Are these tensors what an engine, or a compiled model, was built for? One clear error when not; cheap when asked again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from torch_tensorrt.runtime.devices import Home
from torch_tensorrt.spec.errors import InputError
from torch_tensorrt.spec.shape_expr import Size, parse, solve, symbols_in
from torch_tensorrt.spec.tensor_spec import Dim, TensorSpec

_KEPT = 1024
Kinds: TypeAlias = "list[tuple[object, ...]]"


def kinds_of(tensors: Sequence[Tensor]) -> Kinds:
    """What decides whether tensors are let in: the same for tensors just like these."""
    return [(tensor.shape, tensor.dtype, tensor.device, tensor.layout) for tensor in tensors]


def are_alike(given: Sequence[object], kinds: Kinds) -> bool:
    """Whether `given` are tensors of these kinds; False also for what isn't a tensor."""
    try:
        if len(kinds) == len(given) == 1:  # half the time of comparing lists
            (part,), ((shape, dtype, device, layout),) = given, kinds
            alike = part.shape == shape and part.dtype is dtype and part.device == device  # type: ignore[attr-defined]
            return alike and part.layout is layout  # type: ignore[attr-defined]
        return [(part.shape, part.dtype, part.device, part.layout) for part in given] == kinds  # type: ignore[attr-defined]
    except AttributeError:
        return False


class InputCheck:
    """Checks tensors against specs: dtype, device, rank, sizes, ranges, and sizes that belong together."""

    def __init__(self, owner: str, specs: Sequence[TensorSpec], home: Home | None = None) -> None:
        self._owner = owner
        self._specs = tuple(specs)
        self._home = home
        self.is_static = all(spec.is_static for spec in specs)
        self._seen: set[tuple[object, ...]] = set()
        self._last: Kinds | None = None

    def __call__(self, tensors: Sequence[Tensor]) -> None:
        """Raises InputError naming the input, what it is and what is needed. The result is kept per shapes and dtypes."""
        kinds = kinds_of(tensors)
        if kinds == self._last:  # most calls are like the one before, and comparing is faster than hashing
            return
        key = tuple(kinds)
        if key not in self._seen:
            self._check(tensors)
            if len(self._seen) >= _KEPT:
                self._seen.clear()
            self._seen.add(key)
        self._last = kinds

    def is_like_the_last(self, given: Sequence[object]) -> bool:
        """Whether these are tensors just like those that were checked last; False also for what isn't a tensor."""
        return self._last is not None and are_alike(given, self._last)

    def _check(self, tensors: Sequence[Tensor]) -> None:
        if len(tensors) != len(self._specs):
            raise InputError(f"{self._owner} takes {len(self._specs)} tensors; {len(tensors)} were given.")
        for spec, tensor in zip(self._specs, tensors, strict=True):
            self._check_kind(spec, tensor)
        self._check_sizes(tensors)

    def _check_kind(self, spec: TensorSpec, tensor: Tensor) -> None:
        what = f"{self._owner}: input {spec.name!r}"
        if tensor.dtype != spec.dtype:
            raise InputError(
                f"{what} is {tensor.dtype}, but was compiled for {spec.dtype}; convert it with .to({spec.dtype})."
            )
        if tensor.device.type != spec.device:
            raise InputError(
                f"{what} is on {tensor.device}, but was compiled for {spec.device}; move it with .to({spec.device!r})."
            )
        if self._home is not None:
            self._home.check(what, tensor)
        if tensor.dim() != len(spec.shape):
            raise InputError(
                f"{what} has {tensor.dim()} dimensions {tuple(tensor.shape)}, but was compiled for {len(spec.shape)}: {_shown(spec)}."
            )
        if tensor.layout is not torch.strided:
            raise InputError(f"{what} has layout {tensor.layout}; a dense tensor is needed (.to_dense()).")

    def _check_sizes(self, tensors: Sequence[Tensor]) -> None:
        for spec, tensor in zip(self._specs, tensors, strict=True):
            for dim, (size, given) in enumerate(zip(spec.shape, tensor.shape, strict=True)):
                self._check_size(spec, dim, size, int(given))
        symbols = solve([(spec.sizes, tuple(tensor.shape)) for spec, tensor in zip(self._specs, tensors, strict=True)])
        for spec, tensor in zip(self._specs, tensors, strict=True):
            for dim, (expr, given) in enumerate(zip(spec.sizes, tensor.shape, strict=True)):
                if isinstance(expr, str) and parse(expr)(symbols) != given:
                    raise InputError(self._disagreement(spec, dim, expr, int(given), symbols))

    def _check_size(self, spec: TensorSpec, dim: int, size: int | Dim, given: int) -> None:
        where = f"{self._owner}: input {spec.name!r} has size {given} in dimension {dim}"
        if isinstance(size, Dim):
            if given < size.min or (size.max is not None and given > size.max):
                top = "any" if size.max is None else size.max
                raise InputError(
                    f"{where}, but was compiled for the range {size.min} to {top}; compile with an Input whose min_shape and "
                    "max_shape include it."
                )
        elif given != size:
            raise InputError(
                f"{where}, but was compiled for exactly {size} there ({_shown(spec)}); compile with an Input whose size varies."
            )

    def _disagreement(self, spec: TensorSpec, dim: int, size: str, given: int, symbols: dict[str, Size]) -> str:
        others = [
            f"{other.name!r} dimension {at}"
            for other in self._specs
            for at, other_size in enumerate(other.sizes)
            if (other.name, at) != (spec.name, dim)
            and isinstance(other_size, str)
            and symbols_in(size) & symbols_in(other_size)
        ]
        return (
            f"{self._owner}: input {spec.name!r} has size {given} in dimension {dim}, but it must be {parse(size)(symbols)} "
            f"to fit {', '.join(others) or 'the other inputs'}: the model needs these sizes to agree."
        )


def _shown(spec: TensorSpec) -> str:
    return (
        "("
        + ", ".join(f"{s.min}..{'' if s.max is None else s.max}" if isinstance(s, Dim) else str(s) for s in spec.shape)
        + ")"
    )
