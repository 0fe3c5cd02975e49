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
    SymIntArgument,
    TensorArgument,
)
from torch.fx.graph import CodeGen, _PyTreeCodeGen
from torch.utils._sympy.value_ranges import ValueRanges

from torch_tensorrt.spec.errors import InputError


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
        self.ranges = dict(range_constraints)
        self.values: dict[fx.Node, fx.Node] = {}
        self.graph = fx.Graph()
        self.results = self.graph.graph_copy(module.graph, self.values)
        for old, new in self.values.items():
            new.meta = copy.copy(old.meta)
        self.inputs: list[InputSpec] = []
        self.outputs: list[OutputSpec] = []
        self.state: dict[str, torch.Tensor] = {}

    def program(self) -> ExportedProgram:
        names = {node: node.name for node in self.graph.nodes if node.op == "placeholder"}
        lifted = self._lift_attributes()
        self.inputs += [InputSpec(InputKind.USER_INPUT, _argument(node), None) for node in names]
        written = self._written(lifted)
        leaves = self.results if isinstance(self.results, (tuple, list)) else [self.results]
        self.outputs += [OutputSpec(OutputKind.USER_OUTPUT, _argument(leaf), None) for leaf in leaves]
        self.graph.output((*written, *leaves))
        self.graph.set_codegen(CodeGen())
        for node in self.graph.nodes:
            if node.op == "call_function":
                node.meta.setdefault("nn_module_stack", {})
                node.meta.setdefault("stack_trace", "")
                node.meta["stack_trace"] = node.meta["stack_trace"] or ""
        self.graph.lint()
        codegen = self.module.graph._codegen
        assert isinstance(codegen, _PyTreeCodeGen)
        info = codegen.pytree_info
        assert info.in_spec is not None
        assert info.out_spec is not None
        signature = ModuleCallSignature(
            inputs=[spec.arg for spec in self.inputs if spec.kind == InputKind.USER_INPUT],
            outputs=[spec.arg for spec in self.outputs if spec.kind == OutputKind.USER_OUTPUT],
            in_spec=info.in_spec,
            out_spec=info.out_spec,
            forward_arg_names=[name for name in info.orig_args if name != "self"],
        )
        return ExportedProgram(
            root=torch.nn.Module(),
            graph=self.graph,
            graph_signature=ExportGraphSignature(self.inputs, self.outputs),
            state_dict=self.state,
            range_constraints=self.ranges,
            module_call_graph=[ModuleCallEntry("", signature)],
            constants={},
        )

    def _lift_attributes(self) -> dict[fx.Node, str]:
        """Replaces get_attr nodes by placeholders before all others; one per attribute."""
        first = next(iter(self.graph.nodes))
        places: dict[str, fx.Node] = {}
        for node in [node for node in self.graph.nodes if node.op == "get_attr"]:
            target = str(node.target)
            if target not in places:
                with self.graph.inserting_before(first):
                    places[target] = self.graph.placeholder("b_" + target.replace(".", "_"))
                places[target].meta = {"val": node.meta["val"]}
                self.state[target] = _attribute(self.module, target)
                self.inputs.append(
                    InputSpec(InputKind.BUFFER, TensorArgument(places[target].name), target, persistent=True)
                )
            node.replace_all_uses_with(places[target])
            self.graph.erase_node(node)
        return {node: target for target, node in places.items()}

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


def _attribute(module: fx.GraphModule, target: str) -> torch.Tensor:
    found: object = module
    for part in target.split("."):
        found = getattr(found, part)
    assert isinstance(found, torch.Tensor)
    return found.detach()


def _argument(leaf: object) -> ArgumentSpec:
    if not isinstance(leaf, fx.Node):
        return ConstantArgument(name="", value=leaf)  # type: ignore[arg-type]
    value = leaf.meta.get("val")
    if isinstance(value, torch.Tensor):
        return TensorArgument(leaf.name)
    if isinstance(value, torch.SymInt) or (type(value) is int and leaf.op != "placeholder"):
        return SymIntArgument(leaf.name)
    return ConstantArgument(name=leaf.name, value=value)
