"""PyTorch's own sample inputs: TensorRT's converters agree, or refuse with a reason. `make opinfo` runs all of them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import torch

pytest.importorskip("tensorrt_rtx")
pytest.importorskip("expecttest")  # PyTorch's list of samples needs it

from suite import opinfo

SHARES = 20  # of PyTorch's list; one of them is not slow
COUNTS = Path(__file__).parents[2] / "docs" / "data" / "opinfo.json"


def _shares() -> list[object]:
    marks = {0: ()}
    return [pytest.param(share, marks=marks.get(share, pytest.mark.slow)) for share in range(SHARES)]


@pytest.mark.parametrize("share", _shares())
def test_no_sample_fails(share: int) -> None:
    samples = 2 if share == 0 else 8
    reports = list(opinfo.run(["float32"], samples, part=(share, SHARES)))
    assert [f"{report.name}: {failure}" for report in reports for failure in report.failed] == []
    assert sum(report.passed for report in reports) > 20
    assert all(len(reason) > 20 for report in reports for reason in report.refused)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float16", "int64", "bool"])
def test_no_sample_of_another_dtype_fails(dtype: str) -> None:
    reports = list(opinfo.run([dtype], 6, part=(0, 3)))
    assert [f"{report.name}: {failure}" for report in reports for failure in report.failed] == []


def test_a_wrong_result_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    right = opinfo.Interpreter.run_all
    monkeypatch.setattr(opinfo.Interpreter, "run_all", lambda *given: [value + 1e-2 for value in right(*given)])
    (report,) = opinfo.run(["float32"], 2, only="nn.functional.hardsigmoid")
    assert report.passed == 0
    assert len(report.failed) == 2


def test_the_counts_of_the_last_whole_run_have_no_failure() -> None:
    counts = json.loads(COUNTS.read_text())
    assert counts["total"]["failed"] == 0
    assert counts["total"]["passed"] > 4000
    added = Counter[str]()
    for of_operator in counts["passed, refused, failed, not exported"].values():
        for passed, refused, failed, missing in of_operator.values():
            added.update({"passed": passed, "refused": refused, "failed": failed, "not exported": missing})
    assert {**added} == {key: counts["total"][key] for key in added}
    assert counts["torch"].split("+")[0] == torch.__version__.split("+")[0]
