"""Small moves that passes share: reading attributes, adding constants and calls together with their meta["val"]."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import fx
from torch._dispatch.python import enable_python_dispatcher
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.fx.node import Argument

CONSTANT_PREFIX = "_constant_"
# In a node's metadata: of how many operators of the model it is made, if of more than one.
FUSED = "torch_tensorrt_fused"


def tensor_of(graph_module: fx.GraphModule, node: fx.Node) -> torch.Tensor | None:
    """The tensor that a get_attr node reads, or None for any other node."""
    if node.op != "get_attr":
        return None
    value: object = graph_module
    for part in str(node.target).split("."):
        value = getattr(value, part)
    return value if isinstance(value, torch.Tensor) else None


def written_attributes(graph_module: fx.GraphModule) -> set[str]:
    """Targets of the get_attr nodes that some node of the graph writes to (`aten.copy_` at its end)."""
    written: set[str] = set()
    for node in graph_module.graph.nodes:
        if (
            node.op == "call_function"
            and isinstance(node.target, torch._ops.OpOverload)
            and node.target._schema.is_mutable
        ):
            written.update(str(argument.target) for argument in node.all_input_nodes if argument.op == "get_attr")
    return written


def fake_mode_of(graph_module: fx.GraphModule) -> FakeTensorMode:
    """The fake mode of the graph's metadata; a new one for a graph without tensors."""
    for node in graph_module.graph.nodes:
        value = node.meta.get("val")
        if isinstance(value, FakeTensor):
            return value.fake_mode
    return FakeTensorMode(allow_non_fake_inputs=True)


def add_constant(graph_module: fx.GraphModule, tensor: torch.Tensor) -> fx.Node:
    """A new buffer holding `tensor`, and a get_attr node for it at the graph's current insertion point."""
    number = 0
    while hasattr(graph_module, f"{CONSTANT_PREFIX}{number}"):
        number += 1
    name = f"{CONSTANT_PREFIX}{number}"
    graph_module.register_buffer(name, tensor.detach(), persistent=True)
    node = graph_module.graph.get_attr(name)
    node.meta["val"] = fake_mode_of(graph_module).from_tensor(tensor.detach(), static_shapes=True)
    return node


def add_call(
    graph_module: fx.GraphModule,
    target: Callable[..., object],
    args: tuple[Argument, ...],
    kwargs: Mapping[str, Argument] | None = None,
) -> fx.Node:
    """A call_function node at the graph's current insertion point, its meta["val"] computed on fake tensors."""
    node = graph_module.graph.call_function(target, args, dict(kwargs or {}))
    node.meta["val"] = infer(node, fake_mode_of(graph_module))
    return node


def infer(node: fx.Node, mode: FakeTensorMode) -> object:
    """What `node` computes from its arguments' meta["val"].

    With PyTorch's Python dispatcher, as in torch.export: operators that consist of others (pad) read sizes as numbers
    without it, and a size that varies would become what it was when the program was traced.
    """
    assert callable(node.target)
    args, kwargs = fx.map_arg((node.args, node.kwargs), lambda argument: argument.meta["val"])
    with mode, torch.no_grad(), enable_python_dispatcher():
        return node.target(*args, **kwargs)


def infer_again(node: fx.Node, mode: FakeTensorMode) -> object:
    """`infer` for a node whose arguments have changed.

    view(x)  ->  view(clone(x, contiguous)), where x no longer has a layout with such a view: attention in float16 gives another one than
    in float32.
    """
    try:
        return infer(node, mode)
    except (RuntimeError, ValueError):  # which of them depends on the dispatch modes that are active
        if node.target is not torch.ops.aten.view.default:
            raise
    (source,) = node.all_input_nodes[:1]
    with node.graph.inserting_before(node):
        dense = node.graph.call_function(
            torch.ops.aten.clone.default, (source,), {"memory_format": torch.contiguous_format}
        )
    # The copy is where the view is: in its module, and in PyTorch with it.
    dense.meta = {**node.meta, "val": infer(dense, mode)}
    node.replace_input_with(source, dense)
    return infer(node, mode)
