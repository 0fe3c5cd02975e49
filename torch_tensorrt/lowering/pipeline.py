"""The order of lowering, in one place: an ExportedProgram in, a functional GraphModule with inlined weights out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import fx
from torch.export import ExportedProgram

from torch_tensorrt.contracts.backend import EngineBackend
from torch_tensorrt.contracts.passes import LoweringPass
from torch_tensorrt.lowering.decompositions import decomposition_table
from torch_tensorrt.lowering.passes.fold_batch_norm import fold_batch_norm
from torch_tensorrt.lowering.passes.fold_constants import fold_constants
from torch_tensorrt.lowering.passes.inline_regions import inline_regions
from torch_tensorrt.lowering.passes.pin_layouts import pin_layouts
from torch_tensorrt.lowering.passes.remove_assertions import remove_assertions
from torch_tensorrt.lowering.passes.remove_dead_code import remove_dead_code
from torch_tensorrt.lowering.passes.remove_no_ops import remove_no_ops
from torch_tensorrt.lowering.passes.repair_aliases import repair_aliases
from torch_tensorrt.lowering.passes.restore_strides import restore_strides
from torch_tensorrt.lowering.passes.truncate_double import truncate_double
from torch_tensorrt.lowering.runner import check_graph, run_passes
from torch_tensorrt.spec.settings import CompilationSettings

SHARED: Sequence[LoweringPass] = (
    inline_regions,  # before all others, so that they see every operation
    remove_assertions,
    truncate_double,  # before folding, so that constants are folded in the dtype they are used in
    remove_no_ops,
    fold_batch_norm,  # before fold_constants, which would turn its parameters into new constants
    fold_constants,
)
LAST: Sequence[LoweringPass] = (
    repair_aliases,  # after everything that may have made two outputs, or an output and a constant, one tensor
    pin_layouts,
    restore_strides,  # after repair_aliases, whose copies have strides too
    remove_dead_code,
)


def lower(program: ExportedProgram, backend: EngineBackend, settings: CompilationSettings) -> fx.GraphModule:
    """The program decomposed, with weights as attributes, and taken through the shared passes and the backend's own.

    Buffers that the model writes in forward stay attributes with an `aten.copy_` at the graph's end. Weights and buffers are
    copies: later changes of the model don't reach what is compiled, and running that doesn't change the model.
    """
    decomposed = program.run_decompositions(decomposition_table(backend.keep_whole(settings)))
    graph_module = decomposed.module(check_guards=False)
    assert isinstance(graph_module, fx.GraphModule)
    _describe_attributes(graph_module)
    _own_weights(graph_module)
    check_graph(graph_module)
    run_passes(graph_module, (*SHARED, *backend.passes(settings), *LAST), settings)
    return graph_module


def _describe_attributes(graph_module: fx.GraphModule) -> None:
    """Attributes that torch.export made itself (lifted constants, submodules of HOPs) may lack meta["val"]."""
    from_root = fx.graph_module._get_attr
    for node in graph_module.graph.nodes:
        if node.op == "get_attr" and "val" not in node.meta:
            node.meta["val"] = from_root(graph_module, str(node.target))


def _own_weights(graph_module: fx.GraphModule) -> None:
    """Gives the module copies of its tensors; one that stands under several names is copied once."""
    copies: dict[int, torch.Tensor] = {}
    for owner in graph_module.modules():
        named = {**owner._parameters, **owner._buffers, **vars(owner)}
        for name, tensor in named.items():
            if isinstance(tensor, torch.Tensor):
                if id(tensor) not in copies:
                    copies[id(tensor)] = tensor.detach().clone()
                owner._parameters.pop(name, None)
                owner._buffers.pop(name, None)
                vars(owner).pop(name, None)
                owner.register_buffer(name, copies[id(tensor)])
