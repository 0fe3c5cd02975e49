"""Layers that decide what is evaluated: loops, conditionals, attention's masks, random numbers."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any

import tensorrt_rtx as trt
import torch
from torch import Tensor

from interpret.reading import HELD_AS, Layer
from interpret.semantics import NotInterpretedError


class Scope:
    """The values of one round of a loop or, at the top, of the whole network."""

    def __init__(self, parent: Scope | None = None, loop: str | None = None) -> None:
        self.parent = parent
        self.loop = loop
        self.values: dict[str, Tensor] = {}


def loop_output(run: Any, layer: Layer, scope: Scope) -> Tensor:
    """Loop.html: runs the layer's whole loop, and gives this one output of it."""
    inside = [other for other in run.layers if other.loop == layer.loop]
    recurrences = [other for other in inside if other.kind == "RECURRENCE"]
    limits = {other.native.kind.name: other.inputs[0] for other in inside if other.kind == "TRIP_LIMIT"}
    count = int(run.value(limits["COUNT"], scope)) if "COUNT" in limits else sys.maxsize
    state = {other.outputs[0]: run.value(other.inputs[0], scope) for other in recurrences}
    kind, collected, trip = layer.native.kind.name, [], 0
    while trip < count:
        body = Scope(scope, layer.loop)
        body.values.update(state)
        for iterator in (other for other in inside if other.kind == "ITERATOR"):
            source = run.value(iterator.inputs[0], scope)
            axis = iterator.native.axis
            at = source.shape[axis] - 1 - trip if iterator.native.reverse else trip
            body.values[iterator.outputs[0]] = source.select(axis, at)
        if "WHILE" in limits and not bool(run.value(limits["WHILE"], body)):
            break
        if kind != "LAST_VALUE":
            collected.append(run.value(layer.inputs[0], body))
        state = {other.outputs[0]: run.value(other.inputs[1], body) for other in recurrences}
        trip += 1
    if kind == "LAST_VALUE":
        return state[str(layer.inputs[0])]
    if kind == "REVERSE":
        collected.reverse()
    length, stacked = int(run.value(layer.inputs[1], scope)), torch.stack(collected, layer.native.axis)
    if stacked.shape[layer.native.axis] != length:  # TensorRT leaves the rest undefined
        raise NotInterpretedError(f"{layer.name}: {stacked.shape[layer.native.axis]} rounds, length {length}")
    return stacked


def conditional_output(run: Any, layer: Layer, scope: Scope) -> Tensor:
    """If.html: only the branch taken is evaluated."""
    wanted = [other for other in run.layers if other.kind == "CONDITION" and other.conditional == layer.conditional]
    taken = bool(run.value(wanted[0].inputs[0], scope))
    value: Tensor = run.value(layer.inputs[0 if taken else 1], scope)
    return value


def attention_input(run: Any, layer: Layer, scope: Scope) -> Tensor:
    """Attention.html: computes the whole attention, which ATTENTION_OUTPUT passes on. No 1/sqrt(d): the network scales."""
    given = layer.attention
    if given.query_form != trt.AttentionIOForm.PADDED_BHND or given.normalization_quantize_scale is not None:
        raise NotInterpretedError(f"{layer.name}: packed or quantised attention")
    query, key, value = (run.value(name, scope).float() for name in layer.inputs[:3])
    mask = run.value(given.mask.name, scope) if given.mask is not None else None
    lengths = run.value(given.key_value_lengths.name, scope) if given.key_value_lengths is not None else None
    if key.shape[1] != query.shape[1]:
        key, value = (part.repeat_interleave(query.shape[1] // part.shape[1], 1) for part in (key, value))
    score = query @ key.mT
    if mask is not None:
        score = score.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else score + mask.float()
    if given.causal_kind != trt.CausalMaskKind.NONE:
        rows, columns = score.shape[-2:]
        shift = columns - rows if given.causal_kind == trt.CausalMaskKind.LOWER_RIGHT else 0
        score = score.masked_fill(~torch.ones(rows, columns, dtype=torch.bool).tril(shift), -math.inf)
    if lengths is not None:
        score = score.masked_fill(torch.arange(key.shape[2]) >= lengths.view(-1, 1, 1, 1), -math.inf)
    if given.norm_op == trt.AttentionNormalizationOp.SOFTMAX:
        score = score.softmax(-1)
    return score @ value


def fill(run: Any, layer: Layer, scope: Scope) -> Tensor:
    """Fill.html: LINSPACE counts from alpha in steps of beta (one per dimension when beta is a tensor), or random numbers."""
    native = layer.native
    given = [None if name is None else run.value(name, scope) for name in layer.inputs] + [None] * 3
    sizes, alpha, beta = given[:3]
    shape = tuple(native.shape) if sizes is None else tuple(sizes.tolist())
    dtype = HELD_AS[layer.output_types[0]]  # not `to_type`, which is ignored once alpha is a tensor
    start, step = (native.alpha if alpha is None else alpha), (native.beta if beta is None else beta)
    if native.operation == trt.FillOperation.LINSPACE:
        return _linspace(shape, torch.as_tensor(start).to(dtype), torch.as_tensor(step).flatten().to(dtype))
    low, high = float(start), float(step)
    if native.operation == trt.FillOperation.RANDOM_UNIFORM:
        return (low + (high - low) * torch.rand(shape, generator=run.generator)).to(dtype)
    return (low + high * torch.randn(shape, generator=run.generator)).to(dtype)


def _linspace(shape: tuple[int, ...], start: Tensor, steps: Tensor) -> Tensor:
    result = start + torch.zeros(shape, dtype=start.dtype)
    for axis, size in enumerate(shape):
        if steps.numel() == 1 and axis < len(shape) - 1:
            continue
        step = steps[axis] if steps.numel() > 1 else steps[0]
        counted = step * torch.arange(size, dtype=start.dtype)
        result = result + counted.reshape([-1 if place == axis else 1 for place in range(len(shape))])
    return result


DRIVEN: dict[str, Callable[[Any, Layer, Scope], Tensor]] = {
    "LOOP_OUTPUT": loop_output,
    "CONDITIONAL_OUTPUT": conditional_output,
    "ATTENTION_INPUT": attention_input,
    "FILL": fill,
}
