"""The order of lowering, in one place: an ExportedProgram in, a functional GraphModule with inlined weights out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import fx
from torch.export import ExportedProgram

from torch_tensorrt.contracts.backend import EngineBackend
from torch_tensorrt.contracts.parked import park, trim
from torch_tensorrt.contracts.passes import LoweringPass
from torch_tensorrt.lowering.decomposing import decompose_nodes
from torch_tensorrt.lowering.decompositions import decomposition_table, operators_named
from torch_tensorrt.lowering.passes.cast_precision import cast_precision
from torch_tensorrt.lowering.passes.fold_batch_norm import fold_batch_norm
from torch_tensorrt.lowering.passes.fold_constants import fold_constants
from torch_tensorrt.lowering.passes.inline_regions import inline_regions
from torch_tensorrt.lowering.passes.pin_layouts import pin_layouts
from torch_tensorrt.lowering.passes.pin_views import pin_views
from torch_tensorrt.lowering.passes.remove_assertions import remove_assertions
from torch_tensorrt.lowering.passes.remove_dead_code import remove_dead_code
from torch_tensorrt.lowering.passes.remove_no_ops import remove_no_ops
from torch_tensorrt.lowering.passes.repair_aliases import repair_aliases
from torch_tensorrt.lowering.passes.restore_strides import restore_strides
from torch_tensorrt.lowering.passes.truncate_double import truncate_double
from torch_tensorrt.lowering.passes.unify_quantization import kept_quantization, unify_quantization
from torch_tensorrt.lowering.runner import check_graph, run_passes
from torch_tensorrt.spec.settings import CompilationSettings

SHARED: Sequence[LoweringPass] = (
    inline_regions,  # before all others, so that they see every operation
    remove_assertions,
    truncate_double,  # before folding, so that constants are folded in the dtype they are used in
    remove_no_ops,
    unify_quantization,  # before folding, which would make floats of quantized weights
    fold_batch_norm,  # before fold_constants, which would turn its parameters into new constants
    fold_constants,
)
LAST: Sequence[LoweringPass] = (
    repair_aliases,  # after everything that may have made two outputs, or an output and a constant, one tensor
    pin_layouts,
    pin_views,
    restore_strides,  # after repair_aliases, whose copies have strides too
    remove_dead_code,
)


def lower(program: ExportedProgram, backend: EngineBackend, settings: CompilationSettings) -> fx.GraphModule:
    """`decompose`, then `lower_decomposed`."""
    return lower_decomposed(decompose(program, backend, settings), backend, settings)


def decompose(program: ExportedProgram, backend: EngineBackend, settings: CompilationSettings) -> fx.GraphModule:
    """The program in core ATen, with the program's own weights as attributes.

    What the backend wants whole stays whole, and so does what `torch_executed_ops` lists: in parts it would not be found again.
    """
    named = operators_named(settings.torch_executed_ops)
    table = decomposition_table(backend.keep_whole(settings) | named | kept_quantization(program.graph))
    graph_module = decompose_nodes(program, table)
    if graph_module is None:
        whole = program.run_decompositions(table).module(check_guards=False)
        assert isinstance(whole, fx.GraphModule)
        graph_module = whole
    describe_attributes(graph_module)
    return graph_module


def lower_decomposed(
    graph_module: fx.GraphModule, backend: EngineBackend, settings: CompilationSettings, *, own: bool = True
) -> fx.GraphModule:
    """`graph_module`, edited in place, after the shared passes and the backend's own.

    Buffers that the model writes in forward stay attributes with an `aten.copy_` at the graph's end. Weights and buffers are
    copies: later changes of the model don't reach what is compiled, and running that doesn't change the model. With
    `own=False` those that no pass changed are still the program's own; the caller copies what it keeps.
    """
    theirs = {tensor.untyped_storage()._cdata for _, _, tensor in _named_tensors(graph_module)} if own else set()
    check_graph(graph_module)
    typed = (cast_precision,) if backend.strongly_typed else ()
    run_passes(graph_module, (*SHARED, *typed, *backend.passes(settings), *LAST), settings)
    _keep_read_weights(graph_module, theirs, own=own)
    return graph_module


def describe_attributes(graph_module: fx.GraphModule) -> None:
    """Attributes that torch.export made itself (lifted constants, submodules of HOPs) may lack meta["val"]."""
    from_root = fx.graph_module._get_attr
    for node in graph_module.graph.nodes:
        if node.op == "get_attr" and "val" not in node.meta:
            node.meta["val"] = from_root(graph_module, str(node.target))


def _named_tensors(graph_module: fx.GraphModule) -> list[tuple[torch.nn.Module, str, torch.Tensor]]:
    return [
        (owner, name, tensor)
        for owner in graph_module.modules()
        for name, tensor in {**owner._parameters, **owner._buffers, **vars(owner)}.items()
        if isinstance(tensor, torch.Tensor)
    ]


def _keep_read_weights(graph_module: fx.GraphModule, theirs: set[int], *, own: bool) -> None:
    """Makes a buffer of each tensor that a graph reads, a copy if its storage is among `theirs`; drops all others.

    A tensor that stands under several names is copied once. What is `own` is parked: see parked.py.
    """
    read = {
        (id(owner.get_submodule(str(node.target).rpartition(".")[0])), str(node.target).rpartition(".")[2])
        for owner in graph_module.modules()
        if isinstance(owner, fx.GraphModule)
        for node in owner.graph.find_nodes(op="get_attr")
    }
    places: list[tuple[torch.nn.Module, str, int]] = []
    kept: dict[int, torch.Tensor] = {}
    for owner, name, tensor in _named_tensors(graph_module):
        owner._parameters.pop(name, None)
        owner._buffers.pop(name, None)
        vars(owner).pop(name, None)
        if (id(owner), name) in read:
            places.append((owner, name, id(tensor)))
            kept[id(tensor)] = tensor.detach()
    parked = park(list(kept.values())) if own else [None] * len(kept)
    for (key, plain), copy in zip(kept.items(), parked, strict=True):
        in_memory = plain.clone() if plain.untyped_storage()._cdata in theirs and copy is None else plain
        kept[key] = in_memory if copy is None else copy
    for owner, name, key in places:
        owner.register_buffer(name, kept[key])
    if any(copy is not None for copy in parked):
        trim()
