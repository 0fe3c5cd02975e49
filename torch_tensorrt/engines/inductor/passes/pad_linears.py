"""Linear layers with an odd number of outputs, as vocabularies have them: the fast kernels are for rows that are aligned."""

from __future__ import annotations

import torch
from torch import fx
from torch.nn import functional

from torch_tensorrt.contracts.passes import lowering_pass
from torch_tensorrt.engines.inductor.passes.gate import HALF
from torch_tensorrt.engines.inductor.passes.linears import Linear, linear_of
from torch_tensorrt.graphs.editing import add_call, add_constant, written_attributes
from torch_tensorrt.spec.settings import CompilationSettings

aten = torch.ops.aten
_ALIGNED = 8  # half floats that the fast kernels read and write at once
_MULTIPLE = 16  # of columns: what products of float8 want (`quantize_linears`)
WIDE = 128  # columns: with about 100 and fewer, products are bound by memory on an H200 (by its rates), which padding adds to
LARGE = 2**22  # numbers in a weight or a result: with fewer, padding at each call was no slower than the copy


@lowering_pass
def pad_linears(graph_module: fx.GraphModule, settings: CompilationSettings) -> bool:
    """y = addmm(b, x, w)  ->  y = mm(x, pad(w))[:, :n] + b, where the rows of y, n long, aren't aligned; a clone in place of no b.

    Half floats with constant weights, many columns, and a large weight or result. Inductor pads weights of large products at every
    call, and leaves gaps in results that the engine has to close; the sum or clone is code of Inductor's own, one kernel with what
    reads the result.
    """
    written = written_attributes(graph_module)
    found = [linear_of(graph_module, node, written) for node in graph_module.graph.nodes]
    wanted = [linear for linear in found if linear is not None and _is_worthwhile(linear)]
    padded: dict[int, fx.Node] = {}  # one for all that share a weight
    for linear in wanted:
        _pad(graph_module, linear, padded)
    return bool(wanted)


def _is_worthwhile(linear: Linear) -> bool:
    inner, columns = linear.weight.shape
    if linear.weight.dtype not in HALF or inner % _ALIGNED or columns % _ALIGNED == 0 or columns < WIDE:
        return False
    rows = linear.x.meta["val"].shape[0]
    # Not by the example's rows where they vary: a refit may come with another example, and wants the same graph.
    fixed = 0 if isinstance(rows, torch.SymInt) else rows
    return max(inner, fixed) * columns >= LARGE


def _pad(graph_module: fx.GraphModule, linear: Linear, padded: dict[int, fx.Node]) -> None:
    node, columns = linear.node, linear.weight.shape[1]
    with graph_module.graph.inserting_before(node):
        if id(linear.weight) not in padded:
            wider = functional.pad(linear.weight.detach().t(), (0, 0, 0, -columns % _MULTIPLE)).contiguous().t()
            padded[id(linear.weight)] = add_constant(graph_module, wider)
        product = add_call(graph_module, aten.mm.default, (linear.x, padded[id(linear.weight)]))
        part = add_call(graph_module, aten.slice.Tensor, (product, 1, 0, columns))
        if linear.bias is None:
            result = add_call(graph_module, aten.clone.default, (part,), {"memory_format": torch.contiguous_format})
        else:  # not in the product: cuBLAS takes a bias of this length by writing it to each row of the result first
            result = add_call(graph_module, aten.add.Tensor, (part, node.args[0]))
    for added in (product, part, result):
        added.meta["stack_trace"] = node.meta.get("stack_trace")
    node.replace_all_uses_with(result)
    graph_module.graph.erase_node(node)
