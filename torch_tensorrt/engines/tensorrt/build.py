"""A partition as a network, and a network as a plan."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from torch_tensorrt.contracts.engine import EngineSpec
from torch_tensorrt.contracts.partition import Partition
from torch_tensorrt.engines.tensorrt.configuring import Configuration, configure
from torch_tensorrt.engines.tensorrt.converters import convert_node, converts
from torch_tensorrt.engines.tensorrt.converters.registry import is_varying
from torch_tensorrt.engines.tensorrt.converters.sizes import convert_size, is_size_node
from torch_tensorrt.engines.tensorrt.monitoring import BuildProgress
from torch_tensorrt.engines.tensorrt.net import Net
from torch_tensorrt.engines.tensorrt.network import held_as
from torch_tensorrt.engines.tensorrt.platforms import aim_at_windows
from torch_tensorrt.engines.tensorrt.refitting import changeable
from torch_tensorrt.engines.tensorrt.sdk import ITensor, Native, Sdk, Words, listen
from torch_tensorrt.spec.errors import BuildError, InputError, InternalError, TorchTensorRTError
from torch_tensorrt.spec.settings import CompilationSettings
from torch_tensorrt.spec.tensor_spec import Dim, TensorSpec


@dataclass(frozen=True)
class Definition:
    """A finished network: outputs in the order of the partition's, inputs named as in its TensorSpecs."""

    net: Net
    builder: Native
    partition: Partition


def output_names(partition: Partition | EngineSpec) -> list[str]:
    """The engine's names for its outputs: those of their specs, with "_" after one that is taken."""
    taken = {spec.name for spec in partition.inputs}
    names: list[str] = []
    for spec in partition.outputs:
        name = spec.name
        while name in taken:
            name += "_"
        taken.add(name)
        names.append(name)
    return names


def define(sdk: Sdk, partition: Partition, settings: CompilationSettings) -> Definition:
    """The network of `partition`. Raises BuildError with the SDK's words and the node, InternalError when ours is wrong."""
    builder = sdk.builder()
    net = Net(sdk, builder, settings, partition.name)
    values: dict[fx.Node, Any] = {}
    specs = iter(partition.inputs)
    for node in partition.module.graph.nodes:
        if node.op == "placeholder":
            values[node] = net.input(next(specs))
        elif node.op == "get_attr":
            values[node] = fx.graph_module._get_attr(partition.module, str(node.target))
        elif node.op == "output":
            _mark_outputs(net, node, values, partition)
        else:
            net.node = node
            values[node] = _convert(net, node, values, settings)
    return Definition(net, builder, partition)


def _convert(net: Net, node: fx.Node, values: Mapping[fx.Node, Any], settings: CompilationSettings) -> object:
    if node.target is operator.getitem:
        return values[node.args[0]][node.args[1]]  # type: ignore[index]
    if is_size_node(node):
        return convert_size(net, node, values.__getitem__)
    converter, reason = converts.find(node, settings)
    if converter is None:
        raise BuildError(f"{node.name!r} ({node.target}) can't go into a TensorRT engine: {reason}.")
    try:
        made = convert_node(net, node, converter, values.__getitem__)
    except TorchTensorRTError:
        raise
    except Exception as error:
        raise InternalError(
            f"The converter of {node.name!r} ({node.target}) failed: {type(error).__name__}: {error}. Please report this; "
            f'torch_executed_ops={{"{node.target}"}} runs the operator in PyTorch.'
        ) from error
    _check(net, node, made, of_user=converter.wanted is None)
    return made


def _check(net: Net, node: fx.Node, made: Any, *, of_user: bool) -> None:
    """The SDK's own inference of types and shapes has to agree with PyTorch's."""
    expected = node.meta.get("val")
    pairs = zip(made, expected, strict=False) if isinstance(expected, (tuple, list)) else [(made, expected)]
    for tensor, value in pairs:
        if tensor is None or not isinstance(value, Tensor):
            continue
        shape, wanted = net.shape(tensor), [-1 if is_varying(size) else int(size) for size in value.shape]
        same = len(shape) == len(wanted) and all(map(_agrees, shape, value.shape))
        if not same or net.dtype(tensor) not in (value.dtype, held_as(value.dtype)):
            raise (InputError if of_user else InternalError)(
                f"The converter of {node.name!r} ({node.target}) gives {net.dtype(tensor)} {list(shape)} and PyTorch "
                f"{value.dtype} {list(value.shape)} (-1: varies). {'Correct it' if of_user else 'Please report this'}; "
                f'torch_executed_ops={{"{node.target}"}} runs the operator in PyTorch.'
            )


def _agrees(known: int, size: int | torch.SymInt) -> bool:
    """The SDK may know less of a size (-1), or more: that h // (h // 2) is 2. Then it is what PyTorch has seen."""
    if isinstance(size, torch.SymInt) and is_varying(size):
        return known == -1 or (size.node.has_hint() and known == size.node.hint)
    return known in (-1, int(size))


def _mark_outputs(net: Net, node: fx.Node, values: Mapping[fx.Node, Any], partition: Partition) -> None:
    results = node.args[0]
    assert isinstance(results, (tuple, list))
    net.node = None
    marked = {spec.name for spec in partition.inputs}
    for name, result, spec in zip(output_names(partition), results, partition.outputs, strict=True):
        assert isinstance(result, fx.Node)
        value = values[result]
        tensor: ITensor = net.weight(result, value) if isinstance(value, Tensor) else value
        if net.dtype(tensor) is not spec.dtype:
            tensor = net.layer("cast", tensor, net.sdk.dtype(spec.dtype))
        if tensor.name in marked:  # an input, or an output already: each output is a tensor of its own
            tensor = net.layer("identity", tensor)
        net.output(tensor, name)
        marked.add(name)


def serialize(definition: Definition, settings: CompilationSettings) -> bytes:
    """The plan, exactly as the SDK writes it.

    Raises BuildError with the SDK's words, UnsupportedError for an option that this SDK can't honour, InputError for a size
    without an upper bound.
    """
    net, partition = definition.net, definition.partition
    configuration = configure(net.sdk, definition.builder, settings)
    if settings.enable_cross_compile_for_windows:
        aim_at_windows(net.sdk, configuration.config)
    if any(not spec.is_static for spec in partition.inputs):
        for profile in range(max(spec.profiles for spec in partition.inputs)):
            _add_profile(definition, configuration, profile)
    if not settings.immutable_weights:
        net.mark_refittable(sorted(set(changeable(net).values())))
    with BuildProgress(f"Building {partition.name} with {net.sdk.title}") as progress, listen() as words:
        configuration.config.progress_monitor = net.sdk.progress_monitor(progress)
        plan = definition.builder.build_serialized_network(net.network, configuration.config)
        progress.raise_interruption()
    if plan is None:
        raise BuildError(_explain(definition, words))
    configuration.save_timing_cache()
    return bytes(plan)


def _add_profile(definition: Definition, configuration: Configuration, place: int) -> None:
    """The range at `place` of those that the inputs have."""
    profile = definition.builder.create_optimization_profile()
    with listen() as words:
        for spec in definition.partition.inputs:
            _require_bounds(spec, definition.net.sdk)
            if not spec.is_static:
                profile.set_shape(spec.name, *spec.shapes_in(place))
        if configuration.config.add_optimization_profile(profile) != place:
            told = [f"{spec.name}: {spec.shapes_in(place)}" for spec in definition.partition.inputs]
            raise BuildError(
                f"{definition.net.sdk.title} refused profile {place} of partition {definition.partition.name!r}, {told} "
                f"(shapes at min, opt and max): {words}"
            )


def _require_bounds(spec: TensorSpec, sdk: Sdk) -> None:
    for place, size in enumerate(spec.shape):
        if isinstance(size, Dim) and size.max is None:
            raise InputError(
                f"{sdk.title} needs an upper bound for each size; dimension {place} of {spec.name!r} ({size.expr}) has none. "
                "Give one: Input(min_shape=..., opt_shape=..., max_shape=...) or torch.export.Dim(name, min=..., max=...)."
            )


def _explain(definition: Definition, words: Words) -> str:
    """The nodes whose layers the SDK's words name, or all operators of the partition."""
    said = str(words)
    nodes = [
        node
        for node in definition.partition.module.graph.nodes
        if isinstance(node.target, torch._ops.OpOverload) and not is_size_node(node)
    ]
    named: Sequence[fx.Node] = [node for node in nodes if _mentions(said, node.name)] or nodes
    listed = ", ".join(f"{node.name!r} ({node.target})" for node in named[:10]) + (", ..." if len(named) > 10 else "")
    remedy = ", ".join(sorted({f'"{node.target}"' for node in named[:10]}))
    return (
        f"{definition.net.sdk.title} refused partition {definition.partition.name!r} with {listed}: {said}\n"
        f"To run operators in PyTorch instead: torch_executed_ops={{{remedy}}}."
    )


def _mentions(said: str, name: str) -> bool:
    # Layers are called "name", "name.2", ...; tensors "name:0".
    start = said.find(name)
    while start >= 0:
        before, after = said[start - 1 : start], said[start + len(name) : start + len(name) + 1]
        if not (before.isalnum() or before == "_" or after.isalnum() or after == "_"):
            return True
        start = said.find(name, start + 1)
    return False
