"""Takes operators apart one node at a time, each form once: several times faster than tracing the whole program again.

PyTorch's `run_decompositions` serves programs that this can't: with sizes that vary, control flow, writes to buffers or inputs,
and writes through views.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, fx
from torch._dispatch.python import enable_python_dispatcher
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.export import ExportedProgram
from torch.export import exported_program as exporting
from torch.export.graph_signature import OutputKind
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree as pytree

from torch_tensorrt.graphs.predictions import PREDICTING

Table = Mapping[OpOverload, Callable[..., object]]


def decompose_nodes(program: ExportedProgram, table: Table) -> fx.GraphModule | None:
    """`program` with the operators of `table` taken apart; None where PyTorch has to do it.

    Writes to intermediate results become new results: `add_(y, x); f(y)  ->  z = add(y, x); f(z)`.
    """
    results = {spec.kind for spec in program.graph_signature.output_specs}
    if program.range_constraints or results != {OutputKind.USER_OUTPUT}:
        return None
    module = program.module(check_guards=False)
    assert isinstance(module, fx.GraphModule)
    mode = _common_mode(module.graph)
    if mode is None or not _is_plain(module.graph) or not _replace_writes(module.graph):
        return None
    # In inference mode PyTorch would take some operators apart otherwise (batch_norm): the result must not depend on it.
    with torch.inference_mode(False), torch.no_grad(), mode:
        return module if _Decomposition(module, table).run() else None


@contextmanager
def taking_apart(table: Table) -> Iterator[Table]:
    """While open, tracing takes operators that consist of others apart as `table` says. Gives the rest of it, for AOTAutograd."""
    composite, others = exporting._split_decomp_table_to_cia_and_python_decomp({**table})  # type: ignore[dict-item]
    with exporting._override_composite_implicit_decomp(composite), _no_backend_operators():
        yield others  # type: ignore[misc]


def _common_mode(graph: fx.Graph) -> FakeTensorMode | None:
    modes = {node.meta["val"].fake_mode for node in graph.nodes if isinstance(node.meta.get("val"), FakeTensor)}
    return modes.pop() if len(modes) == 1 else None


def _is_plain(graph: fx.Graph) -> bool:
    """Operators and getitem only, and every value known."""
    for node in graph.nodes:
        if node.op in {"call_module", "call_method"}:
            return False
        if node.op == "call_function" and not (isinstance(node.target, OpOverload) or node.target is operator.getitem):
            return False
        if node.op in {"placeholder", "get_attr"} and "val" not in node.meta:
            return False
    return True


def _replace_writes(graph: fx.Graph) -> bool:
    """Puts the functional form in place of operators that write; False when what they write may be seen under another name.

    Tensors that share memory have one storage in the metadata that torch.export leaves.
    """
    nodes = list(graph.nodes)
    places = {node: place for place, node in enumerate(nodes)}
    versions: dict[int, set[fx.Node]] = {}  # storage -> the nodes that are its contents at some time
    sharing: dict[int, set[fx.Node]] = {}
    for node in nodes:
        for storage in _storages(node):
            sharing.setdefault(storage, set()).add(node)
    for node in nodes:
        if not _writes(node):
            continue
        written, functional = node.args[0] if node.args else None, _functional(node.target)
        if functional is None or not isinstance(written, fx.Node) or written.op != "call_function":
            return False
        if _hands_on(written) or any(_hands_on(user) for user in written.users) or not _same_form(written, node):
            return False
        (storage,) = _storages(written)
        known = versions.setdefault(storage, {written})
        known.add(node)
        if any(not _writes(other) for other in sharing[storage] - known):
            return False
        node.target = functional
        for user in [user for user in written.users if places[user] > places[node]]:
            user.replace_input_with(written, node)
    return True


def _storages(node: fx.Node) -> set[int]:
    values = pytree.tree_leaves(node.meta.get("val"))
    return {value.untyped_storage()._cdata for value in values if isinstance(value, Tensor)}


def _writes(node: fx.Node) -> bool:
    return isinstance(node.target, OpOverload) and node.target._schema.is_mutable


def _hands_on(node: fx.Node) -> bool:
    """Returns its input as it is, though its metadata doesn't show it."""
    return "dropout" in str(node.target)


def _functional(target: OpOverload) -> OpOverload | None:
    """add.Tensor for add_.Tensor: the same arguments, a new result."""
    name = target._schema.name.rpartition("::")[2]
    packet = getattr(torch.ops.aten, name[:-1], None) if name.endswith("_") and target.namespace == "aten" else None
    found = getattr(packet, target._overloadname, None)
    if not isinstance(found, OpOverload) or found._schema.is_mutable:
        return None
    ours, theirs = ([(given.name, str(given.type)) for given in each._schema.arguments] for each in (target, found))
    return found if ours == theirs else None


def _same_form(written: fx.Node, result: fx.Node) -> bool:
    """What was written keeps its dtype and layout, which a functional form need not give."""
    old, new = written.meta.get("val"), result.meta.get("val")
    return (
        isinstance(old, Tensor) and isinstance(new, Tensor) and old.dtype == new.dtype and old.stride() == new.stride()
    )


class _Decomposition:
    """Edits `module` in place. `composite`: operators that PyTorch takes apart unless they are held together."""

    def __init__(self, module: fx.GraphModule, table: Table) -> None:
        self.module = module
        self.composite, self.table = exporting._split_decomp_table_to_cia_and_python_decomp({**table})  # type: ignore[dict-item]
        preserve = exporting._special_op_to_preserve_cia  # type: ignore[attr-defined]
        self.whole = {target for target, form in self.composite.items() if form is preserve}
        self.forms: dict[object, fx.Graph | None] = {}

    def run(self) -> bool:
        """False when some operator's parts can't stand in the graph as they are."""
        keeping = exporting._override_composite_implicit_decomp(self.composite)
        with keeping, _no_backend_operators(), enable_python_dispatcher():
            for node in list(self.module.graph.nodes):
                if isinstance(node.target, OpOverload) and self._is_compound(node.target) and not self._replace(node):
                    return False
        self.module.graph.eliminate_dead_code()
        self.module.recompile()
        return True

    def _is_compound(self, target: OpOverload) -> bool:
        return target in self.table or (target not in self.whole and _is_composite(target))

    def _replace(self, node: fx.Node) -> bool:
        leaves, form = pytree.tree_flatten((node.args, node.kwargs))
        key = (node.target, form, tuple(_described(leaf) for leaf in leaves))
        if key not in self.forms:
            self.forms[key] = self._parts(node, leaves, form)
        parts = self.forms[key]
        if parts is None:
            return False
        values = dict(
            zip(parts.find_nodes(op="placeholder"), (leaf for leaf in leaves if isinstance(leaf, fx.Node)), strict=True)
        )
        with self.module.graph.inserting_before(node):
            result = _inline(self.module.graph, parts, values, node)
        if isinstance(result, fx.Node):
            node.replace_all_uses_with(result)
        else:
            for user in list(node.users):
                if user.target is not operator.getitem:
                    return False
                user.replace_all_uses_with(result[int(str(user.args[1]))])
                self.module.graph.erase_node(user)
        self.module.graph.erase_node(node)
        return True

    def _parts(self, node: fx.Node, leaves: Sequence[object], form: pytree.TreeSpec) -> fx.Graph | None:
        """The graph of what `node` consists of; None when it holds what a functional graph may not."""

        def call(*tensors: object) -> object:
            given = iter(tensors)
            args, kwargs = pytree.tree_unflatten(
                [next(given) if isinstance(leaf, fx.Node) else leaf for leaf in leaves], form
            )
            assert callable(node.target)
            return node.target(*args, **kwargs)

        values = [leaf.meta.get("val") for leaf in leaves if isinstance(leaf, fx.Node)]
        if not all(isinstance(value, FakeTensor) for value in values):
            return None
        traced = make_fx(call, decomposition_table=self.table)(*values)  # type: ignore[arg-type]
        calls = [part for part in traced.graph.nodes if part.op not in {"placeholder", "output"}]
        plain = all(
            part.target is operator.getitem
            or (isinstance(part.target, OpOverload) and not part.target._schema.is_mutable)
            for part in calls
        )
        return traced.graph if plain else None


@contextmanager
def _no_backend_operators() -> Iterator[None]:
    """As in torch.export: a composite operator consists of ATen operators, not of those of the library that would run it."""
    libraries = (torch.backends.mkldnn, torch.backends.nnpack, torch.backends.cudnn)
    with PREDICTING:
        before = [library.set_flags(False) for library in libraries]
        try:
            yield
        finally:
            for library, flags in zip(libraries, before, strict=True):
                library.set_flags(*flags)


def _is_composite(target: OpOverload) -> bool:
    return torch._C._dispatch_has_kernel_for_dispatch_key(target.name(), "CompositeImplicitAutograd")


def _described(leaf: object) -> object:
    if not isinstance(leaf, fx.Node):
        return type(leaf), str(leaf)
    value = leaf.meta.get("val")
    if not isinstance(value, Tensor):
        return leaf
    return value.dtype, tuple(value.shape), value.stride(), value.storage_offset(), value.device, value.layout


def _inline(
    graph: fx.Graph, parts: fx.Graph, values: dict[fx.Node, fx.Node], origin: fx.Node
) -> fx.Node | Sequence[fx.Node]:
    """Copies `parts` into `graph`; every copy says where it comes from as `origin` does. What `parts` returns comes back."""
    for part in parts.nodes:
        if part.op == "call_function":
            values[part] = graph.node_copy(part, lambda known: values[known])
            values[part].meta = {**origin.meta, "val": part.meta["val"]}
    (output,) = parts.find_nodes(op="output")
    return pytree.tree_map(lambda known: values[known] if isinstance(known, fx.Node) else known, output.args[0])  # type: ignore[no-any-return]
