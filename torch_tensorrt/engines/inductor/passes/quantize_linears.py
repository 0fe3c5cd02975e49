"""Linear layers as products of float8, which a GPU multiplies about twice as fast as float16."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from torch_tensorrt.contracts.passes import lowering_pass
from torch_tensorrt.engines.inductor.knobs import read_knobs
from torch_tensorrt.engines.inductor.passes.calibrated import take_calibrated
from torch_tensorrt.engines.inductor.passes.float8_sizes import is_worthwhile
from torch_tensorrt.engines.inductor.passes.gate import HALF
from torch_tensorrt.engines.inductor.passes.linears import Linear, identity, linear_of
from torch_tensorrt.engines.inductor.passes.magnitudes import Bound, Magnitudes
from torch_tensorrt.engines.inductor.passes.probing import works
from torch_tensorrt.graphs.editing import add_call, add_constant, written_attributes
from torch_tensorrt.spec.settings import CompilationSettings

aten = torch.ops.aten
FLOAT8 = torch.float8_e4m3fn
_LARGEST = 448.0  # of this float8
_MARGIN = 1.05  # for what rounding adds to a bound
_POINTWISE = frozenset({aten.gelu.default, aten.relu.default, aten.silu.default, aten.add.Tensor, aten.mul.Tensor})


@dataclass(frozen=True)
class _Scaled:
    """A float8 tensor, and what its values are multiplied with: a number for each row (or column), or one for all."""

    values: fx.Node
    scale: fx.Node
    rowwise: bool


@lowering_pass
def quantize_linears(graph_module: fx.GraphModule, settings: CompilationSettings) -> bool:
    """y = addmm(b, x, w)  ->  y = _scaled_mm(float8(x / s), float8(w / t), s, t, b), where float8 is among the enabled precisions.

    Where the weights prove how large x can get (after a normalisation, say), one scale for all of x is a constant, and there is
    one for all of w. Elsewhere the largest value of each row of x is looked for at run time, and each column of w has a scale, or,
    with the engine option `float8_tensorwise`, there is one for all of x and one for all of w. Layers with constant weights take
    part where that is faster (`float8_sizes`). A program with scales from data (`torch_tensorrt.quantize(precision="float8")`) needs
    no other permission: these are constants too, values beyond them are cut off, and the program's own rounding goes.
    """
    calibrated = take_calibrated(graph_module)
    enabled = FLOAT8 in settings.enabled_precisions
    if not enabled and not calibrated:
        return False
    quantizer = _Quantizer(graph_module, rowwise=not read_knobs(settings).float8_tensorwise)
    written = written_attributes(graph_module)
    found = [linear_of(graph_module, node, written) for node in graph_module.graph.nodes]
    magnitudes = Magnitudes(graph_module, calibrated)
    # All bounds before any replacement: they follow from the products before them.
    bounds = [(linear, magnitudes.of(linear.x)) for linear in found if linear is not None]
    changed = [
        quantizer.replace(linear, bound)
        for linear, bound in bounds
        if (enabled or bound is not None) and is_worthwhile(linear, bounded=bound is not None)
    ]
    if any(changed) or calibrated:
        graph_module.graph.eliminate_dead_code()
    return any(changed) or bool(calibrated)


class _Quantizer:
    """Edits one graph; an input that several layers read is taken to float8 once."""

    def __init__(self, graph_module: fx.GraphModule, *, rowwise: bool) -> None:
        self._module = graph_module
        self._rowwise = rowwise
        self._known: dict[Hashable, _Scaled] = {}

    def replace(self, linear: Linear, bound: Bound | None) -> bool:
        """Puts a product of float8 in place of `linear`; False, and nothing changed, where the GPU has none for its sizes."""
        graph = self._module.graph
        with graph.inserting_before(linear.node):
            key = identity(linear.x)
            x = self._known.get(key) or self._input(linear.x, bound)
            weight = self._weight(linear.weight, rowwise=x.rowwise)
            for dtype in dict.fromkeys([linear.weight.dtype, torch.bfloat16]):
                product = self._product(x, weight, linear, dtype) if dtype in HALF else None
                if product is None:
                    continue
                self._known[key] = x
                product.meta["stack_trace"] = linear.node.meta.get("stack_trace")
                linear.node.replace_all_uses_with(product)
                graph.erase_node(linear.node)
                return True
        return False

    def _product(self, x: _Scaled, weight: _Scaled, linear: Linear, dtype: torch.dtype) -> fx.Node | None:
        """x @ weight + bias in the layer's own dtype, computed as `dtype`; the bias is added later where that costs nothing."""
        inside = linear.bias is not None and linear.bias.dtype is dtype and not _is_read_by_pointwise(linear.node)
        bias = linear.node.args[0] if linear.bias is not None else None
        product = add_call(
            self._module,
            aten._scaled_mm.default,
            (x.values, weight.values, x.scale, weight.scale, bias if inside else None, None, dtype, True),
        )
        if not works(product):
            self._module.graph.erase_node(product)
            return None
        if dtype is not linear.weight.dtype:
            product = add_call(self._module, aten._to_copy.default, (product,), {"dtype": linear.weight.dtype})
        return product if inside or bias is None else add_call(self._module, aten.add.Tensor, (product, bias))

    def _input(self, x: fx.Node, bound: Bound | None) -> _Scaled:
        module = self._module
        wide = add_call(module, aten._to_copy.default, (x,), {"dtype": torch.float32})
        if bound is not None:
            most = max(bound.most * _MARGIN, torch.finfo(torch.float32).tiny * _LARGEST)
            scale = add_constant(module, torch.tensor(most / _LARGEST, device=x.meta["val"].device))
            scaled = add_call(module, aten.mul.Tensor, (wide, _LARGEST / most))
        else:
            scale = self._search(x)
            scaled = add_call(module, aten.div.Tensor, (wide, scale))
        scaled = add_call(
            module, aten.clamp.default, (scaled, -_LARGEST, _LARGEST)
        )  # float8 has no infinity to round to
        values = add_call(module, aten._to_copy.default, (scaled,), {"dtype": FLOAT8})
        return _Scaled(values, scale, rowwise=bound is None and self._rowwise)

    def _search(self, x: fx.Node) -> fx.Node:
        """Scales from the largest values, at run time."""
        module = self._module
        largest = add_call(module, aten.abs.default, (x,))
        largest = add_call(module, aten.amax.default, (largest, [1] if self._rowwise else [0, 1], self._rowwise))
        largest = add_call(module, aten._to_copy.default, (largest,), {"dtype": torch.float32})
        scale = add_call(module, aten.mul.Tensor, (largest, 1 / _LARGEST))
        return add_call(module, aten.clamp.default, (scale, torch.finfo(torch.float32).tiny))  # zeros stay zeros

    def _weight(self, weight: Tensor, *, rowwise: bool) -> _Scaled:
        """Column after column in memory, as the product wants the second matrix."""
        wide = weight.detach().float()
        largest = wide.abs().amax(0, keepdim=True) if rowwise else wide.abs().amax()
        scale = (largest / _LARGEST).clamp(torch.finfo(torch.float32).tiny)
        values = (wide / scale).clamp(-_LARGEST, _LARGEST).to(FLOAT8).t().contiguous().t()
        return _Scaled(add_constant(self._module, values), add_constant(self._module, scale), rowwise=rowwise)


def _is_read_by_pointwise(node: fx.Node) -> bool:
    """Whether all that reads `node` is a kernel that computes number by number, which adds a bias on its way."""
    users = list(node.users)
    while len(users) == 1 and users[0].target is aten.view.default:
        users = list(users[0].users)
    return bool(users) and all(user.target in _POINTWISE for user in users)
