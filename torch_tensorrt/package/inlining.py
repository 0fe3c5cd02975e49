"""Engines that keep their program, put back into the graph: formats that compile the graph themselves then need no engine."""

from __future__ import annotations

import operator
from collections.abc import Sequence

import torch
from torch import Tensor, fx
from torch._dispatch.python import enable_python_dispatcher
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.export import ExportedProgram
from torch.fx.node import Argument

from torch_tensorrt.package.describing import engine_calls
from torch_tensorrt.package.lifting import lift
from torch_tensorrt.runtime.op import live_engine
from torch_tensorrt.spec.errors import EngineNotRunnable, InternalError


def inline_engines(program: ExportedProgram) -> ExportedProgram:
    """`y = execute_engine([x], part_0)  ->  y = relu(x @ w)`, for every engine whose `program()` is there.

    The other engines stay. Raises BuildError when an engine's program can't be exported.
    """
    module = program.module(check_guards=False)
    assert isinstance(module, fx.GraphModule)
    mode = _fake_mode(module.graph)
    changed = False
    for node in engine_calls(module.graph):
        inner = _program_behind(module, node)
        if inner is not None and mode is not None:
            _Splice(module, node, mode).put(inner)
            changed = True
    if not changed:
        return program
    module.graph.eliminate_dead_code()
    return lift(module, program.range_constraints)


def _fake_mode(graph: fx.Graph) -> FakeTensorMode | None:
    values = (node.meta.get("val") for node in graph.nodes)
    return next((value.fake_mode for value in values if isinstance(value, FakeTensor)), None)


def _program_behind(module: fx.GraphModule, node: fx.Node) -> ExportedProgram | None:
    place = node.args[1]
    assert isinstance(place, fx.Node)
    constant = module.get_buffer(str(place.target))
    try:
        return live_engine(constant, str(node.args[2])).engine.program()
    except EngineNotRunnable:  # an engine for another device: it goes into the file as it is
        return None


class _Splice:
    """Copies the nodes of one engine's program to where the engine was called."""

    def __init__(self, module: fx.GraphModule, call: fx.Node, mode: FakeTensorMode) -> None:
        self.module, self.call, self.mode = module, call, mode
        self.copies: dict[fx.Node, fx.Node] = {}

    def put(self, program: ExportedProgram) -> None:
        inner = program.module(check_guards=False)
        assert isinstance(inner, fx.GraphModule)
        given = self.call.args[0]
        assert isinstance(given, (list, tuple))
        waiting = iter(given)
        with self.module.graph.inserting_before(self.call):
            for node in inner.graph.nodes:
                if node.op == "placeholder":
                    place = next(waiting)
                    assert isinstance(place, fx.Node)
                    self.copies[node] = place
                elif node.op == "get_attr":
                    self.copies[node] = self._attribute(inner, str(node.target))
                elif node.op == "call_function":
                    self.copies[node] = self._copied(node)
            self._replace(self._own(inner.graph.output_node().args[0]))

    def _attribute(self, inner: fx.GraphModule, target: str) -> fx.Node:
        value = operator.attrgetter(target)(inner)
        name = f"{self.call.name}_{target.replace('.', '_')}"
        while hasattr(self.module, name):
            name += "_"
        if isinstance(value, Tensor):
            self.module.register_buffer(name, value.detach())
            node = self.module.graph.get_attr(name)
            node.meta["val"] = self.mode.from_tensor(value.detach(), static_shapes=True)
        else:
            self.module.add_module(name, value)
            node = self.module.graph.get_attr(name)
        return node

    def _copied(self, node: fx.Node) -> fx.Node:
        copy = self.module.graph.node_copy(node, self.copies.__getitem__)
        copy.meta = {key: value for key, value in node.meta.items() if key in {"nn_module_stack", "stack_trace"}}
        copy.meta["val"] = self._evaluated(copy)
        return copy

    def _evaluated(self, node: fx.Node) -> object:
        """What the node gives for the sizes of this graph; its own metadata is about symbols of the engine's program."""

        def value(argument: fx.Node) -> Argument:
            if "val" not in argument.meta:  # the body of a branch or loop
                return operator.attrgetter(str(argument.target))(self.module)  # type: ignore[no-any-return]
            return argument.meta["val"]  # type: ignore[no-any-return]

        args = fx.node.map_arg(node.args, value)
        kwargs = fx.node.map_arg(node.kwargs, value)
        assert callable(node.target)
        with self.mode, enable_python_dispatcher(), torch.no_grad():
            return node.target(*args, **kwargs)

    def _own(self, results: object) -> list[fx.Node]:
        """An engine's outputs are fresh memory: a view, an input, a weight or a second use of a result is copied."""
        assert isinstance(results, (list, tuple))
        own: list[fx.Node] = []
        for result in results:
            node = self.copies[result]
            if node in own or not _is_fresh(node):
                with self.mode:
                    value = node.meta["val"].clone()
                node = self.module.graph.call_function(torch.ops.aten.clone.default, (node,))
                node.meta["val"] = value
            own.append(node)
        return own

    def _replace(self, results: Sequence[fx.Node]) -> None:
        for user in list(self.call.users):
            if user.target is not operator.getitem or not isinstance(user.args[1], int):
                raise InternalError(f"The results of engine {self.call.name!r} are used by {user.name!r} as a list.")
            user.replace_all_uses_with(results[user.args[1]])
            self.module.graph.erase_node(user)
        self.module.graph.erase_node(self.call)


def _is_fresh(node: fx.Node) -> bool:
    target = node.target
    while target is operator.getitem:  # one of several results
        inner = node.args[0]
        assert isinstance(inner, fx.Node)
        node, target = inner, inner.target
    if node.op != "call_function" or not isinstance(target, OpOverload):
        return False
    return not any(result.alias_info for result in target._schema.returns) and target.namespace == "aten"
