"""Sizes that vary, as `set_expected_dynamic_shape_range` takes them: torch.export's Dims in the structure of the arguments."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from torch_tensorrt.spec.errors import InputError
from torch_tensorrt.spec.input import Input
from torch_tensorrt.trace.call_inputs import CallInputs

Range = tuple[str, int, int]  # name, min, max
Ranges = Mapping[str, Mapping[int, Range]]  # path of an argument, as CallInputs.leaves() gives it -> dimension -> range
_LARGEST = 2**31 - 1


class DynamicShapeOutOfRangeException(InputError):  # noqa: N818 - the documented name
    """A size is outside of the range that was given for it."""


def read_ranges(args: object, kwargs: object) -> Ranges:
    """The ranges of positional and keyword arguments. Raises InputError for what is no range, or has no upper bound."""
    if args is not None and not isinstance(args, (tuple, list)):
        raise InputError(
            f"args_dynamic_shape is a {type(args).__name__}; a tuple with one entry per positional argument is needed: "
            '({0: torch.export.Dim("batch", min=1, max=8)},).'
        )
    if kwargs is not None and not isinstance(kwargs, Mapping):
        raise InputError(f"kwargs_dynamic_shape is a {type(kwargs).__name__}; a dict by argument name is needed.")
    found: dict[str, dict[int, Range]] = {}
    for place, marks in enumerate(args or ()):
        _read(marks, f"inputs[{place}]", found)
    for name, marks in (kwargs or {}).items():
        _read(marks, f"kwarg_inputs[{name!r}]", found)
    return found


def _read(marks: object, path: str, found: dict[str, dict[int, Range]]) -> None:
    if marks is None:
        return
    if isinstance(marks, (list, tuple)) and not any(hasattr(mark, "min") or isinstance(mark, int) for mark in marks):
        for place, inner in enumerate(marks):
            _read(inner, f"{path}[{place}]", found)
        return
    if isinstance(marks, Mapping) and all(isinstance(key, str) for key in marks):
        for name, inner in marks.items():
            _read(inner, f"{path}[{name!r}]", found)
        return
    if not isinstance(marks, (Mapping, list, tuple)):
        raise InputError(
            f"The dynamic shape of {path} is {marks!r}; a dict from dimension to torch.export.Dim is needed."
        )
    dims = dict(marks) if isinstance(marks, Mapping) else dict(enumerate(marks))
    ranges = {
        int(dim): _range(mark, path) for dim, mark in dims.items() if mark is not None and not isinstance(mark, int)
    }
    if ranges:
        found[path] = ranges


def _range(mark: object, path: str) -> Range:
    low, high = getattr(mark, "min", None), getattr(mark, "max", None)
    if not isinstance(high, int) or high > _LARGEST:
        raise InputError(
            f"A size of {path} varies without an upper bound ({mark!r}); give one: torch.export.Dim('size', min=1, max=...)."
        )
    return (str(getattr(mark, "__name__", "")), int(low) if isinstance(low, int) else 0, high)


def check_ranges(call: CallInputs, ranges: Ranges) -> None:
    """Raises DynamicShapeOutOfRangeException naming the first size that is outside of its range."""
    leaves = dict(call.leaves())
    unknown = [path for path in ranges if not isinstance(leaves.get(path), Tensor)]
    if unknown:
        raise InputError(
            f"A range was given for {unknown[0]}, which is no tensor in this call; its tensors are "
            f"{', '.join(path for path, leaf in leaves.items() if isinstance(leaf, Tensor))}."
        )
    for path, dims in ranges.items():
        shape = [*leaves[path].shape]  # type: ignore[attr-defined]
        for dim, (name, low, high) in dims.items():
            if not -len(shape) <= dim < len(shape):
                raise InputError(f"{path} has the shape {shape}, and no dimension {dim} to vary.")
            if not low <= shape[dim] <= high:
                raise DynamicShapeOutOfRangeException(
                    f"{path} has the shape {shape}; its dimension {dim} ({name or 'without a name'}) may be {low} to {high}. Widen the "
                    "range with set_expected_dynamic_shape_range, which compiles again at the next call."
                )


def with_ranges(call: CallInputs, ranges: Ranges) -> CallInputs:
    """`call` with an Input in the place of each tensor that has sizes that vary."""
    paths = iter(call.leaves())

    def replace(leaf: object) -> object:
        dims = ranges.get(next(paths)[0])
        if dims is None or not isinstance(leaf, Tensor):
            return leaf
        shape, rank = [*leaf.shape], leaf.dim()
        at = {dim % rank: known for dim, known in dims.items()}
        low = [at[dim][1] if dim in at else size for dim, size in enumerate(shape)]
        high = [at[dim][2] if dim in at else size for dim, size in enumerate(shape)]
        names = {dim: known[0] for dim, known in at.items() if known[0] and known[1] != known[2]}
        return Input(
            min_shape=low,
            opt_shape=shape,
            max_shape=high,
            dtype=leaf.dtype,
            torch_tensor=leaf,
            shared_dims=names or None,
        )

    return call.map(replace)
