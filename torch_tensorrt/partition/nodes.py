"""What kind of work a node is: an operation, size arithmetic, picking from a tuple, or a write to a buffer."""

from __future__ import annotations

import operator
import re
from collections.abc import Iterator

import torch
from torch import fx
from torch._ops import OpOverload

_SYMBOLIC = (torch.SymInt, torch.SymFloat, torch.SymBool)
_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+), in .*\n\s*(?P<code>.*)')
_LIBRARY = re.compile(r"[/\\]torch[/\\](nn|_|fx|export|utils)")


def is_size(node: fx.Node) -> bool:
    """True for nodes whose value is a size or a scalar made of sizes, not a tensor."""
    if node.op != "call_function" or node.target is operator.getitem:
        return False
    return isinstance(node.meta.get("val"), (*_SYMBOLIC, int, float, bool)) and not reads_data(node)


def reads_data(node: fx.Node) -> bool:
    """True for item() and the like: a Python number made from a tensor's contents."""
    return node.target is torch.ops.aten._local_scalar_dense.default


def is_write(node: fx.Node) -> bool:
    """True for nodes that write to an attribute or an input, or that only assert something."""
    if node.op != "call_function" or not isinstance(node.target, OpOverload):
        return False
    return node.target._schema.is_mutable or (not node.users and not node.target._schema.returns)


def is_operation(node: fx.Node) -> bool:
    """True for nodes that compute: these are what coverage, min_block_size and require_full_compilation count."""
    if node.op in {"call_module", "call_method"}:
        return True
    return (
        node.op == "call_function" and node.target is not operator.getitem and not is_size(node) and not is_write(node)
    )


def tensor_sources(node: fx.Node) -> Iterator[fx.Node]:
    """The nodes whose tensors `node` needs, looking through size arithmetic."""
    for argument in node.all_input_nodes:
        if is_size(argument):
            yield from tensor_sources(argument)
        else:
            yield argument


def size_is_replayable(node: fx.Node) -> bool:
    """True when a size node can be computed again from the sizes of tensors alone."""
    if node.target in (torch.ops.aten.sym_size.int, torch.ops.aten.sym_numel.default):
        return True
    return is_size(node) and all(size_is_replayable(argument) for argument in node.all_input_nodes)


def describe(node: fx.Node) -> str:
    """The operator and the user's line of code: `aten.nonzero.default at model.py:12 'x.nonzero()'`."""
    frames = list(_FRAME.finditer(node.meta.get("stack_trace") or ""))
    own = [frame for frame in frames if not _LIBRARY.search(frame["file"])] or frames
    place = f" at {own[-1]['file']}:{own[-1]['line']} '{own[-1]['code'].strip()}'" if own else ""
    return f"{node.target}{place}"
