"""InputTensorSpec: the form in which the FX door describes an input. `to_input` gives the torch_tensorrt.Input of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch

from torch_tensorrt.fx.lower_setting import LowerSetting
from torch_tensorrt.spec.errors import InputError
from torch_tensorrt.spec.input import Input

Shape = Sequence[int]


class InputTensorSpec(NamedTuple):
    """One input.

    shape: its sizes, -1 for one that varies. dtype, device: of the tensor. shape_ranges: (least, typical, greatest shape), once
    for each range that engines are tuned for; needed where a size is -1. has_batch_dim: False for a shape without the batch
    dimension, which is then taken to be 1.
    """

    shape: Shape
    dtype: torch.dtype
    device: torch.device = torch.device("cpu")
    shape_ranges: Sequence[tuple[Shape, Shape, Shape]] = ()
    has_batch_dim: bool = True

    @classmethod
    def from_tensor(cls, tensor: torch.Tensor) -> InputTensorSpec:
        """The spec of exactly this shape."""
        return cls(tuple(tensor.shape), tensor.dtype, tensor.device)

    @classmethod
    def from_tensors(cls, tensors: Iterable[torch.Tensor]) -> list[InputTensorSpec]:
        """`from_tensor` for each."""
        return [cls.from_tensor(tensor) for tensor in tensors]

    @classmethod
    def from_tensors_with_dynamic_batch_size(
        cls,
        tensors: Sequence[torch.Tensor],
        batch_size_range: tuple[int, int, int],
        opt_profile_replica: int = 1,
        batch_dims: Sequence[int] | None = None,
    ) -> list[InputTensorSpec]:
        """Specs whose batch size varies.

        Args:
            tensors: examples.
            batch_size_range: least, typical and greatest batch size.
            opt_profile_replica: how often the range is repeated; an engine is tuned once for equal ranges.
            batch_dims: the batch dimension of each tensor, -1 for none; default: as `find_batch_size_dim` says.
        """
        if len(batch_size_range) != 3 or not 1 <= batch_size_range[0] <= batch_size_range[1] <= batch_size_range[2]:
            raise InputError(f"batch_size_range={batch_size_range!r}: three sizes, from 1 upward, are needed.")
        dims = cls.find_batch_size_dim(tensors) if batch_dims is None else batch_dims
        if len(dims) != len(tensors):
            raise InputError(f"batch_dims={dims!r} has {len(dims)} entries for {len(tensors)} tensors.")
        specs = []
        for tensor, dim in zip(tensors, dims, strict=True):
            spec = cls.from_tensor(tensor)
            if dim >= 0:
                least, usual, most = (_with(spec.shape, dim, size) for size in batch_size_range)
                ranges = [(least, usual, most)] * opt_profile_replica
                spec = spec._replace(shape=_with(spec.shape, dim, -1), shape_ranges=ranges)
            specs.append(spec)
        return specs

    @classmethod
    def find_batch_size_dim(cls, inputs: Sequence[torch.Tensor]) -> list[int]:
        """The batch dimension of each tensor, -1 where it has none: the first dimension of the size that most begin with."""
        leading = Counter(tensor.shape[0] for tensor in inputs if tensor.dim())
        if not leading:
            return [-1 for _ in inputs]
        batch = leading.most_common(1)[0][0]
        return [[*tensor.shape].index(batch) if batch in tensor.shape else -1 for tensor in inputs]

    def to_random_tensor(self, id: int = 1) -> torch.Tensor:
        """A tensor of the shape, or of the least (id=0), typical (1) or greatest (2) shape of the first range."""
        shape = self._shape_at(id)
        if self.dtype is torch.bool:
            return torch.rand(shape, device=self.device) < 0.5
        if self.dtype.is_floating_point or self.dtype.is_complex:
            return torch.randn(shape, device=self.device).to(self.dtype)
        return torch.randint(0, 2, shape, dtype=self.dtype, device=self.device)

    @staticmethod
    def create_inputs_from_specs(input_specs: Iterable[InputTensorSpec]) -> list[torch.Tensor]:
        """A random tensor of the typical shape of each."""
        return [spec.to_random_tensor() for spec in input_specs]

    @staticmethod
    def create_inputs_from_max_specs(input_specs: Iterable[InputTensorSpec]) -> list[torch.Tensor]:
        """A random tensor of the greatest shape of each."""
        return [spec.to_random_tensor(2) for spec in input_specs]

    def to_input(self) -> Input:
        """The torch_tensorrt.Input. Raises InputError for sizes of -1 without ranges."""
        if not self.shape_ranges:
            return Input(shape=self._shape_at(1), dtype=self.dtype)
        points = ("min_shape", "opt_shape", "max_shape")
        ranges = dict.fromkeys(tuple(self._whole(shape) for shape in shapes) for shapes in self.shape_ranges)
        profiles = [dict(zip(points, shapes, strict=True)) for shapes in ranges]
        return (
            Input(profiles=profiles, dtype=self.dtype) if len(profiles) > 1 else Input(**profiles[0], dtype=self.dtype)
        )

    def _shape_at(self, point: int) -> tuple[int, ...]:
        shape = self._whole(self.shape_ranges[0][point] if self.shape_ranges else self.shape)
        if -1 in shape:
            raise InputError(
                f"InputTensorSpec of shape {tuple(self.shape)} has no shape_ranges that say how -1 varies."
            )
        return shape

    def _whole(self, shape: Shape) -> tuple[int, ...]:
        return tuple(shape) if self.has_batch_dim else (1, *shape)


def generate_input_specs(
    inputs: Sequence[torch.Tensor],
    lower_setting: LowerSetting,
    additional_inputs: Sequence[torch.Tensor] | None = None,
) -> list[InputTensorSpec]:
    """What `torch_tensorrt.fx.compile` takes the inputs for.

    Of fixed sizes with explicit_batch_dimension=True and dynamic_batch=False; else the batch size varies from 1 to max_batch_size.
    `additional_inputs`, of another batch size, show which dimension that is.
    """
    if lower_setting.explicit_batch_dimension and not lower_setting.dynamic_batch:
        return InputTensorSpec.from_tensors(inputs)
    dims = InputTensorSpec.find_batch_size_dim(inputs)
    if additional_inputs is not None:
        if len(additional_inputs) != len(inputs):
            raise InputError(f"additional_inputs has {len(additional_inputs)} tensors, inputs {len(inputs)}.")
        pairs = zip(inputs, additional_inputs, strict=True)
        dims = [next((at for at, size in enumerate(one.shape) if size != other.shape[at]), -1) for one, other in pairs]
    usual = next((tensor.shape[dim] for tensor, dim in zip(inputs, dims, strict=True) if dim >= 0), 1)
    most = lower_setting.max_batch_size
    if usual > most:
        raise InputError(f"The inputs have batch size {usual}, above max_batch_size={most}.")
    return InputTensorSpec.from_tensors_with_dynamic_batch_size(inputs, (1, usual, most), batch_dims=dims)


def _with(shape: Shape, dim: int, size: int) -> tuple[int, ...]:
    return (*shape[:dim], size, *shape[dim + 1 :])
