"""What is logged, how loud, and where it goes."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

import torch_tensorrt
from torch_tensorrt import InputError
from torch_tensorrt.observe.log import GRAPHS, ROOT, AtLevel, logger, warn_once

LEVELS = {
    "internal_errors": logging.CRITICAL,
    "errors": logging.ERROR,
    "warnings": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
    "graphs": GRAPHS,
}
root = logging.getLogger(ROOT)


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    level, handlers = root.level, list(root.handlers)
    yield
    root.setLevel(level)
    root.handlers[:] = handlers


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("trace", "torch_tensorrt.trace"),
        ("torch_tensorrt", "torch_tensorrt"),
        ("torch_tensorrt.trace", "torch_tensorrt.trace"),
        ("torch_tensorrt_other", "torch_tensorrt.torch_tensorrt_other"),
    ],
)
def test_every_logger_is_below_the_one_of_the_package(given: str, name: str) -> None:
    assert logger(given).name == name


def test_a_warning_with_a_known_key_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger=ROOT):
        warn_once("test key 1", "first %s 100%")
        warn_once("test key 1", "again")
        warn_once("test key 2", "other")
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (logging.WARNING, "first %s 100%"),
        (logging.WARNING, "other"),
    ]


def test_sixteen_threads_say_a_warning_once(caplog: pytest.LogCaptureFixture) -> None:
    barrier = threading.Barrier(16)

    def say() -> None:
        barrier.wait()
        warn_once("test key of threads", "once")

    with caplog.at_level(logging.WARNING, logger=ROOT):
        threads = [threading.Thread(target=say) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert caplog.messages == ["once"]


@pytest.mark.parametrize("name", LEVELS)
def test_a_block_sets_its_level_and_restores_the_one_before(name: str) -> None:
    torch_tensorrt.logging.set_level(logging.ERROR)
    with getattr(torch_tensorrt.logging, name)():
        assert root.level == LEVELS[name]
    assert root.level == logging.ERROR


def test_blocks_nest_and_restore_also_when_something_raises() -> None:
    torch_tensorrt.logging.set_level(logging.WARNING)
    with torch_tensorrt.logging.info():
        with pytest.raises(KeyError), torch_tensorrt.logging.graphs():
            assert root.level == GRAPHS
            raise KeyError
        assert root.level == logging.INFO
    assert root.level == logging.WARNING


def test_one_block_may_be_used_again_and_inside_itself() -> None:
    torch_tensorrt.logging.set_level(logging.WARNING)
    block = torch_tensorrt.logging.debug()
    for _ in range(2):
        with block, block:
            assert root.level == logging.DEBUG
        assert root.level == logging.WARNING


def test_blocks_of_two_threads_that_overlap_leave_the_level_of_before() -> None:
    torch_tensorrt.logging.set_level(logging.WARNING)
    first, second = AtLevel(logging.DEBUG), AtLevel(logging.ERROR)
    first.__enter__()
    second.__enter__()
    assert root.level == logging.ERROR
    first.__exit__(None, None, None)
    assert root.level == logging.ERROR, "the one that is still open decides"
    second.__exit__(None, None, None)
    assert root.level == logging.WARNING


def test_a_level_that_is_set_inside_a_block_ends_with_it() -> None:
    torch_tensorrt.logging.set_level(logging.WARNING)
    with torch_tensorrt.logging.info():
        torch_tensorrt.logging.set_level(logging.DEBUG)
        assert root.level == logging.DEBUG
    assert root.level == logging.WARNING


def test_another_logger_may_be_given() -> None:
    other = logging.getLogger("test_log_other")
    torch_tensorrt.logging.set_level("DEBUG", other)
    assert other.level == logging.DEBUG
    assert root.level != logging.DEBUG


@pytest.mark.parametrize("level", ["debgu", None, 1.5], ids=repr)
def test_what_is_no_level_is_an_input_error(level: object) -> None:
    before = root.level
    with pytest.raises(InputError, match=r"not a level.*logging\.INFO"):
        torch_tensorrt.logging.set_level(level)  # type: ignore[arg-type]
    assert root.level == before


def test_the_level_below_debug_has_a_name() -> None:
    assert logging.getLevelName(GRAPHS) == "GRAPHS"
    assert GRAPHS < logging.DEBUG


ALONE = "INFO torch_tensorrt.trace: heard\n"
OWN = "mine heard\n"
PROGRAMS = {
    "no level set": ("say()", ""),
    "a level set, no logging set up": ("set_level(logging.INFO); say()", ALONE),
    "a block": ("with info(): say()\nsay()", ALONE),
    "twice": ("set_level(logging.INFO); set_level(logging.INFO); say()", ALONE),
    "logging set up before": ("basic(); set_level(logging.INFO); say()", OWN),
    "logging set up after": ("set_level(logging.INFO); basic(); say()", OWN),
    "a handler on the package's logger": (
        (
            "handler = logging.StreamHandler(); handler.setFormatter(logging.Formatter('mine %(message)s'))\n"
            "set_level(logging.INFO); logger('torch_tensorrt').addHandler(handler); say()"
        ),
        OWN,
    ),
    "stderr moved": ("set_level(logging.INFO); sys.stderr = sys.stdout; say(); sys.stdout.flush()", ""),
    "no stderr": ("set_level(logging.INFO); sys.stderr = None; say()", ""),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_message_reaches_stderr_once_when_a_level_was_asked_for(name: str) -> None:
    program, expected = PROGRAMS[name]
    code = (
        "import logging, sys\n"
        "from torch_tensorrt.logging import info, set_level\n"
        "from torch_tensorrt.observe.log import logger\n"
        "def say(): logger('trace').info('heard')\n"
        "def own():\n"
        "    handler = logging.StreamHandler()\n"
        "    handler.setFormatter(logging.Formatter('mine %(message)s'))\n"
        "    return handler\n"
        "def basic(): logging.basicConfig(format='mine %(message)s')\n" + program
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == expected
    assert done.stdout == (ALONE if name == "stderr moved" else "")
