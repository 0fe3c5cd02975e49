"""Damaged files: some hundreds here, 10,000 by `make fuzz`. Each gives the right numbers, or is refused by an error of ours."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from fuzzing import GOOD, Outcome, run, summary
from mutations import GOLDEN, KINDS, flip, make, splice

import torch_tensorrt
from torch_tensorrt import FileFormatError, TorchTensorRTError

FILES = 300


@pytest.fixture(scope="module")
def outcomes() -> list[Outcome]:
    """What became of the first files, loaded and run in child processes."""
    return list(run(range(FILES)))


def test_no_damaged_file_does_harm(outcomes: list[Outcome]) -> None:
    failed = [outcome for outcome in outcomes if outcome.failed]
    assert failed == [], summary(failed)


def test_every_file_has_an_outcome_and_both_kinds_occur(outcomes: list[Outcome]) -> None:
    assert [outcome.number for outcome in outcomes] == list(range(FILES))
    kinds = {outcome.outcome for outcome in outcomes}
    assert {"right", "refused"} <= kinds
    assert {outcome.how.partition(" (")[0] for outcome in outcomes} == set(KINDS)


def test_files_are_made_from_numbers_alone() -> None:
    assert make(7) == make(7)
    assert len({make(number).data for number in range(50)}) > 45


def test_a_file_that_is_sealed_again_is_refused_for_what_is_in_it_not_for_its_seal(outcomes: list[Outcome]) -> None:
    sealed = [outcome for outcome in outcomes if "sealed" in outcome.how and outcome.outcome == "refused"]
    assert sum("SHA-256" in outcome.detail for outcome in sealed) < len(sealed) / 10


def test_the_watch_sees_harm(tmp_path: Path) -> None:
    """The fuzzer has to be able to fail: a child that is told of an outcome outside of GOOD counts it."""
    harmful = Outcome(0, "made up (x.ep)", "left files", "planted")
    assert harmful.failed
    assert "1 failures" in summary([harmful])
    assert all(not Outcome(0, "x (y)", name).failed for name in GOOD)


@pytest.mark.parametrize("seed", range(150))
def test_a_damaged_engine_or_torchscript_file_is_described_or_refused(seed: int, tmp_path: Path) -> None:
    dice = random.Random(seed)
    files = sorted(path for path in GOLDEN.iterdir() if path.suffix in {".engine", ".ts"})
    good = dice.choice(files)
    path = tmp_path / good.name
    data = good.read_bytes()
    change = dice.choice((flip, splice, lambda old, d: old[: d.randrange(len(old))]))
    path.write_bytes(change(data, dice))
    try:
        report = torch_tensorrt.inspect_file(path)
    except TorchTensorRTError:
        return
    assert report.size == path.stat().st_size
    assert report.seal != "right" or path.read_bytes() == data
    if good.suffix == ".engine":
        with pytest.raises(FileFormatError):
            torch_tensorrt.load(path)
