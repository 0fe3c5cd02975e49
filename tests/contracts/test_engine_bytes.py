"""The header of an engine: what is written comes back, and every other sequence of bytes is a FileFormatError."""

from __future__ import annotations

import struct

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torch_tensorrt.contracts.engine import EngineSpec
from torch_tensorrt.contracts.engine_bytes import MAGIC, VERSION, decode, encode
from torch_tensorrt.spec.errors import FileFormatError
from torch_tensorrt.spec.tensor_spec import TensorSpec

SPEC = EngineSpec(
    name="part_0",
    backend="eager",
    format_version=1,
    target="cpu",
    settings_key="0" * 16,
    inputs=(TensorSpec("x", torch.float32, (2, 3)),),
    outputs=(TensorSpec("y", torch.float32, (2, 3)),),
    versions={"torch": "2.13.0"},
)
BYTES = encode(SPEC, b"payload" * 10)


@given(st.binary(max_size=300), st.text(max_size=20))
@settings(max_examples=50, deadline=None)
def test_any_payload_and_name_come_back(payload: bytes, name: str) -> None:
    spec = EngineSpec(name, "eager", 1, "cpu", "", SPEC.inputs, SPEC.outputs, {})
    data = encode(spec, payload)
    found, rest = decode(memoryview(data))
    assert found == spec
    assert bytes(rest) == payload
    assert (len(data) - len(payload)) % 64 == 0


@given(st.integers(0, len(BYTES) - 1), st.integers(1, 255))
@settings(max_examples=300, deadline=None)
def test_no_changed_byte_goes_unnoticed(place: int, change: int) -> None:
    """Save in the header's notes on who wrote it, which nothing depends on."""
    data = bytearray(BYTES)
    data[place] ^= change
    try:
        found, payload = decode(memoryview(bytes(data)))
    except FileFormatError:
        return
    assert bytes(payload) == b"payload" * 10
    start, end = data.index(b'"python"'), data.index(b'"spec"')
    torch_version = data.rindex(b'"torch"')
    assert found != SPEC or start < place < end or place > torch_version


@given(st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_other_bytes_are_refused(data: bytes) -> None:
    for start in (b"", MAGIC, struct.pack("<8sII", MAGIC, VERSION, len(data))):
        with pytest.raises(FileFormatError):
            decode(memoryview(start + data))


def test_every_cut_is_noticed() -> None:
    for length in range(len(BYTES)):
        with pytest.raises(FileFormatError):
            decode(memoryview(BYTES[:length]))
    with pytest.raises(FileFormatError):
        decode(memoryview(BYTES + b"\0"))


def test_a_version_of_the_future_is_named() -> None:
    newer = BYTES[:8] + struct.pack("<I", VERSION + 1) + BYTES[12:]
    with pytest.raises(FileFormatError, match=f"format {VERSION + 1}"):
        decode(memoryview(newer))
