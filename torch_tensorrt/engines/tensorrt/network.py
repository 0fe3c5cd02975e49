"""A network being defined: every layer is named, checked by the SDK at once, and its weights are kept alive.

`Definition` knows nothing of any operator. What converters call is `Net`, in net.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, fx
from torch._ops import OpOverload

from torch_tensorrt.engines.tensorrt.sdk import ITensor, Native, Sdk, Words, listen
from torch_tensorrt.spec.errors import BuildError
from torch_tensorrt.spec.settings import CompilationSettings
from torch_tensorrt.spec.tensor_spec import Dim, TensorSpec


def held_as(dtype: torch.dtype) -> torch.dtype:
    """The dtype in which values of `dtype` are held inside a network."""
    return torch.int32 if dtype is torch.uint8 else dtype


@dataclass(frozen=True)
class Scalar:
    """A number known at run time only, such as a size: `tensor` has shape [1] and is int64 (or float32)."""

    tensor: ITensor


Size: TypeAlias = "int | Scalar"
Operand: TypeAlias = "ITensor | Scalar | Tensor | bool | int | float"


class Definition:
    """Adds layers to the SDK's network on behalf of `node`, the FX node that is being converted.

    weights: name -> tensor, for every weight that the SDK was handed (it does not copy, and can't show them all): the name of
    the module's attribute where there is one, else of the layer. attributes: name -> value, for every attribute of the module
    that a converter was given. worked_up: those of them of which the network holds something else than the value itself.
    """

    def __init__(self, sdk: Sdk, builder: Native, settings: CompilationSettings, partition: str) -> None:
        self.sdk = sdk
        self.settings = settings
        self.partition = partition
        self.network = sdk.network(builder)
        self.network.name = partition  # the default has a counter: plans would differ from run to run
        self.node: fx.Node | None = None
        self.weights: dict[str, Tensor] = {}
        self.attributes: dict[str, Tensor] = {}
        self._taken: Counter[str] = Counter()  # attribute -> how often a converter took it, less how often as it is
        self._pinned: list[object] = []
        self._pins: dict[int, Tensor] = {}  # identity of an attribute's value -> the memory that the SDK reads
        self._names: set[str] = set()
        self._constants: dict[str, ITensor] = {}  # attribute -> its constant layer's output
        self._attributes: dict[int, str] = {}  # identity of a pinned weight -> attribute
        self._unnamed: list[tuple[object, str]] = []  # weights of the next layer, to be named once it has them

    def input(self, spec: TensorSpec) -> ITensor:
        """A network input; sizes that vary are -1, and those of one symbol have one name."""
        shape = tuple(-1 if isinstance(size, Dim) else size for size in spec.shape)
        with listen() as words:
            tensor: ITensor | None = self.network.add_input(spec.name, self.sdk.dtype(spec.dtype), shape)
        if tensor is None:
            raise BuildError(self._told(f"input {spec.name!r}", words))
        for place, size in enumerate(spec.shape):
            if isinstance(size, Dim) and size.expr.isidentifier():
                tensor.set_dimension_name(place, size.expr)
        self._names.add(spec.name)
        return tensor

    def output(self, tensor: ITensor, name: str) -> None:
        """Makes `tensor` the network's next output, called `name`."""
        with listen() as words:
            tensor.name = name
            self.network.mark_output(tensor)
        if words.errors:
            raise BuildError(self._told(f"output {name!r}", words))

    def layers(
        self, kind: str, *args: object, inputs: Mapping[int, ITensor] | None = None, **attributes: object
    ) -> tuple[ITensor, ...]:
        """The outputs of a new layer: `network.add_<kind>(*args)`, then `inputs` set by position and `attributes` by name.

        Attributes with the value None are left alone. Raises BuildError, naming the node, with the SDK's own words as soon
        as it refuses the layer, an attribute, or the types and shapes that come together.
        """
        with listen() as words:
            try:
                layer: Native | None = getattr(self.network, f"add_{kind}")(*args)
            except TypeError as error:  # its binding: an argument of the wrong type
                raise BuildError(self._refused(kind, str(error))) from error
            if layer is None:
                raise BuildError(self._refused(kind, str(words)))
            layer.name = self._unique(self._node_name())
            layer.metadata = str(self.node.target) if self.node is not None else ""
            while self._unnamed:
                self._name(*self._unnamed.pop())
            for place, tensor in (inputs or {}).items():
                layer.set_input(place, tensor)
            for name, value in attributes.items():
                if value is not None:
                    setattr(layer, name, value)
            return self._outputs(layer, kind, words)

    def mark_refittable(self, names: Iterable[str]) -> None:
        """Lets the weights that the SDK calls `names` change after the build. Raises BuildError with its words."""
        for name in names:
            with listen() as words:
                if not self.network.mark_weights_refittable(name):
                    raise BuildError(self._told(f"that the weight {name!r} can change,", words))

    def _name(self, weights: object, name: str) -> None:
        with listen() as words:
            named = self.network.set_weights_name(weights, name)
        if not named and not self.settings.immutable_weights:
            raise BuildError(self._told(f"the name {name!r} of a weight", words))

    def layer(self, kind: str, *args: object, **options: object) -> ITensor:
        """As `layers`, for a layer with one output."""
        (tensor,) = self.layers(kind, *args, **options)  # type: ignore[arg-type]
        return tensor

    def _outputs(self, layer: Native, kind: str, words: Words) -> tuple[ITensor, ...]:
        outputs: list[ITensor] = [layer.get_output(place) for place in range(layer.num_outputs)]
        for place, tensor in enumerate(outputs):
            tensor.name = f"{layer.name}:{place}"
            try:
                tuple(tensor.shape)  # the SDK checks types and shapes when it is asked for them, not before
            except (RuntimeError, ValueError) as error:
                raise BuildError(self._refused(kind, str(words) if words.errors else str(error))) from error
        if words.errors:
            raise BuildError(self._refused(kind, str(words)))
        return tuple(outputs)

    def constant(self, value: Tensor) -> ITensor:
        """A constant with the values, shape and dtype of `value`."""
        return self.layer("constant", tuple(value.shape), self.raw_weights(value))

    def weight(self, node: fx.Node, value: Tensor) -> ITensor:
        """The constant for the attribute that the get_attr `node` reads; made once, and named after it."""
        attribute = str(node.target)
        if attribute not in self._constants:
            outer, self.node = self.node, node
            self._constants[attribute] = self.constant(self.name_weight(node, value))
            self.node = outer
        return self._constants[attribute]

    def name_weight(self, node: fx.Node, value: Tensor) -> Tensor:
        """`value`, remembered under the attribute that the get_attr `node` reads: see `raw_weights`."""
        name = self._attributes.setdefault(id(value), str(node.target))  # tied weights have one name
        self.attributes[str(node.target)] = value
        self._taken[name] += 1
        self._pinned.append(value)  # as long as it lives, its id is its own
        return value

    @property
    def worked_up(self) -> frozenset[str]:
        """Attributes that a converter computed with, so that a change of their values can't be brought to the engine."""
        named = {name: self._attributes[id(value)] for name, value in self.attributes.items()}
        return frozenset(name for name, known_as in named.items() if self._taken[known_as] > 0)

    def named_weights(self) -> Mapping[str, str]:
        """Attribute -> the SDK's name for it, for those that are in the network as they are."""
        named = {name: self._attributes[id(value)] for name, value in self.attributes.items()}
        return {name: known_as for name, known_as in named.items() if name not in self.worked_up}

    def raw_weights(self, value: Tensor | None) -> object:
        """A weight for an argument of `layers` (a kernel, a bias); None gives empty weights. Kept alive and recorded."""
        if value is None:
            return self.sdk.module.Weights()
        kept = self._pin(value)
        made = self.sdk.weights(kept)
        name = self._attributes.get(id(value))
        if name is not None:
            self._unnamed.append((made, name))
            self._taken[name] -= 1
        self.weights[name or self._unique(f"{self._node_name()}.weights")] = kept
        return made

    def _pin(self, value: Tensor) -> Tensor:
        if id(value) in self._pins:
            return self._pins[id(value)]
        kept = value.detach().cpu().resolve_conj().resolve_neg().contiguous()
        self._pinned.append(kept)
        if id(value) in self._attributes:  # used again: one memory, since the SDK's names are of memory
            self._pins[id(value)] = kept
        return kept

    def dtype(self, tensor: ITensor) -> torch.dtype:
        """The dtype of a tensor in the network."""
        return self.sdk.torch_dtype(tensor.dtype)

    def shape(self, tensor: ITensor) -> tuple[int, ...]:
        """Its sizes; -1 for one that varies."""
        return tuple(tensor.shape)

    def rank(self, tensor: ITensor) -> int:
        """Its number of dimensions."""
        return len(tensor.shape)

    def member(self, enum: str, name: str) -> object:
        """A member of one of the SDK's enums, by name."""
        return self.sdk.member(enum, name)

    def cast(self, tensor: ITensor, dtype: torch.dtype) -> ITensor:
        """`tensor` as `dtype`, by PyTorch's rules (a float becomes an integer by cutting off, a bool by being nonzero).

        The SDK has uint8 at a network's edge only: inside, it is held as int32 (see `held_as`).
        """
        if self.dtype(tensor) is held_as(dtype):
            return tensor
        return self.layer("cast", tensor, self.sdk.dtype(held_as(dtype)))

    def tensor(self, value: Operand, dtype: torch.dtype | None = None, rank: int = 0) -> ITensor:
        """Any operand as a tensor in the network, cast to `dtype` if that is given; numbers get `rank` sizes of 1."""
        if isinstance(value, (bool, int, float)):
            made = torch.tensor(value, dtype=dtype or (torch.float32 if isinstance(value, float) else None))
            return self.constant(made.reshape((1,) * rank))
        if isinstance(value, Tensor):
            return self.constant(value if dtype is None else value.to(dtype))
        tensor = value.tensor if isinstance(value, Scalar) else value
        if isinstance(value, Scalar) and rank != 1:
            tensor = self.layer("shuffle", tensor, reshape_dims=(1,) * rank)
        return tensor if dtype is None else self.cast(tensor, dtype)

    def same_rank(self, tensors: Sequence[ITensor]) -> list[ITensor]:
        """`tensors` with sizes of 1 put in front, as broadcasting does: the SDK wants equal ranks."""
        rank = max((self.rank(tensor) for tensor in tensors), default=0)
        return [self._raised(tensor, rank - self.rank(tensor)) for tensor in tensors]

    def _raised(self, tensor: ITensor, more: int) -> ITensor:
        return self.unsqueeze(tensor, range(more)) if more else tensor

    def unsqueeze(self, tensor: ITensor, axes: Sequence[int]) -> ITensor:
        """`tensor` with sizes of 1 at `axes` of the result (all counted from the front)."""
        if not axes:
            return tensor
        shape = self.shape(tensor)
        result = list(shape)
        for axis in sorted(axes):
            result.insert(axis, 1)
        if result.count(-1) <= 1 and 0 not in result:
            return self.layer("shuffle", tensor, reshape_dims=tuple(result), zero_is_placeholder=False)
        return self.layer("unsqueeze", tensor, self.constant(torch.tensor(sorted(axes))))

    def _node_name(self) -> str:
        return self.node.name if self.node is not None else "network"

    def _unique(self, name: str) -> str:
        count, made = 1, name
        while made in self._names:
            count += 1
            made = f"{name}.{count}"
        self._names.add(made)
        return made

    def _refused(self, kind: str, words: str) -> str:
        if self.node is None:
            return f"{self.sdk.title} refused a layer ({kind}) in partition {self.partition!r}: {words}"
        remedy = f' To run this op in PyTorch: torch_executed_ops={{"{self.node.target}"}}.'
        return (
            f"{self.sdk.title} refused {self.node.name!r} ({self.node.target}), at its layer {kind}, in partition "
            f"{self.partition!r}: {words}" + (remedy if isinstance(self.node.target, OpOverload) else "")
        )

    def _told(self, what: str, words: Words) -> str:
        return f"{self.sdk.title} refused {what} of partition {self.partition!r}: {words}"
