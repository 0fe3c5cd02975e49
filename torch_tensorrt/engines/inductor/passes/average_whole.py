"""Average pooling whose one window covers the image: Inductor would go through every place of the window, in the image or not."""

from __future__ import annotations

import torch
from torch import fx
from torch.fx.experimental.symbolic_shapes import statically_known_true

from torch_tensorrt.contracts.passes import lowering_pass
from torch_tensorrt.graphs.editing import add_call
from torch_tensorrt.spec.settings import CompilationSettings

aten = torch.ops.aten


@lowering_pass
def average_whole(graph_module: fx.GraphModule, settings: CompilationSettings) -> bool:
    """y = avg_pool2d(x, window)  ->  y = mean(x, (-2, -1), keepdim), where one window, without padding, covers all of x.

    Windows that are larger than x are let in by ceil_mode=True (Hugging Face's EfficientNet has one of 1280 x 1280 for an image of
    7 x 7, of which Inductor's kernel takes 0.55 ms on an H200); what they cover beyond x doesn't count.
    """
    changed = False
    for node in graph_module.graph.find_nodes(op="call_function", target=aten.avg_pool2d.default):
        x = node.args[0]
        if _covers(node) and x.meta["val"].dtype.is_floating_point:
            with graph_module.graph.inserting_before(node):
                mean = add_call(graph_module, aten.mean.dim, (x, [-2, -1], True))
            mean.meta["stack_trace"] = node.meta.get("stack_trace")
            node.replace_all_uses_with(mean)
            graph_module.graph.erase_node(node)
            changed = True
    return changed


def _covers(node: fx.Node) -> bool:
    given = dict(zip(("self", "kernel_size", "stride", "padding"), node.args, strict=False)) | node.kwargs
    padding, divisor = given.get("padding", [0]), _divisor(node)
    if divisor is not None or any(size != 0 for size in padding):  # type: ignore[union-attr]
        return False
    height, width = node.args[0].meta["val"].shape[-2:]  # type: ignore[union-attr]
    windows = tuple(given["kernel_size"])  # type: ignore[arg-type]
    results = node.meta["val"].shape[-2:]
    inside = zip((height, width), (windows[0], windows[-1]), results, strict=True)
    return all(result == 1 and statically_known_true(size <= window) for size, window, result in inside)


def _divisor(node: fx.Node) -> object:
    return node.args[6] if len(node.args) > 6 else node.kwargs.get("divisor_override")
