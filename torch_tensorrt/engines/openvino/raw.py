"""A compiled model that stands alone: what it takes and gives is read from its ports."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from io import BytesIO

import torch

from torch_tensorrt.contracts.engine import EngineSpec
from torch_tensorrt.contracts.raw import RawEngine, in_order
from torch_tensorrt.engines.openvino import sdk
from torch_tensorrt.engines.openvino.engine import OpenVINOEngine
from torch_tensorrt.engines.openvino.ir import Ir
from torch_tensorrt.engines.openvino.payload import Facts, write_payload
from torch_tensorrt.engines.openvino.ports import Range
from torch_tensorrt.engines.openvino.wiring import Wiring
from torch_tensorrt.spec.errors import EngineNotRunnable, UnsupportedError
from torch_tensorrt.spec.tensor_spec import Dim, TensorSpec

START = b"RR_UPCVO"


def read_raw(raw: RawEngine, spec: EngineSpec, precision: torch.dtype) -> OpenVINOEngine:
    """The engine of what `Core.import_model` reads; `spec` has all but the tensors.

    precision: what to compute in, which the bytes don't tell. Its bytes hold no representation, so that another OpenVINO or CPU
    can't compile it again. Raises as contracts/raw.py says.
    """
    options = sdk.config(precision)
    try:
        compiled = sdk.import_blob(memoryview(raw.data), options)
    except RuntimeError as error:
        raise EngineNotRunnable(
            f"OpenVINO {sdk.version()} can't read the raw engine {raw.name!r} here: {error} It reads what the same version wrote "
            "for a CPU like this one; compile the model again."
        ) from error
    symbols = (f"s{number}" for number in itertools.count())
    takes, inputs = _described(raw, "inputs", compiled.inputs, raw.inputs, symbols)
    gives, outputs = _described(raw, "outputs", compiled.outputs, raw.outputs, symbols)
    wiring = Wiring(tuple(takes.index(place) for place in range(len(takes))), gives)
    described = EngineSpec(**{**vars(spec), "inputs": inputs, "outputs": outputs})

    def write(file: BytesIO) -> None:
        write_payload(file, Facts(precision, wiring), lambda file: file.write(raw.data), Ir(b"", ()))

    return OpenVINOEngine(described, compiled, options, wiring, write, keep=raw.data)


def _described(
    raw: RawEngine, role: str, ports: Sequence[sdk.Port], asked: Sequence[str] | None, symbols: Iterator[str]
) -> tuple[tuple[int, ...], tuple[TensorSpec, ...]]:
    """The places of the ports in the order that was asked for, and what they are in that order."""
    names = [_name(port, asked or ()) for port in ports]
    places = tuple(names.index(name) for name in in_order(role, names, asked))
    return places, tuple(_spec(raw, names[place], ports[place], symbols) for place in places)


def _name(port: sdk.Port, asked: Sequence[str]) -> str:
    """One of its names that was asked for, else the first; "relu" for "relu:0", which is what an output is called."""
    names = sorted(port.get_names()) or [port.get_node().get_friendly_name()]
    known = [*names, *(name.removesuffix(":0") for name in names)]
    return next((name for name in known if name in asked), names[0].removesuffix(":0"))


def _spec(raw: RawEngine, name: str, port: sdk.Port, symbols: Iterator[str]) -> TensorSpec:
    dtype, shape = sdk.torch_dtype(port.get_element_type()), port.get_partial_shape()
    if dtype is None or shape.rank.is_dynamic:
        raise UnsupportedError(
            f"{name!r} of the raw engine {raw.name!r} is a {port.get_element_type()} of {shape}; types that PyTorch has, and a fixed "
            "number of dimensions, are needed."
        )
    return TensorSpec(name, dtype, tuple(_size(size, symbols) for size in shape))


def _size(size: Range, symbols: Iterator[str]) -> int | Dim:
    if not size.is_dynamic:
        return size.min_length
    most = None if size.max_length < 0 else size.max_length
    return Dim(next(symbols), size.min_length, max(size.min_length, 1), most)
