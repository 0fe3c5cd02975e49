"""Attention that a model writes out as products and a softmax, as the operator that GPUs have kernels for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, fx
from torch.fx.node import Argument

from torch_tensorrt.contracts.passes import lowering_pass
from torch_tensorrt.engines.inductor.passes.gate import is_half, on_gpu
from torch_tensorrt.engines.inductor.passes.masks.forms import Linear, hides
from torch_tensorrt.engines.inductor.passes.masks.reader import MaskReader, arguments_of, sizes_of
from torch_tensorrt.engines.inductor.passes.masks.values import mask_reader
from torch_tensorrt.engines.inductor.passes.propagating import Propagation, can_propagate
from torch_tensorrt.graphs.editing import FUSED, add_call
from torch_tensorrt.spec.settings import CompilationSettings

aten = torch.ops.aten
_SPREAD = frozenset({aten.view.default, aten._unsafe_view.default, aten.reshape.default})
_COPIES = frozenset({aten.clone.default, aten.alias.default})


@dataclass(frozen=True)
class _Scores:
    """What goes into the softmax: the product of queries and keys, times `scale`, plus `added`.

    It is `low` where `condition` isn't true, or where it is, if that is the condition for hiding.
    """

    product: fx.Node
    scale: float = 1.0
    added: tuple[fx.Node, ...] = ()
    condition: fx.Node | None = None
    hiding: bool = False
    low: float = 0.0


@lowering_pass
def fuse_attention(graph_module: fx.GraphModule, settings: CompilationSettings) -> bool:
    """y = softmax(q @ k.T * scale + mask) @ v  ->  y = scaled_dot_product_attention(q, k, v, mask, scale=scale).

    In half floats, of rank 4, with a softmax over the keys that nothing else reads, whether or not it is computed in float32;
    scale is a constant. Several masks are added up, and where(shown, scores, low) adds low instead.
    """
    if not can_propagate(graph_module):
        return False
    reader, replaced = mask_reader(graph_module), dict[fx.Node, object]()
    for softmax in graph_module.graph.find_nodes(op="call_function", target=aten._softmax.default):
        result = _result(softmax)
        if result is None or not on_gpu(result) or not is_half(result):
            continue
        scores = _scores(reader, softmax)
        new = None if scores is None else _fuse(graph_module, scores, result)
        if new is not None:
            replaced[new] = result.meta["val"]
            result.replace_all_uses_with(new)
    if replaced:
        graph_module.graph.eliminate_dead_code()
        propagation = Propagation(graph_module)
        for node in list(graph_module.graph.nodes):
            if node in replaced:
                propagation.changed(node, replaced[node])
            else:
                propagation.visit(node)
    return bool(replaced)


def _only_user(node: fx.Node) -> fx.Node | None:
    (user, *others) = node.users or (None,)
    return None if others else user


def _same_sizes(first: fx.Node, second: fx.Node) -> bool:
    return sizes_of(first) == sizes_of(second)


def _result(softmax: fx.Node) -> fx.Node | None:
    """The product of the softmax and the values, in rank 4, where that is all that the softmax is for."""
    dim, rank, node = softmax.args[1], len(sizes_of(softmax)), _only_user(softmax)
    if rank != 4 or dim not in (-1, 3):
        return None
    while node is not None and node.target in {aten._to_copy.default, aten.expand.default, *_COPIES, *_SPREAD}:
        if node.target not in _SPREAD and not _same_sizes(node, softmax):
            return None
        if node.target is aten._to_copy.default and not is_half(node):
            return None
        node = _only_user(node)
    if node is None or node.target is not aten.bmm.default:
        return None
    viewed = _only_user(node)
    return viewed if viewed is not None and viewed.target in _SPREAD and len(sizes_of(viewed)) == 4 else None


def _scores(reader: MaskReader, softmax: fx.Node) -> _Scores | None:
    """What `softmax` takes, from its end to the product; None where something else is done to it, or read of it."""
    node = softmax.all_input_nodes[0]
    found = _Scores(softmax)
    while True:
        if len(node.users) != 1 or not _same_sizes(node, softmax):
            return None
        if node.target in _SPREAD:
            product = node.all_input_nodes[0]
            fits = product.target is aten.bmm.default and len(product.users) == 1
            return replace(found, product=product) if fits else None
        step = _step(reader, node, found)
        if step is None:
            return None
        node, found = step


def _step(reader: MaskReader, node: fx.Node, found: _Scores) -> tuple[fx.Node, _Scores] | None:
    """One operation before what was found, and what was found with it."""
    given = arguments_of(node) if isinstance(node.target, torch._ops.OpOverload) else {}
    if node.target is aten._to_copy.default:
        source = node.all_input_nodes[0]
        return (source, found) if node.meta["val"].dtype is torch.float32 and is_half(source) else None
    if node.target in {aten.mul.Tensor, aten.div.Tensor, aten.mul.Scalar, aten.div.Scalar}:
        number = reader.number(given["other"], node)
        factor = _float(number)
        inner = given["self"]
        if factor is None or factor <= 0 or not isinstance(inner, fx.Node):
            return None
        scale = 1 / factor if "div" in str(node.target) else factor
        return inner, replace(found, scale=found.scale * scale)
    if node.target is aten.add.Tensor and given["alpha"] == 1 and found.scale == 1.0:
        for inner, mask in ((given["self"], given["other"]), (given["other"], given["self"])):
            if isinstance(inner, fx.Node) and isinstance(mask, fx.Node) and _leads_to_product(inner):
                return inner, replace(found, added=(*found.added, mask))
        return None
    return _shown(reader, node, found) if node.target is aten.where.self else None


def _shown(reader: MaskReader, node: fx.Node, found: _Scores) -> tuple[fx.Node, _Scores] | None:
    """where(shown, scores, low) or where(hidden, low, scores), before anything is added."""
    condition, *sides = node.args
    if found.added or found.condition is not None or found.scale != 1.0 or not isinstance(condition, fx.Node):
        return None
    for hiding, (inner, other) in enumerate((sides, sides[::-1])):
        low = _float(reader.number(other, node))
        if isinstance(inner, fx.Node) and low is not None and hides(low, node.meta["val"].dtype):
            return inner, replace(found, condition=condition, hiding=bool(hiding), low=low)
    return None


def _float(number: Linear | None) -> float | None:
    constant = None if number is None else number.constant
    return float(constant) if constant is not None and constant.is_number else None


def _leads_to_product(node: fx.Node) -> bool:
    """Whether `node` is a product that was scaled, masked or viewed: the side of a sum that the scores are on."""
    for _ in range(8):
        if node.target is aten.bmm.default:
            return True
        if not node.all_input_nodes or node.op != "call_function":
            return False
        if not (node.target in _SPREAD or node.target in _ON_THE_WAY):
            return False
        inputs = [each for each in node.all_input_nodes if len(each.users) == 1 and each.op == "call_function"]
        node = next(
            (each for each in inputs if _same_sizes(each, node) or node.target in _SPREAD), node.all_input_nodes[0]
        )
    return False


_ON_THE_WAY = frozenset({aten.mul.Tensor, aten.div.Tensor, aten.add.Tensor, aten.where.self, aten._to_copy.default})


def _spread_from(node: object) -> fx.Node | None:
    """The tensor of rank 4 whose first two dimensions were made one to give `node`."""
    if not isinstance(node, fx.Node) or node.target not in _SPREAD:
        return None
    source = node.all_input_nodes[0]
    while source.target in _COPIES or (source.target is aten.expand.default and _is_no_spread(source)):
        source = source.all_input_nodes[0]
    sizes, wanted = sizes_of(source), sizes_of(node)
    fits = len(sizes) == 4 and sizes[2:] == wanted[1:] and (sizes[0] * sizes[1]).expand() == wanted[0]
    return source if fits else None


def _is_no_spread(expand: fx.Node) -> bool:
    return _same_sizes(expand, expand.all_input_nodes[0])


def _fuse(graph_module: fx.GraphModule, scores: _Scores, result: fx.Node) -> fx.Node | None:
    query, keys = map(_spread_from, scores.product.args)
    value = _spread_from(result.all_input_nodes[0].args[1])
    if query is None or keys is None or value is None or not all(map(is_half, (query, keys, value))):
        return None
    kind = query.meta["val"].dtype
    if any(mask.meta["val"].dtype is not kind or len(sizes_of(mask)) > 4 for mask in scores.added):
        return None
    with graph_module.graph.inserting_before(result):
        key = add_call(graph_module, aten.permute.default, (keys, [0, 1, 3, 2]))
        mask = _sum_masks(graph_module, scores, query.meta["val"])
        new = add_call(
            graph_module,
            aten.scaled_dot_product_attention.default,
            (query, key, value, mask),
            {"scale": scores.scale},
        )
    if not _same_sizes(new, result):
        graph_module.graph.erase_node(new)
        return None
    new.meta.update({name: known for name, known in result.meta.items() if name != "val"})
    # Two products and a softmax at least; views are not counted on.
    new.meta[FUSED] = 3 + (scores.scale != 1) + len(scores.added)
    return new


def _sum_masks(graph_module: fx.GraphModule, scores: _Scores, like: Tensor) -> fx.Node | None:
    """All that is added to the scores, as one tensor."""
    masks = list(reversed(scores.added))
    if scores.condition is not None:
        options: Mapping[str, Argument] = {"dtype": like.dtype, "device": like.device}
        # A finite number stays finite: rows in which everything is hidden depend on that.
        low = scores.low if scores.low == float("-inf") else max(scores.low, torch.finfo(like.dtype).min)
        sides = [add_call(graph_module, aten.full.default, ([], number), options) for number in (0.0, low)]
        sides = sides[::-1] if scores.hiding else sides
        masks.append(add_call(graph_module, aten.where.self, (scores.condition, *sides)))
    mask = masks[0] if masks else None
    for more in masks[1:]:
        mask = add_call(graph_module, aten.add.Tensor, (mask, more))
    return mask
