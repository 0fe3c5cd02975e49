"""A small share of the mutation run (`make mutation`): every mutant is noticed, or is equivalent for a reason."""

from __future__ import annotations

import itertools

import pytest
import torch

trt = pytest.importorskip("tensorrt_rtx")

from interpret.changes import Mutation  # noqa: E402
from interpret.mutation import VERDICTS, Finding, Mutants, table  # noqa: E402
from interpret.networks import Subject, subjects  # noqa: E402

EVERY = 37


@pytest.fixture(scope="module")
def findings() -> list[Finding]:
    found = []
    for subject in itertools.islice(subjects(rows=1), 3):  # the networks, without rows of the suite
        mutants = Mutants(subject)
        found += [mutants.judge(mutation) for mutation in mutants.mutations[::EVERY]]
    return found


def test_a_mutant_is_noticed_or_equivalent(findings: list[Finding]) -> None:
    assert len(findings) > 15
    assert [f"{f.subject}: {f.mutation}" for f in findings if f.verdict == "silent" and not f.reason] == []


def test_half_of_what_is_noticed_is_noticed_by_numbers_alone(findings: list[Finding]) -> None:
    noticed = [finding.verdict for finding in findings if finding.verdict != "silent"]
    assert noticed.count("numbers only") > len(noticed) / 4  # the reason for the interpreter


# (function, property, verdict): each check is the first to notice something.
ROWS = (
    (lambda x: x - 2 * x, "ELEMENTWISE.op", "numbers only"),
    (lambda x: x.sum(1), "REDUCE.keep_dims", "shape inference"),
    (lambda x: x.softmax(1), "SOFTMAX.axes", "numbers only"),
    (lambda x: x[:, 1:3], "SLICE.start", "numbers only"),
    (lambda x: x.relu(), "ACTIVATION.alpha", "silent"),
)


@pytest.mark.parametrize(("function", "what", "verdict"), ROWS, ids=[row[1] for row in ROWS])
def test_a_change_is_noticed_by_the_first_check_that_can(function: object, what: str, verdict: str) -> None:
    mutants = Mutants(Subject("one layer", function, [torch.randn(3, 4)]))
    found = [mutants.judge(m) for m in mutants.mutations if f"{m.kind}.{m.property}" == what]
    assert verdict in {finding.verdict for finding in found}
    assert not any(finding.verdict == "silent" and not finding.reason for finding in found)


def test_a_silent_mutant_without_a_reason_is_told() -> None:
    """A change that is smaller than what float32 holds."""
    mutants = Mutants(Subject("blind", lambda x: x.abs() + 1 + 1e-9, [torch.randn(4)]))
    added = [layer for layer in mutants.layers if layer.kind == "ELEMENTWISE"][-1]
    finding = mutants.judge(Mutation(mutants.layers.index(added), "ELEMENTWISE", "op", trt.ElementWiseOperation.SUB))
    assert (finding.verdict, finding.reason) == ("silent", "")


def test_the_table_counts_every_verdict() -> None:
    made = [Finding("a", Mutation(0, "UNARY", "op", 1), verdict) for verdict in VERDICTS]
    assert table(made).splitlines()[-1] == "| all | 5 | 1 | 1 | 1 | 1 | 1 |"
