"""The progress bar: on a terminal only, after a second only, and gone at the end."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr

import pytest

from torch_tensorrt.observe import progress as room
from torch_tensorrt.observe.progress import Steps, monitoring, progress


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True

    def wait_for(self, text: str) -> None:
        """Returns when `text` was written, or fails after ten seconds."""
        until = time.monotonic() + 10
        while text not in self.getvalue():
            assert time.monotonic() < until, f"{text!r} never came: {self.getvalue()!r}"
            time.sleep(0.01)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    """A terminal, and no patience."""
    stream = Terminal()
    monkeypatch.setattr(room, "PATIENCE_SECONDS", 0.0)
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    yield stream
    assert not room._drawing.locked(), "the next bar could not be drawn"
    assert room._screen == [], "a drawing was left on the screen"


@contextmanager
def progress_on(stream: Terminal, title: str, total: int) -> Iterator[Steps]:
    """`progress` in a program whose stderr is `stream`."""
    with redirect_stderr(stream), progress(title, total) as steps:
        yield steps


def test_a_bar_shows_the_steps_done_out_of_those_known(terminal: Terminal) -> None:
    with progress_on(terminal, "Building engines", 3) as steps:
        terminal.wait_for("0/3")
        steps.advance("part_0")
        terminal.wait_for("1/3")
    assert "Building engines" in terminal.getvalue()
    assert "Building engines: part_0" in terminal.getvalue()
    assert "%" not in terminal.getvalue()


def test_a_bar_comes_while_the_only_step_still_runs(terminal: Terminal) -> None:
    with progress_on(terminal, "Building engines", 1):
        terminal.wait_for("0/1")


def test_a_bar_counts_no_more_steps_than_there_are(terminal: Terminal) -> None:
    with progress_on(terminal, "Building engines", 1) as steps:
        terminal.wait_for("0/1")
        steps.advance("a")
        steps.advance("b")
        terminal.wait_for(": b")
    assert "2/1" not in terminal.getvalue()


def test_brackets_in_a_name_are_no_markup(terminal: Terminal) -> None:
    with progress_on(terminal, "Building", 1) as steps:
        steps.advance("[bold]part[/nothing]")
        terminal.wait_for("[bold]part[/nothing]")


@pytest.mark.parametrize("fails", [False, True])
def test_a_bar_is_wiped_off_and_the_cursor_comes_back(terminal: Terminal, fails: bool) -> None:
    def work() -> None:
        with progress_on(terminal, "Building", 1):
            terminal.wait_for("0/1")
            if fails:
                raise KeyError("the work failed")

    if fails:
        with pytest.raises(KeyError, match="the work failed"):
            work()
    else:
        work()
    shown = terminal.getvalue()
    assert shown.rindex("\x1b[2K") > shown.rindex("0/1"), "the line is erased after it was drawn"
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l"), "the cursor is shown after it was hidden"
    assert terminal_lines(shown) == [""]


def terminal_lines(shown: str) -> list[str]:
    """What a terminal would show in the end, for the few control codes that a bar uses."""
    lines, at = [""], 0
    for token in split_codes(shown):
        if token == "\n":
            at += 1
            lines += [""] * (at + 1 - len(lines))
        elif token == "\x1b[1A":
            at -= 1
        elif token == "\x1b[2K":
            lines[at] = ""
        elif token != "\r" and not token.startswith("\x1b"):
            lines[at] += token
    return lines[: at + 1] if not any(lines[at + 1 :]) else lines


def split_codes(shown: str) -> Iterator[str]:
    """Control codes and the text between them."""
    yield from (token for token in re.split(r"(\x1b\[[?0-9;]*[A-Za-z]|\r|\n)", shown) if token)


def test_work_within_other_work_has_a_line_below_it_and_leaves_it(terminal: Terminal) -> None:
    with progress_on(terminal, "outer", 1) as outer:
        terminal.wait_for("outer")
        with progress_on(terminal, "inner", 7) as steps:
            terminal.wait_for("0/7")
            steps.advance("a step")
            terminal.wait_for("inner: a step")
        outer.advance("whole")
        terminal.wait_for("outer: whole")
    assert terminal_lines(terminal.getvalue()) == [""]
    with progress_on(terminal, "next", 1):
        terminal.wait_for("next")


def test_work_in_another_thread_may_end_later_than_that_which_drew_first(terminal: Terminal) -> None:
    first, second = Steps("first", 1), Steps("second", 3)
    for steps in (first, second):
        steps._draw(terminal)
    first.close()
    second.advance("on its own")
    terminal.wait_for("second: on its own")
    second.close()


def test_quick_work_draws_nothing(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "PATIENCE_SECONDS", 0.2)
    with progress_on(terminal, "Building", 1) as steps:
        steps.advance("a")
    time.sleep(0.4)
    assert terminal.getvalue() == ""


def test_a_timer_that_fires_too_late_draws_nothing(terminal: Terminal) -> None:
    steps = Steps("Building", 1)
    steps.close()
    steps._draw(terminal)
    assert terminal.getvalue() == ""


def test_the_patience_is_a_second() -> None:
    assert room.PATIENCE_SECONDS == 1.0


@pytest.mark.parametrize("stream", [io.StringIO(), None], ids=["a pipe", "no stderr"])
def test_without_a_terminal_nothing_is_drawn(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO | None) -> None:
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(room, "PATIENCE_SECONDS", 0.0)
    before = threading.active_count()
    with progress("Building", 1) as steps:
        steps.advance("a")
        assert threading.active_count() == before
    assert stream is None or stream.getvalue() == ""


def test_the_streams_of_the_program_are_left_alone(terminal: Terminal) -> None:
    stdout = sys.stdout
    with progress_on(terminal, "Building", 1):
        terminal.wait_for("0/1")
        assert (sys.stdout, sys.stderr) == (stdout, terminal)


def test_without_rich_there_is_no_bar_and_no_error(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "rich"] + ["rich", "rich.console"]:
        monkeypatch.setitem(sys.modules, name, None)
    with progress_on(terminal, "Building", 1) as steps:
        time.sleep(0.1)
        steps.advance("a")
    assert terminal.getvalue() == ""


def test_rich_is_imported_only_to_draw() -> None:
    code = "import sys; from torch_tensorrt.observe.progress import progress\n"
    code += "with progress('a', 1) as steps: steps.advance('b')\nprint('rich' in sys.modules)"
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert (done.stdout, done.stderr) == ("False\n", "")


def test_while_builds_are_monitored_each_step_is_logged_with_its_time(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "torch_tensorrt"), monitoring(True), progress("part_0", 2) as steps:
        steps.advance("converted")
        steps.advance("compiled")
    assert [re.sub(r"[\d.]+ s", "T s", text) for text in caplog.messages] == [
        "part_0: converted, 1 of 2, T s",
        "part_0: compiled, 2 of 2, T s",
    ]


def test_where_builds_are_not_to_be_monitored_no_bar_comes(
    terminal: Terminal, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "torch_tensorrt"), monitoring(False), progress_on(terminal, "part_0", 1) as steps:
        with monitoring(True), progress_on(terminal, "inner", 1):
            terminal.wait_for("inner")
        steps.advance("compiled")
    assert "part_0" not in terminal.getvalue()
    assert caplog.messages == []


def test_a_monitored_bar_comes_without_patience(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "PATIENCE_SECONDS", 1000.0)
    with monitoring(True), progress_on(terminal, "part_0", 1):
        terminal.wait_for("part_0")
