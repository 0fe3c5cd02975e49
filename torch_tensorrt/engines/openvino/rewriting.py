"""Puts a graph in the form that OpenVINO's PyTorch frontend reads right, and its CPU plugin computes right."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping

import torch
from torch import fx
from torch._ops import OpOverload
from torch.fx.node import Argument

from torch_tensorrt.engines.openvino import quantized
from torch_tensorrt.engines.openvino.rows import keep_dimensions
from torch_tensorrt.graphs.quantized import kind_of
from torch_tensorrt.graphs.resizing import steps_taken, take_steps

aten = torch.ops.aten
_NEAREST = frozenset(
    {
        aten.upsample_nearest1d.vec,
        aten.upsample_nearest2d.default,
        aten.upsample_nearest2d.vec,
        aten.upsample_nearest3d.vec,
    }
)


def rewrite_for_frontend(module: fx.GraphModule) -> tuple[fx.GraphModule, tuple[int, ...]]:
    """A copy of `module` (weights shared) that returns each tensor once, and where each output of `module` is now."""
    graph = fx.Graph(module)  # whose constants some rewrites look at
    results = graph.graph_copy(module.graph, {})
    assert isinstance(results, (tuple, list))
    graph.output(tuple(results))
    for place, node in enumerate(graph.find_nodes(op="placeholder")):
        node._rename(f"engine_input_{place}")  # the frontend goes by the target, which may differ from the name
        node.target = node.name
    steps = {
        node: steps_taken(node) for node in graph.nodes if node.target in _NEAREST
    }  # while what they read is as it was
    for node, taken in steps.items():
        if taken:
            with graph.inserting_before(node):
                take_steps(node, taken)
    for node in list(graph.nodes):
        if isinstance(node.target, OpOverload):
            _place_arguments(node, node.target)
            with graph.inserting_before(node):
                (quantized.REWRITES.get(kind_of(node)) or _REWRITES.get(node.target, _leave))(node)
    results = graph.output_node().args[0]
    assert isinstance(results, tuple)
    results = tuple(_without_copies(result) for result in results)  # the frontend can't return a tensor and its copy
    unique = list(dict.fromkeys(results))
    graph.output_node().args = (tuple(unique),)
    graph.eliminate_dead_code()
    return fx.GraphModule(module, graph), tuple(unique.index(result) for result in results)


def _without_copies(node: Argument) -> Argument:
    """clone(x)  ->  x: the engine gives each of its outputs memory of its own."""
    while isinstance(node, fx.Node) and node.target is aten.clone.default:
        node = node.args[0]
    return node


def _place_arguments(node: fx.Node, overload: OpOverload) -> None:
    """f(x, beta=2)  ->  f(x, 1, 2): rules read arguments by position, except those that the schema has by name only."""
    args, kwargs = list(node.args), dict(node.kwargs)
    positional = [argument for argument in overload._schema.arguments if not argument.kwarg_only]
    last = max((place for place, argument in enumerate(positional) if argument.name in kwargs), default=-1)
    args += [kwargs.pop(argument.name, argument.default_value) for argument in positional[len(args) : last + 1]]
    node.args, node.kwargs = tuple(args), kwargs


def _leave(node: fx.Node) -> None:
    """Most operators are right as they are."""


def _is_whole(node: fx.Node) -> bool:
    value = node.meta.get("val")
    return isinstance(value, torch.Tensor) and not value.dtype.is_floating_point


def _slice(node: fx.Node) -> None:
    """slice(x)  ->  slice(x, 0): the rule wants a dimension."""
    if len(node.args) == 1:
        node.args = (node.args[0], 0)


def _abs_of_integers(node: fx.Node) -> None:
    """abs(x)  ->  maximum(x, -x): OpenVINO folds Abs of a constant of integers to that constant."""
    if _is_whole(node):
        negative = node.graph.call_function(aten.neg.default, (node.args[0],))
        _replace(node, node.graph.call_function(aten.maximum.default, (node.args[0], negative)))


def _floor_division_of_integers(node: fx.Node) -> None:
    """floor(a / b)  ->  trunc((a - a % b) / b): OpenVINO divides integers towards zero, leaving nothing to floor."""
    if _is_whole(node) and node.kwargs.get("rounding_mode") == "floor":
        rest = node.graph.call_function(aten.remainder.Tensor, node.args)
        multiple = node.graph.call_function(aten.sub.Tensor, (node.args[0], rest))
        quotient = node.graph.call_function(aten.div.Tensor_mode, (multiple, node.args[1]), {"rounding_mode": "trunc"})
        _replace(node, quotient)


def _swapped(other: OpOverload) -> Callable[[fx.Node], None]:
    def swap(node: fx.Node) -> None:
        """Turns a > b into b < a: OpenVINO's greater-than is the opposite of less-or-equal, also for NaN."""
        _replace(node, node.graph.call_function(other, (node.args[1], node.args[0])))

    return swap


def _attention(node: fx.Node) -> None:
    """Repeats the heads of grouped-query attention, and gives 0, not NaN, where a mask hides everything.

    attention(q, k, v, mask)  ->  any(mask, -1) * attention(q, k, v, mask ? 0 : lowest)
    """
    new = node.graph.call_function
    query, key, value, mask, *rest = (*node.args, None)[: max(len(node.args), 4)]
    assert isinstance(query, fx.Node) and isinstance(key, fx.Node)
    options = dict(node.kwargs)
    if options.pop("enable_gqa", False):
        times = query.meta["val"].shape[-3] // key.meta["val"].shape[-3]
        key, value = (new(aten.repeat_interleave.self_int, (given, times, -3)) for given in (key, value))
    if isinstance(mask, fx.Node) and mask.meta["val"].dtype is torch.bool:
        dtype = query.meta["val"].dtype
        zero, lowest = (
            new(aten.full.default, ([], number), {"dtype": dtype}) for number in (0.0, torch.finfo(dtype).min)
        )
        hidden = new(aten.where.self, (mask, zero, lowest))
        attended = new(aten.scaled_dot_product_attention.default, (query, key, value, hidden, *rest), options)
        seen = new(aten._to_copy.default, (new(aten.any.dim, (mask, -1, True)),), {"dtype": dtype})
        _replace(node, new(aten.mul.Tensor, (attended, seen)))  # a second where would break OpenVINO's own fusion
    else:
        node.args, node.kwargs = (query, key, value, mask, *rest), options


def _several_indices(node: fx.Node) -> None:
    """x[i, j]  ->  x[i < 0 ? i + n : i, j < 0 ? j + m : j]: with several tensors the rule takes negative indices for others."""
    source, indices = node.args
    assert isinstance(source, fx.Node)
    assert isinstance(indices, (list, tuple))
    if sum(isinstance(index, fx.Node) for index in indices) < 2:
        return
    new = node.graph.call_function
    counted: list[Argument] = []
    for dim, index in enumerate(indices):
        if isinstance(index, fx.Node):
            size = source.meta["val"].shape[dim]
            count: Argument = size if isinstance(size, int) else new(aten.sym_size.int, (source, dim))
            negative = new(aten.lt.Scalar, (index, 0))
            index = new(aten.where.self, (negative, new(aten.add.Tensor, (index, count)), index))
        counted.append(index)
    node.args = (source, counted)


def _variance(node: fx.Node) -> None:
    """var(x)  ->  var(x, (0, 1, ...)): without dimensions the rule loses the correction."""
    x, dims, options = _over(node)
    node.args, node.kwargs = (x, dims), options


def _variance_and_mean(node: fx.Node) -> None:
    """v, m = var_mean(x)  ->  v = var(x); m = mean(x): the rule for var_mean loses the correction."""
    x, dims, options = _over(node)
    parts = (
        node.graph.call_function(aten.var.correction, (x, dims), options),
        node.graph.call_function(aten.mean.dim, (x, dims, options["keepdim"])),
    )
    for user in list(node.users):
        assert user.target is operator.getitem
        _replace(user, parts[int(str(user.args[1]))])
    node.graph.erase_node(node)


def _over(node: fx.Node) -> tuple[fx.Node, list[int], dict[str, Argument]]:
    """The input, all dimensions and the options of a variance."""
    x, dim = node.args[0], node.args[1] if len(node.args) > 1 else None
    assert isinstance(x, fx.Node)
    dims = (
        [int(str(place)) for place in dim]
        if isinstance(dim, (list, tuple)) and dim
        else list(range(x.meta["val"].dim()))
    )
    correction = node.kwargs.get("correction")
    return (
        x,
        dims,
        {"correction": 1 if correction is None else correction, "keepdim": node.kwargs.get("keepdim", False)},
    )


def _replace(node: fx.Node, other: fx.Node) -> None:
    other.meta.setdefault("val", node.meta.get("val"))
    node.replace_all_uses_with(other)
    node.graph.erase_node(node)


_REWRITES: Mapping[OpOverload, Callable[[fx.Node], None]] = {
    aten.view.default: keep_dimensions,
    aten.slice.Tensor: _slice,
    aten.index.Tensor: _several_indices,
    aten.abs.default: _abs_of_integers,
    aten.div.Tensor_mode: _floor_division_of_integers,
    aten.gt.Tensor: _swapped(aten.lt.Tensor),
    aten.gt.Scalar: _swapped(aten.lt.Tensor),
    aten.ge.Tensor: _swapped(aten.le.Tensor),
    aten.ge.Scalar: _swapped(aten.le.Tensor),
    aten.scaled_dot_product_attention.default: _attention,
    aten.var.correction: _variance,
    aten.std.correction: _variance,
    aten.var_mean.correction: _variance_and_mean,
}
