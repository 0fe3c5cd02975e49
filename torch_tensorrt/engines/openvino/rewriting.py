"""Puts a graph in the form that OpenVINO's PyTorch frontend reads right, and its CPU plugin computes right."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping

import torch
from torch import fx
from torch._ops import OpOverload

aten = torch.ops.aten


def rewrite_for_frontend(module: fx.GraphModule) -> tuple[fx.GraphModule, tuple[int, ...]]:
    """A copy of `module` (weights shared) that returns each tensor once, and for each output of `module` where it is now."""
    graph = fx.Graph()
    results = graph.graph_copy(module.graph, {})
    assert isinstance(results, (tuple, list))
    graph.output(tuple(results))
    for node in list(graph.nodes):
        if isinstance(node.target, OpOverload):
            _place_arguments(node, node.target)
            with graph.inserting_before(node):
                _REWRITES.get(node.target, _leave)(node)
    results = graph.output_node().args[0]
    assert isinstance(results, tuple)
    unique = list(dict.fromkeys(results))
    graph.output_node().args = (tuple(unique),)
    return fx.GraphModule(module, graph), tuple(unique.index(result) for result in results)


def _place_arguments(node: fx.Node, overload: OpOverload) -> None:
    """f(x, beta=2)  ->  f(x, 1, 2): rules read arguments by position, except those that the schema has by name only."""
    args, kwargs = list(node.args), dict(node.kwargs)
    positional = [argument for argument in overload._schema.arguments if not argument.kwarg_only]
    last = max((place for place, argument in enumerate(positional) if argument.name in kwargs), default=-1)
    for argument in positional[len(args) : last + 1]:
        args.append(kwargs.pop(argument.name, argument.default_value))
    node.args, node.kwargs = tuple(args), kwargs


def _leave(node: fx.Node) -> None:
    """Most operators are right as they are."""


def _is_whole(node: fx.Node) -> bool:
    value = node.meta.get("val")
    return isinstance(value, torch.Tensor) and not value.dtype.is_floating_point


def _abs_of_integers(node: fx.Node) -> None:
    """abs(x)  ->  maximum(x, -x): OpenVINO folds Abs of a constant of integers to that constant."""
    if _is_whole(node):
        negative = node.graph.call_function(aten.neg.default, (node.args[0],))
        _replace(node, node.graph.call_function(aten.maximum.default, (node.args[0], negative)))


def _floor_division_of_integers(node: fx.Node) -> None:
    """floor(a / b)  ->  trunc((a - a % b) / b): OpenVINO divides integers towards zero, and there is no rest to floor."""
    if _is_whole(node) and node.kwargs.get("rounding_mode") == "floor":
        rest = node.graph.call_function(aten.remainder.Tensor, node.args)
        multiple = node.graph.call_function(aten.sub.Tensor, (node.args[0], rest))
        quotient = node.graph.call_function(aten.div.Tensor_mode, (multiple, node.args[1]), {"rounding_mode": "trunc"})
        _replace(node, quotient)


def _variance_and_mean(node: fx.Node) -> None:
    """v, m = var_mean(x)  ->  v = var(x); m = mean(x): the rule for var_mean loses the correction."""
    x, dim, keepdim = node.args[0], node.kwargs.get("dim"), node.kwargs.get("keepdim", False)
    if len(node.args) > 1:
        dim = node.args[1]
    value = x.meta["val"] if isinstance(x, fx.Node) else None
    dims = list(dim) if isinstance(dim, (list, tuple)) and dim else list(range(value.dim() if value is not None else 0))
    options = {"correction": node.kwargs.get("correction", 1), "keepdim": keepdim}
    parts = (
        node.graph.call_function(aten.var.correction, (x, dims), options),
        node.graph.call_function(aten.mean.dim, (x, dims, keepdim)),
    )
    for user in list(node.users):
        assert user.target is operator.getitem
        _replace(user, parts[int(str(user.args[1]))])
    node.graph.erase_node(node)


def _replace(node: fx.Node, other: fx.Node) -> None:
    node.replace_all_uses_with(other)
    node.graph.erase_node(node)


_REWRITES: Mapping[OpOverload, Callable[[fx.Node], None]] = {
    aten.abs.default: _abs_of_integers,
    aten.div.Tensor_mode: _floor_division_of_integers,
    aten.var_mean.correction: _variance_and_mean,
}
