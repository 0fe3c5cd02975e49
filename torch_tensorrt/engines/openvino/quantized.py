"""Quantize and dequantize operators in the forms that OpenVINO makes int8 kernels, and compressed weights, of.

Numbers that are rounded and taken back are a FakeQuantize; a constant of int8 is Convert, Subtract and Multiply, which the CPU
plugin undoes inside its kernels. Weights between -8 and 7 are told of by the name FOUR_BITS, for sdk.py to store in half a byte.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping

import torch
from torch import fx
from torch.fx.node import Argument

from torch_tensorrt.graphs.quantized import arguments, constant, grid_of, kind_of

aten = torch.ops.aten
FOUR_BITS = "four_bits"  # how the names of conversions of such weights begin
_EIGHT = frozenset({torch.int8, torch.uint8})


def refusal(node: fx.Node) -> str:
    """Why a node of PyTorch's quantized operators can't go to OpenVINO, or ""."""
    kind, given = kind_of(node), arguments(node)
    if kind not in REWRITES or (kind.endswith("tensor") and not isinstance(given["scale"], float)):
        return f"OpenVINO takes scales that are known when it compiles, and {node.target} has one that is computed"
    if kind.endswith("channel") and any(
        isinstance(each := given[name], fx.Node) and each.op == "call_function" for name in ("scales", "zero_points")
    ):
        return f"OpenVINO takes scales that are known when it compiles; {node.target}'s are computed"
    if given["dtype"] not in _EIGHT:
        return f"OpenVINO's kernels compute in int8 and uint8, and {node.target} has {given['dtype']}"
    floats = node if kind.startswith("dequantize") else node.all_input_nodes[0]
    value = floats.meta.get("val")
    if isinstance(value, torch.Tensor) and value.dtype is not torch.float32:
        return f"{node.target} between {value.dtype} and {given['dtype']}: tested with float32 only"
    return ""


def rewrite_quantize(node: fx.Node) -> None:
    """dequantize(quantize(x))  ->  fake_quantize(x); a quantize alone  ->  clamp(round(x / scale) + zero, low, high).

    dequantize(quantize(pad(x)))  ->  pad(fake_quantize(x)), for zeros, where they stay zeros: OpenVINO makes padding part of a
    convolution that follows it at once. dequantize(quantize(view(x)))  ->  view(fake_quantize(x)): rounding becomes part of what
    computes x, and the two views around a linear layer meet and go.
    """
    new = node.graph.call_function
    given, along = arguments(node), kind_of(node).endswith("channel")
    x, low, high = given["input"], given["quant_min"], given["quant_max"]
    assert isinstance(x, fx.Node) and isinstance(low, int) and isinstance(high, int)
    scale, zero = (given[name] for name in (("scales", "zero_points") if along else ("scale", "zero_point")))
    if all(kind_of(user).startswith("dequantize") and grid_of(user) == grid_of(node) for user in node.users):
        rule = (
            aten.fake_quantize_per_channel_affine_cachemask if along else aten.fake_quantize_per_tensor_affine_cachemask
        )
        moved = [] if along else _moved_behind(x, zeros_stay=isinstance(zero, int) and low <= zero <= high)
        first = moved[-1].args[0] if moved else x
        parts = (first, scale, zero, given["axis"], low, high) if along else (first, scale, zero, low, high)
        faked = new(operator.getitem, (new(rule.default, parts), 0))  # type: ignore[arg-type]
        faked.meta["val"] = first.meta["val"]  # type: ignore[union-attr]
        for step in reversed(moved):
            faked = new(step.target, (faked, *step.args[1:]))  # type: ignore[arg-type]
            faked.meta["val"] = step.meta["val"]
        for user in list(node.users):
            user.replace_input_with(node, faked)
        return
    if along:
        scaled, zero = new(aten.div.Tensor, (x, _along(node, scale))), _along(node, zero)
    else:
        assert isinstance(scale, float)
        scaled = new(aten.mul.Tensor, (x, 1 / scale))
    number = new(aten.add.Tensor, (new(aten.round.default, (scaled,)), zero))  # type: ignore[arg-type]
    number = new(aten.clamp.default, (number, float(low), float(high)))
    _replace(node, new(aten._to_copy.default, (number,), {"dtype": given["dtype"]}))  # type: ignore[dict-item]


def _moved_behind(node: fx.Node, *, zeros_stay: bool) -> list[fx.Node]:
    """Views, and padding with zeros where these stay what they are, that nothing else reads: the last one first."""
    found: list[fx.Node] = []
    while len(node.users) == 1 and (_is_view(node) or (zeros_stay and _pads_with_zeros(node))):
        found.append(node)
        (node,) = node.all_input_nodes[:1]
    return found


def _is_view(node: fx.Node) -> bool:
    return node.target is aten.view.default


def _pads_with_zeros(node: fx.Node) -> bool:
    return node.target is aten.constant_pad_nd.default and arguments(node)["value"] == 0


def rewrite_dequantize(node: fx.Node) -> None:
    """dequantize(n)  ->  (float(n) - zero) * scale, and for weights with a scale for each group of columns that in three dimensions.

    What has become a fake_quantize has taken the numbers back already: dequantize(fake_quantize(x))  ->  fake_quantize(x).
    """
    given = arguments(node)
    numbers = given["input"]
    assert isinstance(numbers, fx.Node)
    if numbers.meta["val"].dtype.is_floating_point:
        _replace(node, numbers)
        return
    groups = _groups(node)
    if groups is not None:
        view, shape = groups
        _replace(view, node.graph.call_function(aten.view.default, (_unpacked(node, shape), view.args[1])))
        return
    _replace(node, _unpacked(node, None))


def _unpacked(node: fx.Node, shape: list[int] | None) -> fx.Node:
    """(float(n) - zero) * scale, of numbers, zeros and scales viewed as `shape`, where given, and [..., 1]."""
    new, given = node.graph.call_function, arguments(node)
    along = kind_of(node).endswith("channel")
    numbers, scale = given["input"], given["scales" if along else "scale"]
    zero = given["zero_points" if along else "zero_point"]
    if shape is not None:
        numbers = new(aten.view.default, (numbers, shape))  # type: ignore[arg-type]
    result = _as_float(node, numbers)
    if along:
        scale = _along(node, scale, shape)
    if not _is_zero(zero):
        if along:
            zero = new(aten._to_copy.default, (_along(node, zero, shape),), {"dtype": torch.float32})
        result = new(aten.sub.Tensor, (result, zero))  # type: ignore[arg-type]
    return new(aten.mul.Tensor, (result, scale))  # type: ignore[arg-type]


def _as_float(node: fx.Node, numbers: object) -> fx.Node:
    given, to = arguments(node), {"dtype": torch.float32}
    if constant(given["input"]) is not None and (given["quant_min"], given["quant_max"]) == (-8, 7):
        named = f"{FOUR_BITS}_{node.name}"
        return node.graph.create_node("call_function", aten._to_copy.default, (numbers,), to, name=named)  # type: ignore[arg-type]
    return node.graph.call_function(aten._to_copy.default, (numbers,), to)  # type: ignore[arg-type]


def _groups(node: fx.Node) -> tuple[fx.Node, list[int]] | None:
    """The view that makes [rows, groups * size] of constants [rows * groups, size], and [rows, groups, size]."""
    given = arguments(node)
    numbers = constant(given["input"])
    (view, *others) = node.users
    if others or numbers is None or numbers.dim() != 2 or given.get("axis") != 0:
        return None
    wanted = view.args[1] if view.target is aten.view.default else None
    if not isinstance(wanted, (list, tuple)) or len(wanted) != 2 or not all(isinstance(size, int) for size in wanted):
        return None
    size = numbers.shape[1]
    rows, columns = (int(str(each)) for each in wanted)
    return (view, [rows, columns // size, size]) if rows > 0 and columns > 0 and columns % size == 0 else None


def _along(node: fx.Node, each: object, shape: list[int] | None = None) -> fx.Node:
    """One number for each index along the axis, to compute with the whole: [-1, 1, 1], [1, -1], ..."""
    given = arguments(node)
    numbers, axis = given["input"], given["axis"]
    assert isinstance(numbers, fx.Node) and isinstance(axis, int) and isinstance(each, fx.Node)
    rank = numbers.meta["val"].dim()
    sizes = [*shape[:-1], 1] if shape is not None else [-1 if place == axis % rank else 1 for place in range(rank)]
    return node.graph.call_function(aten.view.default, (each, sizes))


def _is_zero(value: object) -> bool:
    found = constant(value)
    return value is None or value == 0 or (found is not None and not bool(found.any()))


REWRITES: Mapping[str, Callable[[fx.Node], None]] = {
    "quantize_per_tensor": rewrite_quantize,
    "quantize_per_channel": rewrite_quantize,
    "dequantize_per_tensor": rewrite_dequantize,
    "dequantize_per_channel": rewrite_dequantize,
}


def _replace(node: fx.Node, other: Argument) -> None:
    assert isinstance(other, fx.Node)
    node.replace_all_uses_with(other)
    node.graph.erase_node(node)
