"""A model as OpenVINO's XML, and the weights that go with it: where they are in memory, so that they needn't be written to be kept."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from torch_tensorrt.contracts.mapped import Buffer
from torch_tensorrt.engines.openvino import sdk

_LAYER = re.compile(
    rb'(<layer [^>]*name="([^"]*)" type="Const"[^>]*>\s*<data [^>]*?offset=")\d+("[^>]*?size=")(\d+)(")'
)
_PLACE = re.compile(rb'<data\b[^>]*?\boffset="(\d+)"[^>]*?\bsize="(\d+)"')
_SMALL = 4096  # bytes: copied


@dataclass(frozen=True)
class Ir:
    """weights: pieces that follow one another; `keep` owns their memory. A constant of the model is one piece."""

    xml: bytes
    weights: tuple[memoryview, ...]
    keep: object = None


def represent_in_place(model: sdk.Model) -> Ir:
    """The XML of `model` with its own constants' memory, or a file's where a constant has another form there."""
    return _in_memory(model) or in_pieces(*sdk.write_ir(model))


def _in_memory(model: sdk.Model) -> Ir | None:
    """None where a constant isn't written as it is in memory (one with several numbers in a byte)."""
    constants = sdk.name_constants(model)
    places: dict[tuple[int, int], int] = {}  # address, bytes -> offset: tensors that are tied are written once
    pieces: list[memoryview] = []
    end, odd = 0, False

    def put(match: re.Match[bytes]) -> bytes:
        nonlocal end, odd
        array, size = constants[match[2].decode()], int(match[4])
        odd = odd or max(array.nbytes, 1) != size  # an empty constant is written as one byte
        offset = places.setdefault((array.ctypes.data, size), end) if array.size else end
        if offset == end:
            pieces.append(_bytes(array))
            end += size
        return b"".join((match[1], str(offset).encode(), match[3], match[4], match[5]))

    xml = _LAYER.sub(put, sdk.write_xml(model))
    return None if odd or xml.count(b'type="Const"') != len(constants) else Ir(xml, tuple(pieces), constants)


def _bytes(array: sdk.Array) -> memoryview:
    """Its memory; a copy where it is small."""
    if array.nbytes < _SMALL:
        return memoryview(array.tobytes() or b"\0")
    return memoryview(array.reshape(-1).view("u1"))  # type: ignore[arg-type]


def in_pieces(xml: bytes, weights: Buffer) -> Ir:
    """The same for weights in one piece, cut where the XML says that a constant begins or ends."""
    found = {(int(offset), int(offset) + int(size)) for offset, size in _PLACE.findall(xml)}
    return Ir(xml, tuple(_cut(memoryview(weights), found)), weights)


def _cut(weights: memoryview, found: set[tuple[int, int]]) -> Iterator[memoryview]:
    done = 0
    for start, end in sorted(found):
        if start >= done and end <= len(weights):
            yield from (weights[done:start], weights[start:end])
            done = end
    yield weights[done:]
