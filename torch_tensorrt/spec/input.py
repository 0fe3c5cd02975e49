"""Input: what a model will be called with, as a shape or a range of shapes, a dtype, a layout and a range of values."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from enum import Enum, auto

import torch

from torch_tensorrt.spec.enums import dtype as trt_dtype
from torch_tensorrt.spec.enums import memory_format
from torch_tensorrt.spec.errors import InputError

_POINTS = ("min_shape", "opt_shape", "max_shape")
_KEYWORDS = (
    *("shape", *_POINTS, "dtype", "format", "tensor_domain", "torch_tensor", "name", "is_shape_tensor", "shared_dims"),
    "profiles",
)


class Input:
    """One input of a model.

    `Input((1, 3, 224, 224))`, `Input(shape=...)`, or `Input(min_shape=..., opt_shape=..., max_shape=...)` for sizes that vary.

    Keyword arguments: dtype (torch or torch_tensorrt; default float32), format (torch.contiguous_format or
    torch.channels_last), tensor_domain (low, high) for example values (default [0, 2)), torch_tensor (an example that is used
    as it is), name (for messages), shared_dims (dimension -> name: Inputs that use one name share that size).

    Raises InputError naming the dimension or keyword that is wrong.
    """

    class _ShapeMode(Enum):
        STATIC = auto()
        DYNAMIC = auto()

    DOMAIN_OFFSET = 2.0

    def __init__(self, *args: Sequence[int], **kwargs: object) -> None:
        _check_keywords(args, kwargs)
        given = args[0] if args else kwargs.get("shape")
        self.shape: tuple[int, ...] | dict[str, tuple[int, ...]]
        if given is not None:
            self.shape_mode = Input._ShapeMode.STATIC
            self.shape = _as_shape("shape", given)
        else:
            self.shape_mode = Input._ShapeMode.DYNAMIC
            self.shape = _range_of_shapes(kwargs)
        self._explicit_set_dtype = kwargs.get("dtype") is not None
        self.dtype = trt_dtype._from(kwargs["dtype"]) if self._explicit_set_dtype else trt_dtype.f32
        self.format = memory_format._from(kwargs.get("format", torch.contiguous_format))
        self.name = str(kwargs.get("name", ""))
        self.is_shape_tensor = bool(kwargs.get("is_shape_tensor", False))
        self.shared_dims = _shared(kwargs.get("shared_dims"))
        self.tensor_domain = _domain(kwargs.get("tensor_domain"))
        tensor = kwargs.get("torch_tensor")
        if tensor is not None and not isinstance(tensor, torch.Tensor):
            raise InputError(f"torch_tensor={tensor!r:.80}: a torch.Tensor is needed.")
        self.torch_tensor: torch.Tensor | None = tensor

    @classmethod
    def from_tensor(cls, t: torch.Tensor, disable_memory_format_check: bool = False) -> Input:
        """A static Input with the shape, dtype and layout of `t`."""
        if not isinstance(t, torch.Tensor):
            raise InputError(f"A torch.Tensor is needed, not a {type(t).__name__}.")
        last = t.dim() == 4 and t.is_contiguous(memory_format=torch.channels_last) and not t.is_contiguous()
        if not (disable_memory_format_check or t.is_contiguous() or last):
            raise InputError(
                f"The tensor of shape {tuple(t.shape)} is neither contiguous nor channels_last; pass t.contiguous(), or "
                "disable_memory_format_check=True."
            )
        layout = torch.channels_last if last else torch.contiguous_format
        return cls(shape=tuple(t.shape), dtype=t.dtype, format=layout, torch_tensor=t)

    @classmethod
    def from_tensors(cls, ts: Sequence[torch.Tensor], disable_memory_format_check: bool = False) -> list[Input]:
        """One static Input per tensor."""
        return [cls.from_tensor(t, disable_memory_format_check) for t in ts]

    def example_tensor(self, optimization_profile_field: str | None = None) -> torch.Tensor:
        """A tensor of this Input's shape, dtype and layout on the CPU, with values from its domain.

        `optimization_profile_field` is "min_shape", "opt_shape" or "max_shape" for a dynamic Input, and not allowed for a
        static one: InputError.
        """
        if isinstance(self.shape, dict):
            if optimization_profile_field not in self.shape:
                raise InputError(
                    f"A dynamic Input needs one of {_POINTS} to make an example, not {optimization_profile_field!r}."
                )
            shape = self.shape[str(optimization_profile_field)]
        elif optimization_profile_field is not None:
            raise InputError(f"This Input has the one shape {self.shape}; leave out {optimization_profile_field!r}.")
        else:
            shape = self.shape
        if self.torch_tensor is not None and tuple(self.torch_tensor.shape) == shape:
            return self.torch_tensor
        return self._fill(shape)

    def _fill(self, shape: tuple[int, ...]) -> torch.Tensor:
        low, high = self.tensor_domain
        as_torch = self.dtype.to(torch.dtype)
        assert isinstance(as_torch, torch.dtype)
        if as_torch == torch.bool:
            return torch.randint(0, 2, shape).bool()
        if not as_torch.is_floating_point:
            return torch.randint(int(low), max(int(high), int(low) + 1), shape, dtype=as_torch)
        tensor = (torch.rand(shape) * (high - low) + low).to(as_torch)
        layout = self.format.try_to(torch.memory_format)
        fits = (layout is torch.channels_last and len(shape) == 4) or (
            layout is torch.channels_last_3d and len(shape) == 5
        )
        return tensor.contiguous(memory_format=layout) if fits else tensor  # type: ignore[arg-type]

    @staticmethod
    def equivalent_spec(a: Input, b: Input) -> bool:
        """Whether two Inputs describe the same shapes, dtype and layout."""
        return a.shape_mode == b.shape_mode and a.shape == b.shape and a.dtype == b.dtype and a.format == b.format

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Input) and Input.equivalent_spec(self, other) and self.shared_dims == other.shared_dims

    def __hash__(self) -> int:
        return hash((str(self.shape), self.dtype, self.format))

    def __repr__(self) -> str:
        if isinstance(self.shape, dict):
            shape = ", ".join(f"{point}={self.shape[point]}" for point in _POINTS)
        else:
            shape = f"shape={self.shape}"
        name = f", name={self.name!r}" if self.name else ""
        return f"Input({shape}, dtype={self.dtype.name}, format={self.format.name}{name})"


def _check_keywords(args: tuple[Sequence[int], ...], kwargs: Mapping[str, object]) -> None:
    for name in kwargs:
        if name not in _KEYWORDS:
            close = difflib.get_close_matches(name, _KEYWORDS, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else f" The keywords are {', '.join(_KEYWORDS)}."
            raise InputError(f"Unknown keyword {name!r} of Input.{hint}")
    if kwargs.get("profiles") is not None:
        raise InputError("Several optimization profiles per Input are not built in this version; give one range.")
    if len(args) > 1:
        raise InputError(
            f"Input takes one shape by position, not {len(args)}; give ranges as min_shape, opt_shape, max_shape."
        )
    points = [point for point in _POINTS if kwargs.get(point) is not None]
    single = bool(args) or kwargs.get("shape") is not None
    if single and points:
        raise InputError(f"Input got a shape and {', '.join(points)}; give the one or the other.")
    if args and kwargs.get("shape") is not None:
        raise InputError("Input got its shape twice, by position and as shape=.")
    if not single and len(points) != 3:
        missing = [point for point in _POINTS if point not in points]
        raise InputError(
            f"Input needs a shape, or all of min_shape, opt_shape and max_shape; missing: {', '.join(missing)}."
        )


def _as_shape(name: str, given: object) -> tuple[int, ...]:
    if not isinstance(given, (tuple, list)):
        raise InputError(f"{name}={given!r}: a tuple of ints is needed.")
    for dim, size in enumerate(given):
        if isinstance(size, bool) or not isinstance(size, int) or size < 0:
            raise InputError(
                f"{name}={tuple(given)}: the size of dimension {dim} is {size!r}; an integer of at least 0 is needed."
            )
    return tuple(int(size) for size in given)


def _range_of_shapes(kwargs: Mapping[str, object]) -> dict[str, tuple[int, ...]]:
    shapes = {point: _as_shape(point, kwargs[point]) for point in _POINTS}
    low, opt, high = (shapes[point] for point in _POINTS)
    if not len(low) == len(opt) == len(high):
        raise InputError(
            f"min_shape, opt_shape and max_shape have {len(low)}, {len(opt)} and {len(high)} dimensions; they must agree."
        )
    for dim, (least, typical, most) in enumerate(zip(low, opt, high, strict=True)):
        if not least <= typical <= most:
            raise InputError(f"Dimension {dim}: min <= opt <= max does not hold for {least}, {typical}, {most}.")
    return shapes


def _shared(given: object) -> dict[int, str]:
    if given is None:
        return {}
    if not isinstance(given, Mapping) or not all(isinstance(d, int) and isinstance(n, str) for d, n in given.items()):
        raise InputError(f"shared_dims={given!r}: a dict from dimension to name, such as {{0: 'batch'}}, is needed.")
    return dict(given)


def _domain(given: object) -> tuple[float, float]:
    if given is None:
        return (0.0, Input.DOMAIN_OFFSET)
    if not isinstance(given, (tuple, list)) or len(given) != 2 or not given[0] < given[1]:
        raise InputError(f"tensor_domain={given!r}: (low, high) with low < high is needed.")
    return (float(given[0]), float(given[1]))
