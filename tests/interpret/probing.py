"""Inputs that tell one network from another: what one sample doesn't show, a value at a bound, a tie, an infinity may."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from interpret.reading import Layer, read_weights

_PLAIN = (-1.0, -0.0, 0.0, 0.5, 1.0, 2.0, 1e-45, -1e-45)  # the last two: so small that a half of them is 0
_SPECIAL = (0.0, -0.0, -1.5, 3.0, 25.0, -25.0, math.inf, -math.inf, math.nan, 1e-30, -1e-30, 1e-45, -1e-45)
_LOWEST = -40  # where the search for the least index begins
_COMBINATIONS = 60  # of changes of several tensors, at random
_SMALL = 0.01  # a bound that only as small values tell
_FILLS = 24  # inputs that a pool of values is spread over, at most
_WHOLE = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
Change = Callable[[Tensor], Tensor]


def probes(inputs: Sequence[Tensor], layers: Sequence[Layer] = ()) -> Iterator[list[Tensor]]:
    """Other inputs of the same shapes and dtypes: all tensors changed at once, each its own way, each alone.

    layers: of the network, whose constants say where its bounds may lie. Not all inputs are within what a network is for
    (an index beyond the end): who asks has to see.
    """
    random = torch.Generator().manual_seed(7)
    near = list(_near(_bounds(layers), inputs, random))
    # The least whole number by -1 ends the process, in PyTorch too.
    divides = any(layer.kind == "ELEMENTWISE" and layer.native.op.name in {"DIV", "FLOOR_DIV"} for layer in layers)
    changes = [*_changes(random), *near, *([] if divides else [_lowest])]
    for change in changes:
        yield [change(tensor) for tensor in inputs]
    if len(inputs) == 1:
        yield from ([every] for every in _all_bytes(inputs[0]))
        return
    for _ in range(_COMBINATIONS):
        picked = torch.randint(len(changes), (len(inputs),), generator=random).tolist()
        yield [changes[which](tensor) for which, tensor in zip(picked, inputs, strict=True)]
    for place in range(len(inputs)):
        for change in changes:
            yield [change(tensor) if place == other else tensor for other, tensor in enumerate(inputs)]
        for value in (0, 1):
            for change in (_coarse, _large, *near):
                yield [
                    change(tensor) if place == other else torch.full_like(tensor, value)
                    for other, tensor in enumerate(inputs)
                ]


def _all_bytes(tensor: Tensor) -> Iterator[Tensor]:
    if tensor.dtype in (torch.int8, torch.uint8) and tensor.numel():
        for first in range(0, 256, tensor.numel()):
            yield (torch.arange(tensor.numel()) + first).to(tensor.dtype).reshape(tensor.shape)


def find_least(function: Callable[..., object], inputs: Sequence[Tensor]) -> list[int | None]:
    """The least whole number that PyTorch takes in each input, of indices; None where it takes all, or of other dtypes."""
    return [_least_at(function, inputs, place) for place in range(len(inputs))]


def _least_at(function: Callable[..., object], inputs: Sequence[Tensor], place: int) -> int | None:
    if inputs[place].dtype not in (torch.int32, torch.int64) or not inputs[place].numel():
        return None

    def takes(value: int) -> bool:
        flat = inputs[place].flatten().clone()
        flat[-1] = value
        given = [flat.reshape(tensor.shape) if at == place else tensor.clone() for at, tensor in enumerate(inputs)]
        try:
            with torch.no_grad():
                function(*given)
        except (RuntimeError, IndexError, ValueError):
            return False
        return True

    if takes(-1000):
        return None
    taken = [value for value in range(_LOWEST, int(inputs[place].max()) + 1) if takes(value)]
    return taken[0] if taken and taken[0] > _LOWEST else None


def _bounds(layers: Sequence[Layer]) -> list[float]:
    """The numbers that stand in a network; of long constants, the least and the largest."""
    found: set[float] = set()
    for layer in layers:
        if layer.kind == "CONSTANT" and (weights := read_weights(layer.native.weights)) is not None:
            wide = weights.double().nan_to_num(0, 0, 0)
            found |= {float(value) for value in (wide if wide.numel() <= 8 else torch.stack([wide.min(), wide.max()]))}
        if layer.kind == "ACTIVATION":
            found |= {layer.native.alpha, layer.native.beta}
    return sorted(found, key=lambda value: (abs(value), value))


def _near(bounds: Sequence[float], inputs: Sequence[Tensor], random: torch.Generator) -> Iterator[Change]:
    """Values at and around the bounds, in as many inputs as it takes."""
    pool = list(_PLAIN)
    for bound in bounds:
        pool += [
            bound,
            bound - 1,
            bound + 1,
            bound - 0.25,
            bound + 0.25,
            bound + 0.5,
            bound + 0.75,
            -bound,
            bound + 1e-6,
            bound - 1e-6,
            bound * 2,
        ]
    for small in {abs(bound) for bound in bounds if 0 < abs(bound) < _SMALL}:
        yield lambda tensor, small=small: tensor * small if tensor.is_floating_point() else tensor  # type: ignore[misc]
    values = torch.tensor(list(dict.fromkeys(pool)), dtype=torch.float64)
    values = values[torch.randperm(values.numel(), generator=random)]
    smallest = min((tensor.numel() for tensor in inputs if tensor.dtype != torch.bool), default=1)
    for turn in range(min(_FILLS, -(-values.numel() // max(smallest, 1)))):
        yield lambda tensor, turn=turn: _filled(tensor, values.roll(-turn * smallest))  # type: ignore[misc]


def _filled(tensor: Tensor, values: Tensor) -> Tensor:
    if tensor.dtype == torch.bool or tensor.is_complex():
        return tensor
    held = values if tensor.is_floating_point() else values.clamp(-(2.0**31), 2.0**31).round()
    if tensor.dtype in _WHOLE:
        limits = torch.iinfo(tensor.dtype)
        held = held.clamp(limits.min / 2, limits.max / 2).to(torch.int64)
    times = -(-tensor.numel() // held.numel())
    return held.repeat(max(times, 1))[: tensor.numel()].to(tensor.dtype).reshape(tensor.shape)


def _changes(random: torch.Generator) -> Iterator[Change]:
    """Each keeps the shape and dtype, and what it has nothing to say about."""
    for change in (_as_it_is, _with_special_values, _small, _rounded, _other_numbers):
        yield lambda tensor, change=change: change(_shuffled(tensor, random))  # type: ignore[misc]
    for value in (math.inf, -math.inf, math.nan, 0.0, -0.0, 1e-45, -1e-45):
        yield lambda tensor, value=value: _scattered(_shuffled(tensor, random), value)  # type: ignore[misc]
        for axis in (0, -1):
            yield lambda tensor, value=value, axis=axis: _one_slice(_shuffled(tensor, random), value, axis)  # type: ignore[misc]
        yield lambda tensor, value=value: _filled_with(tensor, value)  # type: ignore[misc]
    yield from (_sorted, _backwards, _all_equal, _in_turn, _fine, _coarse, _large, _negative_index)
    yield _highest
    yield lambda tensor: _within(tensor, random)
    for low, high in ((-1, 2), (-9, 10), (1, 2000), (-(2**40), 2**40)):
        yield lambda tensor, low=low, high=high: _whole(tensor, low, high, random)  # type: ignore[misc]
    for share in (0.0, 0.2, 1.0):
        yield lambda tensor, share=share: _booleans(tensor, share, random)  # type: ignore[misc]
    for axis in (0, -1):
        yield lambda tensor, axis=axis: _one_row(tensor, axis)  # type: ignore[misc]


def _shuffled(tensor: Tensor, random: torch.Generator) -> Tensor:
    if tensor.dtype == torch.bool:
        return torch.rand(tensor.shape, generator=random) < 0.7
    return tensor.flatten()[torch.randperm(tensor.numel(), generator=random)].reshape(tensor.shape)


def _as_it_is(values: Tensor) -> Tensor:
    return values


def _with_special_values(values: Tensor) -> Tensor:
    if not values.is_floating_point():
        return values
    special = torch.tensor(_SPECIAL).to(values.dtype)
    return torch.cat([special, values.flatten()])[: values.numel()].reshape(values.shape)


def _small(values: Tensor) -> Tensor:
    return values.nan_to_num() * 1e-3 if values.is_floating_point() else values


def _rounded(values: Tensor) -> Tensor:
    return (values.nan_to_num(0, 9, -9) * 2).round() if values.is_floating_point() else values


def _other_numbers(values: Tensor) -> Tensor:
    return values * 3 - 5 if values.dtype in _WHOLE else values


def _scattered(values: Tensor, special: float) -> Tensor:
    """One kind of special value, here and there."""
    if not values.is_floating_point() or not values.numel():
        return values
    flat = values.flatten().clone()
    flat[min(1, values.numel() - 1) :: 3] = special
    return flat.reshape(values.shape)


def _one_slice(values: Tensor, special: float, axis: int) -> Tensor:
    """The second of the slices along an axis is one value."""
    if not values.is_floating_point() or values.dim() == 0 or not values.numel():
        return values
    made = values.clone()
    made.select(axis, min(1, values.shape[axis] - 1)).fill_(special)
    return made


def _filled_with(values: Tensor, special: float) -> Tensor:
    return torch.full_like(values, special) if values.is_floating_point() else values


def _sorted(values: Tensor) -> Tensor:
    return values.flatten().sort().values.reshape(values.shape)


def _backwards(values: Tensor) -> Tensor:
    return values.flatten().sort(descending=True).values.reshape(values.shape)


def _all_equal(values: Tensor) -> Tensor:
    return values.flatten()[:1].expand(values.numel()).reshape(values.shape).clone() if values.numel() else values


def _in_turn(values: Tensor) -> Tensor:
    """All differ, and which is largest changes from row to row."""
    places = torch.arange(values.numel(), dtype=torch.float64).reshape(values.shape)
    return (places * 7 % 11 / 2 - 2 + places / 64).to(values.dtype) if values.is_floating_point() else values


def _fine(values: Tensor) -> Tensor:
    return _evenly(values, 1.0)


def _coarse(values: Tensor) -> Tensor:
    return _evenly(values, 10.0)


def _evenly(values: Tensor, most: float) -> Tensor:
    if not values.is_floating_point():
        return values
    return torch.linspace(-most, most, values.numel(), dtype=torch.float64).to(values.dtype).reshape(values.shape)


def _large(values: Tensor) -> Tensor:
    return values * 1000 if values.is_floating_point() else values


def _negative_index(values: Tensor) -> Tensor:
    """The same places counted from the end, if all are named."""
    if values.dtype not in _WHOLE or not values.numel() or values.dtype == torch.uint8:
        return values
    return values - (values.max() - values.min() + 1)


def _lowest(values: Tensor) -> Tensor:
    return values.clone().fill_(torch.iinfo(values.dtype).min) if values.dtype in _WHOLE else values


def _highest(values: Tensor) -> Tensor:
    return values.clone().fill_(torch.iinfo(values.dtype).max) if values.dtype in _WHOLE else values


def _within(values: Tensor, random: torch.Generator) -> Tensor:
    """Other values between the least and the largest."""
    if values.dtype == torch.bool or not values.numel() or not bool(values.isfinite().all()):
        return values
    low, high = values.min().double(), values.max().double()
    made = low + torch.rand(values.shape, generator=random, dtype=torch.float64) * (high - low)
    return (made if values.is_floating_point() else made.round()).to(values.dtype)


def _whole(values: Tensor, low: int, high: int, random: torch.Generator) -> Tensor:
    if values.dtype not in _WHOLE:
        return values
    limits = torch.iinfo(values.dtype)
    low, high = max(low, limits.min), min(high, limits.max)
    return torch.randint(low, high, values.shape, generator=random).to(values.dtype)


def _booleans(values: Tensor, share: float, random: torch.Generator) -> Tensor:
    return torch.rand(values.shape, generator=random) < share if values.dtype == torch.bool else values


def _one_row(values: Tensor, axis: int) -> Tensor:
    """Bools: one row all true, one all false, the others as they were."""
    if values.dtype != torch.bool or values.dim() == 0 or values.shape[axis] < 2:
        return values
    made = values.clone()
    made.select(axis, 0).fill_(True)
    made.select(axis, 1).fill_(False)
    return made
