"""A graph's nodes as lines of TorchScript."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, fx
from torch._ops import OpOverload

from torch_tensorrt.spec.errors import UnsupportedError

_aten = torch.ops.aten
_METHODS: Mapping[object, str] = {
    _aten.sym_size.int: "size",
    _aten.sym_stride.int: "stride",
    _aten.sym_numel.default: "numel",
    _aten.sym_storage_offset.default: "storage_offset",
}
_INFIX: Mapping[object, str] = {
    operator.add: "+", operator.sub: "-", operator.mul: "*", operator.floordiv: "//", operator.truediv: "/",
    operator.mod: "%", operator.pow: "**", operator.eq: "==", operator.ne: "!=", operator.lt: "<", operator.le: "<=",
    operator.gt: ">", operator.ge: ">=", operator.and_: "and", operator.or_: "or",
}  # fmt: skip
_FUNCTIONS: Mapping[object, str] = {
    operator.neg: "-{}",
    operator.not_: "not {}",
    torch.sym_not: "not {}",
    torch.sym_float: "float({})",
    torch.sym_int: "int({})",
    torch.sym_max: "max({}, {})",
    torch.sym_min: "min({}, {})",
    math.ceil: "int(math.ceil({}))",
    math.floor: "int(math.floor({}))",
    math.trunc: "int({})",
}
# Checks that torch.export makes of its own metadata; what they say is checked at the door.
_CHECKS = {
    _aten._assert_tensor_metadata.default,
    _aten.sym_constrain_range_for_size.default,
    _aten.sym_constrain_range.default,
}


class Body:
    """The source of a graph's nodes; `attributes` are the tensors that it uses, by the names it gives them."""

    prefix = "v_"

    def __init__(self, module: fx.GraphModule) -> None:
        self.module = module
        self.attributes: dict[str, Tensor] = {}
        self._places: dict[str, str] = {}
        self._names: dict[fx.Node, str] = {}
        results = module.graph.output_node().args[0]
        self.results: list[object] = list(results) if isinstance(results, (tuple, list)) else [results]

    def name(self, node: fx.Node) -> str:
        """What the node's value is called in the source."""
        return self._names.get(node, f"{self.prefix}{node.name}")

    def lines(self) -> list[str]:
        """One line per node that computes something."""
        lines = []
        for node in self.module.graph.nodes:
            if node.op == "get_attr":
                self._names[node] = f"self.{self._attribute(str(node.target))}"
            elif node.op == "call_function" and node.target not in _CHECKS:
                line = self._call(node)
                lines.append(line if line.startswith("assert ") else f"{self.name(node)} = {line}")
            elif node.op in {"call_module", "call_method"}:
                raise UnsupportedError(
                    f"Node {node.name!r} calls the {node.op[5:]} {node.target!r}, which can't be written as TorchScript. Use "
                    "output_format='exported_program'."
                )
        return lines

    def result(self, leaf: object, where: str) -> tuple[str, str]:
        """(source, type) of one result."""
        if not isinstance(leaf, fx.Node):
            if not isinstance(leaf, (bool, int, float, str, type(None))):
                raise UnsupportedError(
                    f"{where} is the {type(leaf).__name__} {leaf!r}, which TorchScript can't give back."
                )
            return self.literal(leaf), "None" if leaf is None else type(leaf).__name__
        value = leaf.meta.get("val")
        numbers = {torch.SymInt: "int", torch.SymFloat: "float", torch.SymBool: "bool"}
        return self.name(leaf), "tensor" if isinstance(value, Tensor) else numbers.get(
            type(value), type(value).__name__
        )

    def literal(self, value: object) -> str:
        """A constant as TorchScript writes it."""
        if isinstance(value, float) and not math.isfinite(value):
            return f'float("{value}")'
        if isinstance(value, complex):
            return f"complex({self.literal(value.real)}, {self.literal(value.imag)})"
        if isinstance(value, torch.device):
            return f'torch.device("{value}")'
        return repr(value)  # torch.float32, torch.strided, torch.contiguous_format, None, True, 'text'

    def _attribute(self, target: str) -> str:
        value = operator.attrgetter(target)(self.module)
        if not isinstance(value, Tensor):
            raise UnsupportedError(
                f"The graph holds {target!r}, a branch or loop body of control flow, which can't be written as TorchScript. Use "
                "output_format='exported_program'."
            )
        if target not in self._places:
            name = target.replace(".", "_")
            while name in self.attributes or name in _TAKEN:
                name += "_"
            self._places[target], self.attributes[name] = name, value
        return self._places[target]

    def _call(self, node: fx.Node) -> str:
        target = node.target
        plain = [self._value(argument) for argument in node.args]
        if target is operator.getitem:
            return f"{plain[0]}[{plain[1]}]"
        if target in _METHODS:
            return f"{plain[0]}.{_METHODS[target]}({', '.join(plain[1:])})"
        if target in _INFIX:
            return f"{plain[0]} {_INFIX[target]} {plain[1]}"
        if target in _FUNCTIONS and not node.kwargs:
            return _FUNCTIONS[target].format(*plain)
        if target is getattr(torch, "sym_sum", None) and isinstance(node.args[0], (list, tuple)):
            return " + ".join(self._value(argument) for argument in node.args[0])
        if target is _aten._assert_scalar.default:
            return f"assert {plain[0]}, {plain[1]}"
        if isinstance(target, OpOverload):
            return self._operator(node, target)
        raise UnsupportedError(
            f"Node {node.name!r} is {_shown(target)}, which can't be written as TorchScript. Use output_format='exported_program'."
        )

    def _operator(self, node: fx.Node, target: OpOverload) -> str:
        """A call of the operator's name; TorchScript picks the overload by the types of the arguments."""
        declared = target._schema.arguments
        kinds = {argument.name: argument.type.annotation_str for argument in declared}
        tensors = [value.meta["val"] for value in node.all_input_nodes if isinstance(value.meta.get("val"), Tensor)]
        args = [self._argument(value, declared[at].type.annotation_str, tensors) for at, value in enumerate(node.args)]
        args += [f"{name}={self._value(value, kinds[name])}" for name, value in node.kwargs.items()]
        return f"torch.ops.{target.namespace}.{target._schema.name.split('::')[1]}({', '.join(args)})"

    def _argument(self, value: object, kind: str, tensors: list[Tensor]) -> str:
        """A positional argument. PyTorch takes a number where a tensor is declared; TorchScript does so in the second place only."""
        if kind == "Tensor" and isinstance(value, (bool, int, float, complex)) and tensors:
            dtype = torch.result_type(value, tensors[0])
            return (
                f"torch.scalar_tensor({self.literal(value)}, dtype={dtype}, device={self.literal(tensors[0].device)})"
            )
        return self._value(value, kind)

    def _value(self, value: object, kind: str = "") -> str:
        if isinstance(value, fx.Node):
            return self.name(value)
        if isinstance(value, (list, tuple)):
            text = f"[{', '.join(self._value(part) for part in value)}]"
            return text if value or not kind else f"torch.jit.annotate({kind}, [])"
        return self.literal(value)


# Names that a ScriptModule has already.
_TAKEN = frozenset({"forward", "training", "self", "define", "code", "graph", *dir(torch.nn.Module)})


def _shown(target: Callable[..., object] | str) -> str:
    return str(getattr(target, "__name__", target))
