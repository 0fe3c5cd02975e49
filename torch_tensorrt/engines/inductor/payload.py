"""The bytes of an inductor engine: native code, and the program that it was compiled from.

    u32 little-endian   length of the index
    index               JSON: {"package": n, "program": n, "literal": n, "formats": [...],
                        "frozen": bool, "apart": bool, "refittable": bool, "tf32": bool,
                        ("max_autotune", "coordinate_descent_tuning", "measured": bool, where true,)
                        "weights": [[name, dtype, shape, stride, source, offset], ...]}
    zeros               up to a multiple of 64 from the start
    package             n bytes: the .pt2 package of AOTInductor; with "apart", it is to be given "weights"
    zeros               up to a multiple of 64
    program             n bytes: the archive of torch.export.save; its first arguments are "weights", in order
    zeros               up to a multiple of 64
    literal             n bytes

Weights are places in the package (source 0) or in literal (source 1), of which each starts at a multiple of 64 from the start of
literal. "formats": the memory format of each input.
"""

from __future__ import annotations

import dataclasses
import json
import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from torch_tensorrt.engines.inductor.programs import FORMATS
from torch_tensorrt.engines.inductor.sdk import Choices
from torch_tensorrt.spec.errors import FileFormatError
from torch_tensorrt.spec.json_text import not_deep
from torch_tensorrt.spec.tensor_spec import Json, dtype_from_name, dtype_name

_ALIGNMENT = 64
_SMALLEST = 4096  # bytes: shorter weights are written again
_NEEDLE = 256  # bytes looked for before the whole is compared
_CHOICES = tuple(field.name for field in dataclasses.fields(Choices) if field.default is dataclasses.MISSING)
_LATER = tuple(field.name for field in dataclasses.fields(Choices) if field.name not in _CHOICES)  # written where true
_FIELDS = {
    **dict.fromkeys(("package", "program", "literal"), int),
    **dict.fromkeys(_CHOICES, bool),
    **dict.fromkeys(("formats", "weights"), list),
}


@dataclass(frozen=True)
class Payload:
    """What an engine is made of. Weights may be views of the memory that the payload was read from."""

    package: bytes | memoryview
    program: bytes | memoryview
    weights: Mapping[str, Tensor]
    choices: Choices
    formats: tuple[str, ...]  # keys of FORMATS

    def write(self) -> bytes:
        """The bytes that `read_payload` reads."""
        records: list[Json] = []
        literal: list[bytes] = []
        written = 0
        package = bytes(self.package)
        for name, weight in self.weights.items():
            data = _memory(weight)
            place = package.find(data[:_NEEDLE]) if not self.choices.apart and len(data) >= _SMALLEST else -1
            inside = place >= 0 and package[place : place + len(data)] == data
            head: list[Json] = [name, dtype_name(weight.dtype), list(weight.shape), list(weight.stride())]
            records.append([*head, 0, place] if inside else [*head, 1, written])
            if not inside:
                padded = data + b"\0" * (-len(data) % _ALIGNMENT)
                literal.append(padded)
                written += len(padded)
        index: dict[str, Json] = {
            "package": len(package),
            "program": len(self.program),
            "literal": written,
            **{name: on for name, on in dataclasses.asdict(self.choices).items() if name in _CHOICES or on},
            "formats": list(self.formats),
            "weights": records,
        }
        header = json.dumps(index, separators=(",", ":")).encode()
        parts = [struct.pack("<I", len(header)) + header, package, bytes(self.program)]
        return b"".join([*(part + b"\0" * (-len(part) % _ALIGNMENT) for part in parts), *literal])


def _memory(weight: Tensor) -> bytes:
    """The memory of a tensor without gaps, whatever the order of its dimensions."""
    return bytes(weight.cpu().as_strided((weight.numel(),), (1,)).view(torch.uint8).numpy()) if weight.numel() else b""


def read_payload(data: memoryview, inputs: int) -> Payload:
    """The inverse of `Payload.write`; `inputs` is how many the engine has. Raises FileFormatError on anything else."""
    index, start = _read_index(data)
    package, program, literal = _sections(data, index, start)
    formats = index["formats"]
    assert isinstance(formats, list)
    if len(formats) != inputs or not all(isinstance(name, str) and name in FORMATS for name in formats):
        raise FileFormatError(f"An inductor engine with {inputs} inputs can't take them as {formats!r:.100}.")
    weights = dict(_weights(index["weights"], (package, literal)))
    choices = Choices(**{name: bool(index[name]) for name in (*_CHOICES, *_LATER) if name in index})
    return Payload(package, program, weights, choices, tuple(map(str, formats)))


def _read_index(data: memoryview) -> tuple[dict[str, Json], int]:
    if len(data) < 4:
        raise FileFormatError(f"An inductor engine of {len(data)} bytes is too short to be one.")
    length = struct.unpack_from("<I", data)[0]
    if length > len(data) - 4:
        raise FileFormatError(f"An inductor engine of {len(data)} bytes announces an index of {length}.")
    try:
        index = json.loads(not_deep(bytes(data[4 : 4 + length])))
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"The index of an inductor engine is not JSON: {error}") from error
    later = dict.fromkeys(_LATER, bool)
    found = {key: type(value) for key, value in index.items()} if isinstance(index, dict) else {}
    if not isinstance(index, dict) or {**later, **found} != {**later, **_FIELDS}:
        raise FileFormatError(f"The index of an inductor engine has the wrong fields: {index!r:.200}.")
    return index, 4 + length


def _sections(data: memoryview, index: Mapping[str, Json], start: int) -> Iterator[memoryview]:
    """The three sections; they fill the data to its last byte."""
    found = []
    for name in ("package", "program", "literal"):
        size = index[name]
        assert isinstance(size, int)
        start += -start % _ALIGNMENT
        if size < 0 or start + size > len(data):
            raise FileFormatError(
                f"The {name} of an inductor engine of {len(data)} bytes can't be {size} bytes at {start}."
            )
        found.append(data[start : start + size])
        start += size
    if start != len(data):
        raise FileFormatError(f"An inductor engine of {len(data)} bytes announces {start}.")
    return iter(found)


def _weights(records: Json, sources: tuple[memoryview, memoryview]) -> Iterator[tuple[str, Tensor]]:
    assert isinstance(records, list)
    for record in records:
        if not isinstance(record, list) or [type(part) for part in record] != [str, str, list, list, int, int]:
            raise FileFormatError(f"{record!r:.100} does not describe a weight of an inductor engine.")
        name, dtype = str(record[0]), dtype_from_name(record[1])
        (shape, stride), (source, offset) = (_numbers(part) for part in record[2:4]), _numbers(record[4:])
        if len(shape) != len(stride) or source >= len(sources):
            raise FileFormatError(f"{record!r:.100} does not describe a weight of an inductor engine.")
        yield name, _weight(name, dtype, (shape, stride), sources[source][offset:])


def _numbers(given: Json) -> list[int]:
    assert isinstance(given, list)
    numbers = [number for number in given if type(number) is int and 0 <= number < 2**48]
    if len(numbers) != len(given):
        raise FileFormatError(f"{given!r:.100} in an inductor engine are not sizes or places.")
    return numbers


def _weight(name: str, dtype: torch.dtype, layout: tuple[list[int], list[int]], memory: memoryview) -> Tensor:
    shape, stride = layout
    count = math.prod(shape)
    reach = 1 + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
    if count > 0 and (count != reach or count * dtype.itemsize > len(memory)):
        raise FileFormatError(f"Weight {name!r} of an inductor engine, {shape} with strides {stride}, is not in it.")
    memory = memory[: count * dtype.itemsize]
    if count == 0:
        return torch.empty_strided(shape, stride, dtype=dtype)
    flat = torch.frombuffer(bytearray(memory) if memory.readonly else memory, dtype=torch.uint8)
    if flat.data_ptr() % _ALIGNMENT:  # code for vectors and PyTorch's own kernels want it so
        flat = flat.clone()
    return flat.view(dtype).as_strided(shape, stride)
