"""What a tensor at an engine's boundary looks like: name, dtype, sizes (with ranges), device. A value; JSON in and out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch

from torch_tensorrt.spec.errors import FileFormatError

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"


@dataclass(frozen=True)
class Dim:
    """One size that varies between runs.

    `expr` is an expression over the program's symbols (`"s0"`, `"2*s0"`); min, opt and max are its values at the three
    points of the inputs' ranges. `max` is None where there is no upper bound.

    profiles: (min, opt, max) in each of the ranges that the user gave, where there are several (`Input(profiles=...)`); min and
    max are then those over all of them. A matter of building: not written to JSON.
    """

    expr: str
    min: int
    opt: int
    max: int | None
    profiles: tuple[tuple[int, int, int], ...] = ()

    def __str__(self) -> str:
        return f"{self.expr}[{self.min}..{'' if self.max is None else self.max}]"


@dataclass(frozen=True)
class TensorSpec:
    """Name, dtype, shape (ints and Dims) and device type of one input or output."""

    name: str
    dtype: torch.dtype
    shape: tuple[int | Dim, ...]
    device: str = "cpu"

    @property
    def sizes(self) -> tuple[int | str, ...]:
        """The shape with each Dim as its expression."""
        return tuple(size.expr if isinstance(size, Dim) else size for size in self.shape)

    @property
    def is_static(self) -> bool:
        """True when no size varies."""
        return not any(isinstance(size, Dim) for size in self.shape)

    def shape_at(self, point: str) -> tuple[int, ...]:
        """Concrete sizes at `point`: "min", "opt" or "max" (an unbounded max counts as opt)."""
        return tuple(_at(size, point) if isinstance(size, Dim) else size for size in self.shape)

    @property
    def profiles(self) -> int:
        """How many ranges were given for its sizes: 1 unless the user gave several."""
        return max((len(size.profiles) for size in self.shape if isinstance(size, Dim)), default=0) or 1

    def shapes_in(self, profile: int) -> tuple[tuple[int, ...], ...]:
        """The shapes at min, opt and max of a range, counted from 0; sizes without several ranges have one for all."""
        shapes = []
        for place, point in enumerate(("min", "opt", "max")):
            sizes = zip(self.shape, self.shape_at(point), strict=True)
            shapes.append(
                tuple(
                    size.profiles[profile][place] if isinstance(size, Dim) and size.profiles else whole
                    for size, whole in sizes
                )
            )
        return tuple(shapes)

    def to_json(self) -> dict[str, Json]:
        """A JSON object with the keys name, dtype, shape, device."""
        shape: list[Json] = [
            {"expr": size.expr, "min": size.min, "opt": size.opt, "max": size.max} if isinstance(size, Dim) else size
            for size in self.shape
        ]
        return {"name": self.name, "dtype": dtype_name(self.dtype), "shape": shape, "device": self.device}

    @classmethod
    def from_json(cls, record: Json) -> TensorSpec:
        """The inverse of `to_json`. Raises FileFormatError on anything else."""
        if not isinstance(record, dict) or set(record) != {"name", "dtype", "shape", "device"}:
            raise FileFormatError(f"A tensor's description needs name, dtype, shape and device, not {record!r:.200}.")
        name, shape, device = record["name"], record["shape"], record["device"]
        if not isinstance(name, str) or not isinstance(shape, list) or not isinstance(device, str):
            raise FileFormatError(f"A tensor's description has a field of the wrong type: {record!r:.200}.")
        return cls(name, dtype_from_name(record["dtype"]), tuple(_size_from_json(size) for size in shape), device)


def _at(dim: Dim, point: str) -> int:
    value = {"min": dim.min, "opt": dim.opt, "max": dim.max}[point]
    return dim.opt if value is None else value


def _size_from_json(size: Json) -> int | Dim:
    if type(size) is int and size >= 0:
        return size
    if isinstance(size, dict) and set(size) == {"expr", "min", "opt", "max"}:
        expr, low, opt, high = size["expr"], size["min"], size["opt"], size["max"]
        if isinstance(expr, str) and type(low) is int and type(opt) is int and (high is None or type(high) is int):
            return Dim(expr, low, opt, high)
    raise FileFormatError(f"{size!r:.100} is not a size: a count or an object with expr, min, opt and max is.")


_DTYPES: Mapping[str, torch.dtype] = {
    str(value).removeprefix("torch."): value for value in vars(torch).values() if isinstance(value, torch.dtype)
}


def dtype_name(dtype: torch.dtype) -> str:
    """`torch.float32` -> `"float32"`."""
    return str(dtype).removeprefix("torch.")


def dtype_from_name(name: Json) -> torch.dtype:
    """`"float32"` -> `torch.float32`. Raises FileFormatError for an unknown name."""
    if not isinstance(name, str) or name not in _DTYPES:
        raise FileFormatError(f"{name!r:.60} is not the name of a PyTorch dtype.")
    return _DTYPES[name]


def specs_from_json(records: Json) -> tuple[TensorSpec, ...]:
    """A list of `TensorSpec.to_json` objects back as a tuple."""
    if not isinstance(records, list):
        raise FileFormatError(f"A list of tensor descriptions was expected, not {records!r:.100}.")
    return tuple(TensorSpec.from_json(record) for record in records)


def specs_to_json(specs: Sequence[TensorSpec]) -> list[Json]:
    """The specs as a JSON list."""
    return [spec.to_json() for spec in specs]
