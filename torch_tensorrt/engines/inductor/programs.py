"""A partition as an ExportedProgram, straight from its own graph: nothing is traced again.

The program is kept beside the compiled code, for another machine to compile it again. There it takes its weights as arguments, so
that the archive of torch.export.save holds no tensors, and a weight that the compiled code has already is not written twice.
"""

from __future__ import annotations

import copy
import io
import json
import zipfile
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram
from torch.export.exported_program import ModuleCallEntry, ModuleCallSignature
from torch.export.graph_signature import (
    ArgumentSpec,
    ExportGraphSignature,
    InputKind,
    InputSpec,
    OutputKind,
    OutputSpec,
    SymIntArgument,
    TensorArgument,
)
from torch.utils import _pytree as pytree

from torch_tensorrt.archives import reading as archives
from torch_tensorrt.contracts.partition import Partition
from torch_tensorrt.observe.quiet import quiet_torch
from torch_tensorrt.spec.errors import FileFormatError
from torch_tensorrt.spec.json_text import not_deep
from torch_tensorrt.spec.tensor_spec import TensorSpec

aten = torch.ops.aten
_MEMBERS = {
    ("models", "model.json"),
    ("archive_format", ""),
    ("archive_version", ""),
    ("byteorder", ""),
    ("version", ""),
}
CONTIGUOUS = "contiguous"
_WEIGHT = "constant_of_the_program_"  # starts the names of the placeholders of weights
FORMATS: Mapping[str, torch.memory_format] = {
    CONTIGUOUS: torch.contiguous_format,
    "channels_last": torch.channels_last,
    "channels_last_3d": torch.channels_last_3d,
}


def input_formats(partition: Partition) -> tuple[str, ...]:
    """The memory format that the compiled code takes each input in: what the graph was traced with, where it has a name."""
    return tuple(_format(node.meta["val"]) for node in partition.module.graph.nodes if node.op == "placeholder")


def _format(value: Tensor) -> str:
    if value.is_contiguous():
        return CONTIGUOUS
    named = {4: "channels_last", 5: "channels_last_3d"}.get(value.dim(), CONTIGUOUS)
    return named if value.is_contiguous(memory_format=FORMATS[named]) else CONTIGUOUS


def lift(partition: Partition) -> ExportedProgram:
    """The program of `partition`, with its constants as buffers under their own names, and contiguous results."""
    module, graph, copies = partition.module, fx.Graph(), dict[fx.Node, fx.Node]()
    results = graph.graph_copy(module.graph, copies)
    assert isinstance(results, (tuple, list))
    for old, new in copies.items():
        new.meta = copy.copy(old.meta)
    output = graph.output(tuple(results))
    weights = _lift_weights(module, graph, device_of(partition))
    _settle_layouts(graph, output)
    for node in graph.nodes:
        if node.op == "call_function":
            node.meta.setdefault("nn_module_stack", {})
            node.meta["stack_trace"] = node.meta.get("stack_trace") or ""
    return _program(graph, weights, _ranges(graph))


def device_of(partition: Partition) -> torch.device:
    """The GPU that the partition's tensors are on, else the CPU."""
    values = (node.meta.get("val") for node in partition.module.graph.nodes)
    return next((value.device for value in values if isinstance(value, Tensor) and value.is_cuda), torch.device("cpu"))


def _lift_weights(module: fx.GraphModule, graph: fx.Graph, device: torch.device) -> dict[str, Tensor]:
    """w = get_attr[target='a.weight']  ->  a placeholder before all others, one per attribute.

    Numbers on the CPU that tensors on a GPU are combined with go there too.
    """
    first = next(iter(graph.nodes))
    weights: dict[str, Tensor] = {}
    places: dict[str, fx.Node] = {}
    read = [node for node in graph.nodes if node.op == "get_attr"]
    for node in read:
        target = str(node.target)
        if target not in places:
            weights[target] = without_gaps(fx.graph_module._get_attr(module, target).to(device))
            with graph.inserting_before(first):
                places[target] = graph.placeholder(f"{_WEIGHT}{len(places)}")
            places[target].meta = {"val": _described(node.meta["val"], weights[target])}
        node.replace_all_uses_with(places[target])
    for node in read:  # only now: `first` may be one of them
        graph.erase_node(node)
    return weights


def without_gaps(weight: Tensor) -> Tensor:
    """The weight itself where its memory has neither gaps nor overlaps, else a copy without them."""
    held = weight.detach()
    packed = torch.empty_like(held)  # keeps the order of dimensions
    return held if packed.stride() == held.stride() else packed.copy_(held)


def _described(value: Tensor, weight: Tensor) -> Tensor:
    mode = getattr(value, "fake_mode", None)
    return weight if mode is None else mode.from_tensor(weight, static_shapes=True)


def _settle_layouts(graph: fx.Graph, output: fx.Node) -> None:
    """Makes inputs contiguous that have no named layout, and results: the operator that calls engines promises that."""
    changed = False
    for node in graph.nodes:
        value = node.meta.get("val")
        strange = isinstance(value, Tensor) and not value.is_contiguous(memory_format=FORMATS[_format(value)])
        if node.op == "placeholder" and strange and not node.name.startswith(_WEIGHT):
            node.meta["val"] = _contiguous_like(value)
            changed = True
    settled: list[fx.Node] = []
    for node in output.args[0]:  # type: ignore[union-attr]
        assert isinstance(node, fx.Node)
        if changed or not node.meta["val"].is_contiguous():
            with graph.inserting_before(output):
                dense = graph.call_function(aten.clone.default, (node,), {"memory_format": torch.contiguous_format})
            dense.meta = {**node.meta, "val": _contiguous_like(node.meta["val"])}
            settled.append(dense)
        else:
            settled.append(node)
    output.args = (tuple(settled),)


def _contiguous_like(value: Tensor) -> Tensor:
    mode = getattr(value, "fake_mode", None)
    if mode is None:
        return torch.empty(value.shape, dtype=value.dtype, device=value.device)
    with mode:
        return torch.empty(value.shape, dtype=value.dtype, device=value.device)


def _ranges(graph: fx.Graph):  # type: ignore[no-untyped-def]
    found = {}
    for node in graph.nodes:
        value = node.meta.get("val")
        for size in value.shape if isinstance(value, Tensor) else (value,):
            if isinstance(size, torch.SymInt):
                known = size.node.shape_env.var_to_range
                found.update({symbol: known[symbol] for symbol in size.node.expr.free_symbols if symbol in known})
    return found


def _program(graph: fx.Graph, weights: Mapping[str, Tensor], ranges) -> ExportedProgram:  # type: ignore[no-untyped-def]
    """`graph` with its first placeholders named after `weights`; with none of these, all are arguments."""
    names = list(weights)
    places = [node for node in graph.nodes if node.op == "placeholder"]
    results = graph.output_node().args[0]
    inputs = [
        InputSpec(InputKind.BUFFER, _argument(node), names[at], persistent=True)
        if at < len(names)
        else InputSpec(InputKind.USER_INPUT, _argument(node), None)
        for at, node in enumerate(places)
    ]
    outputs = [OutputSpec(OutputKind.USER_OUTPUT, TensorArgument(str(node)), None) for node in results]  # type: ignore[union-attr]
    given = places[len(names) :]
    signature = ModuleCallSignature(
        inputs=[_argument(node) for node in given],
        outputs=[spec.arg for spec in outputs],
        in_spec=pytree.tree_structure((tuple(0 for _ in given), {})),
        out_spec=pytree.tree_structure(tuple(0 for _ in outputs)),
        forward_arg_names=[node.name for node in given],
    )
    graph.lint()
    return ExportedProgram(
        root=torch.nn.Module(),
        graph=graph,
        graph_signature=ExportGraphSignature(inputs, outputs),
        state_dict=dict(weights),
        range_constraints=ranges,
        module_call_graph=[ModuleCallEntry("", signature)],
        constants={},
    )


def _argument(node: fx.Node) -> ArgumentSpec:
    return SymIntArgument(node.name) if isinstance(node.meta["val"], torch.SymInt) else TensorArgument(node.name)


def write_program(program: ExportedProgram) -> bytes:
    """The archive of torch.export.save, with the weights as the first arguments and no tensors in it."""
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    graph.output(graph.graph_copy(program.graph, copies))
    for old, new in copies.items():
        new.meta = copy.copy(old.meta)
    buffer = io.BytesIO()
    with quiet_torch():
        torch.export.save(_program(graph, {}, program.range_constraints), buffer)
    return buffer.getvalue()


def read_program(archive: memoryview, weights: Mapping[str, Tensor]) -> ExportedProgram:
    """The inverse of `write_program`. Raises FileFormatError when the archive is not such a program."""
    bare = archives.read_program(io.BytesIO(archive), "The program of an inductor engine")
    try:
        _refuse_tensors(archive)
        return _program(bare.graph, weights, bare.range_constraints)
    except Exception as error:  # torch.export's checks raise whatever they like
        raise FileFormatError(f"The program in an inductor engine can't be read: {error}") from error


def _refuse_tensors(archive: memoryview) -> None:
    """Raises ValueError for members that `write_program` doesn't write: PyTorch's reader would unpickle or run them."""
    with zipfile.ZipFile(io.BytesIO(archive)) as members:
        for member in members.infolist():
            kind, _, name = member.filename.partition("/")[2].partition("/")
            empty = member.file_size == 0 or (
                name.endswith("_config.json") and json.loads(not_deep(members.read(member))) == {"config": {}}
            )
            known = (kind, name) in _MEMBERS or kind == ".data" or (kind == "data" and empty)
            if not known or member.compress_type != zipfile.ZIP_STORED:
                raise ValueError(f"it holds {member.filename!r}, which doesn't belong there")


def give_examples(program: ExportedProgram, inputs: Sequence[TensorSpec], device: torch.device) -> None:
    """Sets the example inputs that AOTInductor wants: zeros of the typical sizes."""
    examples = tuple(
        torch.zeros(spec.shape_at("opt"), dtype=spec.dtype, device=device if spec.device != "cpu" else "cpu")
        for spec in inputs
    )
    program._example_inputs = (examples, {})
