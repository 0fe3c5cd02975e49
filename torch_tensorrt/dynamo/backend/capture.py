"""From the graph that Dynamo hands over to one that the pipeline takes: AOTAutograd makes it functional and core ATen."""

from __future__ import annotations

import operator
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, fx
from torch._functorch._aot_autograd.descriptors import BufferAOTInput, ParamAOTInput, PlainAOTInput
from torch._functorch._aot_autograd.schemas import OutputType, ViewAndMutationMeta
from torch._guards import TracingContext, tracing
from torch.utils._python_dispatch import _disable_current_modes, is_traceable_wrapper_subclass

from torch_tensorrt.graphs.editing import add_call
from torch_tensorrt.lowering.decomposing import Table, taking_apart
from torch_tensorrt.lowering.layout import KEEP_IN_TORCH, dense_order, invert
from torch_tensorrt.lowering.pipeline import describe_attributes
from torch_tensorrt.spec.errors import BuildError, InternalError, TorchTensorRTError, UnsupportedError
from torch_tensorrt.trace.symbols import SymbolRange

Boxed = Callable[[list[object]], Sequence[object]]
_ROOT = re.compile(r"^[LG]\['\w+'\]\.?")
_STEP = re.compile(r"\._modules\['([^']+)'\]|\[['\"]?(\w+)['\"]?\]")
_NO_BOUND = 2**31
# Results that share no memory with an input or with each other.
_OWN_MEMORY = (OutputType.non_alias, OutputType.unsafe_view_alias, OutputType.custom_function_view)


@dataclass(frozen=True)
class Captured:
    """A functional graph in core ATen, called with flat inputs.

    weights: place of an input -> the module's parameter or buffer that is passed there, unless the graph writes it.
    ranges: of each symbol in the inputs' sizes. impure: why running the graph a second time would not give the same, or "".
    """

    module: fx.GraphModule
    weights: Mapping[int, Tensor]
    ranges: Mapping[str, SymbolRange]
    impure: str


def capture(
    module: fx.GraphModule, inputs: Sequence[object], table: Table, compile_captured: Callable[[Captured], Boxed]
) -> Callable[..., Sequence[object]]:
    """A function of `module`'s inputs that runs what `compile_captured` makes of the graph, and does what AOTAutograd took
    out of it: writes to inputs, and results that share memory with them.

    Raises UnsupportedError when AOTAutograd can't trace the graph, BuildError when it can't be compiled, and our errors that
    `compile_captured` raises.
    """
    # Not at the top: this takes longer than importing this package, and has been done when torch.compile calls.
    from torch._dynamo.exc import TorchDynamoException
    from torch._functorch.aot_autograd import aot_module_simplified

    waiting: list[_Waiting] = []

    def note(graph_module: fx.GraphModule, _: Sequence[object]) -> Boxed:
        with _disable_current_modes(), torch.no_grad():
            waiting.append(_Waiting(_captured(graph_module, module, inputs)))
        return waiting[-1].boxed()

    try:
        with torch.no_grad(), taking_apart(table) as others, _context():
            found: Callable[..., Sequence[object]] = aot_module_simplified(
                module,
                inputs,
                fw_compiler=note,  # type: ignore[arg-type]
                decompositions={**others},
            )
    except (TorchTensorRTError, TorchDynamoException):  # the second kind is how Dynamo is told to start again
        raise
    except Exception as error:
        raise UnsupportedError(
            f"AOTAutograd can't trace this graph: {type(error).__name__}: {str(error).strip()[:1000]}"
        ) from error
    # Only now: while AOTAutograd traces, PyTorch has libraries switched off and takes operators apart in our way. An engine that
    # traces for itself, as Inductor does, would build on that.
    try:
        for each in waiting:
            with _disable_current_modes(), torch.no_grad():
                each.run = compile_captured(each.captured)
    except (TorchTensorRTError, TorchDynamoException):
        raise
    except Exception as error:
        raise BuildError(
            f"This graph can't be compiled: {type(error).__name__}: {str(error).strip()[:1000]}"
        ) from error
    return found


class _Waiting:
    """A captured graph, and later what runs it."""

    def __init__(self, captured: Captured) -> None:
        self.captured = captured
        self.run: Boxed | None = None

    def boxed(self) -> Boxed:
        def call(given: list[object]) -> Sequence[object]:
            if self.run is None:
                raise InternalError("A graph was called before it was compiled. Please report this with the model.")
            return self.run(given)

        call._boxed_call = True  # type: ignore[attr-defined]  # AOTAutograd hands over a list that may be emptied
        return call


@contextmanager
def _context() -> Iterator[None]:
    """Torch.compile's own tracing context; a new one when the backend is called with a graph from elsewhere."""
    if TracingContext.try_get() is not None:
        yield
        return
    with tracing(TracingContext(None)):
        yield


def _captured(graph_module: fx.GraphModule, source: fx.GraphModule, inputs: Sequence[object]) -> Captured:
    meta = TracingContext.get().fw_metadata
    assert meta is not None
    placeholders = graph_module.graph.find_nodes(op="placeholder")
    shown = {info.base_idx for info in meta.output_info if info.output_type not in _OWN_MEMORY}
    written = set(meta.mutated_inp_runtime_indices) | shown
    weights: dict[int, Tensor] = {}
    if not meta.tokens and not any(is_traceable_wrapper_subclass(given) for given in inputs):
        for place, node in enumerate(placeholders):
            weight = _weight(node, source, inputs)
            if weight is not None and place not in written:
                weights[place] = weight
    ranges = _ranges(placeholders)
    _keep_views(graph_module)
    _cast_with_aten(graph_module)
    _fill_what_is_empty(graph_module)
    _read_sizes_from_tensors(graph_module, weights)
    for node in graph_module.graph.nodes:
        if "nn_module_stack" in node.meta:
            node.meta["nn_module_stack"] = _as_exported(node.meta["nn_module_stack"])
    describe_attributes(graph_module)
    return Captured(graph_module, weights, ranges, _impure(graph_module, meta))


def _weight(node: fx.Node, source: fx.GraphModule, inputs: Sequence[object]) -> Tensor | None:
    """The parameter or buffer that is always passed in place of `node`; None for an input, or one whose changes can't be seen."""
    description = node.meta.get("desc")
    found: object = None
    if isinstance(description, (ParamAOTInput, BufferAOTInput)):
        found = fx.graph_module._get_attr(source, description.target)
    elif isinstance(description, PlainAOTInput):
        known = source.graph.find_nodes(op="placeholder")[description.idx].meta.get("tensor_dict") or {}
        found = inputs[description.idx] if "_dynamo_static_input_type" in known else None
    if type(found) not in (Tensor, torch.nn.Parameter, torch.nn.Buffer) or not isinstance(found, Tensor):
        return None
    return None if found.is_inference() else found  # inference tensors don't count their changes


def _ranges(placeholders: Sequence[fx.Node]) -> dict[str, SymbolRange]:
    """The bounds that torch.compile's guards hold each symbol to; what it is now counts as typical."""
    values = [node.meta.get("val") for node in placeholders]
    sizes = [size for value in values for size in (value.shape if isinstance(value, Tensor) else (value,))]
    varying = [size.node for size in sizes if isinstance(size, torch.SymInt)]
    now = {node.expr: node.hint for node in varying if node.expr.is_symbol and node.hint is not None}
    ranges: dict[str, SymbolRange] = {}
    for node in varying:
        for symbol in node.expr.free_symbols:
            bounds = node.shape_env.bound_sympy(symbol)
            low = int(bounds.lower) if 0 < bounds.lower < _NO_BOUND else 0
            high = int(bounds.upper) if bounds.upper < _NO_BOUND else None
            usual = max(low, int(now.get(symbol, max(low, 1))))
            ranges[str(symbol)] = SymbolRange(low, usual if high is None else min(usual, high), high)
    return ranges


def _keep_views(graph_module: fx.GraphModule) -> None:
    """Results that show the memory of an input or of another result are views that PyTorch makes: an engine would return a copy.

    AOTAutograd makes views of inputs itself, with the layout of what the graph returns.
    """
    for node in _sharing_results(graph_module.graph):
        while _is_view(node) and KEEP_IN_TORCH not in node.meta:
            source = node.args[0]
            assert isinstance(source, fx.Node)
            if node.target is not operator.getitem:
                node.meta[KEEP_IN_TORCH] = "it shows the memory of another tensor that the caller has"
                _pin_layout(graph_module, source)
            node = source


def _sharing_results(graph: fx.Graph) -> list[fx.Node]:
    results = list(dict.fromkeys(graph.output_node().all_input_nodes))
    known = [*graph.find_nodes(op="placeholder"), *results]
    count = Counter(storage for node in dict.fromkeys(known) for storage in _storages(node))
    return [node for node in results if any(count[storage] > 1 for storage in _storages(node))]


def _storages(node: fx.Node) -> set[int]:
    value = node.meta.get("val")
    return {value.untyped_storage()._cdata} if isinstance(value, Tensor) else set()


def _is_view(node: fx.Node) -> bool:
    if node.target is operator.getitem and isinstance(node.args[0], fx.Node):
        return _is_view(node.args[0])  # one of the parts that split gives
    return isinstance(node.target, torch._ops.OpOverload) and node.target.is_view


def _pin_layout(graph_module: fx.GraphModule, base: fx.Node) -> None:
    """view(base)  ->  view(permute(permute(base, order), inverse)): an engine gives `base` contiguous, and the view may need the
    layout that PyTorch's has.
    """
    order = dense_order(base.meta["val"]) if base.op == "call_function" and not _is_view(base) else None
    if order is None or list(order) == sorted(order):
        return
    with graph_module.graph.inserting_after(base):
        inner = add_call(graph_module, torch.ops.aten.permute.default, (base, list(order)))
    with graph_module.graph.inserting_after(inner):
        outer = add_call(graph_module, torch.ops.aten.permute.default, (inner, list(invert(order))))
    outer.meta[KEEP_IN_TORCH] = "gives the result PyTorch's strides (a view)"
    base.replace_all_uses_with(outer, delete_user_cb=lambda user: user is not inner)


def _read_sizes_from_tensors(graph_module: fx.GraphModule, weights: Mapping[int, Tensor]) -> None:
    """f(x, s0), where s0 is passed as well  ->  f(x, sym_size(x, 0)), which an engine can compute for itself."""
    placeholders = graph_module.graph.find_nodes(op="placeholder")
    numbers = [node for node in placeholders if isinstance(node.meta.get("val"), torch.SymInt) and node.users]
    tensors = [node for place, node in enumerate(placeholders) if place not in weights]
    for number in numbers:
        wanted = number.meta["val"].node.expr
        known = ((node, dim) for node in tensors for dim, expr in enumerate(_expressions(node)) if expr == wanted)
        place = next(known, None)
        if place is not None:
            with graph_module.graph.inserting_after(placeholders[-1]):
                size = graph_module.graph.call_function(torch.ops.aten.sym_size.int, place)
            size.meta["val"] = number.meta["val"]
            number.replace_all_uses_with(size)


def _cast_with_aten(graph_module: fx.GraphModule) -> None:
    """convert_element_type(x, dtype)  ->  _to_copy(x, dtype=dtype). PyTorch casts Python floats that vary with the former."""
    for node in graph_module.graph.find_nodes(op="call_function", target=torch.ops.prims.convert_element_type.default):
        node.target, node.args, node.kwargs = torch.ops.aten._to_copy.default, node.args[:1], {"dtype": node.args[1]}


def _fill_what_is_empty(graph_module: fx.GraphModule) -> None:
    """empty(size)  ->  full(size, 0). What happens to be in memory can be values that an engine refuses."""
    for node in graph_module.graph.find_nodes(op="call_function", target=torch.ops.aten.empty.memory_format):
        if node.kwargs.get("memory_format") in (None, torch.contiguous_format):
            others = {name: node.kwargs.get(name) for name in ("layout", "device", "pin_memory")}
            node.target, node.args = torch.ops.aten.full.default, (node.args[0], 0)
            node.kwargs = {"dtype": node.meta["val"].dtype, **others}


def _expressions(node: fx.Node) -> list[object]:
    value = node.meta.get("val")
    shape = value.shape if isinstance(value, Tensor) else ()
    return [size.node.expr if isinstance(size, torch.SymInt) else None for size in shape]


def _as_exported(stack: Mapping[str, tuple[str, type | str]]) -> dict[str, tuple[str, str]]:
    """`L['self'].layers[0]`, class  ->  `layers.0`, the class's name: as torch.export says it, which Inductor's packages need."""
    return {
        key: (
            _STEP.sub(lambda step: f".{step[1] or step[2]}", _ROOT.sub("", path)).lstrip("."),
            kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}",
        )
        for key, (path, kind) in stack.items()
    }


def _impure(graph_module: fx.GraphModule, meta: ViewAndMutationMeta) -> str:
    for node in graph_module.graph.nodes:
        if isinstance(node.target, torch._ops.OpOverload) and torch.Tag.nondeterministic_seeded in node.target.tags:
            return f"it draws random numbers ({node.target})"
        if isinstance(node.target, torch._ops.HigherOrderOperator):
            return f"it has control flow ({node.target})"
    if meta.mutated_inp_runtime_indices:
        return "it writes to buffers or inputs"
    if _sharing_results(graph_module.graph) or any(info.output_type not in _OWN_MEMORY for info in meta.output_info):
        return "some of its results share memory with its inputs or with each other"
    return ""
