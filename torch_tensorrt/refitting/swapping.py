"""A module with other engines and constants, the old one left as it is; or the old one taking over from the new in one step."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, fx

from torch_tensorrt.runtime.direct import EXECUTE
from torch_tensorrt.runtime.module import CompiledModule
from torch_tensorrt.spec.errors import InputError


def engine_constants(module: fx.GraphModule) -> dict[str, Tensor]:
    """Attribute -> packed engine, for every engine that the graph of `module` calls. Raises InputError without a graph of ours."""
    found: dict[str, Tensor] = {}
    for node in module.graph.nodes:
        if node.target is EXECUTE:
            holder = node.args[1]
            value = _attribute(module, holder) if isinstance(holder, fx.Node) and holder.op == "get_attr" else None
            if not isinstance(value, Tensor):
                raise InputError(
                    f"Node {node.name!r} calls an engine that isn't an attribute of the module; refit what torch_tensorrt.compile "
                    "or torch_tensorrt.load(...).module() gave."
                )
            found[str(holder.target)] = value
    return found


def torch_constants(module: fx.GraphModule) -> dict[str, Tensor]:
    """Attribute -> tensor, for every weight and buffer that the graph of `module` reads itself."""
    engines = engine_constants(module)
    read = ((str(node.target), _attribute(module, node)) for node in module.graph.nodes if node.op == "get_attr")
    return {name: value for name, value in read if isinstance(value, Tensor) and name not in engines}


def swap_attributes(module: fx.GraphModule, tensors: Mapping[str, Tensor]) -> fx.GraphModule:
    """A module like `module` with `tensors` as attributes of these names; it shares everything else."""
    if isinstance(module, CompiledModule):
        graph = copy.deepcopy(module.graph)
        root = {str(node.target): _attribute(module, node) for node in graph.find_nodes(op="get_attr")}
        inner = fx.GraphModule({**root, **tensors}, graph)
        _describe(inner, tensors)
        return CompiledModule.wrap(inner, module.input_specs, module.plan, module.settings, module.range_constraints)
    shared = {id(value): value for value in _tensors_of(module)}  # not to be copied
    copied = copy.deepcopy(module, shared)
    put_attributes(copied, tensors)
    return copied


def put_attributes(module: fx.GraphModule, tensors: Mapping[str, Tensor]) -> None:
    """Sets attributes of `module` and what its graph knows of them."""
    for name, tensor in tensors.items():
        owner_name, _, attribute = name.rpartition(".")
        owner = module.get_submodule(owner_name)
        owner._parameters.pop(attribute, None)
        vars(owner).pop(attribute, None)
        owner.register_buffer(attribute, tensor, persistent=attribute not in owner._non_persistent_buffers_set)
    _describe(module, tensors)


def _describe(module: fx.GraphModule, tensors: Mapping[str, Tensor]) -> None:
    """The length of an engine can change with its weights."""
    for node in module.graph.find_nodes(op="get_attr"):
        known = node.meta.get("val")
        tensor = tensors.get(str(node.target))
        if tensor is not None and isinstance(known, Tensor) and known.shape != tensor.shape:
            mode = getattr(known, "fake_mode", None)
            node.meta["val"] = tensor if mode is None else mode.from_tensor(tensor, static_shapes=True)


def _attribute(module: fx.GraphModule, node: fx.Node) -> object:
    return fx.graph_module._get_attr(module, str(node.target))


def _tensors_of(module: torch.nn.Module) -> Iterator[Tensor]:
    for owner in module.modules():
        yield from (
            value
            for value in (*owner._parameters.values(), *owner._buffers.values(), *vars(owner).values())
            if isinstance(value, Tensor)
        )
