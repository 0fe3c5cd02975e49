"""Quantized weights and values as each tool writes them become PyTorch's own operators, before anything folds them to floats."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, fx
from torch._ops import OpOverload

from torch_tensorrt.contracts.passes import lowering_pass
from torch_tensorrt.graphs.editing import add_call, add_constant, tensor_of, written_attributes
from torch_tensorrt.graphs.quantized import arguments, constant, kind_of, quantized_operator
from torch_tensorrt.spec.settings import CompilationSettings

aten = torch.ops.aten
_EIGHT = frozenset({torch.int8, torch.uint8})
_TOLERANCE = 1e-3  # of a step, within which a product of a scale and a zero is that


@lowering_pass
def unify_quantization(graph_module: fx.GraphModule, settings: CompilationSettings) -> bool:
    """(w - zero) * scale, w * scale - shift, torchao.dequantize_affine(w)  ->  dequantize_per_channel(w), of constants.

    Scales and zeros that are tensors with one number become that number.
    """
    written = written_attributes(graph_module)
    changed = False
    for node in list(graph_module.graph.nodes):
        if node.op != "call_function" or any(str(each.target) in written for each in node.all_input_nodes):
            continue
        name = str(node.target)
        rewrite = _REWRITES.get(name) or (_settle if kind_of(node).endswith("per_tensor") else None)
        if rewrite is not None:
            with graph_module.graph.inserting_before(node):
                changed |= rewrite(graph_module, node)
    if changed:
        graph_module.graph.eliminate_dead_code()
    return changed


def kept_quantization(graph: fx.Graph) -> frozenset[OpOverload]:
    """torchao's operators where `graph` uses them with given scales only: taken apart, they would be floating-point arithmetic."""
    used = [node for node in graph.nodes if _REWRITES.get(str(node.target)) is _affine]
    computed = {node.target for node in used if getattr(arguments(node)["scale"], "op", "") == "call_function"}
    return frozenset({node.target for node in used} - computed)


def _settle(module: fx.GraphModule, node: fx.Node) -> bool:
    """quantize_per_tensor.tensor(x, tensor(0.1), tensor(3), ...)  ->  quantize_per_tensor(x, 0.1, 3, ...)."""
    given = dict(arguments(node))
    names = ("scale", "zero_point", "quant_min", "quant_max")
    known = {name: found for name in names if (found := constant(given[name])) is not None and found.numel() == 1}
    if not known or any(isinstance(given[name], fx.Node) and name not in known for name in names):
        return False
    given.update({name: found.item() for name, found in known.items()})
    target = quantized_operator(kind_of(node))
    options = {"out_dtype": given["out_dtype"]} if given.get("out_dtype") else {}
    args = tuple(given[name] for name in ("input", *names, "dtype"))
    _replace(node, add_call(module, target, args, options))  # type: ignore[arg-type]
    return True


def _weights(module: fx.GraphModule, node: fx.Node) -> bool:
    """A product of a constant of int8, maybe less a zero, and a scale; and less a shift after it."""
    for place in (0, 1):
        numbers, zero = _numbers(node.args[place])
        scale = constant(node.args[1 - place])
        if numbers is None or scale is None or scale.dtype is not torch.float32:
            continue
        last, shift = node, None
        user = next(iter(node.users), None)
        if user is not None and len(node.users) == 1 and user.target is aten.sub.Tensor and user.args[0] is node:
            shift = constant(user.args[1])
            last = user if shift is not None and not user.kwargs else node
        if last is not node and shift is not None:
            zero = (0 if zero is None else zero) + shift / scale
        made = _dequantized(module, numbers, scale, zero)
        if made is None or made.meta["val"].shape != last.meta["val"].shape:
            return False
        _replace(last, made)
        return True
    return False


def _numbers(value: object) -> tuple[fx.Node | None, Tensor | None]:
    """w and zero of w, float(w) and float(w) - zero, for a constant w of eight bits."""
    zero = None
    if not isinstance(value, fx.Node):
        return None, None
    source: object = value
    if value.target is aten.sub.Tensor and not value.kwargs and value.meta["val"].dtype is torch.float32:
        source, zero = value.args[0], constant(value.args[1])
        if zero is None:
            return None, None
    if isinstance(source, fx.Node) and source.target is aten._to_copy.default:
        source = source.args[0] if source.meta["val"].dtype is torch.float32 else None
    found = constant(source)
    fits = found is not None and found.dtype in _EIGHT and found.dim() > 1
    return (source, zero) if fits and isinstance(source, fx.Node) else (None, None)


def _dequantized(module: fx.GraphModule, numbers: fx.Node, scale: Tensor, zero: Tensor | None) -> fx.Node | None:
    """(numbers - zero) * scale, where scale has one number for each index of the first or any one dimension, or of all but the last."""
    value = tensor_of(module, numbers)
    assert value is not None
    zeros = _zeros(scale, zero)
    scale = scale.reshape([1] * (value.dim() - scale.dim()) + [*scale.shape]) if scale.dim() < value.dim() else scale
    if zeros is None or scale.dim() > value.dim():
        return None
    varying = [dim for dim, size in enumerate(scale.shape) if size > 1]
    if any(scale.shape[dim] != value.shape[dim] for dim in varying):
        return None
    flat = zeros.expand(scale.shape).reshape(-1)
    if len(varying) <= 1:
        axis = varying[0] if varying else 0
        count = value.shape[axis]
        return _by_channel(module, numbers, (scale.reshape(-1).expand(count), flat.expand(count)), axis)
    if value.dim() - 1 in varying or len(varying) != value.dim() - 1:
        return None
    rows = add_constant(module, value.reshape(-1, value.shape[-1]).clone())
    made = _by_channel(module, rows, (scale.reshape(-1), flat), 0)
    return add_call(module, aten.view.default, (made, list(value.shape)))


def _zeros(scale: Tensor, zero: Tensor | None) -> Tensor | None:
    """Whole numbers; None when `zero` holds others."""
    if zero is None:
        return torch.zeros(1, dtype=torch.int64)
    whole = zero.double().round()
    return whole.long() if bool(((zero.double() - whole).abs() < _TOLERANCE).all()) else None


def _by_channel(
    module: fx.GraphModule,
    numbers: fx.Node,
    grid: tuple[Tensor, Tensor],
    axis: int,
    bounds: tuple[int, int] | None = None,
) -> fx.Node:
    dtype = numbers.meta["val"].dtype
    low, high = bounds or (torch.iinfo(dtype).min, torch.iinfo(dtype).max)
    scales, zeros = (add_constant(module, each.contiguous().clone()) for each in grid)
    target = quantized_operator("dequantize_per_channel")
    return add_call(module, target, (numbers, scales, zeros, axis, low, high, dtype))


def _affine(module: fx.GraphModule, node: fx.Node) -> bool:
    """torchao's operators, of blocks that are the whole, an index along one axis, or a part of a row of constants."""
    given = arguments(node)
    x, blocks, scale = given["input"], given["block_size"], constant(given["scale"])
    zero, back = constant(given["zero_point"]), "dequantize" in str(node.target)
    dtype = given["input_dtype" if back else "output_dtype"]
    if (
        not isinstance(x, fx.Node)
        or scale is None
        or dtype not in _EIGHT
        or (zero is None and given["zero_point"] is not None)
    ):
        return False
    assert isinstance(blocks, Sequence) and isinstance(dtype, torch.dtype)
    made = _affine_form(module, x, (blocks, scale, zero), (dtype, _bounds(given, dtype)), back=back)
    if made is None or made.meta["val"].dtype != node.meta["val"].dtype:
        return False
    _replace(node, made)
    return True


def _bounds(given: Mapping[str, object], dtype: torch.dtype) -> tuple[int, int]:
    low, high = given["quant_min"], given["quant_max"]
    least, most = torch.iinfo(dtype).min, torch.iinfo(dtype).max
    return int(low) if isinstance(low, (int, float)) else least, int(high) if isinstance(high, (int, float)) else most


def _affine_form(
    module: fx.GraphModule,
    x: fx.Node,
    grid: tuple[Sequence[object], Tensor, Tensor | None],
    form: tuple[torch.dtype, tuple[int, int]],
    *,
    back: bool,
) -> fx.Node | None:
    blocks, scale, zero = grid
    dtype, (low, high) = form
    scale = scale.float()
    zeros = torch.zeros(scale.shape, dtype=torch.int64) if zero is None else zero.long()
    way = "dequantize" if back else "quantize"
    parts = [dim for dim, (block, size) in enumerate(zip(blocks, x.meta["val"].shape, strict=True)) if block != size]
    if scale.numel() == 1:
        args = (x, float(scale.item()), int(zeros.item()), low, high, dtype)
        return add_call(module, quantized_operator(f"{way}_per_tensor"), args)
    if len(parts) == 1 and blocks[parts[0]] == 1:
        given = tuple(add_constant(module, each.reshape(-1).clone()) for each in (scale, zeros))
        return add_call(module, quantized_operator(f"{way}_per_channel"), (x, *given, parts[0], low, high, dtype))
    value, size = tensor_of(module, x), blocks[-1]
    if not back or value is None or value.dim() != 2 or blocks[0] != 1 or not isinstance(size, int):
        return None
    rows = add_constant(module, value.reshape(-1, size).clone())
    made = _by_channel(module, rows, (scale.reshape(-1), zeros.reshape(-1)), 0, (low, high))
    return add_call(module, aten.view.default, (made, list(value.shape)))


def _replace(node: fx.Node, other: fx.Node) -> None:
    other.meta["stack_trace"] = node.meta.get("stack_trace")
    node.replace_all_uses_with(other)


_REWRITES: Mapping[str, Callable[[fx.GraphModule, fx.Node], bool]] = {
    "aten.mul.Tensor": _weights,
    "torchao.quantize_affine.default": _affine,
    "torchao.dequantize_affine.default": _affine,
}
