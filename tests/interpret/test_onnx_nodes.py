"""ONNX's node tests, through NVIDIA's parser, agree with the interpreter; the rest is a list with reasons, and stays what it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("tensorrt_rtx")
pytest.importorskip("onnx")

from interpret.onnx_nodes import Outcome, outcomes

LEAST = 1119  # that agree, of at least PARSED that NVIDIA's parser takes (ONNX 1.23.2, TensorRT-RTX 1.7.1)
PARSED = 1170
KNOWN: dict[str, list[str]] = json.loads(Path(__file__).with_name("onnx_known.json").read_text())  # reason -> names
# Kinds of layers that the cases reach; what they don't is tested elsewhere in this folder.
REACHED = 45


@pytest.fixture(scope="module")
def run() -> list[Outcome]:
    return list(outcomes())


def test_at_least_as_many_cases_agree_as_ever(run: list[Outcome]) -> None:
    parsed = [outcome for outcome in run if outcome.kind != "not parsed"]
    assert len(parsed) >= PARSED
    assert sum(outcome.kind == "agrees" for outcome in parsed) >= LEAST
    assert len({kind for outcome in parsed if outcome.kind == "agrees" for kind in outcome.layers}) >= REACHED


def test_the_cases_that_disagree_are_those_of_the_list(run: list[Outcome]) -> None:
    known = {name for names in KNOWN.values() for name in names}
    others = {outcome.name: outcome.why for outcome in run if outcome.kind in {"differs", "fails"}}
    assert {name: why for name, why in others.items() if name not in known} == {}
    assert sorted(known - set(others)) == [], "these agree now: take them off the list"


def test_every_case_on_the_list_has_one_reason() -> None:
    names = [name for listed in KNOWN.values() for name in listed]
    assert len(names) == len(set(names))
    assert all(len(reason) > 30 for reason in KNOWN)
