"""A deserialised plan on one GPU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from torch_tensorrt.engines.tensorrt.contexts import Contexts
from torch_tensorrt.engines.tensorrt.sdk import Native, Sdk
from torch_tensorrt.spec.errors import FileFormatError, InputError

_ALIGNMENT = 256  # bytes: what CUDA's allocators give, and the SDK asks of addresses


@dataclass(frozen=True)
class Live:
    """The SDK's objects of an engine. The runtime has to outlive the engine.

    inputs, outputs: the engine's names, in the order of the partition's. ranges: for each profile the shapes at min, opt and
    max of each input; empty where there is one profile only.
    """

    sdk: Sdk
    runtime: Native
    engine: Native
    contexts: Contexts
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    ranges: tuple[tuple[Sequence[Sequence[int]], ...], ...]

    def profile_for(self, tensors: Sequence[Tensor], chosen: int | None) -> int:
        """The profile to run with: `chosen`, or the first whose ranges hold all sizes. Raises InputError when they don't."""
        if not self.ranges:
            return 0
        for profile in range(len(self.ranges)) if chosen is None else (chosen,):
            if all(_within(tensor.shape, shapes) for tensor, shapes in zip(tensors, self.ranges[profile], strict=True)):
                return profile
        given = {name: tuple(tensor.shape) for name, tensor in zip(self.inputs, tensors, strict=True)}
        which = "any profile" if chosen is None else f"profile {chosen}, which was chosen,"
        raise InputError(
            f"The sizes {given} are not within {which} of the engine: {'; '.join(self.describe_profiles())}. Compile with a "
            "profile that holds them" + (", or choose 'auto'." if chosen is not None else ".")
        )

    def describe_profiles(self) -> list[str]:
        """Each profile in words."""
        return [
            f"profile {place}: "
            + ", ".join(
                f"{name} {tuple(shapes[0])} to {tuple(shapes[-1])}"
                for name, shapes in zip(self.inputs, ranges, strict=True)
            )
            for place, ranges in enumerate(self.ranges)
        ]


def read_ranges(engine: Native, inputs: Sequence[str]) -> tuple[tuple[Sequence[Sequence[int]], ...], ...]:
    """What `Live.ranges` is for `engine`."""
    count = int(engine.num_optimization_profiles)
    if count <= 1:
        return ()
    return tuple(
        tuple([tuple(shape) for shape in engine.get_tensor_profile_shape(name, place)] for name in inputs)
        for place in range(count)
    )


def check_names(sdk: Sdk, engine: Native, inputs: Sequence[str], outputs: Sequence[str], name: str) -> None:
    """Raises FileFormatError when the engine has other inputs or outputs than its description says."""
    found = {engine.get_tensor_name(place) for place in range(engine.num_io_tensors)}
    mode = sdk.member("TensorIOMode", "INPUT")
    taken = {known for known in found if engine.get_tensor_mode(known) == mode}
    if taken != set(inputs) or found - taken != set(outputs):
        raise FileFormatError(
            f"Engine {name!r} should take {list(inputs)} and give {list(outputs)}; its plan takes {sorted(taken)} and gives "
            f"{sorted(found - taken)}. The file was changed; save the model again."
        )


def readable(tensor: Tensor, device: torch.device) -> Tensor:
    """`tensor` as the SDK takes it: on `device`, dense, and at an address that CUDA's allocators could have given."""
    fed = tensor.detach().to(device, non_blocking=True).contiguous()
    return fed if fed.data_ptr() % _ALIGNMENT == 0 else fed.clone()


def address(tensor: Tensor, device: torch.device) -> tuple[int, Tensor]:
    """Where `tensor` lies, and what has to be kept meanwhile: an empty one has no memory, and the SDK refuses the address 0."""
    kept = tensor if tensor.numel() else torch.empty(_ALIGNMENT, dtype=torch.uint8, device=device)
    return kept.data_ptr(), kept


def _within(shape: Sequence[int], ranges: Sequence[Sequence[int]]) -> bool:
    return all(low <= size <= high for low, size, high in zip(ranges[0], shape, ranges[-1], strict=True))
