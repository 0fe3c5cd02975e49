"""Large bytes in mapped files: the same bytes as in memory, no pages kept, and memory where files can't be written."""

from __future__ import annotations

import hashlib
import io
import mmap
import random
from collections.abc import Sequence
from pathlib import Path

import numpy
import pytest
import torch
from torch import Tensor

from torch_tensorrt.contracts import engine_bytes, mapped
from torch_tensorrt.contracts.engine import Engine, EngineSpec

SPEC = EngineSpec("part_0", "eager", 1, "any", "key", (), ())
posix = pytest.mark.skipif(not mapped.CAN_MAP, reason="mapped files can't be removed here")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few kilobytes are large."""
    monkeypatch.setattr(mapped, "LARGE", 1000)
    monkeypatch.setattr(mapped, "_CHUNK", 512)


@posix
def test_what_is_written_in_pieces_and_out_of_order_is_mapped(small: None) -> None:
    def write(file: io.BytesIO) -> None:
        file.write(b"....")
        file.write(b"x" * 2000)
        assert file.tell() == 2004
        assert bytes(mapped.written(file)) == b"...." + b"x" * 2000
        file.seek(0)
        file.write(b"head")
        file.seek(0, 2)
        file.write(b"tail")

    made = mapped.spooled(write)
    assert isinstance(made, mmap.mmap)
    assert made[:] == b"head" + b"x" * 2000 + b"tail"


def test_what_is_small_stays_in_memory() -> None:
    def write(file: io.BytesIO) -> None:
        file.write(b"abc")
        assert mapped.written(file) == b"abc"

    assert mapped.spooled(write) == b"abc"


@pytest.mark.parametrize("before", [b"", b"before" * 300])
def test_a_section_of_a_file_begins_where_the_file_is(small: None, before: bytes) -> None:
    def write(file: io.BytesIO) -> None:
        file.write(before)
        section = mapped.Section(file)
        section.write(b"...." + b"x" * 700)
        assert section.tell() == 704
        assert section.seek(2) == 2
        section.write(b"ab")
        assert section.seek(-4, 2) == 700

    assert bytes(mapped.spooled(write)) == before + b"..ab" + b"x" * 700


@posix
def test_a_folder_that_takes_no_files_is_warned_about(
    small: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(**_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(mapped.tempfile, "TemporaryFile", refuse)
    messages: list[str] = []
    monkeypatch.setattr(mapped._log, "warning", lambda text, *args: messages.append(text % args))
    assert mapped.spooled(lambda file: file.write(b"y" * 2000)) == b"y" * 2000
    assert "No space left" in messages[0]


@posix
def test_a_disk_that_is_full_when_the_file_is_flushed_is_warned_about(
    small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(io.BytesIO):
        def flush(self) -> None:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(mapped.tempfile, "TemporaryFile", lambda **_: Full())
    messages: list[str] = []
    monkeypatch.setattr(mapped._log, "warning", lambda text, *args: messages.append(text % args))
    assert mapped.spooled(lambda file: file.write(b"y" * 2000)) == b"y" * 2000
    assert "No space left" in messages[0]


@posix
def test_an_error_of_the_writer_is_not_taken_for_a_full_disk(small: None) -> None:
    def fail(file: io.BytesIO) -> None:
        raise RuntimeError("the SDK's own")

    with pytest.raises(RuntimeError, match="the SDK's own"):
        mapped.spooled(fail)


class Written(Engine):
    """An engine that writes its payload in pieces, the first of them last."""

    def __init__(self, payload: bytes) -> None:
        self.spec, self.payload = SPEC, payload

    def run(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        raise NotImplementedError

    def to_bytes(self) -> bytes:
        return self.payload

    def write_payload(self, file: io.BytesIO) -> None:
        start = file.tell()
        file.write(b"...")
        mapped.write_parts(file, (memoryview(self.payload)[3:10], self.payload[10:]))
        file.seek(start)
        file.write(self.payload[:3])


@pytest.mark.parametrize("size", [10, 999, 5000])
def test_a_large_engine_has_the_bytes_of_a_small_one(small: None, size: int) -> None:
    payload = random.Random(0).randbytes(size)
    made = engine_bytes.encode_engine(Written(payload))
    spec, found = engine_bytes.decode(memoryview(made))
    assert (spec, bytes(found)) == (SPEC, payload)
    assert found.obj is not None
    assert (len(made) - size) % 64 == 0
    assert torch.frombuffer(made, dtype=torch.uint8).add_(0).numel() == len(made)


@posix
def test_a_file_that_is_read_mapped_may_be_removed(small: None, tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"z" * 4000)
    made = mapped.read_mapped(path)
    path.unlink()
    mapped.release(made)
    assert hashlib.sha256(made).digest() == hashlib.sha256(b"z" * 4000).digest()


def in_two_forms(content: bytes, path: Path) -> list[mapped.Buffer]:
    path.write_bytes(content)
    return [content, mapped.read_mapped(path)]


def test_finding_and_comparing_cross_the_borders_of_chunks(small: None, tmp_path: Path) -> None:
    content = random.Random(1).randbytes(4000)
    for buffer in in_two_forms(content, tmp_path / "content"):
        for place in (0, 500, 511, 512, 513, 3990):
            wanted = content[place : place + 10]
            assert mapped.find(wanted, buffer, 0, len(buffer)) == place
            assert mapped.find(wanted, buffer, place + 1, len(buffer)) == -1
        assert mapped.find(content[700:710], buffer, 0, 709) == -1
        assert mapped.holds(buffer, 100, memoryview(content)[100:])
        assert not mapped.holds(buffer, 100, memoryview(content)[101:3100])
        assert not mapped.holds(buffer, 3990, memoryview(content[3990:] + b"more"))
        assert b"".join(bytes(chunk) for chunk in mapped.chunks(buffer)) == content


def resident(part: memoryview) -> int:
    """Bytes of the mapping of `part` that are in memory."""
    address, found = numpy.frombuffer(part, dtype=numpy.uint8).ctypes.data, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        first, _, last = line.split()[0].partition("-")
        if last and "-" not in last and len(first) > 6:
            found = int(first, 16) <= address < int(last, 16)
        elif found and line.startswith("Rss:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("it isn't mapped")


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="the memory of a mapping is read from /proc")
def test_a_mapped_file_leaves_memory_when_it_was_read_once(tmp_path: Path) -> None:
    size = 2 * mapped.LARGE
    path = tmp_path / "weights"
    path.write_bytes(b"\1" * size)
    part = memoryview(mapped.read_mapped(path))
    with mapped.read_once(part):
        assert sum(map(sum, (part[at : at + 4096] for at in range(0, size, 2**20)))) == size // 2**20 * 4096
    assert resident(part) < size // 10
    assert part[size - 1] == 1


def test_memory_that_is_no_file_is_left_alone() -> None:
    memory = bytearray(b"\2" * mapped.LARGE)
    with mapped.read_once(memoryview(memory)):
        pass
    mapped.release(memoryview(memory))
    assert memory.count(2) == mapped.LARGE
