"""The short way for modules that PyTorch made of a saved program: PyTorch's own code around such a graph takes ten times longer."""

from __future__ import annotations

from collections.abc import Callable, Collection

import torch
from torch import fx

from torch_tensorrt.runtime.calling import Door, is_traced
from torch_tensorrt.runtime.direct import EXECUTE, direct_function

# What arguments may be: a subclass of Tensor has ways of its own to run an operator.
_PLAIN = frozenset({torch.Tensor, torch.nn.Parameter, torch.nn.Buffer, bool, int, float, complex, str, type(None)})
_GUARDS = "_guards_fn"  # PyTorch's checks at the head of the graph
_KNOWN_AS = "torch_tensorrt_short_way"  # of the function: the door, and the nodes that it makes unneeded


def take_short_way(module: fx.GraphModule, door: Door) -> None:
    """From now on a call of `module` checks its arguments at `door` and runs the graph with engines called directly.

    Until its graph is compiled anew (`recompile`), and not when it is recorded, when a hook was added or removed, or for
    subclasses of Tensor. Does nothing for a graph that more than `door` has to check, or that isn't made of operators and engines.
    """
    guards = module.graph.find_nodes(op="call_module", target=_GUARDS)
    unneeded = guards if door.is_exact else []  # they are about sizes, and all of those are given
    if not door.checks_all or not _is_plain(module, guards):
        return
    kind, enter, result = type(module), door.enter, door.result
    run = direct_function(module, without=unneeded)
    usual: Callable[..., object] = kind.__call__
    before, after = list(module._forward_pre_hooks), list(module._forward_hooks)

    def call(self: fx.GraphModule, *args: object, **kwargs: object) -> object:
        own = self.__dict__
        if list(own["_forward_pre_hooks"]) != before or list(own["_forward_hooks"]) != after or is_traced():
            return usual(self, *args, **kwargs)
        flat = enter(args, kwargs)
        return result(run(flat)) if _PLAIN.issuperset(map(type, flat)) else usual(self, *args, **kwargs)

    # Kept by the module's own class (every GraphModule has one), not in a table here, which would keep the module with its weights.
    setattr(call, _KNOWN_AS, (door, unneeded))
    kind.__call__ = call  # type: ignore[method-assign]


def door_of(module: fx.GraphModule) -> tuple[Door, Collection[fx.Node]] | None:
    """The door of a module that takes the short way now, and the nodes of its graph that this leaves out."""
    found: tuple[Door, Collection[fx.Node]] | None = getattr(type(module).__call__, _KNOWN_AS, None)
    return found


def _is_plain(module: fx.GraphModule, guards: list[fx.Node]) -> bool:
    """Whether nothing but operators and engines is called, and each engine is a buffer of the module itself."""
    engines = [node.args[1] for node in module.graph.find_nodes(op="call_function", target=EXECUTE)]
    known = all(isinstance(engine, fx.Node) and engine.target in module._buffers for engine in engines)
    called = {node for node in module.graph.nodes if node.op in {"call_module", "call_method"}}
    return bool(engines) and known and called <= set(guards)
