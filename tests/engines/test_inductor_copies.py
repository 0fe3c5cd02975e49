"""Copies of an engine's code: which one a run gets, so that captured runs never take a runner whose end nobody can ask for."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from torch_tensorrt import EngineNotRunnable
from torch_tensorrt.engines.inductor.copies import Copies


class Code:
    """A copy: counts the runners that it has lent, and refuses to run out of them in a capture."""

    def __init__(self, other: Code | None) -> None:
        self.other, self.eager, self.captured = other, 0, 0


class Machine:
    """Loads copies; `capturing` says what CUDA would."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, runners: int = 4) -> None:
        self.capturing, self.loaded = False, list[Code]()
        monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: self.capturing)
        self.copies = Copies("part_0", self.load, runners)

    def load(self, other: Code | None) -> Code:
        assert not self.capturing, "loading can't be captured"
        self.loaded.append(Code(other))
        return self.loaded[-1]

    def run(self) -> Code:
        copy = (None if self.capturing else self.copies.ready) or self.copies.take()
        copy.eager += not self.capturing
        copy.captured += self.capturing
        return copy

    def capture(self) -> Code:
        self.capturing = True
        try:
            return self.run()
        finally:
            self.capturing = False


def test_a_few_runs_load_the_code_once(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    assert machine.run() is machine.run()
    assert len(machine.loaded) == 1


def test_many_runs_use_a_copy_that_no_capture_ever_does(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    runs = [machine.run() for _ in range(10)]
    spare, main = machine.loaded
    assert runs == [spare] * 2 + [main] * 8
    assert machine.copies.ready is main
    assert main.other is spare
    assert machine.capture() is spare


def test_a_copy_is_captured_as_often_as_it_has_runners_left(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    for _ in range(7):
        machine.run()
        machine.run()
        machine.capture()
    for copy in machine.loaded:
        assert copy.captured == 0 or copy.captured + copy.eager <= 4
    assert sum(copy.captured for copy in machine.loaded) == 7


def test_a_capture_without_a_run_before_it_is_an_error_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    with pytest.raises(EngineNotRunnable, match=r"'part_0' was to be captured .* without a run before"):
        machine.capture()
    machine.run()
    machine.capture()


def test_on_a_cpu_there_is_one_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, runners=0)
    assert len({id(machine.run()) for _ in range(5)}) == len(machine.loaded) == 1


def test_threads_load_two_copies_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: machine.run(), range(200)))
    assert len(machine.loaded) == 2
