"""Which dtype PyTorch computes a node in. Read from the metadata: the rules are PyTorch's own, not written again."""

from __future__ import annotations

import torch
from torch import Tensor, fx
from torch._prims_common import ELEMENTWISE_TYPE_PROMOTION_KIND, elementwise_dtypes
from torch.utils._pytree import tree_leaves

from torch_tensorrt.spec.errors import InternalError

_NUMBERS = (bool, int, float, torch.SymInt, torch.SymFloat, torch.SymBool)


def result_dtype(node: fx.Node) -> torch.dtype:
    """The dtype of the node's (first) result."""
    value = node.meta.get("val")
    first = value[0] if isinstance(value, (tuple, list)) else value
    if not isinstance(first, Tensor):
        raise InternalError(f"Node {node.name!r} ({node.target}) has no tensor as its result; please report it.")
    return first.dtype


def operand_dtype(node: fx.Node) -> torch.dtype:
    """What the tensors and numbers among the node's positional arguments are promoted to."""
    values = [given.meta.get("val") if isinstance(given, fx.Node) else given for given in tree_leaves(node.args)]
    operands = [value for value in values if isinstance(value, (Tensor, *_NUMBERS))]
    _, dtype = elementwise_dtypes(*operands, type_promotion_kind=ELEMENTWISE_TYPE_PROMOTION_KIND.DEFAULT)
    return dtype


def tensor_values(node: fx.Node) -> list[Tensor]:
    """The fake tensors that the node takes and gives."""
    given = [argument.meta.get("val") for argument in node.all_input_nodes]
    return [value for value in tree_leaves([*given, node.meta.get("val")]) if isinstance(value, Tensor)]
