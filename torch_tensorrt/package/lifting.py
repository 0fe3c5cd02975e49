"""An ExportedProgram straight from a compiled graph's own metadata: nothing is run or traced again."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import sympy
import torch
from torch import fx
from torch.export import ExportedProgram
from torch.export.exported_program import ModuleCallEntry, ModuleCallSignature
from torch.export.graph_signature import (
    ArgumentSpec,
    ConstantArgument,
    ExportGraphSignature,
    InputKind,
    InputSpec,
    OutputKind,
    OutputSpec,
    SymBoolArgument,
    SymFloatArgument,
    SymIntArgument,
    TensorArgument,
)
from torch.fx.graph import CodeGen, _PyTreeCodeGen
from torch.utils._sympy.value_ranges import ValueRanges

from torch_tensorrt.spec.errors import InputError

# The call at the head of what ExportedProgram.module() makes.
_GUARDS = "_guards_fn"
_NUMBERS = (
    ((torch.SymInt, int), SymIntArgument),
    ((torch.SymFloat, float), SymFloatArgument),
    ((torch.SymBool, bool), SymBoolArgument),
)


def lift(module: fx.GraphModule, range_constraints: Mapping[sympy.Symbol, ValueRanges[sympy.Expr]]) -> ExportedProgram:
    """The program of `module`: attributes become its first inputs, writes to buffers and inputs its first outputs.

    Raises InputError when the graph doesn't have torch.export's calling convention or metadata.
    """
    if not isinstance(module.graph._codegen, _PyTreeCodeGen):
        raise InputError(
            "This GraphModule doesn't come from compile() or torch.export; compile it first, or pass retrace=True with inputs."
        )
    return _Lifting(module, range_constraints).program()


class _Lifting:
    def __init__(
        self, module: fx.GraphModule, range_constraints: Mapping[sympy.Symbol, ValueRanges[sympy.Expr]]
    ) -> None:
        self.module = module
        self.root = torch.nn.Module()
        self.ranges = dict(range_constraints)
        self.inputs: list[InputSpec] = []
        self.outputs: list[OutputSpec] = []
        self.state: dict[str, torch.Tensor] = {}
        copies: dict[fx.Node, fx.Node] = {}
        self.graph = fx.Graph()
        results = self.graph.graph_copy(module.graph, copies)
        for old, new in copies.items():
            new.meta = copy.copy(old.meta)
        # Part of the graph from the start, so that replacing a node replaces it among the results as well.
        self.results = self.graph.output(tuple(results) if isinstance(results, (tuple, list)) else (results,))

    def program(self) -> ExportedProgram:
        arguments = [node for node in self.graph.nodes if node.op == "placeholder"]
        self._remove_calls()
        lifted = self._lift_attributes()
        self.inputs += [InputSpec(InputKind.USER_INPUT, _argument(node), None) for node in arguments]
        written = self._written(lifted)
        leaves = self.results.args[0]
        assert isinstance(leaves, tuple)
        self.outputs += [OutputSpec(OutputKind.USER_OUTPUT, _argument(leaf), None) for leaf in leaves]
        self.results.args = ((*written, *leaves),)
        self.graph.set_codegen(CodeGen())
        for node in self.graph.nodes:
            if node.op == "call_function":
                node.meta.setdefault("nn_module_stack", {})
                node.meta["stack_trace"] = node.meta.get("stack_trace") or ""
        self.graph.lint()
        return ExportedProgram(
            root=self.root,
            graph=self.graph,
            graph_signature=ExportGraphSignature(self.inputs, self.outputs),
            state_dict=self.state,
            range_constraints=self.ranges,
            module_call_graph=[ModuleCallEntry("", self._signature())],
            constants={},
        )

    def _signature(self) -> ModuleCallSignature:
        codegen = self.module.graph._codegen
        assert isinstance(codegen, _PyTreeCodeGen)
        info = codegen.pytree_info
        assert info.in_spec is not None
        assert info.out_spec is not None
        return ModuleCallSignature(
            inputs=[spec.arg for spec in self.inputs if spec.kind == InputKind.USER_INPUT],
            outputs=[spec.arg for spec in self.outputs if spec.kind == OutputKind.USER_OUTPUT],
            in_spec=info.in_spec,
            out_spec=info.out_spec,
            forward_arg_names=[name for name in info.orig_args if name != "self"],
        )

    def _remove_calls(self) -> None:
        """Drops the checks that `.module()` of a program puts before its graph: it makes them anew."""
        for node in [node for node in self.graph.nodes if node.op in {"call_module", "call_method"}]:
            if node.users or node.target != _GUARDS:
                raise InputError(
                    f"Node {node.name!r} calls the {node.op[5:]} {node.target!r}, which a saved program can't hold; save with "
                    "retrace=True and inputs."
                )
            self.graph.erase_node(node)

    def _lift_attributes(self) -> dict[fx.Node, str]:
        """Replaces get_attr nodes by placeholders before all others; one per attribute.

        Submodules (the branches of torch.cond and the like) stay attributes, of the program's own root.
        """
        first = next(iter(self.graph.nodes))
        places: dict[str, fx.Node] = {}
        replaced = []
        for node in [node for node in self.graph.nodes if node.op == "get_attr"]:
            target = str(node.target)
            value = _attribute(self.module, target)
            if isinstance(value, torch.nn.Module):
                node.target = target.replace(".", "_")
                self.root.add_module(node.target, value)
                continue
            if target not in places:
                with self.graph.inserting_before(first):
                    places[target] = self._place(target, node, value)
            node.replace_all_uses_with(places[target])
            replaced.append(node)
        for node in replaced:  # only now: `first` may be one of them
            self.graph.erase_node(node)
        return {node: target for target, node in places.items()}

    def _place(self, target: str, node: fx.Node, value: torch.Tensor) -> fx.Node:
        place = self.graph.placeholder("b_" + target.replace(".", "_"))
        place.target = place.name  # the verifier asks for the unique name
        place.meta = {"val": _value(node)}
        self.state[target] = value
        self.inputs.append(InputSpec(InputKind.BUFFER, TensorArgument(place.name), target, persistent=True))
        return place

    def _written(self, lifted: Mapping[fx.Node, str]) -> list[fx.Node]:
        """Takes the `copy_` nodes out: what they write becomes an output of the program."""
        results = []
        for node in list(self.graph.nodes):
            if node.target is not torch.ops.aten.copy_.default:
                continue
            place, value = node.args[0], node.args[1]
            assert isinstance(place, fx.Node)
            assert isinstance(value, fx.Node)
            kind = OutputKind.BUFFER_MUTATION if place in lifted else OutputKind.USER_INPUT_MUTATION
            self.outputs.append(OutputSpec(kind, TensorArgument(value.name), lifted.get(place, place.name)))
            results.append(value)
            node.replace_all_uses_with(value)
            self.graph.erase_node(node)
        return results


def _attribute(module: fx.GraphModule, target: str) -> torch.Tensor | torch.nn.Module:
    found: object = module
    for part in target.split("."):
        found = getattr(found, part)
    if isinstance(found, torch.nn.Module):
        return found
    if not isinstance(found, torch.Tensor):
        raise InputError(
            f"Attribute {target!r} of the module is a {type(found).__name__}, which a saved program can't hold; make it a tensor."
        )
    return found.detach()


def _value(node: fx.Node) -> object:
    """What torch.export found out about the node's result."""
    if "val" not in node.meta:
        raise InputError(
            f"Node {node.name!r} of this GraphModule says nothing of its result (no meta['val'], as torch.export makes it); save "
            "with retrace=True and inputs."
        )
    return node.meta["val"]


def _argument(leaf: object) -> ArgumentSpec:
    if not isinstance(leaf, fx.Node):
        return ConstantArgument(name="", value=leaf)  # type: ignore[arg-type]
    value = _value(leaf)
    if isinstance(value, torch.Tensor):
        return TensorArgument(leaf.name)
    for number, argument in _NUMBERS:
        if isinstance(value, number[0]) or (type(value) is number[1] and leaf.op != "placeholder"):
            return argument(leaf.name)
    return ConstantArgument(name=leaf.name, value=value)  # type: ignore[arg-type]
