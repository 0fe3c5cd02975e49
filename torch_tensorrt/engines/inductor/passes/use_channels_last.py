"""cuDNN's kernels for half floats work on channels-last memory: in another layout each call converts to it and back."""

from __future__ import annotations

import torch
from torch import Tensor, fx

from torch_tensorrt.contracts.passes import lowering_pass
from torch_tensorrt.engines.inductor.passes.gate import is_half, on_gpu
from torch_tensorrt.engines.inductor.passes.propagating import Propagation, can_propagate
from torch_tensorrt.graphs.editing import add_call, add_constant, tensor_of, written_attributes
from torch_tensorrt.spec.settings import CompilationSettings

aten = torch.ops.aten
LAST = torch.channels_last
COPY = "torch_tensorrt_channels_last_copy"  # on the first of the nodes that make one


@lowering_pass
def use_channels_last(graph_module: fx.GraphModule, settings: CompilationSettings) -> bool:
    """f(convolution(x, w))  ->  f(convolution(copy(x, channels_last), w_channels_last)), half floats of rank 4.

    What comes after works in that layout too, without copies; results of the graph are copied back to PyTorch's layout. A graph
    with grouped convolutions of more than one channel per group is left alone: cuDNN is slower at them in this layout.
    """
    convolutions = [node for node in graph_module.graph.nodes if _is_concerned(node)]
    if not convolutions or any(map(_is_grouped, convolutions)) or not can_propagate(graph_module):
        return False
    written = written_attributes(graph_module)
    propagation = Propagation(graph_module)
    before = [_layouts(node) for node in convolutions]
    for node in list(graph_module.graph.nodes):
        if node in convolutions:
            _convert(graph_module, node, written, propagation)
        else:
            propagation.visit(node)
    return before != [_layouts(node) for node in convolutions]


def _is_concerned(node: fx.Node) -> bool:
    convolves = node.op == "call_function" and node.target is aten.convolution.default
    return convolves and on_gpu(node) and is_half(node) and node.meta["val"].dim() == 4


def _is_grouped(node: fx.Node) -> bool:
    weight = node.args[1]
    assert isinstance(weight, fx.Node)
    return int(str(node.args[8])) > 1 and int(weight.meta["val"].shape[1]) > 1


def _layouts(node: fx.Node) -> list[tuple[object, ...]]:
    return [tuple(argument.meta["val"].stride()) for argument in (*node.all_input_nodes[:2], node)]


def _convert(graph_module: fx.GraphModule, node: fx.Node, written: set[str], propagation: Propagation) -> None:
    given, weight = node.args[:2]
    assert isinstance(given, fx.Node)
    assert isinstance(weight, fx.Node)
    before = node.meta["val"]
    if not given.meta["val"].is_contiguous(memory_format=LAST):
        node.update_arg(0, _converted(graph_module, given))
    if not weight.meta["val"].is_contiguous(memory_format=LAST):
        held = tensor_of(graph_module, weight)
        if held is None or str(weight.target) in written:
            node.update_arg(1, _converted(graph_module, weight))
        else:
            with graph_module.graph.inserting_before(node):
                node.update_arg(1, add_constant(graph_module, held.detach().contiguous(memory_format=LAST)))
    node.meta["val"] = _channels_last_like(before)
    propagation.changed(node, before)


def _converted(graph_module: fx.GraphModule, node: fx.Node) -> fx.Node:
    """A channels-last copy of `node`, right after it, one for all users that want it.

    x  ->  permute(clone(permute(x, NHWC)), NCHW): PyTorch may drop a clone to another memory format as one that does nothing.
    """
    for user in node.users:
        if COPY in user.meta:
            return next(iter(next(iter(user.users)).users))
    place = node.next
    while place.op in {"placeholder", "get_attr"}:
        place = place.next
    with graph_module.graph.inserting_before(place):
        there = add_call(graph_module, aten.permute.default, (node, [0, 2, 3, 1]))
        copy = add_call(graph_module, aten.clone.default, (there,), {"memory_format": torch.contiguous_format})
        back = add_call(graph_module, aten.permute.default, (copy, [0, 3, 1, 2]))
    for added in (there, copy, back):
        added.meta["stack_trace"] = node.meta.get("stack_trace")
    there.meta[COPY] = True
    return back


def _channels_last_like(value: Tensor) -> Tensor:
    """cuDNN's result has the layout of its inputs; a PyTorch without CUDA may say otherwise."""
    with value.fake_mode:  # type: ignore[attr-defined]
        return torch.empty_like(value, memory_format=LAST)
