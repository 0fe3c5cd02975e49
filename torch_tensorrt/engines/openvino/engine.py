"""A compiled OpenVINO model as an Engine: zero-copy in and out, any number of threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from torch_tensorrt.contracts.engine import Engine, EngineSpec
from torch_tensorrt.engines.openvino import sdk
from torch_tensorrt.engines.openvino.wiring import Wiring
from torch_tensorrt.spec.shape_expr import parse, solve

_SHAPES_KEPT = 256
_Shapes: TypeAlias = "tuple[tuple[int, ...], ...]"


class OpenVINOEngine(Engine):
    """Runs a compiled model. `write` makes the payload of `to_bytes`; `keep` is memory that `compiled` borrows."""

    def __init__(
        self, spec: EngineSpec, compiled: sdk.Compiled, wiring: Wiring, write: Callable[[], bytes], keep: object = None
    ) -> None:
        self.spec = spec
        self._compiled = compiled
        self._write = write
        self._keep = keep
        self._free: deque[sdk.Request] = deque()  # append and pop are atomic
        self._execute = sdk.run()
        plan = wiring.plan(sdk.passed_through(compiled))
        self._feeds = tuple((port, given, sdk.wrap(spec.inputs[given].dtype)) for port, given in plan.feeds)
        self._writes = tuple(
            (port, place, sdk.wrap(spec.outputs[place].dtype), spec.outputs[place].dtype) for port, place in plan.writes
        )
        self._copies = plan.copies
        self._sizes = tuple(tensor.sizes for tensor in spec.inputs)
        self._static = all(tensor.is_static for tensor in spec.outputs)
        self._fixed: _Shapes = tuple(tensor.shape_at("opt") for tensor in spec.outputs)
        self._known: dict[tuple[torch.Size, ...], _Shapes] = {}

    def run(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Outputs for `inputs`, in memory of their own. What OpenVINO raises passes through."""
        try:
            request = self._free.pop()
        except IndexError:
            request = self._compiled.create_infer_request()
        shapes = self._fixed if self._static else self._shapes(inputs)
        held = []  # a request borrows memory: these own it until it has run
        for port, given, show in self._feeds:
            tensor = inputs[given]
            view = show(tensor if tensor.is_contiguous() and not tensor.requires_grad else _plain(tensor))
            request.set_input_tensor(port, view)
            held.append(view)
        outputs: dict[int, Tensor] = {}
        for port, place, show, dtype in self._writes:
            outputs[place] = torch.empty(shapes[place], dtype=dtype)
            view = show(outputs[place])
            request.set_output_tensor(port, view)
            held.append(view)
        self._execute(request)
        self._free.append(request)
        for place, from_input, source in self._copies:
            outputs[place] = inputs[source].detach().clone() if from_input else outputs[source].clone()
        return tuple([outputs[place] for place in range(len(shapes))])

    def _shapes(self, inputs: Sequence[Tensor]) -> _Shapes:
        key = tuple([tensor.shape for tensor in inputs])
        shapes = self._known.get(key)
        if shapes is None:
            symbols = solve(list(zip(self._sizes, key, strict=True)))
            shapes = tuple(
                tuple(int(parse(size)(symbols)) if isinstance(size, str) else size for size in tensor.sizes)
                for tensor in self.spec.outputs
            )
            if len(self._known) >= _SHAPES_KEPT:
                self._known.clear()
            self._known[key] = shapes
        return shapes

    def to_bytes(self) -> bytes:
        """The compiled model and what is needed to compile it again, as payload.py describes."""
        return self._write()


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().resolve_neg().contiguous()
