"""Operations whose inputs' sizes can't be told apart at run time.

An engine learns the values of the symbols from the sizes of its own inputs. An operation left to PyTorch may give a tensor whose
size is computed, such as `Min(s0, s1)` or `(s0 - 1)//2 + 1`, from which they can't be learnt.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import fx
from torch.utils import _pytree as pytree

from torch_tensorrt.partition.nodes import is_size
from torch_tensorrt.spec.errors import FileFormatError, InputError
from torch_tensorrt.spec.shape_expr import factors_in, solve, symbols_in, text_of


def untold_sizes(members: Sequence[fx.Node]) -> Mapping[str, str]:
    """Name -> reason, for those of `members` (one group) that read such a tensor; empty when all symbols can be learnt."""
    inside = set(members)
    outside = dict.fromkeys(
        given for node in members for given in node.all_input_nodes if given not in inside and given.op != "get_attr"
    )
    inputs = {node: sizes for node in outside if (sizes := _sizes(node))}
    untold = {node: size for node, sizes in inputs.items() for size in sizes if not _is_exact(size, node.graph)}
    if not untold and _solvable(list(inputs.values())):
        return {}
    told = {size for sizes in inputs.values() for size in sizes if size.isidentifier()}
    untold.update({node: size for node, sizes in inputs.items() for size in sizes if not _known(size, told)})
    return {
        node.name: f"the size {untold[given]} of its input {given.name!r}, which PyTorch computes, doesn't tell what varies"
        for node in members
        for given in _read(node)
        if given in untold
    }


def _read(node: fx.Node) -> Iterator[fx.Node]:
    """The tensors that `node` reads, itself or through sizes."""
    for given in node.all_input_nodes:
        if is_size(given):
            yield from _read(given)
        else:
            yield given


def _sizes(node: fx.Node) -> list[str]:
    """The sizes of `node`'s result that vary, as text."""
    value = node.meta.get("val")
    if not isinstance(value, torch.Tensor):
        return []
    varying = (text_of(size.node.expr) for size in value.shape if isinstance(size, torch.SymInt))  # type: ignore[attr-defined]
    return [text for text in varying if not text.isdigit()]


def _known(size: str, told: set[str]) -> bool:
    return symbols_in(size) <= told or _solvable([[*told, size]])


def _is_exact(size: str, graph: fx.Graph) -> bool:
    """Whether the text has the value that PyTorch computes: sympy joins fractions (h * 0.7 * 1.3), which rounds otherwise."""
    factors = factors_in(size)
    return factors is not None and (not factors or factors <= _numbers(graph))


def _numbers(graph: fx.Graph) -> set[float]:
    """All floats among the arguments."""
    leaves = (leaf for node in graph.nodes for leaf in pytree.tree_leaves((node.args, node.kwargs)))
    return {leaf for leaf in leaves if isinstance(leaf, float)}


def _solvable(sizes: Sequence[Sequence[str]]) -> bool:
    try:
        solve([(several, [1] * len(several)) for several in sizes])
    except (InputError, FileFormatError):
        return False
    return True
