"""ONNX's own node tests through NVIDIA's ONNX parser and our interpreter: a judge of the interpreter that is not ourselves.

Each case is a small model with inputs and the outputs that ONNX's specification wants. NVIDIA's parser turns it into a
network; what the interpreter makes of that network is held against ONNX's outputs. `python tests/interpret/onnx_nodes.py`
(with `tests` on PYTHONPATH) prints what becomes of each case.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorrt_rtx as trt
import torch
from torch import Tensor

from interpret.interpreter import Interpreter
from interpret.reading import HELD_AS

LOW_TOLERANCE = {"float16": 2e-3, "bfloat16": 1e-2}  # of values around 1, with one rounding of each layer


@dataclass(frozen=True)
class Outcome:
    """What became of a case. `kind`: "not parsed" (`why` in the parser's words), "agrees", "differs" or "fails"."""

    name: str
    kind: str
    why: str = ""
    layers: tuple[str, ...] = ()  # LayerTypes of the network


class Silent(trt.ILogger):  # type: ignore[misc]
    """NVIDIA's messages go nowhere: what is refused is read from the parser."""

    def __init__(self) -> None:
        trt.ILogger.__init__(self)

    def log(self, severity: object, message: str) -> None:
        """Nothing."""


def cases() -> list[Any]:
    """All of ONNX's node tests, in order of their names."""
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they overflow and divide by zero on purpose
        return sorted(load_model_tests(kind="node"), key=lambda case: str(case.name))


def outcomes() -> Iterator[Outcome]:
    """What becomes of each case."""
    logger = Silent()
    builder = trt.Builder(logger)
    for case in cases():
        yield run_case(builder, logger, case)


def run_case(builder: Any, logger: Any, case: Any) -> Outcome:
    """One case through the parser and the interpreter."""
    for model in (case.model, with_constants(case)):
        network = builder.create_network(0)
        parser = trt.OnnxParser(network, logger)
        if parser.parse(model.SerializeToString()):
            break
    else:
        return Outcome(case.name, "not parsed", parser.get_error(0).desc() if parser.num_errors else "")
    layers: tuple[str, ...] = ()
    try:
        interpreter = Interpreter(network)
        layers = tuple(sorted({layer.kind for layer in interpreter.layers}))
        for given, wanted in case.data_sets:
            _run_data(interpreter, case, given, wanted)
    except (AssertionError, NotImplementedError, RuntimeError, IndexError, KeyError, TypeError, ValueError) as error:
        kind = "differs" if isinstance(error, AssertionError) else "fails"
        return Outcome(case.name, kind, f"{type(error).__name__}: {error}", layers)
    return Outcome(case.name, "agrees", "", layers)


def with_constants(case: Any) -> Any:
    """The case's model with its vectors and scalars, but not its first input, as constants: TensorRT wants axes, scales and
    modes when the network is defined.
    """
    import onnx

    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    given, _ = case.data_sets[0]
    for value, array in list(zip(case.model.graph.input, given, strict=False))[1:]:
        if not isinstance(array, np.ndarray | np.generic) or np.ndim(array) > 1:
            continue
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array), value.name))
        model.graph.input.remove(value)
    return model


def _run_data(interpreter: Interpreter, case: Any, given: list[Any], wanted: list[Any]) -> None:
    names = [value.name for value in case.model.graph.input]
    values = dict(zip(names, given, strict=False))  # the last ones may be left out
    if len(values) == len(interpreter.inputs):  # the parser may give an input another name, but keeps their order
        values = dict(zip([tensor.name for tensor in interpreter.inputs], given, strict=True))
    feeds = {tensor.name: held(values[tensor.name], HELD_AS[tensor.dtype]) for tensor in interpreter.inputs}
    results = interpreter.run(feeds)
    named = [value.name for value in case.model.graph.output]
    for name, expected in zip(named, wanted, strict=True):
        compare(name, results[name], as_array(expected), case)


def held(value: Any, dtype: torch.dtype) -> Tensor:
    """An array of NumPy or ml_dtypes, or a TensorProto, as the interpreter holds it."""
    array = as_array(value)
    if array.dtype.kind in "fiub" and array.dtype.name in _PLAIN:
        return torch.from_numpy(np.array(array)).to(dtype)
    return torch.from_numpy(array.astype(np.float32)).to(dtype)  # all of the small types fit


def as_array(value: Any) -> Any:
    """What a case gives, as an array."""
    import onnx

    return onnx.numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.asarray(value)


_PLAIN = frozenset(["float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool"])


def compare(name: str, result: Tensor, expected: Any, case: Any) -> None:
    """Raises AssertionError when an output isn't what ONNX wants."""
    wanted = held(expected, torch.float64)
    given = result.to(torch.float64)
    assert given.shape == wanted.shape, f"{name}: shape {tuple(given.shape)}, ONNX says {tuple(wanted.shape)}"
    loose = LOW_TOLERANCE.get(expected.dtype.name, 0.0)
    largest = float(wanted.nan_to_num(0, 0, 0).abs().max()) if wanted.numel() else 0.0  # what sums are rounded from
    torch.testing.assert_close(
        given,
        wanted,
        rtol=max(case.rtol, loose),
        atol=max(case.atol, loose, 1e-5 * max(1.0, largest)),
        equal_nan=True,
        msg=lambda text: f"{name}: {text}",
    )


if __name__ == "__main__":
    for outcome in outcomes():
        print(f"{outcome.kind}\t{outcome.name}\t{' '.join(outcome.why.split())[:300]}\t{' '.join(outcome.layers)}")
