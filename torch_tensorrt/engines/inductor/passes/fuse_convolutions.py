"""convolution + bias + residual + relu as one call of cuDNN, which adds and clamps before it writes."""

from __future__ import annotations

import torch
from torch import Tensor, fx

from torch_tensorrt.contracts.passes import lowering_pass
from torch_tensorrt.engines.inductor.fakes import register_fakes
from torch_tensorrt.engines.inductor.passes.gate import HALF, on_gpu
from torch_tensorrt.engines.inductor.passes.probing import works
from torch_tensorrt.engines.inductor.passes.propagating import Propagation, can_propagate
from torch_tensorrt.graphs.editing import FUSED, add_call, add_constant, tensor_of, written_attributes
from torch_tensorrt.spec.settings import CompilationSettings

aten = torch.ops.aten


@lowering_pass
def fuse_convolutions(graph_module: fx.GraphModule, settings: CompilationSettings) -> bool:
    """y = relu(convolution(x, w, b) + z)  ->  y = cudnn_convolution_add_relu(x, w, z, alpha=1, b).

    And without z, y = cudnn_convolution_relu(x, w, b). Where z is itself a convolution with a bias that nothing else reads, its
    bias joins b. Intermediate results have one reader; convolutions are of rank 4, of one group, not transposed, with constant
    biases; z has the result's own shape and layout.
    """
    register_fakes()
    if not can_propagate(graph_module):
        return False
    written = written_attributes(graph_module)
    propagation = Propagation(graph_module)
    changed = False
    for node in list(graph_module.graph.nodes):
        propagation.visit(node)
        if node.op == "call_function" and node.target is aten.relu.default and on_gpu(node):
            fused = _fuse(graph_module, node, written)
            if fused is not None:
                propagation.changed(fused, node.meta["val"])
                changed = True
    graph_module.graph.eliminate_dead_code()
    return changed


def _fuse(graph_module: fx.GraphModule, relu: fx.Node, written: set[str]) -> fx.Node | None:
    source = relu.args[0]
    assert isinstance(source, fx.Node)
    if _is_fusible(graph_module, source, written):
        return _replace(graph_module, relu, source, None)
    terms = _terms(source)
    for convolution, other in (terms, terms[::-1]) if terms else ():
        if _is_fusible(graph_module, convolution, written) and _same_form(convolution, other):
            return _replace(graph_module, relu, convolution, other)
    return None


def _terms(node: fx.Node) -> tuple[fx.Node, fx.Node] | None:
    """The two tensors that `node` adds, the one that is computed later first."""
    if node.target is not aten.add.Tensor or len(node.users) != 1 or node.kwargs.get("alpha", 1) != 1:
        return None
    first, second = node.args
    if not isinstance(first, fx.Node) or not isinstance(second, fx.Node):
        return None
    return (second, first) if first < second else (first, second)


def _is_fusible(graph_module: fx.GraphModule, node: fx.Node, written: set[str]) -> bool:
    if node.op != "call_function" or node.target is not aten.convolution.default or len(node.users) != 1:
        return False
    value, (bias, *_, transposed, _, groups) = node.meta["val"], node.args[2:]
    if value.dim() != 4 or value.dtype not in {*HALF, torch.float32} or transposed or groups != 1:
        return False
    constant = isinstance(bias, fx.Node) and tensor_of(graph_module, bias) is not None
    return bias is None or (constant and str(bias.target) not in written)  # type: ignore[union-attr]


def _same_form(node: fx.Node, other: fx.Node) -> bool:
    one, two = node.meta["val"], other.meta["val"]
    if not isinstance(two, Tensor) or one.dtype is not two.dtype or one.device != two.device:
        return False
    return str(one.shape) == str(two.shape) and str(one.stride()) == str(two.stride())


def _replace(graph_module: fx.GraphModule, relu: fx.Node, convolution: fx.Node, z: fx.Node | None) -> fx.Node | None:
    x, weight, bias, stride, padding, dilation, *_ = convolution.args
    where = (stride, padding, dilation, 1)
    shared = _bias_of_sum(graph_module, z) if z is not None else None
    with graph_module.graph.inserting_before(relu):
        biased = _summed(graph_module, convolution, bias, shared)
        if z is None:
            fused = add_call(graph_module, aten.cudnn_convolution_relu.default, (x, weight, biased, *where))
        else:
            arguments = (x, weight, z, None, biased, *where)
            fused = add_call(graph_module, aten.cudnn_convolution_add_relu.default, arguments)
    if not works(fused):
        graph_module.graph.erase_node(fused)
        return None
    if shared is not None and z is not None:
        z.update_arg(2, None)
    fused.meta["stack_trace"] = relu.meta.get("stack_trace")
    fused.meta[FUSED] = 2 if z is None else 3
    relu.replace_all_uses_with(fused)
    return fused


def _bias_of_sum(graph_module: fx.GraphModule, z: fx.Node) -> Tensor | None:
    """The bias of `z`, where it is a convolution that only the sum reads, and its bias a constant."""
    if z.op != "call_function" or z.target is not aten.convolution.default or len(z.users) != 1:
        return None
    bias = z.args[2]
    return tensor_of(graph_module, bias) if isinstance(bias, fx.Node) else None


def _summed(graph_module: fx.GraphModule, convolution: fx.Node, bias: object, more: Tensor | None) -> fx.Node:
    """A constant for the bias: zeros where there is none (cuDNN would be given new ones at each call)."""
    own = tensor_of(graph_module, bias) if isinstance(bias, fx.Node) else None
    if own is not None and more is None:
        assert isinstance(bias, fx.Node)
        return bias
    weight = convolution.args[1]
    assert isinstance(weight, fx.Node)
    held = tensor_of(graph_module, weight)
    kind, device = convolution.meta["val"].dtype, held.device if held is not None else convolution.meta["val"].device
    total = torch.zeros(convolution.meta["val"].shape[1], dtype=torch.float64, device=device)
    for part in (own, more):
        total = total if part is None else total + part.to(total)
    return add_constant(graph_module, total.to(kind))
