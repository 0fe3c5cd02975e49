"""The short way through a compiled graph: the same nodes, with engines called directly instead of through the dispatcher."""

from __future__ import annotations

import itertools
import linecache
import operator
import weakref
from collections.abc import Callable, Collection, Sequence
from typing import cast

import torch
from torch import Tensor, fx

from torch_tensorrt.contracts.engine import EngineSpec
from torch_tensorrt.runtime.input_check import Kinds, kinds_of
from torch_tensorrt.runtime.op import LiveEngine, live_engine

EXECUTE = torch.ops.tensorrt.execute_engine.default
_numbers = itertools.count()


class EngineCall:
    """Calls the engine in an attribute of `owner`.

    The engine checks its inputs though the module's door has: a damaged file can say one thing of the graph's inputs and another of
    the engine's. known: (the bytes in the attribute, their engine, the kinds of inputs that the module's door and the engine have let
    in), once it was called.
    """

    def __init__(self, owner: fx.GraphModule, attribute: str) -> None:
        self.buffers = owner._buffers
        self.attribute = attribute
        # One attribute: threads see what belongs together.
        self.known: tuple[Tensor | None, LiveEngine | None, Kinds | None] = (None, None, None)
        self.__name__ = f"call_{attribute}"
        self.__module__ = __name__

    def __call__(self, inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        """The engine's outputs."""
        constant = self.buffers[self.attribute]
        known, live, _ = self.known
        if known is not constant or live is None:
            live = self.live()
        return live(inputs)

    def live(self) -> LiveEngine:
        """The engine itself."""
        constant = self.buffers[self.attribute]
        assert constant is not None
        live = live_engine(constant)
        self.known = (constant, live, None)
        return live

    def note(self, inputs: Sequence[Tensor]) -> None:
        """Says that the door and the engine have let these in."""
        constant, live, _ = self.known
        self.known = (constant, live, kinds_of(inputs))

    def __deepcopy__(self, memo: dict[int, object]) -> EngineCall:
        return self  # like a function: a copied module makes calls of its own


def direct_function(
    module: fx.GraphModule, without: Collection[fx.Node] = ()
) -> Callable[[Sequence[object]], Sequence[object]]:
    """A function from the sequence of flattened inputs to that of the flat outputs, made from `module`'s graph.

    without: nodes, whose results nobody uses, to be left out.
    """
    whole = whole_engine(module, without)
    if whole is not None:
        return cast("Callable[[Sequence[object]], Sequence[object]]", whole)  # all of its inputs are tensors
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    result = graph.graph_copy(module.graph, copies)
    for node in without:
        graph.erase_node(copies[node])
    leaves = result if isinstance(result, (tuple, list)) else (result,)
    graph.output(tuple(leaves))
    names: dict[str, EngineCall] = {}
    for node in list(graph.nodes):
        if node.target is EXECUTE:
            inputs, constant = node.args[0], node.args[1]
            assert isinstance(inputs, (tuple, list))
            assert isinstance(constant, fx.Node)
            call = EngineCall(module, str(constant.target))
            names[call.__name__] = call
            with graph.inserting_before(node):
                direct = graph.call_function(call, (list(inputs),))
            node.replace_all_uses_with(direct)
            graph.erase_node(node)
            if not constant.users:
                graph.erase_node(constant)
    code = graph.python_code("self")
    scope = dict(code.globals)
    name = f"<compiled graph {next(_numbers)}>"
    exec(compile(code.src, name, "exec"), scope)
    function = scope["forward"]
    # So that tracebacks, and errors of captures, show the operation.
    linecache.cache[name] = (len(code.src), None, code.src.splitlines(keepends=True), name)
    weakref.finalize(function, linecache.cache.pop, name, None)
    return lambda inputs: function(module, *inputs)


def whole_engine(module: fx.GraphModule, without: Collection[fx.Node] = ()) -> EngineCall | None:
    """The call itself, where the graph is one engine: what goes in and what comes out is the engine's own, in its order."""
    nodes = [node for node in module.graph.nodes if node not in without]
    calls = [node for node in nodes if node.target is EXECUTE]
    places = [node for node in nodes if node.op == "call_function" and node.target is operator.getitem]
    inputs = [node for node in nodes if node.op == "placeholder"]
    if len(calls) != 1 or len(nodes) != len(inputs) + len(places) + 3:  # the constant, the call and the output
        return None
    given, constant, spec = calls[0].args
    results = module.graph.output_node().args[0]
    leaves = results if isinstance(results, (tuple, list)) else (results,)
    taken = [leaf.args for leaf in leaves if isinstance(leaf, fx.Node)]
    outputs = len(EngineSpec.from_json(str(spec)).outputs)
    if list(given) != inputs or len(taken) != len(leaves) or taken != [(calls[0], place) for place in range(outputs)]:
        return None
    return EngineCall(module, str(constant.target))


def is_only_engines(graph: fx.Graph) -> bool:
    """True when nothing in the graph could record gradients: only engine calls and picking from their results."""
    allowed = {EXECUTE, operator.getitem}
    return all(node.target in allowed for node in graph.nodes if node.op not in {"placeholder", "get_attr", "output"})
