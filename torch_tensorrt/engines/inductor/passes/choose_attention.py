"""Attention by the kernel that is fastest on the GPU, instead of the one that PyTorch chose when it traced."""

from __future__ import annotations

import operator
from collections.abc import Mapping

import torch
from torch import fx
from torch.nn import functional

from torch_tensorrt.contracts.passes import lowering_pass
from torch_tensorrt.engines.inductor.passes.attention_kernels import (
    KERNELS,
    arguments_for,
    candidates,
    is_contiguous,
    is_plain,
    padding_to_align,
    storable,
)
from torch_tensorrt.engines.inductor.passes.gate import is_half, on_gpu
from torch_tensorrt.engines.inductor.passes.masks.reader import arguments_of, sizes_of
from torch_tensorrt.engines.inductor.passes.probing import works
from torch_tensorrt.engines.inductor.passes.propagating import Propagation, can_propagate
from torch_tensorrt.graphs.editing import add_call, add_constant, tensor_of, written_attributes
from torch_tensorrt.spec.settings import CompilationSettings

aten = torch.ops.aten
attention = aten.scaled_dot_product_attention.default
_VIEWS = frozenset({aten.view.default, aten.permute.default, aten.transpose.int})


@lowering_pass
def choose_attention(graph_module: fx.GraphModule, settings: CompilationSettings) -> bool:
    """y = attention(q, k, v, is_causal)  ->  y, *_ = _scaled_dot_product_cudnn_attention(q, k, v, None, False, 0, is_causal).

    That is for half floats without a mask: cuDNN's kernel from compute capability 9.0 on, else flash attention, each where it takes
    the sizes; few scores go to the memory-efficient kernel, also with numbers that are added to them (Swin), in aligned rows.
    Copies after it that its layout makes needless go. All other attention is left to PyTorch's own choice.
    """
    if not can_propagate(graph_module):
        return False
    replaced: dict[fx.Node, object] = {}
    for node in graph_module.graph.find_nodes(op="call_function", target=attention):
        if on_gpu(node) and is_half(node) and is_plain(arguments_of(node)):
            new = _choose(graph_module, node)
            if new is not None:
                replaced[new] = node.meta["val"]
                node.replace_all_uses_with(new)
                graph_module.graph.erase_node(node)
    if replaced:
        _follow(graph_module, replaced)
        graph_module.graph.eliminate_dead_code()
    return bool(replaced)


def _choose(graph_module: fx.GraphModule, node: fx.Node) -> fx.Node | None:
    """The first kernel that takes `node`'s sizes, in its place; None where none does."""
    given = arguments_of(node)
    for kernel in candidates(given):
        with graph_module.graph.inserting_before(node):
            bias = _align(graph_module, node) if given["attn_mask"] is not None else None
            if bias is None and given["attn_mask"] is not None:
                continue
            call = add_call(graph_module, kernel, *arguments_for(kernel, given, bias))
            call.meta["val"] = storable(call.meta["val"])
            result = add_call(graph_module, operator.getitem, (call, 0))
        if works(call):
            for new in (call, result):
                new.meta.update({key: value for key, value in node.meta.items() if key != "val"})
            return result
        graph_module.graph.erase_node(result)
        graph_module.graph.erase_node(call)
    return None


def _align(graph_module: fx.GraphModule, node: fx.Node) -> fx.Node | None:
    """The mask of `node` as numbers to add, in rows that are aligned in memory; None for one that isn't of numbers, or not of rank 4."""
    given = arguments_of(node)
    mask, query, key = (given[name] for name in ("attn_mask", "query", "key"))
    assert isinstance(mask, fx.Node)
    assert isinstance(query, fx.Node)
    assert isinstance(key, fx.Node)
    source = mask.all_input_nodes[0] if mask.target is aten.expand.default else mask
    sizes, wanted = sizes_of(source), [*sizes_of(query)[:3], sizes_of(key)[2]]
    if len(sizes) != 4 or any(ours not in (1, theirs) for ours, theirs in zip(sizes, wanted, strict=True)):
        return None
    padded = _pad(graph_module, source, node.meta["val"].dtype, [-1, -1, int(wanted[2]), int(wanted[3])])
    if padded is None:
        return None
    rows = add_call(graph_module, aten.slice.Tensor, (padded, 3, 0, int(wanted[3])))
    spread = [-1 if size != 1 else _size(graph_module, query, at) for at, size in enumerate(sizes[:2])]
    return add_call(graph_module, aten.expand.default, (rows, [*spread, -1, -1]))


def _pad(graph_module: fx.GraphModule, mask: fx.Node, dtype: torch.dtype, sizes: list[int]) -> fx.Node | None:
    """`mask` with longer rows; a constant, where it is one."""
    padding, tensor = padding_to_align(sizes[3]), tensor_of(graph_module, mask)
    if tensor is not None and str(mask.target) not in written_attributes(graph_module):
        if tensor.dtype is torch.bool:
            tensor = torch.zeros_like(tensor, dtype=dtype).masked_fill(~tensor, float("-inf"))
        if tensor.dtype is not dtype:
            return None
        return add_constant(graph_module, functional.pad(tensor.detach().expand(sizes), (0, padding)).contiguous())
    if mask.meta["val"].dtype is not dtype:
        return None
    whole = add_call(graph_module, aten.expand.default, (mask, sizes))
    return add_call(graph_module, aten.constant_pad_nd.default, (whole, [0, padding]))


def _size(graph_module: fx.GraphModule, query: fx.Node, at: int) -> fx.Node | int:
    size = query.meta["val"].shape[at]
    return size if isinstance(size, int) else add_call(graph_module, aten.sym_size.int, (query, at))


def _follow(graph_module: fx.GraphModule, replaced: Mapping[fx.Node, object]) -> None:
    """Brings metadata up to date after `replaced` (node -> the value before); drops copies into the layout that is there."""
    propagation = Propagation(graph_module)
    for node in list(graph_module.graph.nodes):
        if node in replaced:
            propagation.changed(node, replaced[node])
            continue
        propagation.visit(node)
        if node.target is aten.clone.default and _is_needless(node):
            node.replace_all_uses_with(node.all_input_nodes[0])
            graph_module.graph.erase_node(node)


def _is_needless(clone: fx.Node) -> bool:
    """Whether it copies what attention computed, and nothing else reads, into the layout that it has."""
    source = clone.all_input_nodes[0]
    if clone.kwargs.get("memory_format") is not torch.contiguous_format or not is_contiguous(source.meta["val"]):
        return False
    while source.target in _VIEWS and len(source.users) == 1:
        source = source.all_input_nodes[0]
    computed = source.target is operator.getitem and source.all_input_nodes[0].target in KERNELS
    return computed and len(source.users) == 1 and not any(user.op == "output" for user in clone.users)
