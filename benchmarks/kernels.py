"""What OpenVINO's own counters say of one model: milliseconds and number of kernels of each kind, per call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, fx

from torch_tensorrt.contracts.abilities import TimesLayers
from torch_tensorrt.runtime.module import CompiledModule
from torch_tensorrt.runtime.op import live_engine

ROUNDS = 6
Kernels: TypeAlias = "Mapping[str, tuple[float, float]]"  # kind -> milliseconds and how many


def kernels_of_openvino(model: Any, options: Mapping[str, object], arrays: Sequence[object]) -> Kernels:
    """Of a model that OpenVINO is used on directly."""
    import openvino

    request = openvino.Core().compile_model(model, "CPU", {**options, "PERF_COUNT": True}).create_infer_request()
    request.infer(arrays)
    found: list[tuple[str, float]] = []
    for _ in range(ROUNDS):
        request.infer(arrays)
        run = [one for one in request.get_profiling_info() if one.status == one.Status.EXECUTED]
        found += [(one.node_type, one.real_time.total_seconds() * 1e3) for one in run]
    return _added(found)


def kernels_of_ours(module: CompiledModule, inputs: Sequence[Tensor]) -> Kernels:
    """Of the engines of a compiled module."""
    recorder = _Recorder(module)
    recorder.run(*inputs)
    found: list[tuple[str, float]] = []
    for engine, given in recorder.calls:
        engine.run_timed(given)
        for _ in range(ROUNDS):
            found += [(layer.kind.split()[0], layer.milliseconds) for layer in engine.run_timed(given)[1]]
    return _added(found)


def _added(found: Sequence[tuple[str, float]]) -> Kernels:
    kinds = dict.fromkeys(kind for kind, _ in found)
    times = {kind: [taken for other, taken in found if other == kind] for kind in kinds}
    return {kind: (sum(taken) / ROUNDS, len(taken) / ROUNDS) for kind, taken in times.items()}


class _Recorder(fx.Interpreter):
    """Runs the graph around the engines, and keeps each engine with what it was given."""

    def __init__(self, module: CompiledModule) -> None:
        super().__init__(module)
        self.calls: list[tuple[TimesLayers, list[Tensor]]] = []

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """As it is, save that calls of engines are kept."""
        if target is torch.ops.tensorrt.execute_engine.default:
            engine = live_engine(args[1]).engine
            assert isinstance(engine, TimesLayers)
            self.calls.append((engine, list(args[0])))
        return super().call_function(target, args, kwargs)
