"""Layers that take or put values by index."""

from __future__ import annotations

import tensorrt_rtx as trt
import torch
from torch import Tensor

from interpret.reading import TORCH_DTYPE, Layer
from interpret.semantics import runs


@runs("GATHER")
def gather(layer: Layer, x: Tensor, index: Tensor) -> Tensor:
    """Gather.html: DEFAULT takes slices, ELEMENT single values, ND tuples of indices; negative ones count from the end."""
    native, axis, batch = layer.native, layer.native.axis, layer.native.num_elementwise_dims
    index = index.long()
    if native.mode == trt.GatherMode.ND:
        lead = x.shape[:batch]
        rows, places = x.reshape((-1, *x.shape[batch:])), index.reshape((-1, *index.shape[batch:]))
        taken = [row[tuple(place.unbind(-1))] for row, place in zip(rows, places, strict=True)]
        return torch.stack(taken).reshape(lead + taken[0].shape)
    index = torch.where(index < 0, index + x.shape[axis], index)
    if native.mode == trt.GatherMode.ELEMENT:
        return x.gather(axis, index)
    if batch:
        return torch.stack([_take(row, place, axis - 1) for row, place in zip(x, index, strict=True)])
    return _take(x, index, axis)


def _take(x: Tensor, index: Tensor, axis: int) -> Tensor:
    return x.index_select(axis, index.flatten()).reshape(x.shape[:axis] + index.shape + x.shape[axis + 1 :])


@runs("SCATTER")
def scatter(layer: Layer, x: Tensor, index: Tensor, updates: Tensor) -> Tensor:
    """Scatter.html: ELEMENT along an axis, or ND."""
    index, axis = index.long(), layer.native.axis
    if layer.native.mode == trt.ScatterMode.ELEMENT:
        return x.scatter(axis, torch.where(index < 0, index + x.shape[axis], index), updates)
    return x.index_put(tuple(index.unbind(-1)), updates)


@runs("ONE_HOT")
def one_hot(layer: Layer, index: Tensor, values: Tensor, depth: Tensor) -> Tensor:
    """OneHot.html: values are [off, on]. Negative indices count from the end and those outside are off: NVIDIA's own
    evaluation of constants says so (test_folding_oracle.py), the page doesn't.
    """
    index, count = index.long(), int(depth)
    place = torch.where(index < 0, index + count, index)
    hot = (place.unsqueeze(-1) == torch.arange(count)).movedim(-1, layer.native.axis)
    return torch.where(hot, values[1], values[0])


@runs("NON_ZERO")
def non_zero(layer: Layer, x: Tensor) -> Tensor:
    """NonZero.html: one column per element."""
    return x.nonzero().t().contiguous().to(TORCH_DTYPE[layer.native.indices_type])


@runs("NMS")
def nms(
    layer: Layer,
    boxes: Tensor,
    scores: Tensor,
    limit: Tensor,
    overlap: Tensor | None = None,
    least: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """NMS.html: rows of (batch, class, box), best score first."""
    most, threshold = int(limit), 0.0 if overlap is None else float(overlap)
    lowest = 0.0 if least is None else float(least)
    if layer.native.bounding_box_format == trt.BoundingBoxFormat.CENTER_SIZES:
        boxes = torch.cat([boxes[..., :2] - boxes[..., 2:] / 2, boxes[..., :2] + boxes[..., 2:] / 2], -1)
    boxes = torch.cat(
        [torch.minimum(boxes[..., :2], boxes[..., 2:]), torch.maximum(boxes[..., :2], boxes[..., 2:])], -1
    )
    rows: list[tuple[float, int, int, int]] = []
    for batch in range(scores.shape[0]):
        found: list[tuple[float, int, int, int]] = []
        for kind in range(scores.shape[2]):
            mine = boxes[batch, :, kind] if boxes.dim() == 4 else boxes[batch]
            chosen = _best(mine, scores[batch, :, kind], most, threshold, lowest)
            found += [(float(scores[batch, place, kind]), batch, kind, place) for place in chosen]
        rows += sorted(found, key=lambda row: -row[0])
    dtype = TORCH_DTYPE[layer.native.indices_type]
    picked = torch.tensor([row[1:] for row in rows], dtype=dtype).reshape(-1, 3)
    return picked, torch.tensor(len(rows), dtype=torch.int32)


def _best(boxes: Tensor, scores: Tensor, most: int, overlap: float, least: float) -> list[int]:
    chosen: list[int] = []
    for place in scores.argsort(descending=True, stable=True).tolist():
        if len(chosen) == most or scores[place] <= least:
            break
        if all(_overlap(boxes[place], boxes[other]) <= overlap for other in chosen):
            chosen.append(place)
    return chosen


def _overlap(a: Tensor, b: Tensor) -> float:
    common = (torch.minimum(a[2:], b[2:]) - torch.maximum(a[:2], b[:2])).clamp(0).prod()
    return float(common / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - common))
