"""PyTorch's own sample inputs through torch.compile: right, or in PyTorch with a reason. `make opinfo-compile` prints each operator."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

pytest.importorskip("expecttest")  # PyTorch's list of samples needs it

from tests.dynamo import op_samples

SHARES = 4  # of the operators that `make opinfo-compile` runs


@pytest.fixture(autouse=True)
def _fresh_dynamo() -> Iterator[None]:
    yield
    torch._dynamo.reset()


def failures(reports: list[op_samples.Report]) -> list[str]:
    return [f"{report.name}: {failure}" for report in reports for failure in report.failed]


@pytest.mark.parametrize("name", ["softmax", "cumsum", "special.bessel_y0", "fft.rfftn", "empty_like"])
def test_the_samples_of_an_operator_are_right(name: str) -> None:
    reports = list(op_samples.run(only=name, part=(0, 1)))
    assert reports
    assert failures(reports) == []
    assert all(len(reason) > 20 for report in reports for reason in report.in_pytorch)


@pytest.mark.slow
@pytest.mark.parametrize("share", range(SHARES))
def test_no_sample_fails(share: int) -> None:
    reports = list(op_samples.run(part=(3 * share, 3 * SHARES)))
    assert failures(reports) == []
    counts = op_samples.total(reports)
    assert counts["operators"] > 150 / SHARES
    assert counts["passed"] > 200 / SHARES


def test_a_wrong_result_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    right = op_samples.entry.compile_graph

    def compile_wrongly(graph: torch.fx.GraphModule, *others: object) -> object:
        for node in graph.graph.find_nodes(op="call_function", target=torch.ops.aten.sin.default):
            node.target = torch.ops.aten.cos.default
        return right(graph, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(op_samples.entry, "compile_graph", compile_wrongly)
    (report,) = (report for report in op_samples.run(only="sin", part=(0, 1)) if report.name == "sin")
    assert report.passed == 0
    assert "not close" in report.failed[0]
