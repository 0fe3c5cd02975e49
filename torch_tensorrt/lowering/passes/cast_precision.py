"""Strongly typed SDKs compute in the dtypes that the graph has: with `enabled_precisions` the graph is cast."""

from __future__ import annotations

import operator

import torch
from torch import fx
from torch._ops import OpOverload
from torch.utils._pytree import tree_leaves

from torch_tensorrt.contracts.passes import lowering_pass
from torch_tensorrt.graphs.editing import (
    add_call,
    add_constant,
    fake_mode_of,
    infer_again,
    tensor_of,
    written_attributes,
)
from torch_tensorrt.spec.settings import CompilationSettings

aten = torch.ops.aten
# Statistics, softmax, sums over many values, and functions that leave the range of float16 or lose what it can't hold.
_WIDE = frozenset(
    [
        "_softmax",
        "_log_softmax",
        "softmax",
        "log_softmax",
        "logsumexp",
        "sum",
        "mean",
        "var",
        "std",
        "var_mean",
        "std_mean",
        "prod",
        "cumsum",
        "cumprod",
        "norm",
        "linalg_vector_norm",
        "_cdist_forward",
        "_pdist_forward",
        "native_layer_norm",
        "layer_norm",
        "native_group_norm",
        "group_norm",
        "native_batch_norm",
        "batch_norm",
        "_native_batch_norm_legit_no_training",
        "_native_batch_norm_legit",
        "instance_norm",
        "rms_norm",
        "_fused_rms_norm",
        "pow",
        "exp",
        "exp2",
        "expm1",
        "log",
        "log2",
        "log10",
        "log1p",
        "rsqrt",
        "reciprocal",
        "square",
        "erfinv",
    ]
)
_NUMBERS = (torch.SymInt, torch.SymFloat, torch.SymBool, int, float)
_WEIGHTED = frozenset(["linear", "addmm", "convolution", "embedding", "index_select"])  # take data in, whatever comes


@lowering_pass
def cast_precision(graph_module: fx.GraphModule, settings: CompilationSettings) -> bool:
    """y = mean(linear(x, w))  ->  y = mean(to_f32(linear(to_f16(x), w16))), when float16 or bfloat16 is enabled.

    Inputs, outputs and buffers keep their dtype, and so do numbers made from integers (positions) until they meet data.
    """
    low = _chosen(settings)
    nodes = list(graph_module.graph.nodes)
    if low is None or not any(_dtype(node) is torch.float32 for node in nodes if node.op == "call_function"):
        return False
    _Cast(graph_module, low).run(nodes)
    return True


def _chosen(settings: CompilationSettings) -> torch.dtype | None:
    return next((kind for kind in (torch.float16, torch.bfloat16) if kind in settings.enabled_precisions), None)


def _dtype(node: fx.Node) -> torch.dtype | None:
    value = node.meta.get("val")
    return value.dtype if isinstance(value, torch.Tensor) else None


class _Cast:
    """Edits one graph. `before`: the dtype of each node in the model; `made`: casts that are there already."""

    def __init__(self, graph_module: fx.GraphModule, low: torch.dtype) -> None:
        self.graph_module = graph_module
        self.low = low
        self.mode = fake_mode_of(graph_module)
        self.before = {node: _dtype(node) for node in graph_module.graph.nodes}
        self.written = written_attributes(graph_module)
        self.exact: set[fx.Node] = set()  # made from integers and constants only
        self.large: set[fx.Node] = set()  # may hold finite numbers that the lower dtype hasn't, such as masks
        self.sizes: dict[fx.Node, float] = {}  # the largest finite number in a constant
        self.made: dict[tuple[fx.Node, torch.dtype], fx.Node] = {}

    def run(self, nodes: list[fx.Node]) -> None:
        for node in nodes:
            if node.op == "output":
                self._restore(node)
            elif node.op == "call_function" and not isinstance(node.meta.get("val"), _NUMBERS):  # sizes have no dtype
                if self._is_low(node):
                    self._cast_inputs(node, self.low)
                else:
                    self._restore(node)
                    if self._overflows(node) or any(map(self._is_large, node.all_input_nodes)):
                        self.large.add(node)
                if isinstance(node.meta.get("val"), (torch.Tensor, tuple, list)):
                    node.meta["val"] = infer_again(node, self.mode)

    def _is_low(self, node: fx.Node) -> bool:
        target = node.target
        given = [argument for argument in node.all_input_nodes if self.before[argument] is torch.float32]
        if target is operator.getitem and node.all_input_nodes[0] in self.exact:
            self.exact.add(node)
        if not isinstance(target, OpOverload) or target._schema.is_mutable or target.namespace != "aten":
            return False
        overflows = self._overflows(node)
        name = target._schema.name.partition("::")[2]
        moving = [argument for argument in given if argument.op != "get_attr"]
        if name not in _WEIGHTED and all(argument in self.exact for argument in moving):
            self.exact.add(node)
            return False
        asked = [leaf for leaf in tree_leaves((node.args, node.kwargs)) if isinstance(leaf, torch.dtype)]
        return bool(given) and name not in _WIDE and not asked and not overflows

    def _overflows(self, node: fx.Node) -> bool:
        """A number among the arguments that the lower dtype does not hold."""
        numbers = [leaf for leaf in tree_leaves((node.args, node.kwargs)) if isinstance(leaf, float)]
        most = torch.finfo(self.low).max
        return any(abs(number) > most and abs(number) != float("inf") for number in numbers)

    def _is_large(self, argument: fx.Node) -> bool:
        """Whether it may hold a finite number that the lower dtype does not: a constant does, or what is made from one."""
        if argument in self.large:
            return True
        weight = tensor_of(self.graph_module, argument) if argument.op == "get_attr" else None
        if weight is None or weight.dtype is not torch.float32 or weight.is_meta or not weight.numel():
            return False
        if argument not in self.sizes:
            finite = torch.nan_to_num(weight.detach(), nan=0.0, posinf=0.0, neginf=0.0)
            self.sizes[argument] = float(finite.abs().max())
        return self.sizes[argument] > torch.finfo(self.low).max

    def _cast_inputs(self, node: fx.Node, dtype: torch.dtype) -> None:
        for argument in node.all_input_nodes:
            if self.before[argument] is torch.float32:
                node.replace_input_with(argument, self._as(argument, dtype, node))

    def _restore(self, node: fx.Node) -> None:
        for argument in node.all_input_nodes:
            wanted = self.before.get(argument)
            if wanted is not None and _dtype(argument) is not wanted:
                node.replace_input_with(argument, self._as(argument, wanted, node))

    def _as(self, argument: fx.Node, dtype: torch.dtype, user: fx.Node) -> fx.Node:
        if _dtype(argument) is dtype:
            return argument
        key = (argument, dtype)
        if key not in self.made:
            weight = tensor_of(self.graph_module, argument)
            place = user if argument.op in {"placeholder", "get_attr"} else argument.next
            with self.graph_module.graph.inserting_before(place):
                if weight is not None and str(argument.target) not in self.written:
                    self.made[key] = add_constant(self.graph_module, _held(weight, dtype))
                else:
                    source = self._bounded(argument, dtype) if argument in self.large else argument
                    self.made[key] = add_call(self.graph_module, aten._to_copy.default, (source,), {"dtype": dtype})
        return self.made[key]

    def _bounded(self, argument: fx.Node, dtype: torch.dtype) -> fx.Node:
        """`argument` with finite numbers that `dtype` holds: a mask's lowest float32 must not become -inf, which hides whole rows."""
        most = torch.finfo(dtype).max
        clamped = add_call(self.graph_module, aten.clamp.default, (argument, -most, most))
        infinite = add_call(self.graph_module, aten.isinf.default, (argument,))
        return add_call(self.graph_module, aten.where.self, (infinite, argument, clamped))


def _held(weight: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """`weight` in a lower dtype: finite numbers stay finite (masks are full of the lowest float32)."""
    most = torch.finfo(dtype).max
    return torch.where(weight.isfinite(), weight.clamp(-most, most), weight).to(dtype)
