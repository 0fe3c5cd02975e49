"""A file that was made to do harm does none: it is refused, or its harm is never reached."""

from __future__ import annotations

from pathlib import Path

import pytest
from archives import Archive
from attacks import ATTACKS
from fuzzing import Outcome, attack
from mutations import golden


@pytest.fixture(scope="module")
def outcomes() -> dict[str, Outcome]:
    """What became of each attack, tried in child processes."""
    return {outcome.how: outcome for outcome in attack(list(ATTACKS))}


@pytest.mark.parametrize("name", ATTACKS)
def test_the_attack_does_no_harm(outcomes: dict[str, Outcome], name: str) -> None:
    outcome = outcomes[name]
    assert outcome.outcome in {"right", "refused", "refused when run", "failed when run"}, (
        outcome.outcome,
        outcome.detail,
    )


@pytest.mark.parametrize("name", ATTACKS)
def test_the_attack_differs_from_the_good_file_and_is_whole(name: str, tmp_path: Path) -> None:
    source, attack = ATTACKS[name]
    data = attack(Archive.read(golden(source)), str(tmp_path / "marker"))
    assert data != golden(source)
    assert b"torch_tensorrt 1 sha256 " in data[-100:]
