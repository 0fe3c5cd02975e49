"""The bytes of an OpenVINO engine: the compiled model, and its source for when another OpenVINO or CPU reads them.

    u32 little-endian   length of the index
    index               JSON: {"precision": dtype, "blob": n, "literal": n, "xml": n,
                        "weights": [[source, offset, length], ...], "inputs": [...], "outputs": [...], "snippets": bool}
                        and "constants": [[name, offset, length], ...] in an engine that can be refitted,
                        "options": {property: text} in one that was compiled with engine_options
    blob                n bytes: the compiled model
    literal             n bytes: weights that the blob doesn't hold as they are
    xml                 n bytes: OpenVINO's intermediate representation; none where a compiled model was all there was (raw.py)

The index is filled up with spaces. "inputs" and "outputs" are those of wiring.py. The weights of the representation are the pieces of
"weights" one after the other; source 0 is the blob, 1 is literal. A network's weights are thus kept once, not twice.

An engine that can be refitted has no compiled model (n = 0): it is compiled when it is read. All weights are literal, which
starts at a multiple of 64 bytes (the index is padded with spaces), and "constants" says where in it each constant of the
partition lies.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from itertools import pairwise

import torch

from torch_tensorrt.contracts.mapped import Buffer, Section, find, holds, write_parts, written
from torch_tensorrt.engines.openvino.ir import Ir
from torch_tensorrt.engines.openvino.knobs import properties_from
from torch_tensorrt.engines.openvino.representation import Representation
from torch_tensorrt.engines.openvino.wiring import Wiring
from torch_tensorrt.spec.errors import FileFormatError
from torch_tensorrt.spec.json_text import not_deep
from torch_tensorrt.spec.tensor_spec import Json, dtype_from_name, dtype_name

_SMALLEST = 4096  # bytes: shorter weights are written again
_NEEDLE = 256  # bytes looked for before the whole is compared
_SCANS = 64  # how many times the length of the blob may be searched in vain: some 10 ms per 100 MB each
_FIELDS = {"precision", "blob", "literal", "xml", "weights", "inputs", "outputs", "snippets"}
_CONSTANTS, _OPTIONS = "constants", "options"
_LONG = 10**15  # as long a number as there will be
_ALIGNMENT = 64


@dataclass(frozen=True)
class Facts:
    """How a model was compiled, and which of the engine's tensors its own are. snippets: see hazards.py; knobs: see knobs.py."""

    precision: torch.dtype
    wiring: Wiring
    snippets: bool = True
    knobs: Mapping[str, str] = field(default_factory=dict)

    def to_record(self) -> dict[str, object]:
        """Their fields of the index."""
        return {
            "precision": dtype_name(self.precision),
            "inputs": self.wiring.inputs,
            "outputs": self.wiring.outputs,
            "snippets": self.snippets,
            **({_OPTIONS: dict(self.knobs)} if self.knobs else {}),
        }


@dataclass(frozen=True)
class Payload:
    """A payload taken apart; the parts are views of its memory."""

    precision: torch.dtype
    wiring: Wiring
    blob: memoryview
    literal: memoryview
    xml: memoryview
    pieces: tuple[tuple[int, int, int], ...]
    snippets: bool  # see hazards.py
    constants: tuple[tuple[str, int, int], ...] | None = None  # where they are in `literal`; None: can't be refitted
    knobs: Mapping[str, str] = field(default_factory=dict)  # see knobs.py

    def weights(self) -> bytes:
        """The weights of the intermediate representation, put together."""
        sources = (self.blob, self.literal)
        return b"".join(sources[source][offset : offset + length] for source, offset, length in self.pieces)


def write_payload(file: BytesIO, facts: Facts, export: Callable[[BytesIO], object], ir: Ir) -> None:
    """Writes the payload, whose compiled model `export` writes, to a file of `spooled`.

    The index stands first and is known last: it is written into room that is left for it, and filled up with spaces.
    """
    fixed = facts.to_record()
    longest = {**fixed, "blob": _LONG, "literal": _LONG, "xml": _LONG, "weights": [(1, _LONG, _LONG)] * len(ir.weights)}
    start, room = file.tell(), len(_text(longest))
    file.write(struct.pack("<I", room) + b" " * room)
    export(Section(file))
    begin, end = start + 4 + room, file.seek(0, os.SEEK_END)
    pieces, literal = _placed(written(file), (begin, end), ir.weights)
    write_parts(file, literal)
    file.write(ir.xml)
    sizes = {"blob": end - begin, "literal": sum(map(len, literal)), "xml": len(ir.xml)}
    file.seek(start + 4)
    file.write(_text({**fixed, **sizes, "weights": pieces}).ljust(room))
    file.seek(0, os.SEEK_END)


def _text(index: Mapping[str, object]) -> bytes:
    return json.dumps(index, separators=(",", ":")).encode()


def _placed(
    made: Buffer, blob: tuple[int, int], weights: Sequence[memoryview]
) -> tuple[list[tuple[int, int, int]], list[memoryview]]:
    """For each piece of the weights its source, offset and length; and those that the blob, a part of `made`, doesn't hold."""
    pieces: list[tuple[int, int, int]] = []
    literal: list[memoryview] = []
    (begin, end), done = blob, 0
    cursor, left = begin, _SCANS * (end - begin)
    for piece in weights:
        place = -1
        if len(piece) >= _SMALLEST and left > 0:
            place, searched = _find(made, blob, piece, cursor)
            left -= searched
        if place < 0:
            pieces.append((1, done, len(piece)))
            literal.append(piece)
            done += len(piece)
        else:
            pieces.append((0, place - begin, len(piece)))
            cursor = place + len(piece)
    return pieces, literal


def _find(made: Buffer, blob: tuple[int, int], piece: memoryview, cursor: int) -> tuple[int, int]:
    """Where the piece is, or -1, and how many bytes were searched in vain. Constants tend to come in the same order."""
    searched, (begin, last) = 0, blob
    needle = bytes(piece[:_NEEDLE])
    for start, end in ((cursor, last), (begin, min(cursor + _NEEDLE, last))):
        place = find(needle, made, start, end)
        if 0 <= place <= last - len(piece) and holds(made, place, piece):
            return place, searched
        searched += end - start
    return -1, searched


def write_refittable(file: BytesIO, facts: Facts, representation: Representation) -> None:
    """Writes the payload of an engine that can be refitted."""
    weights = representation.weights.numpy()
    index = {
        **facts.to_record(),
        "blob": 0,
        "literal": len(weights),
        "xml": len(representation.xml),
        "weights": [[1, 0, len(weights)]],
        _CONSTANTS: [[place.constant, place.offset, place.size] for place in representation.places],
    }
    header = _text(index)
    header += b" " * (-(4 + len(header)) % _ALIGNMENT)
    write_parts(file, (struct.pack("<I", len(header)), header, memoryview(weights), representation.xml))  # type: ignore[arg-type]


def read_payload(data: memoryview, ports: tuple[int, int]) -> Payload:
    """The inverse of `write_payload`; `ports` is how many inputs and outputs the engine has.

    Raises FileFormatError on anything else.
    """
    if len(data) < 4:
        raise FileFormatError(f"An OpenVINO engine of {len(data)} bytes is too short to be one.")
    length = struct.unpack_from("<I", data)[0]
    if length > len(data) - 4:
        raise FileFormatError(f"An OpenVINO engine of {len(data)} bytes announces an index of {length}.")
    try:
        index = json.loads(not_deep(bytes(data[4 : 4 + length])))
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"The index of an OpenVINO engine is not JSON: {error}") from error
    if not isinstance(index, dict) or set(index) - {_CONSTANTS, _OPTIONS} != _FIELDS:
        raise FileFormatError(f"The index of an OpenVINO engine has the wrong fields: {index!r:.200}.")
    places = list(_places(4 + length, (index["blob"], index["literal"], index["xml"])))
    if places[-1] != len(data):
        raise FileFormatError(f"An OpenVINO engine of {len(data)} bytes announces {places[-1]}.")
    blob, literal, xml = (data[start:end] for start, end in pairwise(places))
    precision = dtype_from_name(index["precision"])
    if precision not in (torch.float32, torch.bfloat16, torch.float16):
        raise FileFormatError(f"An OpenVINO engine can't compute in {precision}.")
    if not isinstance(index["snippets"], bool):
        raise FileFormatError(f"The index of an OpenVINO engine has snippets={index['snippets']!r:.60}.")
    pieces = tuple(_pieces(index["weights"], (len(blob), len(literal))))
    wiring = _wiring(index["inputs"], index["outputs"], ports)
    constants = tuple(_places_of(index[_CONSTANTS], len(literal))) if _CONSTANTS in index else None
    knobs = properties_from(index.get(_OPTIONS, {}))
    return Payload(precision, wiring, blob, literal, xml, pieces, index["snippets"], constants, knobs)


def _places_of(records: Json, limit: int) -> Iterator[tuple[str, int, int]]:
    for record in records if isinstance(records, list) else [records]:
        name, offset, length = record if isinstance(record, list) and len(record) == 3 else (None, None, None)
        if not isinstance(name, str) or type(offset) is not int or type(length) is not int:
            raise FileFormatError(f"{record!r:.60} is not the place of a constant of an OpenVINO engine.")
        if min(offset, length) < 0 or offset + length > limit or offset % _ALIGNMENT:
            raise FileFormatError(
                f"The constant {record!r:.60} of an OpenVINO engine is not in its weights, at a multiple of 64."
            )
        yield name, offset, length


def _wiring(inputs: Json, outputs: Json, ports: tuple[int, int]) -> Wiring:
    if not isinstance(inputs, list) or not isinstance(outputs, list) or len(outputs) != ports[1]:
        raise FileFormatError(f"An OpenVINO engine with {ports[1]} outputs has no place for {outputs!r:.60}.")
    numbers = [number for number in (*inputs, *outputs) if type(number) is int and number >= 0]
    if len(numbers) != len(inputs) + len(outputs) or any(number >= ports[0] for number in numbers[: len(inputs)]):
        raise FileFormatError(f"The wiring of an OpenVINO engine, {inputs!r:.60} to {outputs!r:.60}, is not one.")
    return Wiring(tuple(numbers[: len(inputs)]), tuple(numbers[len(inputs) :]))


def _places(start: int, sizes: tuple[Json, ...]) -> Iterator[int]:
    yield start
    for size in sizes:
        if type(size) is not int or size < 0:
            raise FileFormatError(f"{size!r:.60} is not the size of a part of an OpenVINO engine.")
        start += size
        yield start


def _pieces(records: Json, limits: tuple[int, int]) -> Iterator[tuple[int, int, int]]:
    if not isinstance(records, list):
        raise FileFormatError(f"The weights of an OpenVINO engine are {records!r:.60}, not a list of pieces.")
    total = 0
    for record in records:
        if not isinstance(record, list) or len(record) != 3 or not all(type(number) is int for number in record):
            raise FileFormatError(f"{record!r:.60} is not a piece of an OpenVINO engine's weights.")
        source, offset, length = (int(str(number)) for number in record)
        if source not in (0, 1) or min(offset, length) < 0 or offset + length > limits[source]:
            raise FileFormatError(f"The piece {record!r:.60} of an OpenVINO engine's weights is outside of it.")
        total += length
        if total > 2 * sum(limits) + _SMALLEST:  # pieces may overlap, but not make a small file large
            raise FileFormatError(
                f"The weights of an OpenVINO engine add up to more than its {sum(limits)} bytes allow."
            )
        yield source, offset, length
