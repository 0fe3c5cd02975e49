"""The only file that imports OpenVINO, on first use. What leaves it is described by the protocols below."""

from __future__ import annotations

import importlib
import io
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Protocol, TypeAlias

import numpy
import torch
from torch import Tensor, fx

from torch_tensorrt.contracts.mapped import Buffer, read_mapped
from torch_tensorrt.engines.openvino.ports import PartialShape, Request
from torch_tensorrt.spec.errors import EngineNotRunnable
from torch_tensorrt.spec.tensor_spec import Dim, TensorSpec

Wrap: TypeAlias = "Callable[[Tensor], object]"
Config: TypeAlias = "dict[str, str | int]"
Array: TypeAlias = "numpy.ndarray[tuple[int, ...], numpy.dtype[numpy.generic]]"


class Port(Protocol):
    """An input or output of a model."""

    def get_node(self) -> Node:
        """What it belongs to."""

    def get_names(self) -> set[str]:
        """What it is called; nothing for some."""

    def get_element_type(self) -> object:
        """What it holds."""

    def get_partial_shape(self) -> PartialShape:
        """Its sizes."""


class Node(Protocol):
    """An operation of OpenVINO's graph."""

    def get_friendly_name(self) -> str:
        """Its name."""

    def get_type_name(self) -> str:
        """Its kind."""

    def input_value(self, index: int) -> Port:
        """What input `index` comes from."""

    def get_element_type(self) -> object:
        """What its only output holds."""

    def set_friendly_name(self, name: str) -> None:
        """Gives it a name."""

    def get_rt_info(self) -> Mapping[str, object]:
        """What OpenVINO notes about it."""

    @property
    def data(self) -> Array:
        """The values of a constant."""


class Model(Protocol):
    """OpenVINO's own graph."""

    def set_friendly_name(self, name: str) -> None:
        """Gives it a name."""

    def get_parameters(self) -> Sequence[Node]:
        """Its inputs."""

    def get_results(self) -> Sequence[Node]:
        """Its outputs."""

    def get_ordered_ops(self) -> Sequence[Node]:
        """All its operations."""


class Compiled(Protocol):
    """A model compiled for a device."""

    inputs: Sequence[Port]
    outputs: Sequence[Port]

    def get_runtime_model(self) -> Model:
        """What is executed."""

    def export_model(self, model_stream: io.BytesIO) -> None:
        """Writes the model as OpenVINO does."""

    def create_infer_request(self) -> Request:
        """A new request."""

    def release_memory(self) -> None:
        """Frees what no request needs."""

    def get_property(self, name: str) -> object:
        """The value of a property."""


@cache
def openvino() -> ModuleType:
    """The module `openvino`. Raises EngineNotRunnable when it isn't installed."""
    try:
        return importlib.import_module("openvino")
    except ImportError as error:
        raise EngineNotRunnable(
            f"The 'openvino' engine needs the package openvino, which can't be imported here ({error}). "
            "Install it with: pip install openvino"
        ) from error


@cache
def _core():  # type: ignore[no-untyped-def]
    return openvino().Core()


def version() -> str:
    """OpenVINO's version with its build number."""
    return str(openvino().get_version())


@cache
def capabilities() -> frozenset[str]:
    """What the CPU computes in, in OpenVINO's words: "FP32", "BF16", "FP16", "INT8", ..."""
    return frozenset(_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))


@cache
def target() -> str:
    """The CPU that engines are compiled for here: its name and its capabilities."""
    name = str(_core().get_property("CPU", "FULL_DEVICE_NAME")).strip()
    return f"cpu;{name};{' '.join(sorted(capabilities()))}"


@cache
def _numbers() -> Mapping[torch.dtype, object]:
    types = openvino().Type
    return {
        torch.float32: types.f32,
        torch.float16: types.f16,
        torch.bfloat16: types.bf16,
        torch.float64: types.f64,
        torch.int64: types.i64,
        torch.int32: types.i32,
        torch.int16: types.i16,
        torch.int8: types.i8,
        torch.uint8: types.u8,
        torch.bool: types.boolean,
    }


def config(precision: torch.dtype, *, snippets: bool = True, knobs: Mapping[str, str] | None = None) -> Config:
    """Options for a model that computes in `precision`; the cache and quantization options follow it.

    `snippets`: whether OpenVINO may fuse operators into code of its own making (see hazards.py for when not). `knobs`: properties
    that replace ours.
    """
    hint = {torch.float32: "f32", torch.bfloat16: "bf16", torch.float16: "f16"}[precision]
    wanted: Config = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": hint,
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
        "KV_CACHE_PRECISION": hint,
    }
    known = _core().get_property("CPU", "SUPPORTED_PROPERTIES")
    options = {key: value for key, value in {**wanted, **(knobs or {})}.items() if key in known}
    return options if snippets else {**options, "SNIPPETS_MODE": "DISABLE"}  # an internal property: never listed


def convert(module: fx.GraphModule, inputs: Sequence[TensorSpec], dtypes: Sequence[torch.dtype]) -> Model:
    """The model that OpenVINO's PyTorch frontend makes of `module`, with outputs of `dtypes`.

    What OpenVINO raises passes through.
    """
    ov = openvino()
    decoding = importlib.import_module("openvino.frontend.pytorch.fx_decoder")
    frontend = importlib.import_module("openvino.frontend").FrontEndManager().load_by_framework("pytorch")
    decoder = decoding.TorchFXPythonDecoder(
        module, input_shapes=[_partial_shape(spec) for spec in inputs], input_types=[spec.dtype for spec in inputs]
    )
    decoder._nodes = _Indexed(decoder._nodes)
    model = frontend.convert(frontend.load(decoder))
    for result, dtype in zip(model.get_results(), dtypes, strict=True):
        wanted = _numbers()[dtype]
        if result.get_element_type() != wanted:
            cast = ov.opset13.convert(result.input_value(0), wanted)
            result.input(0).replace_source_output(cast.output(0))
    model.validate_nodes_and_infer_types()
    return model  # type: ignore[no-any-return]


class _Indexed(list[fx.Node]):
    """The nodes in order; `index`, which the decoder calls for every argument of every node, without a search."""

    def __init__(self, nodes: Sequence[fx.Node]) -> None:
        super().__init__(nodes)
        self._places = {node: place for place, node in enumerate(nodes)}

    def index(self, node: fx.Node, *_: object) -> int:
        return self._places[node]


def _partial_shape(spec: TensorSpec):  # type: ignore[no-untyped-def]
    ov = openvino()
    dims = [ov.Dimension(s.min, -1 if s.max is None else s.max) if isinstance(s, Dim) else s for s in spec.shape]
    return ov.PartialShape(dims)


def compile_model(model: Model, options: Config) -> Compiled:
    """The model compiled for the CPU. What OpenVINO raises passes through."""
    return _core().compile_model(model, "CPU", options)  # type: ignore[no-any-return]


def export_blob(compiled: Compiled) -> bytes:
    """The compiled model as OpenVINO writes it."""
    stream = io.BytesIO()
    compiled.export_model(stream)
    return stream.getvalue()


def import_blob(blob: memoryview, options: Config) -> Compiled:
    """The inverse of `export_blob`. The compiled model goes on using the memory and does not keep it alive."""
    return _core().import_model(_show(blob), "CPU", options)  # type: ignore[no-any-return]


def with_counters(compiled: Compiled, options: Config) -> tuple[Compiled, object]:
    """The model, compiled with `options`, again so that its requests say what each node took; and memory to keep for it.

    What OpenVINO raises passes through.
    """
    blob = export_blob(compiled)
    return import_blob(memoryview(blob), {**options, "PERF_COUNT": "YES"}), blob


def node_times(request: Request) -> list[tuple[str, str, float]]:
    """Each node that was executed: name, kind with implementation, and the mean milliseconds of all runs so far."""
    executed = openvino().ProfilingInfo.Status.EXECUTED
    return [
        (info.node_name, f"{info.node_type} {info.exec_type}", info.real_time.total_seconds() * 1000)
        for info in request.get_profiling_info()
        if info.status == executed
    ]


def executed_nodes(compiled: Compiled) -> list[dict[str, str]]:
    """What is executed, in order: each node's name and what OpenVINO notes about it, as text."""
    nodes = []
    for node in compiled.get_runtime_model().get_ordered_ops():
        noted = {key: str(getattr(value, "value", value)) for key, value in node.get_rt_info().items()}
        nodes.append({"name": node.get_friendly_name(), **noted})
    return nodes


def write_ir(model: Model) -> tuple[bytes, Buffer]:
    """The model as OpenVINO's XML and weights, which are in a mapped file when they are large."""
    with tempfile.TemporaryDirectory(prefix="torch_tensorrt_") as folder:
        path = Path(folder) / "model.xml"
        openvino().save_model(model, str(path), compress_to_fp16=False)
        return path.read_bytes(), read_mapped(path.with_suffix(".bin"))


@dataclass(frozen=True)
class Constant:
    """A constant of a model: its name, where its bytes are, and what they are."""

    name: str
    address: int
    content: Callable[[], bytes]


def number_nodes(model: Model) -> list[Constant]:
    """Names all but the inputs of `model` by their place, instead of by OpenVINO's counter; gives its constants."""
    model.set_friendly_name("partition")
    found = []
    for place, node in enumerate(model.get_ordered_ops()):
        if node.get_type_name() == "Parameter":
            continue
        node.set_friendly_name(f"node_{place}")
        if node.get_type_name() == "Constant":
            data = numpy.ascontiguousarray(node.data)
            found.append(Constant(f"node_{place}", data.ctypes.data, data.tobytes))
    return found


def name_constants(model: Model) -> dict[str, Array]:
    """Gives each constant of `model` a name of its own; the constants' own memory by these names."""
    nodes = [node for node in model.get_ordered_ops() if node.get_type_name() == "Constant"]
    for place, node in enumerate(nodes):
        node.set_friendly_name(f"constant_{place}")
    return {node.get_friendly_name(): numpy.ascontiguousarray(node.data) for node in nodes}


def write_xml(model: Model) -> bytes:
    """The model as OpenVINO's XML, without weights."""
    with tempfile.TemporaryDirectory(prefix="torch_tensorrt_") as folder:
        path = Path(folder) / "model.xml"
        openvino().serialize(model, str(path), os.devnull)
        return path.read_bytes()


def read_ir(xml: bytes, weights: bytes | memoryview) -> Model:
    """The inverse of `write_ir`; the model, and what is compiled of it, borrow `weights`.

    What OpenVINO raises passes through.
    """
    return _core().read_model(xml, _show(weights))  # type: ignore[no-any-return]


def _show(memory: bytes | memoryview):  # type: ignore[no-untyped-def]
    return openvino().Tensor(numpy.frombuffer(memory, dtype=numpy.uint8), [len(memory)], openvino().Type.u8)


def input_names(model: Model) -> tuple[str, ...]:
    """The names of the model's inputs: those of the placeholders they come from."""
    return tuple(parameter.get_friendly_name() for parameter in model.get_parameters())


def passed_through(compiled: Compiled) -> Mapping[int, int]:
    """Model output -> model input, for outputs that the compiled model takes from an input as they are."""
    inputs = {port.get_node().get_friendly_name(): place for place, port in enumerate(compiled.inputs)}
    outputs = {port.get_node().get_friendly_name(): place for place, port in enumerate(compiled.outputs)}
    found = {}
    for result in compiled.get_runtime_model().get_results():
        source = result.input_value(0).get_node()
        if source.get_type_name() == "Parameter":
            found[outputs[result.get_friendly_name()]] = inputs[source.get_friendly_name()]
    return found


def torch_dtype(kind: object) -> torch.dtype | None:
    """The inverse of OpenVINO's types; None for those that PyTorch hasn't."""
    return next((dtype for dtype, number in _numbers().items() if number == kind), None)


def found_output(request: Request, index: int, dtype: torch.dtype) -> Tensor:
    """A copy of output `index` of the last run, for which OpenVINO found the sizes and the memory itself."""
    found = request.get_output_tensor(index)
    copied = torch.empty(tuple(found.get_shape()), dtype=dtype, device="cpu")
    if copied.numel():
        found.copy_to(wrap(dtype)(copied))
    return copied


def wrap(dtype: torch.dtype) -> Wrap:
    """A function that shows a contiguous tensor of `dtype` to OpenVINO without copying it.

    What it returns must be kept until OpenVINO has used it: it is what keeps the memory alive.
    """
    make = openvino().Tensor
    if dtype is torch.bfloat16:  # numpy has no such type
        number = _numbers()[dtype]
        return lambda tensor: make(tensor.view(torch.int16).numpy(), list(tensor.shape), number)
    return lambda tensor: make(tensor.numpy(), True)


@cache
def run() -> Callable[[Request], object]:
    """Runs a request whose tensors are all set; other threads go on meanwhile."""
    infer = openvino()._pyopenvino.InferRequest.infer
    nothing: dict[int, object] = {}  # no input is given by the call
    return lambda request: infer(request, nothing, True, False)


def start(request: Request, tell: Callable[[], None]) -> None:
    """Starts a request whose tensors are all set. `tell` is called in a thread of OpenVINO's, unless the run fails."""
    request.set_callback(lambda _: tell(), None)
    openvino()._pyopenvino.InferRequest.start_async(request, {}, None)


def preferred_runs(compiled: Compiled) -> int:
    """How many requests keep all streams of the compiled model busy."""
    return int(str(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")))
