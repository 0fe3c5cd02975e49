"""kill -9 in the middle of `save`: the file is the previous one or the new one, whole. KILLS=50 (make kill) tries more often."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from saving_child import Weighted

import torch_tensorrt
from torch_tensorrt.package.sealing import replacing

CHILD = Path(__file__).parent / "saving_child.py"
KILLS = int(os.environ.get("KILLS", "10"))


class Saver:
    """Processes that save without end over `path`."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "model.ep"
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self.child = subprocess.Popen(
            [sys.executable, str(CHILD), str(self.path)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True, bufsize=1,
        )  # fmt: skip

    def kill_after(self, seconds: float) -> None:
        """Starts a process that saves, and kills it."""
        assert self.child.stdin is not None
        assert self.child.stdout is not None
        self.child.stdin.write("go\n")
        process = int(self.child.stdout.readline())
        time.sleep(seconds)
        os.kill(process, signal.SIGKILL)
        while (Path("/proc") / str(process)).exists():  # until its parent has seen it
            time.sleep(0.001)


def unfinished(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.name.endswith(".part")]


@pytest.fixture(scope="module")
def saver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Saver]:
    """One folder for all kills: what one leaves behind, the next save removes."""
    saver = Saver(tmp_path_factory.mktemp("kills"))
    yield saver
    assert saver.child.stdin is not None
    saver.child.stdin.close()
    saver.child.wait(60)


@pytest.mark.parametrize("seed", range(KILLS))
def test_a_killed_save_leaves_a_whole_file(seed: int, saver: Saver) -> None:
    saver.kill_after(random.Random(seed).uniform(0.01, 0.4))
    answer = torch_tensorrt.load(saver.path).module()(torch.ones(1, 1024))
    assert answer.unique().tolist() in ([1024.0], [2048.0])
    assert len(unfinished(saver.path.parent)) <= 1, "what an earlier kill left behind is still there"


def test_the_next_save_removes_what_a_killed_one_left(saver: Saver) -> None:
    folder = saver.path.parent
    for seed in range(200):
        saver.kill_after(random.Random(seed).uniform(0.01, 0.4))
        if unfinished(folder):
            break
    else:
        pytest.skip("none of 200 kills hit a file that was being written")
    module = torch_tensorrt.compile(
        Weighted(3.0).eval(), inputs=[torch.ones(1, 1024)], engine="eager", min_block_size=1
    )
    torch_tensorrt.save(module, saver.path, retrace=False)
    assert list(folder.iterdir()) == [saver.path]


def test_unfinished_files_of_living_processes_and_of_other_names_stay(tmp_path: Path) -> None:
    other = tmp_path / ".model.ep.old.abcdefgh.part"
    other.write_bytes(b"of model.ep.old")
    with replacing(tmp_path / "model.ep") as first:
        first.write(b"first")
        with replacing(tmp_path / "model.ep") as second:
            second.write(b"second")
        assert (tmp_path / "model.ep").read_bytes() == b"second"
    assert (tmp_path / "model.ep").read_bytes() == b"first"
    assert sorted(path.name for path in tmp_path.iterdir()) == [other.name, "model.ep"]


def test_a_link_in_place_of_an_unfinished_file_is_not_followed(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_bytes(b"kept")
    (tmp_path / ".model.ep.abcdefgh.part").symlink_to(precious)
    with replacing(tmp_path / "model.ep") as file:
        file.write(b"new")
    assert precious.read_bytes() == b"kept"


def test_all_numbers_of_the_two_models_differ() -> None:
    assert not torch.equal(Weighted(1.0)(torch.ones(1, 1024)), Weighted(2.0)(torch.ones(1, 1024)))
