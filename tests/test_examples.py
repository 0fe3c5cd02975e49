"""The examples run as they are printed, each in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


def run(script: str, folder: Path, seconds: int) -> subprocess.CompletedProcess[str]:
    """Runs an example with `folder` as its working directory."""
    command = [sys.executable, str(EXAMPLES / script)]
    root = os.pathsep.join([str(EXAMPLES.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": root}  # the checkout, also where the package isn't installed
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=seconds, check=False, env=environment
    )


def test_quickstart_runs_and_its_loaded_model_gives_the_same(tmp_path: Path) -> None:
    done = run("quickstart.py", tmp_path, 120)
    assert done.returncode == 0, done.stderr
    assert "loaded gives the same: True" in done.stdout
    assert (tmp_path / "model.ep").stat().st_size > 0


@pytest.mark.slow
def test_demo_agrees_with_pytorch_within_four_minutes(tmp_path: Path) -> None:
    done = run("demo.py", tmp_path, 240)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "everything agrees" in done.stdout
    assert "285 Egyptian cat" in done.stdout
    assert "967 espresso" in done.stdout
    assert list(tmp_path.iterdir()) == [], "the demo leaves files behind"
