"""Inputs, result form and version of an ExportedProgram, from its JSON alone: what an inspection shows of files without our own
metadata. Nothing is evaluated: a size's expression is only searched for the name of its symbol.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from torch_tensorrt.spec.errors import FileFormatError
from torch_tensorrt.spec.tensor_spec import Json

# The numbers that torch.export writes for dtypes.
_DTYPES = {
    1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int64", 6: "float16", 7: "float32", 8: "float64", 9: "complex32",
    10: "complex64", 11: "complex128", 12: "bool", 13: "bfloat16", 28: "uint16", 29: "float8_e4m3fn", 30: "float8_e5m2",
}  # fmt: skip
_SYMBOL = re.compile(r"Symbol\('(\w+)'[^()]*\)")
_LONGEST = 2000


def describe_program(program: Mapping[str, Json]) -> dict[str, Json]:
    """{"torch": version, "inputs": tensors as TensorSpec writes them, "signature": names}.

    Raises FileFormatError when the JSON isn't laid out as torch.export does it.
    """
    try:
        return _describe(program)
    except (KeyError, TypeError, AttributeError, IndexError, StopIteration) as error:
        raise FileFormatError(
            f"The program is not described as torch.export does it ({type(error).__name__}: {error})."
        ) from error


def _describe(program: Mapping[str, Json]) -> dict[str, Json]:
    graph = _object(_object(program["graph_module"])["graph"])
    signature = _object(_object(program["graph_module"])["signature"])
    ranges = _object(program["range_constraints"])
    values = _object(graph["tensor_values"])
    inputs: list[Json] = []
    names: list[Json] = []
    for name in _user_inputs(signature):
        names.append(name)
        if name in values:
            value = _object(values[name])
            shape: list[Json] = [_size(size, ranges) for size in _list(value["sizes"])]
            number = value["dtype"]
            dtype = _DTYPES.get(number, f"dtype number {number}") if isinstance(number, int) else str(number)
            inputs.append(
                {"name": name, "dtype": dtype, "shape": shape, "device": str(_object(value["device"])["type"])}
            )
    results = sum("user_output" in _object(spec) for spec in _list(signature["output_specs"]))
    return {
        "torch": str(program.get("torch_version", "")),
        "inputs": inputs,
        "signature": {"arguments": names, "results": results},
    }


def _user_inputs(signature: Mapping[str, Json]) -> Iterator[str]:
    for spec in _list(signature["input_specs"]):
        given = _object(spec).get("user_input")
        if given is not None:
            argument = _object(_object(given)["arg"])
            yield str(_object(next(iter(argument.values())))["name"])


def _size(size: Json, ranges: Mapping[str, Json]) -> Json:
    record = _object(size)
    if "as_int" in record:
        return record["as_int"]
    expression = _object(record["as_expr"])
    text = str(expression["expr_str"])[:_LONGEST]
    hint = _object(expression.get("hint") or {"as_int": 0}).get("as_int", 0)
    symbol = _SYMBOL.fullmatch(text)
    low: Json = 0
    high: Json = None
    if symbol is not None and symbol[1] in ranges:
        bounds = _object(ranges[symbol[1]])
        low, high = bounds["min_val"], bounds["max_val"]
    return {"expr": _SYMBOL.sub(r"\1", text), "min": low or 0, "opt": hint, "max": high}


def _object(value: Json) -> dict[str, Json]:
    if not isinstance(value, dict):
        raise TypeError(f"an object was expected, not {value!r:.60}")
    return value


def _list(value: Json) -> list[Json]:
    if not isinstance(value, list):
        raise TypeError(f"a list was expected, not {value!r:.60}")
    return value
