"""Operations that depend on weights and literals only."""

from __future__ import annotations

from typing import TypeAlias

import torch
from torch import fx

from torch_tensorrt.contracts.passes import lowering_pass
from torch_tensorrt.graphs.editing import add_constant, tensor_of, written_attributes
from torch_tensorrt.spec.settings import CompilationSettings

Folded: TypeAlias = "torch.Tensor | tuple[torch.Tensor, ...]"

# A folded result may be this much larger than what it is made from: arange and masks are worth folding, a weight expanded
# over a batch is not.
_GROWTH_LIMIT_BYTES = 16 * 2**20


@lowering_pass
def fold_constants(graph_module: fx.GraphModule, settings: CompilationSettings) -> bool:
    """y = permute(weight); f(x, y)  ->  f(x, constant).

    Random operations, dequantisation of weights (it would undo their compression) and attributes that the graph writes to
    are left alone.
    """
    known = _evaluate_constants(graph_module)
    changed = False
    for node in list(graph_module.graph.nodes):
        value = known.get(node)
        if node.op == "get_attr" or not isinstance(value, torch.Tensor) or all(user in known for user in node.users):
            continue
        with graph_module.graph.inserting_before(node):
            constant = add_constant(graph_module, value)
        constant.meta["stack_trace"] = node.meta.get("stack_trace")
        node.replace_all_uses_with(constant)
        changed = True
    if changed:
        graph_module.graph.eliminate_dead_code()
    return changed


def _evaluate_constants(graph_module: fx.GraphModule) -> dict[fx.Node, Folded]:
    written = written_attributes(graph_module)
    known: dict[fx.Node, Folded] = {}
    for node in graph_module.graph.nodes:
        if node.op == "get_attr":
            tensor = tensor_of(graph_module, node)
            if tensor is not None and str(node.target) not in written and tensor.device.type != "meta":
                known[node] = tensor.detach()
        elif node.op == "call_function" and all(argument in known for argument in node.all_input_nodes):
            value = _evaluate(node, known)
            if value is not None:
                known[node] = value
    return known


def _evaluate(node: fx.Node, known: dict[fx.Node, Folded]) -> Folded | None:
    if not callable(node.target) or not _is_foldable(node):
        return None
    args, kwargs = fx.map_arg((node.args, node.kwargs), lambda argument: known[argument])
    with torch.no_grad():
        value = node.target(*args, **kwargs)
    if isinstance(value, (tuple, list)) and all(isinstance(part, torch.Tensor) for part in value):
        return tuple(value)
    # A view would keep the whole of its base alive, and could share memory with a weight.
    return value.contiguous().clone() if isinstance(value, torch.Tensor) else None


def _is_foldable(node: fx.Node) -> bool:
    target = node.target
    if isinstance(target, torch._ops.OpOverload):
        if target._schema.is_mutable or torch.Tag.nondeterministic_seeded in target.tags:
            return False
        if "dequantize" in target._schema.name or "empty" in target._schema.name:
            return False
    elif getattr(target, "__module__", "") != "_operator":
        return False
    value = node.meta.get("val")
    if isinstance(value, torch.Tensor):
        return _is_small(value, [argument.meta.get("val") for argument in node.all_input_nodes])
    return isinstance(value, (tuple, list)) and all(isinstance(part, torch.Tensor) for part in value)


def _is_small(value: torch.Tensor, sources: list[object]) -> bool:
    if not all(isinstance(size, int) for size in value.shape):
        return False
    before = sum(source.numel() * source.element_size() for source in sources if isinstance(source, torch.Tensor))
    return value.numel() * value.element_size() <= before + _GROWTH_LIMIT_BYTES
