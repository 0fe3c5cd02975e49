"""Converters of users, at their documented place, and the documented questions about a node's sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

from torch import fx
from torch.utils import _pytree as pytree

from torch_tensorrt.dynamo.conversion._registries import (
    DYNAMO_CONVERTERS,
    CallingConvention,
    ConverterRegistry,
    ConverterSupport,
)
from torch_tensorrt.engines.tensorrt.converters.registry import is_varying
from torch_tensorrt.engines.tensorrt.users import ConverterPriority, dynamo_tensorrt_converter
from torch_tensorrt.spec.settings import CompilationSettings

__all__ = [
    "DYNAMO_CONVERTERS",
    "CallingConvention",
    "ConverterPriority",
    "ConverterRegistry",
    "ConverterSupport",
    "dynamo_tensorrt_converter",
    "has_dynamic_shapes_in_args",
    "has_static_shapes",
    "has_static_shapes_in_args",
    "node_has_dynamic_shapes",
]

Validator: TypeAlias = "Callable[[fx.Node, CompilationSettings], bool]"


def has_static_shapes(node: fx.Node) -> bool:
    """Whether no tensor that `node` takes or gives has sizes that vary."""
    return not node_has_dynamic_shapes(node)


def node_has_dynamic_shapes(node: fx.Node) -> bool:
    """Whether a tensor that `node` takes or gives has sizes that vary."""
    return any(is_varying(value) for value in _values([node, *node.args, *node.kwargs.values()]))


def has_dynamic_shapes_in_args(arg_positions_to_check: Sequence[int] | None = None) -> Validator:
    """A capability_validator: whether a positional argument (of these, or any) has sizes that vary."""

    def validate(node: fx.Node, compilation_settings: CompilationSettings | None = None) -> bool:
        places = range(len(node.args)) if arg_positions_to_check is None else arg_positions_to_check
        return any(is_varying(value) for value in _values([node.args[at] for at in places if at < len(node.args)]))

    return validate


def has_static_shapes_in_args(arg_positions_to_check: Sequence[int] | None = None) -> Validator:
    """A capability_validator: whether all positional arguments (or these) have fixed sizes."""
    varies = has_dynamic_shapes_in_args(arg_positions_to_check)

    def validate(node: fx.Node, compilation_settings: CompilationSettings) -> bool:
        return not varies(node, compilation_settings)

    return validate


def _values(arguments: Sequence[object]) -> Iterator[object]:
    for leaf in pytree.tree_leaves(list(arguments)):
        if isinstance(leaf, fx.Node):
            yield from pytree.tree_leaves(leaf.meta.get("val"))
