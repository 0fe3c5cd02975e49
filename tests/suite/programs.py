"""Makes a Partition of a Python function and sample inputs, as compilation does, without the rest of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, fx
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from torch_tensorrt.contracts.backend import EngineBackend
from torch_tensorrt.contracts.partition import Partition
from torch_tensorrt.lowering.decompositions import decomposition_table
from torch_tensorrt.spec.settings import CompilationSettings
from torch_tensorrt.spec.tensor_spec import Dim, TensorSpec


class FunctionModule(torch.nn.Module):
    """A function as a module with a fixed number of tensor inputs."""

    def __init__(self, function: Callable[..., object]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> object:
        return self.function(*inputs)


def make_partition(
    function: Callable[..., object],
    inputs: Sequence[Tensor],
    backend: EngineBackend,
    dynamic: Mapping[int, Sequence[int]] | None = None,
    settings: CompilationSettings | None = None,
) -> Partition:
    """The whole function as one partition; `dynamic` maps an input's position to its varying dimensions."""
    settings = settings or CompilationSettings.from_options()
    vary = torch.export.Dim.DYNAMIC
    shapes = (tuple(dict.fromkeys((dynamic or {}).get(place, ()), vary) for place in range(len(inputs))),)
    module = FunctionModule(function)
    with torch.no_grad():
        program = torch.export.export(
            module.eval(), tuple(inputs), dynamic_shapes=shapes if dynamic else None, strict=False
        )
        program = program.run_decompositions(decomposition_table(backend.keep_whole(settings)))
    graph_module = program.module(check_guards=False)
    assert isinstance(graph_module, fx.GraphModule)
    _tidy(graph_module)
    placeholders = [node for node in graph_module.graph.nodes if node.op == "placeholder"]
    results = graph_module.graph.output_node().args[0]
    assert isinstance(results, (tuple, list))
    return Partition(
        name="part_0",
        backend=backend.name,
        module=graph_module,
        inputs=tuple(_spec(node) for node in placeholders),
        outputs=tuple(_spec(node) for node in results if isinstance(node, fx.Node)),
    )


def _tidy(module: fx.GraphModule) -> None:
    """As lowering does: no assertions, plain code, every node described; the outputs as one flat tuple of tensors."""
    module.graph.set_codegen(fx.graph.CodeGen())
    _forget_writes(module.graph)
    for node in reversed(list(module.graph.nodes)):
        returns_nothing = isinstance(node.target, torch._ops.OpOverload) and not node.target._schema.returns
        if node.op == "call_module" or (returns_nothing and not node.users):
            module.graph.erase_node(node)
        elif node.op == "get_attr" and "val" not in node.meta:
            node.meta["val"] = fx.graph_module._get_attr(module, str(node.target))
    module.graph.eliminate_dead_code()
    module.recompile()


def _forget_writes(graph: fx.Graph) -> None:
    """x.copy_(new), which export adds at the end for an input that a program writes to; f(x) -> f(new): writing is
    PyTorch's part and no engine's, and what an in-place operator gives back is what it has written.
    """
    for node in graph.find_nodes(op="call_function", target=torch.ops.aten.copy_.default):
        node.replace_all_uses_with(node.args[1])
        graph.erase_node(node)


def _spec(node: fx.Node) -> TensorSpec:
    value = node.meta["val"]
    return TensorSpec(node.name, value.dtype, tuple(_size(size) for size in value.shape))


def _size(size: int | torch.SymInt) -> int | Dim:
    if isinstance(size, int):
        return size
    expr = size.node.expr
    if expr.is_number:
        return int(expr)
    environment: ShapeEnv = size.node.shape_env
    bounds = environment.bound_sympy(expr)
    high = int(bounds.upper) if bounds.upper.is_finite and bounds.upper < 2**31 else None
    low = max(int(bounds.lower), 0)
    return Dim(str(expr), low, int(size.node.hint) if size.node.has_hint() else low, high)
