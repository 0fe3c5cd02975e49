"""A lowering pass is a name and a function that edits a graph in place and says whether it changed anything."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import fx

from torch_tensorrt.spec.settings import CompilationSettings


@dataclass(frozen=True)
class LoweringPass:
    """`run(graph_module, settings)` edits in place and returns True if it changed anything."""

    name: str
    run: Callable[[fx.GraphModule, CompilationSettings], bool]


def lowering_pass(function: Callable[[fx.GraphModule, CompilationSettings], bool]) -> LoweringPass:
    """Decorator: the function's name becomes the pass's name."""
    return LoweringPass(function.__name__, function)
