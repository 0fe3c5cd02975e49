"""Operations that hand on their input."""

from __future__ import annotations

import torch
from torch import fx

from torch_tensorrt.contracts.passes import lowering_pass
from torch_tensorrt.spec.settings import CompilationSettings

aten = torch.ops.aten
_ALIASES = {aten.detach.default, aten.alias.default, aten.lift_fresh_copy.default, aten.lift_fresh.default}
_COPIES = {aten.clone.default, aten._to_copy.default}
_VIEWS = {aten.view.default, aten._unsafe_view.default, aten.expand.default, aten.reshape.default, aten.permute.default}


@lowering_pass
def remove_no_ops(graph_module: fx.GraphModule, settings: CompilationSettings) -> bool:
    """y = detach(x); f(y)  ->  f(x).   Likewise alias, views to the same shape, and copies that nobody can tell from x.

    Also as_strided where it gives the same elements in the same places, as PyTorch's adaptive pooling to one value has it.

    A copy stays when it is returned, or when what it copies is (a view of) an input or an attribute: those may be written
    to, by the caller or at the graph's end, and the copy must keep the old values.
    """
    changed = False
    for node in list(graph_module.graph.nodes):
        if node.op == "call_function" and node.all_input_nodes and _hands_on(node):
            node.replace_all_uses_with(node.all_input_nodes[0])
            graph_module.graph.erase_node(node)
            changed = True
    return changed


def _hands_on(node: fx.Node) -> bool:
    source = node.all_input_nodes[0]
    if node.target in _ALIASES:
        return _same_tensor(node, source)
    if node.target in _COPIES:
        returned = any(user.op == "output" for user in node.users)
        return not returned and _same_tensor(node, source) and not _may_be_written(source)
    if node.target in _VIEWS and len(node.all_input_nodes) == 1:
        returned = any(user.op == "output" for user in node.users)
        return not returned and _same_tensor(node, source) and _is_identity(node)
    if node.target is aten.as_strided.default:
        returned = any(user.op == "output" for user in node.users)
        return not returned and _same_elements(node, source)
    return False


def _same_elements(node: fx.Node, source: fx.Node) -> bool:
    """Same memory read in the same order; the stride of a dimension of size 1 is never used."""
    new, old = node.meta["val"], source.meta.get("val")
    if not isinstance(old, torch.Tensor) or _expressions(new.shape) != _expressions(old.shape):
        return False
    steps = zip(new.shape, new.stride(), old.stride(), strict=True)
    used = [(str(ours), str(theirs)) for size, ours, theirs in steps if not (isinstance(size, int) and size == 1)]
    return all(ours == theirs for ours, theirs in used) and str(new.storage_offset()) == str(old.storage_offset())


def _is_identity(node: fx.Node) -> bool:
    if node.target is not aten.permute.default:
        return True
    order = node.args[1]
    assert isinstance(order, (list, tuple))
    return list(order) == list(range(len(order)))


def _same_tensor(node: fx.Node, source: fx.Node) -> bool:
    """Same dtype, device, sizes and strides, by their metadata."""
    new, old = node.meta.get("val"), source.meta.get("val")
    if not isinstance(new, torch.Tensor) or not isinstance(old, torch.Tensor):
        return False
    if new.dtype != old.dtype or new.device != old.device or new.dim() != old.dim():
        return False
    return _expressions(new.shape) == _expressions(old.shape) and _expressions(new.stride()) == _expressions(
        old.stride()
    )


def _expressions(sizes: object) -> list[str]:
    assert isinstance(sizes, (tuple, list))
    return [str(size) for size in sizes]


def _may_be_written(node: fx.Node) -> bool:
    """True when `node` is an input or attribute, or may share memory with one through a chain of views."""
    while node.op == "call_function":
        if not isinstance(node.target, torch._ops.OpOverload) or not _returns_alias(node.target):
            return False
        if not node.all_input_nodes:
            return False
        node = node.all_input_nodes[0]
    return True


def _returns_alias(operator: torch._ops.OpOverload) -> bool:
    return any(result.alias_info is not None for result in operator._schema.returns)
