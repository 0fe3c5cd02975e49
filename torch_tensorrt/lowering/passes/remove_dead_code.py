"""Values that nobody uses."""

from __future__ import annotations

from torch import fx

from torch_tensorrt.contracts.passes import lowering_pass
from torch_tensorrt.spec.settings import CompilationSettings


@lowering_pass
def remove_dead_code(graph_module: fx.GraphModule, settings: CompilationSettings) -> bool:
    """y = f(x) without users  ->  nothing. Placeholders and writes to buffers stay."""
    return graph_module.graph.eliminate_dead_code()
