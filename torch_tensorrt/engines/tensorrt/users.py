"""Users' converters in the documented form: five arguments, and the SDK's network to add layers to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import TypeAlias, TypeVar

from torch import fx

from torch_tensorrt.engines.tensorrt.converters.registry import Converter, Results, converts
from torch_tensorrt.engines.tensorrt.net import Net
from torch_tensorrt.engines.tensorrt.sdk import DTYPES, Native
from torch_tensorrt.spec.errors import InputError
from torch_tensorrt.spec.settings import CompilationSettings

Validator: TypeAlias = "Callable[[fx.Node, CompilationSettings], bool]"
# function(ctx, target, args, kwargs, name) -> what the node becomes
FiveArguments: TypeAlias = "Callable[[ConversionContext, object, tuple[object, ...], dict[str, object], str], Results]"
F = TypeVar("F", bound=Callable[..., object])


class ConverterPriority(Enum):
    """STANDARD: asked after all that are there already. HIGH: asked before them."""

    STANDARD = auto()
    HIGH = auto()


@dataclass(frozen=True)
class ConversionContext:
    """What a user's converter works with.

    net: the SDK's own INetworkDefinition. compilation_settings: the options. layers: this package's wrapper of `net`, whose
    methods check each layer at once and name it after the node.
    """

    net: Native
    compilation_settings: CompilationSettings
    layers: Net


def dynamo_tensorrt_converter(
    key: object,
    *,
    enabled: bool = True,
    capability_validator: Validator | None = None,
    priority: ConverterPriority = ConverterPriority.STANDARD,
    supports_dynamic_shapes: bool = False,
    **others: bool,
) -> Callable[[F], F]:
    """Decorator: `function(ctx, target, args, kwargs, name)` converts the operator `key`, an OpOverload.

    args and kwargs hold ITensors where the node has tensors, ints or Scalars where it has sizes. What it returns (an ITensor,
    or a sequence of them) stands for the node. enabled=False registers nothing. capability_validator(node, settings): False
    leaves the node to other converters or to PyTorch. `requires_output_allocator` and `requires_native_multidevice` are
    known, and True is refused: nothing here can carry it out. Raises InputError.
    """
    known = {"requires_output_allocator", "requires_native_multidevice"}
    if refused := [name for name, value in others.items() if value or name not in known]:
        raise InputError(
            f"dynamo_tensorrt_converter of {key} can't take {refused}; known are {sorted(known)}, with False."
        )
    if not callable(key):
        raise InputError(f"A converter is for an operator such as torch.ops.aten.gelu.default, not for {key!r}.")

    def register(function: F) -> F:
        if enabled:
            refuse = None if capability_validator is None else _as_refusal(capability_validator, function)
            row = Converter(_adapted(function), refuse, supports_dynamic_shapes, frozenset(DTYPES))
            converts.add(key, row, first=priority is ConverterPriority.HIGH)
        return function

    return register


def _adapted(function: Callable[..., object]) -> Callable[..., Results]:
    def convert(net: Net, node: fx.Node, args: Sequence[object], kwargs: Mapping[str, object]) -> Results:
        context = ConversionContext(net.network, net.settings, net)
        return function(context, node.target, tuple(args), dict(kwargs), node.name)  # type: ignore[return-value]

    return convert


def _as_refusal(validator: Validator, function: Callable[..., object]) -> Callable[[fx.Node, CompilationSettings], str]:
    def refuse(node: fx.Node, settings: CompilationSettings) -> str:
        name = getattr(function, "__name__", repr(function))
        return "" if validator(node, settings) else f"the capability_validator of the converter {name!r} said no"

    return refuse
