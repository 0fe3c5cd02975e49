"""The only file that imports ONNX Runtime, on first use, and that calls torch.onnx's exporter, which needs onnxscript."""

from __future__ import annotations

import importlib
import logging
import warnings
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of
from types import ModuleType
from typing import Protocol, cast

import numpy
import torch
from torch._ops import OpOverload
from torch.export import ExportedProgram

from torch_tensorrt.spec.errors import EngineNotRunnable

NUMPY: Mapping[torch.dtype, type[numpy.generic]] = {
    torch.float32: numpy.float32,
    torch.float64: numpy.float64,
    torch.float16: numpy.float16,
    torch.int64: numpy.int64,
    torch.int32: numpy.int32,
    torch.int16: numpy.int16,
    torch.int8: numpy.int8,
    torch.uint8: numpy.uint8,
    torch.bool: numpy.bool_,
}
# What ONNX Runtime calls them.
NAMES: Mapping[torch.dtype, str] = {
    **{dtype: f"tensor({kind.__name__.removesuffix('_')})" for dtype, kind in NUMPY.items()},
    torch.float32: "tensor(float)",
    torch.float64: "tensor(double)",
}


class Binding(Protocol):
    """Where a run reads and writes."""

    def bind_input(
        self, name: str, device_type: str, device_id: int, element_type: object, shape: Sequence[int], buffer_ptr: int
    ) -> None:
        """The memory of an input."""

    def bind_output(
        self, name: str, device_type: str, device_id: int, element_type: object, shape: Sequence[int], buffer_ptr: int
    ) -> None:
        """The memory of an output."""


class Port(Protocol):
    """An input or output of a model."""

    name: str
    type: str
    shape: Sequence[object]


class Session(Protocol):
    """A model made ready."""

    def get_inputs(self) -> Sequence[Port]:
        """In order."""

    def get_outputs(self) -> Sequence[Port]:
        """In order."""

    def io_binding(self) -> Binding:
        """A new one."""

    def run_with_iobinding(self, iobinding: Binding) -> None:
        """One run; other threads go on meanwhile."""


@cache
def onnxruntime() -> ModuleType:
    """The module `onnxruntime`. Raises EngineNotRunnable when it isn't installed."""
    try:
        return importlib.import_module("onnxruntime")
    except ImportError as error:
        raise EngineNotRunnable(
            f"The 'onnxruntime' engine needs the package onnxruntime, which can't be imported here ({error}). "
            "Install it with: pip install onnxruntime"
        ) from error


@cache
def exporter() -> ModuleType:
    """torch.onnx's exporter. Raises EngineNotRunnable when what it needs isn't installed."""
    try:
        importlib.import_module("onnxscript")
        return importlib.import_module("torch.onnx._internal.exporter._registration")
    except ImportError as error:
        raise EngineNotRunnable(
            f"Building 'onnxruntime' engines needs torch.onnx's exporter, which can't be imported here ({error}). "
            "Install what it needs with: pip install onnxscript"
        ) from error


def versions() -> dict[str, str]:
    """Of what takes part in building."""
    return {
        "onnxruntime": str(onnxruntime().__version__),
        "torch": torch.__version__,
        "onnxscript": _version("onnxscript"),
    }


def _version(name: str) -> str:
    try:
        return version_of(name)
    except PackageNotFoundError:
        return "none"


class _Registry(Protocol):
    def is_registered(self, target: OpOverload) -> bool: ...


@cache
def _registry() -> _Registry:
    with _Quiet():
        return cast("_Registry", exporter().ONNXRegistry.from_torchlib())


def is_known(operator: OpOverload) -> bool:
    """Whether the exporter has a rule for `operator`, or takes it apart."""
    return _registry().is_registered(operator) or operator in _TAKEN_APART


aten = torch.ops.aten
# Operators without a rule, which the exporter decomposes into some that have one.
_TAKEN_APART = frozenset(
    {aten.squeeze.dims, aten.var.correction, aten.var_mean.correction, aten._adaptive_avg_pool2d.default}
)


class _Quiet:
    """Keeps the exporter's remarks about its own dependencies to itself."""

    def __enter__(self) -> None:
        self._log = logging.getLogger("torch.onnx")
        self._level = self._log.level
        self._log.setLevel(logging.ERROR)
        self._caught = warnings.catch_warnings()
        self._caught.__enter__()
        warnings.simplefilter("ignore")

    def __exit__(self, *_: object) -> None:
        self._caught.__exit__(None, None, None)
        self._log.setLevel(self._level)


def to_onnx(program: ExportedProgram, inputs: Sequence[str], outputs: Sequence[str]) -> bytes:
    """The program as an ONNX model with its weights, under neutral names, with nothing about the program's source in it.

    What the exporter raises passes through.
    """
    exporter()
    with _Quiet():
        made = torch.onnx.export(
            program,
            dynamo=True,
            verbose=False,
            input_names=list(inputs),
            output_names=list(outputs),
            external_data=False,
        )
        assert made is not None
        model = made.model
        _anonymise(model, {*inputs, *outputs})
        return bytes(made.model_proto.SerializeToString())


def _anonymise(model, kept: set[str]) -> None:  # type: ignore[no-untyped-def]
    """Numbers all names but those of inputs and outputs, and drops remarks: they would tell of files of this machine."""
    numbers = 0
    model.metadata_props.clear()
    model.doc_string = None
    model.graph.name = "partition"
    for graph in (model.graph, *model.graph.subgraphs()):
        graph.metadata_props.clear()
        values = [*graph.initializers.values(), *graph.inputs]
        for node in graph:
            node.metadata_props.clear()
            node.doc_string = None
            node.name = f"n{numbers}"
            numbers += 1
            values += node.outputs
        for value in values:
            value.metadata_props.clear()
            if value.name and value.name not in kept:
                value.name = f"v{numbers}"
                numbers += 1


def open_session(model: bytes | memoryview, options: Mapping[str, int]) -> Session:
    """The model, ready to run on the CPU. What ONNX Runtime raises passes through."""
    ort = onnxruntime()
    wanted = ort.SessionOptions()
    wanted.log_severity_level = 3
    wanted.intra_op_num_threads = options.get("num_threads", torch.get_num_threads())
    if not options.get("allow_spinning", True):
        wanted.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return cast("Session", ort.InferenceSession(bytes(model), wanted, providers=["CPUExecutionProvider"]))
