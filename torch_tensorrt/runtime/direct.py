"""The short way through a compiled graph: the same nodes, with engines called directly instead of through the dispatcher."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, fx

from torch_tensorrt.runtime.op import live_engine

EXECUTE = torch.ops.tensorrt.execute_engine.default


class EngineCall:
    """Calls the engine in an attribute of `owner`. `checked`: its inputs are the module's own, which the door has checked."""

    def __init__(self, owner: fx.GraphModule, attribute: str, *, checked: bool) -> None:
        self._buffers = owner._buffers
        self._attribute = attribute
        self._checked = checked
        self.__name__ = f"call_{attribute}"
        self.__module__ = __name__

    def __call__(self, inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        """The engine's outputs."""
        constant = self._buffers[self._attribute]
        assert constant is not None
        live = live_engine(constant)
        return live.engine.run(inputs) if self._checked else live(inputs)


def direct_function(module: fx.GraphModule) -> Callable[..., Sequence[object]]:
    """A function from flattened inputs to the flat sequence of outputs, made from `module`'s graph."""
    graph = fx.Graph()
    result = graph.graph_copy(module.graph, {})
    leaves = result if isinstance(result, (tuple, list)) else (result,)
    graph.output(tuple(leaves))
    names: dict[str, EngineCall] = {}
    for node in list(graph.nodes):
        if node.target is EXECUTE:
            inputs, constant = node.args[0], node.args[1]
            assert isinstance(inputs, (tuple, list))
            assert isinstance(constant, fx.Node)
            checked = all(isinstance(given, fx.Node) and given.op == "placeholder" for given in inputs)
            call = EngineCall(module, str(constant.target), checked=checked)
            names[call.__name__] = call
            with graph.inserting_before(node):
                direct = graph.call_function(call, (list(inputs),))
            node.replace_all_uses_with(direct)
            graph.erase_node(node)
            if not constant.users:
                graph.erase_node(constant)
    code = graph.python_code("self")
    scope = dict(code.globals)
    exec(compile(code.src, "<compiled graph>", "exec"), scope)
    function = scope["forward"]
    return lambda *inputs: function(module, *inputs)


def is_only_engines(graph: fx.Graph) -> bool:
    """True when nothing in the graph could record gradients: only engine calls and picking from their results."""
    allowed = {EXECUTE, operator.getitem}
    return all(node.target in allowed for node in graph.nodes if node.op not in {"placeholder", "get_attr", "output"})
