"""CompiledModule: what `compile` gives back. An fx.GraphModule that is called like the model, checks at its door, and takes a
short way to its engines.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import sympy
import torch
from torch import fx
from torch.fx.graph import PythonCode
from torch.utils._sympy.value_ranges import ValueRanges

from torch_tensorrt.contracts.partition import Partition, Plan
from torch_tensorrt.observe.log import warn_once
from torch_tensorrt.runtime import devices, watching
from torch_tensorrt.runtime.calling import Door, is_traced
from torch_tensorrt.runtime.cudagraphs import mode
from torch_tensorrt.runtime.cudagraphs.whole import WholeCalls
from torch_tensorrt.runtime.direct import EngineCall, direct_function, is_only_engines
from torch_tensorrt.runtime.input_check import are_alike
from torch_tensorrt.spec.errors import UnsupportedError
from torch_tensorrt.spec.settings import CompilationSettings
from torch_tensorrt.spec.tensor_spec import TensorSpec

Ranges: TypeAlias = Mapping[sympy.Symbol, ValueRanges[sympy.Expr]]


class CompiledModule(fx.GraphModule):
    """A compiled model.

    input_specs: one TensorSpec per flattened argument (None for one that is no tensor). plan: which operations are in which
    engine, and why others are not. settings: what it was compiled with. range_constraints: symbol -> bounds, as in an
    ExportedProgram.

    Results never carry autograd history. The weights are those of compile time.
    """

    input_specs: tuple[TensorSpec | None, ...]
    plan: Plan | None
    settings: CompilationSettings
    range_constraints: Ranges
    partitions: Mapping[str, Partition]  # attribute -> what the engine in it was built from, while that is known

    @classmethod
    def wrap(
        cls,
        graph_module: fx.GraphModule,
        inputs: Sequence[TensorSpec | None],
        plan: Plan | None,
        settings: CompilationSettings,
        range_constraints: Ranges | None = None,
    ) -> CompiledModule:
        """A compiled module of `graph_module`'s graph and attributes; parameters no longer ask for gradients."""
        made = cls(graph_module, graph_module.graph, "CompiledModule")
        made.requires_grad_(False)
        torch.nn.Module.train(made, False)
        made.input_specs = tuple(inputs)
        made.plan = plan
        made.settings = settings
        made.range_constraints = dict(range_constraints or {})
        made.partitions = {}
        made.recompile()
        return made

    def recompile(self) -> PythonCode:
        """Regenerates the Python code of the graph, and the short way."""
        code = super().recompile()
        if hasattr(self, "input_specs"):
            door = Door(self.graph, self.input_specs, moves=True)
            # A graph that can be refitted runs from a holder of its own: calls under way when `run_as` changes the module's
            # attributes go on with those that they began with.
            holder = self if self.settings.immutable_weights else fx.GraphModule(self, copy.deepcopy(self.graph))
            run = direct_function(holder)
            whole = WholeCalls(door, run, holder)
            object.__setattr__(self, "_whole", whole)
            object.__setattr__(self, "_short_way", _short_way(door, run, self.graph, whole))
        type(self).__call__ = CompiledModule._call  # type: ignore[method-assign]
        return code

    def _call(self, *args: object, **kwargs: object) -> object:
        own = self.__dict__
        short_way = own.get("_short_way")
        if short_way is None or own["_forward_hooks"] or own["_forward_pre_hooks"] or is_traced():
            if mode.whole and not is_traced():
                warn_once("CUDA graphs with hooks", "A compiled module with hooks runs without CUDA graphs.")
            return torch.nn.Module.__call__(self, *args, **kwargs)
        return short_way(args, kwargs)

    def run_as(self, other: CompiledModule) -> None:
        """From the next call on runs what `other`, which has the same graph and settings, runs now. One atomic step."""
        self.partitions = {}
        whole = other.__dict__["_whole"]
        whole.adopt(self.__dict__["_whole"].options)
        object.__setattr__(self, "_whole", whole)
        object.__setattr__(self, "_short_way", other.__dict__["_short_way"])

    def whole_calls(self) -> WholeCalls:
        """Calls of this module as it is now, in CUDA graphs."""
        whole = self.__dict__["_whole"]
        assert isinstance(whole, WholeCalls)
        return whole

    def __deepcopy__(self, memo: dict[int, object]) -> CompiledModule:
        """A copy with engines of its own bytes, which are read again on first use."""
        memo[id(self.partitions)] = self.partitions
        copied = super().__deepcopy__(memo)
        inner = fx.GraphModule(copied, copied.graph)
        return CompiledModule.wrap(inner, self.input_specs, self.plan, self.settings, self.range_constraints)

    def __reduce__(self) -> Any:
        raise UnsupportedError("A compiled module is not pickled; write it with torch_tensorrt.save(module, path).")

    def train(self, mode: bool = True) -> CompiledModule:
        """Raises UnsupportedError for train(True): engines only infer."""
        if mode:
            raise UnsupportedError(
                "A compiled module can't be put into training mode; train the original model and compile it again."
            )
        return self

    def _apply(self, fn: Callable[..., object], recurse: bool = True) -> CompiledModule:
        raise UnsupportedError(
            "A compiled module can't be moved or converted (.to, .cuda, .half, ...): its engines are built for one device and "
            "dtype. Convert the original model and compile it again."
        )


Call: TypeAlias = "Callable[[tuple[object, ...], dict[str, object]], object]"


def _short_way(
    door: Door, run: Callable[[Sequence[object]], Sequence[object]], graph: fx.Graph, whole: WholeCalls
) -> Call:
    enter, result = door.enter, door.result

    def call(args: tuple[object, ...], kwargs: dict[str, object]) -> object:
        if mode.whole:
            return whole.or_run(args, kwargs)
        return result(run(enter(args, kwargs)))

    def call_without_history(args: tuple[object, ...], kwargs: dict[str, object]) -> object:
        with torch.no_grad():
            return call(args, kwargs)

    if not is_only_engines(graph):
        return call_without_history
    return _shortest_way(door, run, call) if isinstance(run, EngineCall) else call


def _shortest_way(door: Door, engine: EngineCall, usual: Call) -> Call:
    """`usual` in fewer steps for one engine, when a call is like the one before and nobody looks.

    Python's own work is small, but what it reads was driven from the processor's caches by the engine: each step counts.
    """
    result = door.result
    if not door.takes_only_tensors:
        return usual

    def call(args: tuple[object, ...], kwargs: dict[str, object]) -> object:
        known, live, kinds = engine.known
        if (
            live is None
            or kinds is None
            or kwargs
            or mode.whole
            or mode.each_engine
            or watching.watchers
            or devices.moves_inputs
            or known is not engine.buffers[engine.attribute]
            or not are_alike(args, kinds)
        ):
            results = usual(args, kwargs)
            if not kwargs:
                engine.note(args)  # type: ignore[arg-type]
            return results
        return result(live.run_engine(args))  # type: ignore[arg-type]

    return call
