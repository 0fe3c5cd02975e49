"""Runs lowering passes in order, and checks the graph after each that changed something."""

from __future__ import annotations

from collections.abc import Sequence

from torch import fx

from torch_tensorrt.contracts.passes import LoweringPass
from torch_tensorrt.observe.capture import show_graph
from torch_tensorrt.observe.log import logger
from torch_tensorrt.spec.errors import InternalError, TorchTensorRTError
from torch_tensorrt.spec.settings import CompilationSettings

_log = logger("lowering")


def run_passes(graph_module: fx.GraphModule, passes: Sequence[LoweringPass], settings: CompilationSettings) -> None:
    """Runs `passes` in place.

    Raises InternalError naming the pass that failed, the node, and the passes before it.
    """
    done: list[str] = []
    for lowering_pass in passes:
        show_graph(lowering_pass.name, "before", graph_module)
        try:
            changed = lowering_pass.run(graph_module, settings)
            if changed:
                check_graph(graph_module)
        except TorchTensorRTError:
            raise
        except Exception as error:
            raise InternalError(
                f"Lowering pass {lowering_pass.name!r} failed after {done}: {type(error).__name__}: {error}. "
                "Please report this with the model."
            ) from error
        _log.debug("pass %s: %s", lowering_pass.name, "changed the graph" if changed else "nothing to do")
        show_graph(lowering_pass.name, "after", graph_module)
        done.append(lowering_pass.name)
    graph_module.recompile()


def check_graph(graph_module: fx.GraphModule) -> None:
    """The invariants that every pass keeps: a well-formed graph, and meta["val"] on each node that makes a value."""
    graph_module.graph.lint()
    for node in graph_module.graph.nodes:
        if node.op in {"call_function", "get_attr", "placeholder"} and "val" not in node.meta and node.users:
            raise InternalError(f"node {node.name!r} ({node.target}) has no meta['val']")
