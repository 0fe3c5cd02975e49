"""Puts our own kernels into a program that is about to be compiled; what is saved beside the code stays as it was."""

from __future__ import annotations

import copy
import importlib

import torch
from torch import fx
from torch.export import ExportedProgram

from torch_tensorrt.engines.inductor.passes import gate

aten = torch.ops.aten


def place_kernels(program: ExportedProgram) -> None:
    """convolution(x, to_half(w), b, groups=channels)  ->  depthwise(x, w, b), as `arrange_depthwise` left them; in place.

    A SiLU that alone reads the result becomes part of the kernel.
    """
    graph = program.graph_module.graph
    found = [
        node for node in graph.find_nodes(op="call_function", target=aten.convolution.default) if _is_arranged(node)
    ]
    if not found:
        return
    importlib.import_module("torch_tensorrt.engines.inductor.depthwise")  # needs Triton
    for node in found:
        x, cast, bias, stride, padding = node.args[:5]
        assert isinstance(cast, fx.Node)
        activated = _silu_of(node)
        with graph.inserting_before(node):
            target = torch.ops.torch_tensorrt_inductor.depthwise.default
            placed = graph.call_function(
                target, (x, cast.args[0], bias, *map(_pair, (stride, padding)), activated is not None)
            )
        placed.meta = copy.copy(node.meta)
        (activated or node).replace_all_uses_with(placed)
    graph.eliminate_dead_code()
    program.graph_module.recompile()


def _is_arranged(node: fx.Node) -> bool:
    cast, bias, groups = node.args[1], node.args[2], node.args[8]
    if not isinstance(cast, fx.Node) or cast.target is not aten._to_copy.default or not isinstance(bias, fx.Node):
        return False
    source = cast.all_input_nodes[0]
    value = source.meta["val"]
    ours = source.op == "placeholder" and value.dtype is torch.float32 and value.device.type in gate.DEVICES
    inner = value.dim() == 4 and value.shape[1] == 1 and value.stride(0) == 1
    return bool(ours and inner and groups == value.shape[0] > 1)


def _silu_of(node: fx.Node) -> fx.Node | None:
    """The last node of to_half(y * sigmoid(y)), y = to_float32(node), where nothing else reads node; or None."""
    wide = _only_user(node, aten._to_copy.default)
    if wide is None or len(wide.users) != 2:
        return None
    sigmoid = next((user for user in wide.users if user.target is aten.sigmoid.default), None)
    product = _only_user(sigmoid, aten.mul.Tensor) if sigmoid is not None else None
    if product is None or {wide, sigmoid} != set(product.args):
        return None
    last = _only_user(product, aten._to_copy.default)
    kinds = (node.meta["val"].dtype, torch.float32, node.meta["val"].dtype)
    same = last is not None and (last.meta["val"].dtype, wide.meta["val"].dtype, node.meta["val"].dtype) == kinds
    return last if same else None


def _only_user(node: fx.Node, target: object) -> fx.Node | None:
    user = next(iter(node.users), None)
    return user if user is not None and len(node.users) == 1 and user.target is target else None


def _pair(value: object) -> list[int]:
    values = list(value) if isinstance(value, (tuple, list)) else [value]
    return [int(str(part)) for part in (values * 2 if len(values) == 1 else values)]
