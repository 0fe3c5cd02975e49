"""The file of timings: what is written is found again, and what is damaged is as good as not there."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from torch_tensorrt.contracts.partition import Trial
from torch_tensorrt.spec.settings import CompilationSettings
from torch_tensorrt.tuning.timing_cache import Measured, TimingCache, cache_path, machine

TRIALS = (
    Trial("part_0", "a", 1.5, 2.5, 1e-7, "chosen"),
    Trial("part_0", "b", 0.5, None, math.inf, "wrong"),
    Trial("part_0", "c"),
)


@pytest.fixture
def cache(tmp_path: Path) -> TimingCache:
    return TimingCache(tmp_path / "folder" / "timings.json")


def test_what_is_kept_is_found(cache: TimingCache) -> None:
    cache.keep("x", Measured("a", TRIALS))
    cache.keep("y", Measured("b", ()))
    assert cache.find("x", 300) == Measured("a", TRIALS)
    assert cache.find("y", 300) == Measured("b", ())
    assert cache.find("z", 300) is None
    assert [path.name for path in cache.path.parent.iterdir()] == ["timings.json"]


@pytest.mark.parametrize(("allowed", "found"), [(5, True), (10, True), (11, False)])
def test_what_was_cut_short_counts_until_more_time_is_allowed(cache: TimingCache, allowed: float, found: bool) -> None:
    cache.keep("x", Measured("a", TRIALS, seconds=10))
    assert (cache.find("x", allowed) is not None) == found


DAMAGED = {
    "empty": b"",
    "cut off": b'{"format": 1, "entr',
    "a list": b"[]",
    "of another format": b'{"format": 2, "entries": {}}',
    "entries in a list": b'{"format": 1, "entries": []}',
    "not text": b"\xff\xfe",
    "deep": b"[" * 100_000,
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_file_is_told_and_replaced(
    cache: TimingCache, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    cache.path.parent.mkdir()
    cache.path.write_bytes(content)
    assert cache.find("x", 1) is None
    assert str(cache.path) in caplog.text
    cache.keep("x", Measured("a", TRIALS))
    assert cache.find("x", 1) == Measured("a", TRIALS)


ENTRIES = {
    "number": 3,
    "no winner": {"trials": [], "seconds": None},
    "winner of a kind": {"winner": 3, "trials": [], "seconds": None},
    "no trials": {"winner": "a", "seconds": None},
    "seconds in words": {"winner": "a", "trials": [], "seconds": "ten"},
    "a short trial": {"winner": "a", "trials": [["part_0", "a"]], "seconds": None},
    "a number for a label": {"winner": "a", "trials": [["part_0", 1, 1, 1, 1, ""]], "seconds": None},
    "words for a number": {"winner": "a", "trials": [["part_0", "a", "1", 1, 1, ""]], "seconds": None},
}


@pytest.mark.parametrize("entry", ENTRIES.values(), ids=ENTRIES)
def test_a_damaged_entry_is_told_and_not_used(
    cache: TimingCache, entry: object, caplog: pytest.LogCaptureFixture
) -> None:
    cache.keep("y", Measured("b", ()))
    record = json.loads(cache.path.read_text())
    record["entries"]["x"] = entry
    cache.path.write_text(json.dumps(record))
    assert cache.find("x", 1) is None
    assert "measured anew" in caplog.text
    assert cache.find("y", 1) == Measured("b", ())


@pytest.mark.parametrize(("given", "name"), [("t.json", "t.json"), ("t.cache", "t.cache.json"), ("t", "t.json")])
def test_the_file_is_beside_one_that_an_sdk_may_keep(tmp_path: Path, given: str, name: str) -> None:
    settings = CompilationSettings.from_options(timing_cache_path=str(tmp_path / given))
    assert cache_path(settings) == tmp_path / name


def test_without_a_path_it_is_in_the_users_cache_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache_path(CompilationSettings()) == Path("/somewhere/torch_tensorrt/timing_cache.json")


def test_a_machine_is_told_by_its_processor_and_threads() -> None:
    known = machine(torch.device("cpu"))
    assert known["threads"] == torch.get_num_threads()
    assert known["cpu"]
    assert known["torch"] == torch.__version__
