"""Batch norm with fixed statistics is a scale and a shift per channel: a convolution before it can do that itself."""

from __future__ import annotations

import operator

import torch
from torch import fx

from torch_tensorrt.contracts.passes import lowering_pass
from torch_tensorrt.graphs.editing import add_constant, tensor_of, written_attributes
from torch_tensorrt.spec.settings import CompilationSettings

aten = torch.ops.aten
_PIECE = 1 << 15  # elements: what stays in the processor's cache


@lowering_pass
def fold_batch_norm(graph_module: fx.GraphModule, settings: CompilationSettings) -> bool:
    """y = batch_norm(convolution(x, w, b), gamma, beta, mean, var)  ->  y = convolution(x, w', b').

    With s = gamma / sqrt(var + eps) per output channel: w' = s * w and b' = s * (b - mean) + beta, computed in float64.
    """
    written = written_attributes(graph_module)
    changed = False
    for norm in list(graph_module.graph.nodes):
        if norm.op == "call_function" and norm.target is aten._native_batch_norm_legit_no_training.default:
            changed |= _fold(graph_module, norm, written)
    return changed


def _fold(graph_module: fx.GraphModule, norm: fx.Node, written: set[str]) -> bool:
    convolution = norm.args[0]
    if not isinstance(convolution, fx.Node) or convolution.target is not aten.convolution.default:
        return False
    if len(convolution.users) != 1 or any(
        user.target is not operator.getitem or user.args[1] != 0 for user in norm.users
    ):
        return False
    parameters = _parameters(graph_module, convolution, norm, written)
    eps = norm.args[6]
    assert isinstance(eps, (int, float))
    if parameters is None:
        return False
    weight, bias = _folded(
        parameters, float(eps), transposed=bool(convolution.args[6]), groups=int(str(convolution.args[8]))
    )
    with graph_module.graph.inserting_before(convolution):
        new_weight, new_bias = add_constant(graph_module, weight), add_constant(graph_module, bias)
    convolution.update_arg(1, new_weight)
    convolution.update_arg(2, new_bias)
    for user in list(norm.users):
        user.replace_all_uses_with(convolution)
        graph_module.graph.erase_node(user)
    graph_module.graph.erase_node(norm)
    return True


def _parameters(
    graph_module: fx.GraphModule, convolution: fx.Node, norm: fx.Node, written: set[str]
) -> list[torch.Tensor | None] | None:
    """[weight, bias, gamma, beta, mean, var], None where absent; None when one of them isn't a constant."""
    found: list[torch.Tensor | None] = []
    for argument in (convolution.args[1], convolution.args[2], *norm.args[1:5]):
        if argument is None:
            found.append(None)
            continue
        tensor = tensor_of(graph_module, argument) if isinstance(argument, fx.Node) else None
        if tensor is None or not isinstance(argument, fx.Node) or str(argument.target) in written:
            return None
        found.append(tensor.detach())
    return found


def _folded(
    parameters: list[torch.Tensor | None], eps: float, *, transposed: bool, groups: int
) -> tuple[torch.Tensor, torch.Tensor]:
    weight, bias, gamma, beta, mean, var = parameters
    assert weight is not None
    assert mean is not None
    assert var is not None
    scale = torch.rsqrt(var.double() + eps)
    if gamma is not None:
        scale = scale * gamma.double()
    shift = -mean.double() if bias is None else bias.double() - mean.double()
    shift = shift * scale if beta is None else shift * scale + beta.double()
    if transposed:  # (in, out / groups, ...): the output channel is split over the groups of the first dimension
        per_input = scale.view(groups, 1, -1).expand(groups, weight.shape[0] // groups, -1).reshape(weight.shape[0], -1)
        factor = per_input.view(*per_input.shape, *([1] * (weight.dim() - 2)))
    else:
        factor = scale.view(-1, *([1] * (weight.dim() - 1)))
    return _scaled(weight, factor), shift.to(weight.dtype)


def _scaled(weight: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """weight * factor in float64, rounded once, some rows at a time: a large float64 copy takes ten times as long."""
    scaled = torch.empty_like(weight)
    rows = max(1, _PIECE * weight.shape[0] // max(1, weight.numel()))
    for start in range(0, weight.shape[0], rows):
        part = slice(start, start + rows)
        scaled[part] = weight[part].double() * (factor[part] if factor.shape[0] > 1 else factor)
    return scaled
