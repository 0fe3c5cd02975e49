"""Input: what a model will be called with, as a shape or a range of shapes, a dtype, a layout and a range of values."""

from __future__ import annotations

import difflib
import math
import operator
from collections.abc import Mapping, Sequence
from enum import Enum, auto
from numbers import Real
from typing import SupportsIndex

import torch

from torch_tensorrt.spec.enums import dtype as trt_dtype
from torch_tensorrt.spec.enums import memory_format
from torch_tensorrt.spec.errors import InputError

_POINTS = ("min_shape", "opt_shape", "max_shape")
_KEYWORDS = (
    *("shape", *_POINTS, "dtype", "format", "tensor_domain", "torch_tensor", "name", "is_shape_tensor", "shared_dims"),
    "profiles",
)
# The number of dimensions that PyTorch wants for a layout.
_RANKS = {memory_format.channels_last: 4, memory_format.channels_last_3d: 5}


class Input:
    """One input of a model. It can't be changed once it is made.

    `Input((1, 3, 224, 224))`, `Input(shape=...)`, `Input(min_shape=..., opt_shape=..., max_shape=...)` for sizes that
    vary, or `Input(torch_tensor=...)` for the shape and dtype of an example.

    Keyword arguments: dtype (torch or torch_tensorrt; default float32), format (torch.contiguous_format,
    torch.channels_last or torch.channels_last_3d), tensor_domain (low, high) for example values (default [0, 2)),
    torch_tensor (the example to use where its shape fits), name (for messages), is_shape_tensor (its values are sizes),
    shared_dims (dimension -> name: Inputs that use one name share that size), profiles (a list of dicts with min_shape,
    opt_shape and max_shape: several ranges, for each of which an engine that can is tuned; the range is that over all).

    Raises InputError naming the dimension or keyword that is wrong.
    """

    class _ShapeMode(Enum):
        STATIC = auto()
        DYNAMIC = auto()

    DOMAIN_OFFSET = 2.0

    shape_mode: _ShapeMode
    dtype: trt_dtype
    _explicit_set_dtype: bool
    format: memory_format
    low_tensor_domain_incl: float
    high_tensor_domain_excl: float
    torch_tensor: torch.Tensor | None
    name: str
    is_shape_tensor: bool
    profiles: tuple[
        tuple[tuple[int, ...], ...], ...
    ]  # the three shapes of each range; one range unless several were given
    _points: tuple[tuple[int, ...], ...]  # one shape, or those at min, opt and max
    _shared_dims: tuple[tuple[int, str], ...]

    def __init__(self, *args: Sequence[SupportsIndex], **kwargs: object) -> None:
        _check_keywords(args, kwargs)
        tensor = _example(kwargs)
        profiles = _profiles(args, kwargs)
        points = _over_all(profiles) if profiles else _shapes(args, kwargs, tensor)
        if profiles and tensor is not None:
            _check_fits(tuple(tensor.shape), points)
        dtype, explicit = _dtype(kwargs, tensor)
        low, high = _domain(kwargs.get("tensor_domain"), dtype)
        self.__dict__.update(
            shape_mode=Input._ShapeMode.STATIC if len(points) == 1 else Input._ShapeMode.DYNAMIC,
            dtype=dtype,
            _explicit_set_dtype=explicit,
            format=_layout(kwargs.get("format"), len(points[0])),
            low_tensor_domain_incl=low,
            high_tensor_domain_excl=high,
            torch_tensor=tensor,
            name=_typed(kwargs, "name", ""),
            is_shape_tensor=_typed(kwargs, "is_shape_tensor", False),
            profiles=profiles or (points * (3 // len(points)),),
            _points=points,
            _shared_dims=_shared(kwargs.get("shared_dims"), points),
        )

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"An Input can't be changed ({name} = {value!r:.60}); make another one.")

    @property
    def shape(self) -> tuple[int, ...] | dict[str, tuple[int, ...]]:
        """The one shape of a static Input; those at "min_shape", "opt_shape" and "max_shape" of a dynamic one."""
        if self.shape_mode is Input._ShapeMode.STATIC:
            return self._points[0]
        return dict(zip(_POINTS, self._points, strict=True))

    @property
    def tensor_domain(self) -> tuple[float, float]:
        """Values of example tensors are at least the first and below the second."""
        return (self.low_tensor_domain_incl, self.high_tensor_domain_excl)

    @property
    def shared_dims(self) -> dict[int, str]:
        """Names of sizes by dimension (counted from 0)."""
        return dict(self._shared_dims)

    @classmethod
    def from_tensor(cls, t: torch.Tensor, disable_memory_format_check: bool = False) -> Input:
        """A static Input with the shape, dtype and layout of `t`, and `t` for its example.

        Raises InputError when `t` has none of the layouts that an Input can have, unless `disable_memory_format_check`.
        """
        if not isinstance(t, torch.Tensor):
            raise InputError(f"A torch.Tensor is needed, not a {type(t).__name__}.")
        layouts = [
            torch.contiguous_format,
            *(known.to(torch.memory_format) for known, r in _RANKS.items() if r == t.dim()),
        ]
        found = next((layout for layout in layouts if t.is_contiguous(memory_format=layout)), None)
        if found is None and not disable_memory_format_check:
            raise InputError(
                f"The tensor of shape {tuple(t.shape)} and strides {t.stride()} is neither contiguous nor channels_last; "
                "pass t.contiguous(), or disable_memory_format_check=True."
            )
        return cls(torch_tensor=t, dtype=t.dtype, format=found or torch.contiguous_format)

    @classmethod
    def from_tensors(cls, ts: Sequence[torch.Tensor], disable_memory_format_check: bool = False) -> list[Input]:
        """One static Input per tensor of a list or tuple."""
        if not isinstance(ts, (list, tuple)):
            raise InputError(f"A list or tuple of tensors is needed, not a {type(ts).__name__}.")
        return [cls.from_tensor(t, disable_memory_format_check) for t in ts]

    def example_tensor(self, optimization_profile_field: str | None = None) -> torch.Tensor:
        """A tensor of this Input's shape, dtype and layout on the CPU, with values from its domain.

        `optimization_profile_field` is "min_shape", "opt_shape" or "max_shape" for a dynamic Input, and not allowed for a
        static one: InputError.
        """
        if self.shape_mode is Input._ShapeMode.STATIC:
            if optimization_profile_field is not None:
                raise InputError(
                    f"This Input has the one shape {self.shape}; leave out {optimization_profile_field!r}."
                )
            shape = self._points[0]
        elif optimization_profile_field in _POINTS:
            shape = self._points[_POINTS.index(optimization_profile_field)]
        else:
            raise InputError(
                f"A dynamic Input needs one of {_POINTS} to make an example, not {optimization_profile_field!r}."
            )
        if self.torch_tensor is not None and tuple(self.torch_tensor.shape) == shape:
            return self.torch_tensor.cpu()
        return self._fill(shape).contiguous(memory_format=self.format.to(torch.memory_format))

    def _fill(self, shape: tuple[int, ...]) -> torch.Tensor:
        low, high = self.tensor_domain
        as_torch = self.dtype.to(torch.dtype)
        if self.dtype is trt_dtype.f4:
            raise InputError("PyTorch makes no values of dtype.f4; pass an example as torch_tensor=.")
        if as_torch is torch.bool:
            return torch.randint(0, 2, shape).bool()
        if not as_torch.is_floating_point:
            last = torch.iinfo(torch.int64).max  # torch.randint takes no end above it
            return torch.randint(math.ceil(low), min(math.ceil(high), last), shape, dtype=as_torch)
        exact = torch.rand(shape, dtype=torch.float64) * (high - low) + low
        # Rounding to a smaller dtype may reach `high`, which the domain leaves out.
        return torch.where(exact.to(as_torch).double() < high, exact, low).to(as_torch)

    @staticmethod
    def equivalent_spec(a: Input, b: Input) -> bool:
        """Whether two Inputs describe the same shapes, dtype and layout."""
        return (a._points, a.dtype, a.format) == (b._points, b.dtype, b.format)

    def _key(self) -> tuple[object, ...]:
        described = (self._points, self.dtype, self.format, self.tensor_domain)
        return (*described, self.name, self.is_shape_tensor, self._shared_dims, self.profiles)

    def __eq__(self, other: object) -> bool:
        return self._key() == other._key() if isinstance(other, Input) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        points = ("shape",) if self.shape_mode is Input._ShapeMode.STATIC else _POINTS
        parts = [f"{point}={shape}" for point, shape in zip(points, self._points, strict=True)]
        parts += [f"dtype={self.dtype}", f"format={self.format}", f"tensor_domain={self.tensor_domain}"]
        parts += [f"name={self.name!r}"] * bool(self.name) + ["is_shape_tensor=True"] * self.is_shape_tensor
        parts += [f"shared_dims={self.shared_dims}"] * bool(self._shared_dims)
        parts += [f"profiles={self.profiles}"] * (len(self.profiles) > 1)
        return f"Input({', '.join(parts)})"


def _check_keywords(args: tuple[object, ...], kwargs: Mapping[str, object]) -> None:
    for name in kwargs:
        if name not in _KEYWORDS:
            close = difflib.get_close_matches(name, _KEYWORDS, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else f" The keywords are {', '.join(_KEYWORDS)}."
            raise InputError(f"Unknown keyword {name!r} of Input.{hint}")
    if len(args) > 1:
        raise InputError(
            f"Input takes one shape by position, not {len(args)} values: Input((1, 3)), not Input(1, 3); a range is given "
            "as min_shape=, opt_shape= and max_shape=."
        )


def _profiles(args: tuple[object, ...], kwargs: Mapping[str, object]) -> tuple[tuple[tuple[int, ...], ...], ...]:
    """The shapes at min, opt and max of each range that `profiles` gives; () where it isn't given."""
    given = kwargs.get("profiles")
    if given is None:
        return ()
    if args or any(kwargs.get(name) is not None for name in ("shape", *_POINTS)):
        raise InputError("Input got profiles and a shape or range beside them; profiles hold the ranges.")
    wanted = set(_POINTS)
    if not isinstance(given, (list, tuple)) or not given or not all(isinstance(one, Mapping) for one in given):
        raise InputError(f"profiles={given!r:.200}: a list of dicts, each with {', '.join(_POINTS)}, is needed.")
    for place, one in enumerate(given):
        if set(one) != wanted:
            raise InputError(f"Profile {place} of an Input has {sorted(one)}; it needs {', '.join(_POINTS)}.")
    ranges = tuple(_range_of_shapes(one) for one in given)
    if len({len(shapes[0]) for shapes in ranges}) > 1:
        raise InputError(f"profiles={given!r:.200}: all profiles of an Input need the same number of dimensions.")
    return ranges


def _over_all(profiles: tuple[tuple[tuple[int, ...], ...], ...]) -> tuple[tuple[int, ...], ...]:
    """The range over all of them, with the typical sizes of the first; one shape where nothing varies."""
    low = tuple(map(min, zip(*(shapes[0] for shapes in profiles), strict=True)))
    high = tuple(map(max, zip(*(shapes[2] for shapes in profiles), strict=True)))
    return (low,) if low == high else (low, profiles[0][1], high)


def _example(kwargs: Mapping[str, object]) -> torch.Tensor | None:
    tensor = kwargs.get("torch_tensor")
    if tensor is not None and not isinstance(tensor, torch.Tensor):
        raise InputError(f"torch_tensor={tensor!r:.80}: a torch.Tensor is needed.")
    return tensor


def _shapes(
    args: tuple[object, ...], kwargs: Mapping[str, object], tensor: torch.Tensor | None
) -> tuple[tuple[int, ...], ...]:
    """One shape, or three; `tensor` gives the shape when nothing else does, and else has to fit."""
    points = [point for point in _POINTS if kwargs.get(point) is not None]
    single = [*args, *([kwargs["shape"]] if kwargs.get("shape") is not None else [])]
    if len(single) > 1:
        raise InputError("Input got its shape twice, by position and as shape=.")
    if single and points:
        raise InputError(f"Input got a shape and {', '.join(points)}; give the one or the other.")
    if single:
        shapes: tuple[tuple[int, ...], ...] = (_as_shape("shape", single[0]),)
    elif tensor is not None and not points:
        shapes = (tuple(tensor.shape),)
    elif len(points) == len(_POINTS):
        shapes = _range_of_shapes(kwargs)
    else:
        missing = ", ".join(point for point in _POINTS if point not in points)
        raise InputError(f"Input needs a shape, or all of min_shape, opt_shape and max_shape; missing: {missing}.")
    if tensor is not None:
        _check_fits(tuple(tensor.shape), shapes)
    return shapes


def _as_shape(name: str, given: object) -> tuple[int, ...]:
    if not isinstance(given, (tuple, list)):
        raise InputError(f"{name}={given!r}: a tuple of ints is needed.")
    sizes = []
    for dim, size in enumerate(given):
        try:
            count = -1 if isinstance(size, bool) else operator.index(size)
        except TypeError:
            count = -1
        if count < 0:
            raise InputError(
                f"{name}={tuple(given)}: the size of dimension {dim} is {size!r}; an integer of at least 0 is needed."
            )
        sizes.append(count)
    return tuple(sizes)


def _range_of_shapes(kwargs: Mapping[str, object]) -> tuple[tuple[int, ...], ...]:
    low, opt, high = shapes = tuple(_as_shape(point, kwargs[point]) for point in _POINTS)
    if not len(low) == len(opt) == len(high):
        raise InputError(
            f"min_shape, opt_shape and max_shape have {len(low)}, {len(opt)} and {len(high)} dimensions; they must agree."
        )
    for dim, (least, typical, most) in enumerate(zip(low, opt, high, strict=True)):
        if not least <= typical <= most:
            raise InputError(f"Dimension {dim}: min <= opt <= max does not hold for {least}, {typical}, {most}.")
    return shapes


def _check_fits(shape: tuple[int, ...], points: tuple[tuple[int, ...], ...]) -> None:
    low, high = points[0], points[-1]
    fits = len(shape) == len(low) and all(
        least <= size <= most for least, size, most in zip(low, shape, high, strict=True)
    )
    if not fits:
        allowed = f"the shape {low}" if len(points) == 1 else f"a shape from {low} to {high}"
        raise InputError(f"torch_tensor has the shape {shape}, and this Input {allowed}; give an example that fits.")


def _dtype(kwargs: Mapping[str, object], tensor: torch.Tensor | None) -> tuple[trt_dtype, bool]:
    """The dtype, and whether it was given rather than assumed."""
    given = kwargs.get("dtype")
    found = trt_dtype.unknown if given is None else trt_dtype._from(given)
    if tensor is None:
        return (trt_dtype.f32, False) if found is trt_dtype.unknown else (found, True)
    if found not in (trt_dtype.unknown, trt_dtype._from(tensor.dtype)):
        raise InputError(
            f"torch_tensor has dtype {tensor.dtype}, and dtype={given}; leave out the one or convert the other."
        )
    return trt_dtype._from(tensor.dtype), True


def _layout(given: object, rank: int) -> memory_format:
    found = memory_format.linear if given is None else memory_format._from(given)
    if found.try_to(torch.memory_format) is None:
        raise InputError(
            f"format={given}: PyTorch's tensors have no such layout, and no engine of this version takes it; use "
            "torch.contiguous_format or torch.channels_last."
        )
    if _RANKS.get(found, rank) != rank:
        raise InputError(f"format={given} is for shapes of {_RANKS[found]} dimensions, not of {rank}.")
    return found


def _typed(kwargs: Mapping[str, object], name: str, default: str | bool) -> str | bool:
    given = kwargs.get(name, default)
    if not isinstance(given, type(default)):
        raise InputError(f"{name}={given!r}: a {type(default).__name__} is needed, not a {type(given).__name__}.")
    return given


def _shared(given: object, points: tuple[tuple[int, ...], ...]) -> tuple[tuple[int, str], ...]:
    if given is None:
        return ()
    if not isinstance(given, Mapping):
        raise InputError(f"shared_dims={given!r}: a dict from dimension to name, such as {{0: 'batch'}}, is needed.")
    rank, names, ranges = len(points[0]), dict[int, str](), dict[str, tuple[int, ...]]()
    for dim, name in given.items():
        if isinstance(dim, bool) or not isinstance(dim, int) or not -rank <= dim < rank:
            raise InputError(f"shared_dims={given!r}: this Input has no dimension {dim!r}; it has {rank}.")
        if not isinstance(name, str) or not name.isidentifier():
            raise InputError(f"shared_dims={given!r}: {name!r} is not a name of letters, digits and underscores.")
        sizes = tuple(shape[dim] for shape in points)
        if ranges.setdefault(name, sizes) != sizes:
            raise InputError(f"shared_dims={given!r}: the dimensions named {name!r} have different sizes or ranges.")
        if names.setdefault(dim % rank, name) != name:
            raise InputError(f"shared_dims={given!r}: dimension {dim % rank} has two names.")
    return tuple(sorted(names.items()))


def _domain(given: object, dtype: trt_dtype) -> tuple[float, float]:
    """(low, high) with at least one value of `dtype` in it."""
    if given is None:
        return (0.0, Input.DOMAIN_OFFSET)
    numbers = isinstance(given, (tuple, list)) and [part for part in given if _is_finite(part)]
    if not numbers or not isinstance(given, (tuple, list)) or not len(numbers) == len(given) == 2:
        raise InputError(f"tensor_domain={given!r}: two finite numbers (low, high) are needed.")
    low, high = numbers
    as_torch = dtype.to(torch.dtype)
    if not low < high:
        raise InputError(f"tensor_domain={given!r}: low has to be below high.")
    if as_torch is torch.bool or dtype is trt_dtype.f4:
        return (float(low), float(high))
    limits = torch.finfo(as_torch) if as_torch.is_floating_point else torch.iinfo(as_torch)
    empty = not as_torch.is_floating_point and math.ceil(low) >= math.ceil(high)
    if empty or low < limits.min or high > limits.max + (not as_torch.is_floating_point):
        what = "holds no value" if empty else "holds values that are none"
        raise InputError(f"tensor_domain={given!r} {what} of {as_torch} ({limits.min} to {limits.max}).")
    return (float(low), float(high))


def _is_finite(number: object) -> bool:
    return isinstance(number, Real) and not isinstance(number, bool) and math.isfinite(number)
