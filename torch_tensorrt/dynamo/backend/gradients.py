"""Gradients of a graph that engines run: PyTorch runs the graph once more for them, and every time from then on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx
from torch.autograd.function import once_differentiable

from torch_tensorrt.observe.log import logger

_log = logger("dynamo.backend")


class DifferentiableGraph:
    """`run`, whose results know that they depend on the inputs. `module` computes the same in PyTorch."""

    def __init__(self, run: Callable[..., Sequence[object]], module: fx.GraphModule) -> None:
        self.run = run
        self.module = module
        self._trained = False

    def __call__(self, *inputs: object) -> Sequence[object]:
        """In engines until somebody asks for gradients."""
        if self._trained:
            found: Sequence[object] = self.module(*inputs)
            return found
        results: Sequence[object] = _Recomputed.apply(self, *inputs)  # type: ignore[no-untyped-call]
        return results

    def is_trained(self) -> None:
        """Gradients were asked for: engines would compute everything twice."""
        if not self._trained:
            self._trained = True
            _log.warning(
                "Gradients were asked for of a graph that was compiled for inference. They are right, because PyTorch has run the graph "
                "again for them; from now on this graph runs in PyTorch alone. Train the model that is not compiled; call the "
                "compiled one in torch.no_grad() or torch.inference_mode()."
            )


class _Recomputed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, graph: DifferentiableGraph, *inputs: object) -> tuple[object, ...]:
        ctx.graph = graph
        ctx.places = [place for place, given in enumerate(inputs) if isinstance(given, Tensor)]
        ctx.others = [None if isinstance(given, Tensor) else given for given in inputs]
        ctx.save_for_backward(*(inputs[place] for place in ctx.places))
        ctx.set_materialize_grads(False)
        return tuple(graph.run(*inputs))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        ctx.graph.is_trained()
        inputs = list(ctx.others)
        for place, saved in zip(ctx.places, ctx.saved_tensors, strict=True):
            inputs[place] = saved.detach().requires_grad_(ctx.needs_input_grad[place + 1])
        with torch.enable_grad():
            results = ctx.graph.module(*inputs)
        pairs = [
            (result, gradient)
            for result, gradient in zip(results, gradients, strict=True)
            if gradient is not None and isinstance(result, Tensor) and result.requires_grad
        ]
        found: list[Tensor | None] = [None] * (len(inputs) + 1)
        wanted = [place for place in ctx.places if ctx.needs_input_grad[place + 1]]
        if pairs and wanted:
            values = torch.autograd.grad(
                [result for result, _ in pairs],
                [inputs[place] for place in wanted],
                [gradient for _, gradient in pairs],
                allow_unused=True,
            )
            for place, value in zip(wanted, values, strict=True):
                found[place + 1] = value
        return tuple(found)
