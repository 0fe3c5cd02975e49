"""The folder of the engine cache: limits, several processes at once, and what goes wrong with disks."""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

import torch_tensorrt
from torch_tensorrt.dynamo._engine_cache import BaseEngineCache, DiskEngineCache

A, B, C = (letter * 64 for letter in "abc")


def at(cache: DiskEngineCache, hash: str) -> Path:
    return Path(cache.engine_cache_dir) / f"{hash}.trtengine"


def used(cache: DiskEngineCache, hash: str, seconds_ago: float) -> None:
    then = time.time() - seconds_ago
    os.utime(at(cache, hash), (then, then))


def test_what_was_saved_is_loaded_and_what_was_not_is_none(tmp_path: Path) -> None:
    cache = DiskEngineCache(tmp_path / "new" / "folder", 1000)
    assert cache.load(A) is None
    cache.save(A, b"one")
    cache.insert(B, b"two")
    assert (cache.load(A), cache.check(B)) == (b"one", b"two")
    cache.save(A, b"later")
    assert cache.load(A) == b"later"
    cache.discard(A)
    cache.discard(A)
    assert cache.load(A) is None
    assert isinstance(cache, BaseEngineCache)


def test_the_least_recently_used_leave_when_room_is_needed(tmp_path: Path) -> None:
    cache = DiskEngineCache(tmp_path, 100)
    for hash, age in ((A, 300), (B, 200)):
        cache.save(hash, bytes(40))
        used(cache, hash, age)
    cache.load(A)
    cache.save(C, bytes(40))
    assert [hash for hash in (A, B, C) if cache.load(hash) is not None] == [A, C]


def test_an_entry_larger_than_the_limit_is_not_kept_and_removes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = DiskEngineCache(tmp_path, 100)
    cache.save(A, bytes(60))
    cache.save(B, bytes(101))
    assert cache.load(B) is None
    assert cache.load(A) == bytes(60)
    assert "101 bytes is larger than engine_cache_size=100" in caplog.text


def test_room_is_told_and_made(tmp_path: Path) -> None:
    cache = DiskEngineCache(tmp_path, 100)
    cache.save(A, bytes(60))
    assert cache.has_available_cache_size(40)
    assert not cache.has_available_cache_size(41)
    assert not cache.clear_cache(101)
    assert cache.load(A) is None
    assert cache.clear_cache(100)


def test_files_of_others_are_left_alone_and_not_counted(tmp_path: Path) -> None:
    (tmp_path / "timings.bin").write_bytes(bytes(1000))
    cache = DiskEngineCache(tmp_path, 100)
    cache.save(A, bytes(100))
    cache.save(B, bytes(100))
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{B}.trtengine", "timings.bin"]


@pytest.mark.parametrize("name", ["../../etc/passwd", "", "a" * 63, "A" * 64, "a" * 64 + "\n", "/tmp/x"])
def test_only_hashes_name_entries(name: str, tmp_path: Path) -> None:
    cache = DiskEngineCache(tmp_path / "cache", 100)
    for use in (lambda: cache.save(name, b""), lambda: cache.load(name), lambda: cache.discard(name)):
        with pytest.raises(torch_tensorrt.InputError, match="64 hexadecimal digits"):
            use()


def part(folder: Path, host: str, pid: int) -> Path:
    path = folder / f".{A}.{host}.{pid}.x7_y.part"
    path.write_bytes(b"half")
    return path


def test_unfinished_files_of_dead_processes_are_removed_and_others_stay(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    host = socket.gethostname().replace(".", "_")
    dead, alive, elsewhere = (part(tmp_path, *who) for who in ((host, gone.pid), (host, os.getpid()), ("other", 1)))
    old = part(tmp_path, "elsewhere", 1)
    os.utime(old, (0, 0))
    DiskEngineCache(tmp_path, 100).save(B, b"new")
    assert [path.exists() for path in (dead, alive, elsewhere, old)] == [False, True, True, False]


def test_a_folder_that_is_a_file_is_warned_about_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    cache = DiskEngineCache(tmp_path / "file", 100)
    for _ in range(3):
        cache.save(A, b"x")
        assert cache.load(A) is None
    written = [record for record in caplog.records if "can't be written to" in record.message]
    assert len(written) == 1
    assert str(tmp_path / "file") in written[0].message


def test_a_full_disk_leaves_nothing_behind(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    DiskEngineCache(tmp_path, 100).save(A, b"x")
    assert list(tmp_path.iterdir()) == []
    assert "No space left on device" in caplog.text


HAMMER = """
import hashlib, random, sys
from torch_tensorrt.dynamo._engine_cache import DiskEngineCache
cache, chance = DiskEngineCache(sys.argv[1], 40_000), random.Random(sys.argv[2])
hits = 0
for _ in range(400):
    name = chance.randrange(12)
    hash = hashlib.sha256(bytes([name])).hexdigest()
    blob = cache.load(hash)
    if blob is not None:
        hits += 1
        content, digest = bytes(blob[:-32]), bytes(blob[-32:])
        assert hashlib.sha256(content).digest() == digest, "half an entry"
        assert content[0] == name, "another entry"
    else:
        content = bytes([name]) + chance.randbytes(chance.randrange(1000, 9000))
        cache.save(hash, content + hashlib.sha256(content).digest())
    if chance.random() < 0.05:
        cache.discard(hash)
print(hits)
"""


def test_four_processes_in_one_folder_never_see_half_an_entry_nor_pass_the_limit(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", HAMMER, str(tmp_path)]
    workers = [
        subprocess.Popen([*command, str(seed)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for seed in range(4)
    ]
    done = [(worker.communicate(timeout=300), worker.returncode) for worker in workers]
    assert [(code, text[1]) for text, code in done] == [(0, "")] * 4
    assert all(int(text[0]) > 20 for text, _ in done)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 40_000
    assert {path.suffix for path in tmp_path.iterdir()} == {".trtengine"}


ENDLESS = """
import sys
from torch_tensorrt.dynamo._engine_cache import DiskEngineCache
cache = DiskEngineCache(sys.argv[1], 1 << 30)
print("ready", flush=True)
number = 0
while True:
    number += 1
    cache.save("a" * 64, number.to_bytes(8, "little") * (1 << 19))
"""


@pytest.mark.skipif(os.name != "posix", reason="kill -9")
def test_a_writer_that_is_killed_leaves_a_whole_entry_and_its_rest_is_swept_up(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ENDLESS, str(tmp_path)], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(0.15)
        writer.send_signal(signal.SIGKILL)
    cache = DiskEngineCache(tmp_path, 1 << 30)
    blob = cache.load(A)
    assert blob is not None
    assert hashlib.sha256(blob).digest() == hashlib.sha256(bytes(blob[:8]) * (1 << 19)).digest()
    cache.save(B, b"x")
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{A}.trtengine", f"{B}.trtengine"]
