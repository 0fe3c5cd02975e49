"""Users' converters in the documented form: five arguments, and the SDK's network to add layers to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import TypeAlias, TypeVar

from torch import fx
from torch._ops import OpOverloadPacket

from torch_tensorrt.engines.tensorrt.converters.registry import Converter, Results, converts
from torch_tensorrt.engines.tensorrt.net import Net
from torch_tensorrt.engines.tensorrt.sdk import DTYPES, Native, Words, listen
from torch_tensorrt.spec.errors import InputError, TorchTensorRTError
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


def dynamo_tensorrt_converter(  # the documented signature
    key: object,
    *,
    enabled: bool = True,
    capability_validator: Validator | None = None,
    priority: ConverterPriority = ConverterPriority.STANDARD,
    supports_dynamic_shapes: bool = False,
    requires_output_allocator: bool = False,
    requires_native_multidevice: bool = False,
) -> Callable[[F], F]:
    """Decorator: `function(ctx, target, args, kwargs, name)` converts the operator `key` to layers of TensorRT.

    The operator is then not decomposed, and partitioning puts it into engines. `args` and `kwargs` are the node's: an ITensor
    where it has a tensor (a weight too), a number or Scalar where it has a size, else Python values; trailing arguments at their
    defaults are left out, as PyTorch does. What the function returns, an ITensor or a sequence of them, stands for the node; its
    types and sizes have to be those that PyTorch gives.

    Args:
        key: an OpOverload (torch.ops.aten.gelu.default), or a packet (torch.ops.aten.gelu) for all of its overloads.
        enabled: False registers nothing.
        capability_validator: `validator(node, settings)`; False leaves the node to other converters or to PyTorch.
        priority: HIGH is asked before all that are there already, STANDARD after them.
        supports_dynamic_shapes: False leaves nodes with sizes that vary to others; assume_dynamic_shape_support=True ignores it.
        requires_output_allocator: True leaves the node to PyTorch, with that reason: so do all results whose sizes depend on
            the data.
        requires_native_multidevice: True leaves the node to PyTorch, with that reason: no engine here uses several GPUs.

    Raises InputError for a key that is no operator. A converter that fails, or gives something else, is an InputError of the build.
    """
    needs = {
        "needs an output allocator, and results whose sizes depend on the data stay in PyTorch": requires_output_allocator,
        "needs several GPUs, and an engine is for one": requires_native_multidevice,
    }
    lacking = " and it ".join(reason for reason, wanted in needs.items() if wanted)
    operators = _operators(key)

    def register(function: F) -> F:
        if enabled:
            refuse = _refusal(function, capability_validator, lacking)
            row = Converter(_adapted(function), refuse, supports_dynamic_shapes, frozenset(DTYPES))
            for operator in operators:
                converts.add(operator, row, first=priority is ConverterPriority.HIGH)
        return function

    return register


def _operators(key: object) -> tuple[object, ...]:
    if isinstance(key, OpOverloadPacket):
        return tuple(getattr(key, name) for name in key.overloads())
    if not callable(key):
        raise InputError(f"A converter is for an operator such as torch.ops.aten.gelu.default, not for {key!r}.")
    return (key,)


def _refusal(
    function: Callable[..., object], validator: Validator | None, lacking: str
) -> Callable[[fx.Node, CompilationSettings], str]:
    label = _label(function)

    def refuse(node: fx.Node, settings: CompilationSettings) -> str:
        if lacking:
            return f"the converter {label} {lacking}"
        if validator is not None and not validator(node, settings):
            return f"the capability_validator of the converter {label} said no"
        return ""

    return refuse


def _adapted(function: Callable[..., object]) -> Callable[..., Results]:
    def convert(net: Net, node: fx.Node, args: Sequence[object], kwargs: Mapping[str, object]) -> Results:
        context = ConversionContext(net.network, net.settings, net)
        with listen() as words:
            try:
                made = function(context, node.target, tuple(args), dict(kwargs), node.name)
                _require_tensors(net, made)
            except TorchTensorRTError:
                raise
            except Exception as error:
                raise InputError(_explain(function, net, node, error, words)) from error
        return made  # type: ignore[return-value]

    return convert


def _require_tensors(net: Net, made: object) -> None:
    """Raises TypeError for anything but ITensors, and what the SDK raises when types and shapes don't go together."""
    for tensor in made if isinstance(made, (tuple, list)) else [made]:
        if not isinstance(tensor, net.sdk.module.ITensor):
            raise TypeError(f"it returned {tensor!r:.100}; an ITensor, or a sequence of them, is needed")
        tuple(tensor.shape)


def _explain(function: Callable[..., object], net: Net, node: fx.Node, error: Exception, words: Words) -> str:
    said = f" {net.sdk.title} said: {words}." if words.errors else ""
    return (
        f"The converter {_label(function)}, registered for {node.target}, failed at {node.name!r} in partition {net.partition!r}: "
        f"{type(error).__name__}: {error}.{said} Correct it, or run the operator in PyTorch: "
        f'torch_executed_ops={{"{node.target}"}}.'
    )


def _label(function: Callable[..., object]) -> str:
    return repr(getattr(function, "__name__", repr(function)))
