"""Which function turns which operator into layers, how the operator's arguments reach it, and which ones can't be had.

Filled when the families are imported; a second registration of our own for one operator raises. Converters of users stand
before ours (ConverterPriority.HIGH) or after them (STANDARD); the first that takes the node is used.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import getitem
from typing import Any, TypeAlias, TypeVar

import torch
from torch import Tensor, fx
from torch._ops import OpOverload
from torch.fx.experimental.symbolic_shapes import has_free_symbols
from torch.utils._pytree import tree_map

from torch_tensorrt.engines.tensorrt.converters.sizes import size_functions, size_refusal
from torch_tensorrt.engines.tensorrt.net import Net
from torch_tensorrt.engines.tensorrt.promotion import tensor_values
from torch_tensorrt.engines.tensorrt.sdk import ITensor
from torch_tensorrt.spec.errors import InternalError
from torch_tensorrt.spec.settings import CompilationSettings

Results: TypeAlias = "ITensor | Sequence[ITensor | None]"
Convert: TypeAlias = "Callable[..., Results]"
Refuse: TypeAlias = "Callable[[fx.Node, CompilationSettings], str]"  # why not this node, or ""
Value: TypeAlias = "object"  # ITensor, Scalar, Tensor (a weight), a plain argument, or lists of these
Arguments: TypeAlias = "dict[str, Any]"  # by schema name; what an fx.Node may hold
C = TypeVar("C", bound=Callable[..., Any])

COMPUTED = frozenset({torch.float32, torch.float16, torch.bfloat16, torch.int32, torch.int64, torch.bool})
# Arguments that change nothing in a network: where a tensor lives and how it is laid out. (dtype: the metadata has it.)
UNUSED = frozenset({"memory_format", "layout", "device", "pin_memory", "non_blocking", "dtype"})
_MOST_DIMENSIONS = 8
_OWN = __name__.partition(".")[0]


@dataclass(frozen=True)
class Converter:
    """A conversion and what it takes.

    convert: `function(net, **arguments)`. refuse: a node it can't take, with the reason. dynamic: whether sizes may vary.
    dtypes: of the tensors it takes and gives. raw: parameters that want a weight as a torch.Tensor, not as a constant layer.
    wanted: the names of the arguments that it asks for; None: it is a user's, and gets all of them (see users.py).
    """

    convert: Convert
    refuse: Refuse | None = None
    dynamic: bool = True
    dtypes: frozenset[torch.dtype] = COMPUTED
    raw: frozenset[str] = frozenset()
    wanted: frozenset[str] | None = None

    @property
    def is_users(self) -> bool:
        """Whether it is not of this package, so that nothing is known of what it depends on."""
        return self.wanted is None or not self.convert.__module__.startswith(f"{_OWN}.")

    def refusal(self, node: fx.Node, settings: CompilationSettings) -> str:
        """Why this converter does not take `node`, or ""."""
        return (
            _type_refusal(node, self.dtypes)
            or ("" if self.dynamic or self._assumed(settings) else _varying(node))
            or (self.refuse(node, settings) if self.refuse is not None else "")
        )

    def _assumed(self, settings: CompilationSettings) -> bool:
        """Whether the user vouches for converters of their own that don't say that sizes may vary."""
        return self.wanted is None and settings.assume_dynamic_shape_support


class ConverterRegistry:
    """operator -> converters, in the order in which they are asked.

    An operator of a package that need not be installed stands under its name: "tensorrt.quantize_op.default".
    """

    def __init__(self) -> None:
        self._rows: dict[object, list[Converter]] = {}
        self._own: set[object] = set()
        self._whole: set[OpOverload] = set()
        self._refused: dict[str, str] = {}

    def __call__(
        self,
        *operators: OpOverload | str,
        refuse: Refuse | None = None,
        dynamic: bool = True,
        also: frozenset[torch.dtype] = frozenset(),
        raw: frozenset[str] = frozenset(),
        whole: bool = False,
    ) -> Callable[[C], C]:
        """Decorator: the function converts `operators`, and has their argument names.

        refuse: says why it can't take a node. dynamic: whether sizes may vary. also: dtypes besides the usual ones. raw:
        parameters that take a weight as a torch.Tensor, for `net.raw_weights`, not as a constant in the network. whole: the
        operator is not to be decomposed.
        """

        def register(function: C) -> C:
            for operator in operators:
                if operator in self._own:
                    raise InternalError(
                        f"{operator} has two converters; one is {function.__module__}.{function.__name__}."
                    )
                self._own.add(operator)
                row = Converter(function, refuse, dynamic, COMPUTED | also, raw, _parameters(function, operator))
                self._rows.setdefault(operator, []).append(row)
                if whole and isinstance(operator, OpOverload):
                    self._whole.add(operator)
            return function

        return register

    def refuse(self, reason: str, *names: str) -> None:
        """Operators that never get a converter of ours, by name ("aten.rand.default"), and why."""
        for name in names:
            if name in self._refused or any(str(operator) == name for operator in self._own):
                raise InternalError(f"{name} is refused, and has a converter or a refusal already.")
            self._refused[name] = reason

    def add(self, operator: object, converter: Converter, *, first: bool) -> None:
        """A user's converter, asked before all others or after them."""
        self._rows.setdefault(operator, []).insert(0 if first else len(self._rows.get(operator, ())), converter)

    def find(self, node: fx.Node, settings: CompilationSettings) -> tuple[Converter | None, str]:
        """The first converter that takes `node`, and "" - or None and the reasons."""
        rows = [*self._rows.get(node.target, ()), *self._rows.get(str(node.target), ())]
        if not rows:
            return None, self._refused.get(str(node.target), f"there is no converter for {node.target} to TensorRT")
        sizes = size_refusal(node)
        if sizes:
            return None, sizes
        reasons: list[str] = []
        for converter in rows:
            reason = converter.refusal(node, settings)
            if not reason:
                return converter, ""
            reasons.append(reason)
        return None, "; ".join(dict.fromkeys(reasons))

    def users(self) -> frozenset[object]:
        """Operators with a converter that isn't of this package, in the documented form or in ours."""
        return frozenset(key for key, rows in self._rows.items() if any(row.is_users for row in rows))

    def whole(self) -> frozenset[OpOverload]:
        """Operators whose converters want them undecomposed; those with a user's converter are among them."""
        return frozenset((*self._whole, *(key for key in self.users() if isinstance(key, OpOverload))))

    def converters(self, operator: object) -> tuple[Converter, ...]:
        """Those of one operator, in the order in which they are asked."""
        return tuple(self._rows.get(operator, ()))

    def operators(self) -> tuple[object, ...]:
        """All operators that have a converter (those of packages that need not be installed: their names)."""
        return tuple(self._rows)

    def why_not(self, name: str) -> str:
        """Why an operator or a function of sizes, by name ("aten.rand.default", "operator.add"), has no converter; "": it has.

        A name without an overload ("aten.matmul") means its default.
        """
        if any(found in (name, f"{name}.default") for found in (*map(str, self._rows), *size_functions())):
            return ""
        return self._refused.get(name, "there is no converter for it")

    def refused(self) -> Mapping[str, str]:
        """The names of operators that never get a converter, with the reason."""
        return dict(self._refused)


converts = ConverterRegistry()


def bind(node: fx.Node) -> Arguments:
    """The arguments of an operator node by schema name, defaults filled in; nodes stay nodes."""
    assert isinstance(node.target, OpOverload)
    bound: Arguments = {}
    for place, argument in enumerate(node.target._schema.arguments):
        if place < len(node.args) and not argument.kwarg_only:
            bound[argument.name] = node.args[place]
        elif argument.name in node.kwargs:
            bound[argument.name] = node.kwargs[argument.name]
        else:
            bound[argument.name] = argument.default_value if argument.has_default_value() else None
    return bound


def convert_node(net: Net, node: fx.Node, converter: Converter, value_of: Callable[[fx.Node], Value]) -> Results:
    """Runs `converter` for `node`. `value_of` gives what a node became: ITensor, Scalar or, for a weight, its Tensor."""

    def in_network(value: Value) -> Value:
        if not isinstance(value, fx.Node):
            return value
        found = value_of(value)
        return net.weight(value, found) if isinstance(found, Tensor) else found

    def plain(value: Value) -> Value:
        if not isinstance(value, fx.Node):
            return value
        found = value_of(value)
        return net.name_weight(value, found) if isinstance(found, Tensor) else found

    if converter.wanted is None:
        return converter.convert(net, node, tree_map(in_network, node.args), tree_map(in_network, dict(node.kwargs)))
    arguments = {
        name: tree_map(plain if name in converter.raw else in_network, given)
        for name, given in bind(node).items()
        if name in converter.wanted
    }
    return converter.convert(net, **arguments)


def is_used(node: fx.Node, place: int) -> bool:
    """Whether anybody uses the result at `place` of a node with several."""
    return any(user.target is not getitem or (user.args[1] == place and len(user.users) > 0) for user in node.users)


def is_varying(value: object) -> bool:
    """Whether a size, or a fake tensor's sizes, differ between runs."""
    if isinstance(value, Tensor):
        return any(is_varying(size) for size in value.shape)
    return isinstance(value, torch.SymInt) and has_free_symbols(value)


def _varying(node: fx.Node) -> str:
    if any(is_varying(value) for value in tensor_values(node)):
        return f"the converter of {node.target} takes fixed sizes only"
    return ""


def _type_refusal(node: fx.Node, dtypes: frozenset[torch.dtype]) -> str:
    for value in tensor_values(node):
        if value.dtype is torch.float64 and torch.float64 not in dtypes:
            return "TensorRT has no float64 (truncate_double=True makes it float32)"
        if value.dtype not in dtypes:
            return f"the converter of {node.target} does not take {value.dtype}"
        if value.dim() > _MOST_DIMENSIONS:
            return f"TensorRT has at most {_MOST_DIMENSIONS} dimensions, a tensor here has {value.dim()}"
    return ""


def _parameters(function: Callable[..., Any], operator: OpOverload | str) -> frozenset[str]:
    """The arguments that a converter asks for. What it ignores must be harmless."""
    names = [name for name in inspect.signature(function).parameters if name != "net"]
    if isinstance(operator, str):  # its schema is known once the package is there
        return frozenset(names)
    schema = {argument.name for argument in operator._schema.arguments}
    label = f"The converter {function.__module__}.{function.__name__}"
    if extra := set(names) - schema:
        raise InternalError(f"{label} has parameters {sorted(extra)}, which {operator} has not: {operator._schema}")
    if ignored := schema - set(names) - UNUSED:
        raise InternalError(f"{label} ignores the arguments {sorted(ignored)} of {operator}: {operator._schema}")
    return frozenset(names)
