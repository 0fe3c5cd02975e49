"""Which C++ compiler the inductor engine takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from torch_tensorrt.engines.inductor import cxx
from torch_tensorrt.observe import log
from torch_tensorrt.spec.errors import EngineNotRunnable


def command(folder: Path, name: str, library: str) -> str:
    """A compiler that says this of its C++ library."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n[ \"$1\" = --version ] || echo '{library}'\n")
    path.chmod(0o755)
    return str(path)


@pytest.fixture(autouse=True)
def _forget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "_told", set(), raising=False)


def asked(monkeypatch: pytest.MonkeyPatch, wanted: list[str], others: tuple[str, ...] = ()) -> str:
    monkeypatch.setattr(cxx, "_inductors_choice", lambda: wanted)
    monkeypatch.setattr(cxx, "_OTHERS", others)
    return cxx.compiler()


def test_inductors_own_choice_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    good = command(tmp_path, "good", "/usr/lib/libstdc++.so")
    assert asked(monkeypatch, ["absent-compiler", good]) == good


def test_one_without_a_shared_library_is_replaced_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bad, good = command(tmp_path, "bad", "libstdc++.so"), command(tmp_path, "good", "/usr/lib/libstdc++.so")
    assert asked(monkeypatch, [bad], ("absent-compiler", good)) == good
    assert bad in caplog.text
    assert good in caplog.text


def test_it_is_taken_when_there_is_no_other(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bad = command(tmp_path, "bad", "libstdc++.so")
    assert asked(monkeypatch, [bad], (bad,)) == bad


def test_none_at_all_is_an_error_that_names_those_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EngineNotRunnable, match="absent-compiler"):
        asked(monkeypatch, ["absent-compiler"], ("g++",))
