"""The logic of benchmarks/cpu.py: ratios, failed rows, going on, tables and plots. Nothing is timed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

import cpu
import cpu_contenders
import cpu_report
import cpu_row
from cpu_models import BATCHES, CASES, MODELS, PRECISIONS, Case
from plots import Line, line_plot

MLP = "MLP x1 float32"


def _state(row: str = MLP, failed: Mapping[str, str] | None = None, **times: float) -> dict[str, Any]:
    case = CASES[row]
    facts = {name: {"build": 2.0 * at + 1, "load": 0.5, "error": 1e-7, "peak_mb": 3.0} for at, name in enumerate(times)}
    return {
        "row": row,
        "model": case.model,
        "precision": case.precision,
        "batch": case.batch,
        "dynamic": case.dynamic,
        "grows": case.grows,
        "size": case.size,
        "milliseconds": dict(times),
        "facts": facts,
        "failed": dict(failed or {}),
        "seconds": 1.0,
        "load": [0.1, 0.2],
    }


def _times(ours: float, level_5: float) -> dict[str, float]:
    return {"eager": 9.0, "OpenVINO": 4.0, "ours": ours, "ours, level 5": level_5}


def _record(*rows: dict[str, Any]) -> dict[str, Any]:
    return {"name": "here", "cpu": "A CPU", "cores": 2, "threads": 2, "versions": {"torch": "2"}, "rows": list(rows)}


def test_every_model_precision_batch_and_kind_of_sizes_is_a_row() -> None:
    table = {(c.model, c.precision, c.batch, c.dynamic) for c in CASES.values() if not c.grows}
    assert table == {(m, p, b, d) for m in MODELS for p in PRECISIONS for b in (1, 8) for d in (False, True)}
    assert {c.batch for c in CASES.values() if c.grows == "batch" and c.model == "ResNet-50"} == set(BATCHES)
    assert max(c.length for c in CASES.values() if c.grows == "tokens") == 1024


def test_ours_is_never_its_own_peer() -> None:
    row = cpu_report.judged(_state(**_times(ours=1.0, level_5=0.5)))
    assert (row["best_peer"], row["ratio_to_best_peer"], row["ratio_at_default_level"]) == ("OpenVINO", 8.0, 4.0)
    assert row["OpenVINO"] == 4.0


def test_building_is_compared_with_openvino() -> None:
    row = cpu_report.judged(_state(**_times(ours=1.0, level_5=0.5)))
    assert row["build_to_openvino"] == pytest.approx(5 / 3)


@pytest.mark.parametrize("lacks", ["ours, level 5", "eager and OpenVINO"])
def test_a_ratio_that_lacks_a_side_is_none(lacks: str) -> None:
    times = {name: time for name, time in _times(1.0, 0.5).items() if name not in lacks}
    assert cpu_report.judged(_state(**times))["ratio_to_best_peer"] is None


def test_a_contender_that_kills_the_process_is_shown_and_the_row_is_measured_without_it() -> None:
    tried = []

    def child(row: str, given_up: Mapping[str, str]) -> tuple[dict[str, Any], str]:
        tried.append(dict(given_up))
        if "AOTInductor" not in given_up:
            return {"building": "AOTInductor", "failed": {"max-autotune": "no compiler"}}, "died with SIGSEGV"
        return _state(failed=given_up, **_times(2.0, 2.0)), ""

    row = cpu.measured(MLP, child)
    assert row["failed"] == {
        "max-autotune": "no compiler",
        "AOTInductor": "the process died with SIGSEGV while it was built",
    }
    assert row["ratio_to_best_peer"] == 2.0
    assert len(tried) == 2


def test_a_row_without_any_result_stays_in_the_table_as_failed() -> None:
    row = cpu.measured(MLP, lambda row, given_up: ({}, "was ended after 9 s"))
    assert row["failed"] == {"row": "was ended after 9 s"}
    text = cpu_report.markdown(_record(row, cpu_report.judged(_state("MLP x8 float32", **_times(1.0, 1.0)))))
    assert f"| {MLP} | failed | failed |" in text
    assert f"- {MLP}: row: was ended after 9 s" in text
    assert f"- {MLP}: no figure" in text


def test_a_process_that_always_dies_is_given_up() -> None:
    tried = []

    def child(row: str, given_up: Mapping[str, str]) -> tuple[dict[str, Any], str]:
        tried.append(row)
        return {"building": f"contender {len(tried)}"}, "died with SIGKILL"

    row = cpu.measured(MLP, child)
    assert len(tried) == cpu.ATTEMPTS
    assert set(row["failed"]) == {"row", "contender 1", "contender 2", "contender 3"}


def test_resuming_measures_what_is_missing_and_what_had_no_result() -> None:
    rows = [_state(MLP), {**_state("MLP x8 float32"), "failed": {"row": "was ended"}}]
    names = [MLP, "MLP x8 float32", "MLP x8 int8"]
    assert cpu.still_to_do(names, rows, resume=True, again=False) == names[1:]
    assert cpu.still_to_do(names, rows, resume=True, again=True) == names
    assert cpu.still_to_do(names, rows, resume=False, again=False) == names


def test_a_new_figure_replaces_the_old_one_in_the_order_of_the_list() -> None:
    order = ["a", "b", "c"]
    rows = cpu.merged([{"row": "c", "v": 1}, {"row": "a", "v": 1}], {"row": "b", "v": 2}, order)
    assert [row["row"] for row in rows] == order
    assert cpu.merged(rows, {"row": "b", "v": 3}, order)[1]["v"] == 3


@pytest.mark.parametrize(
    ("flags", "kept"), [([], [MLP]), (["--resume"], ["MLP x8 float32", MLP]), (["--again"], ["MLP x8 float32", MLP])]
)
def test_a_run_writes_after_each_row_and_keeps_others_when_it_goes_on(
    tmp_path: Path, flags: list[str], kept: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMMIT", "abc")
    arguments = cpu._arguments([*flags, "--out", str(tmp_path), "--name", "here"])
    old = cpu_report.judged(_state("MLP x8 float32", **_times(1.0, 1.0)))
    cpu.write(tmp_path, "here", _record(old))
    order = ["MLP x8 float32", MLP]
    cpu.run_all(arguments, [MLP], order, lambda row, given_up: (_state(row, **_times(2.0, 2.0)), ""))
    record = json.loads((tmp_path / "cpu-here.json").read_text())
    assert [row["row"] for row in record["rows"]] == kept
    assert record["rows"][-1]["commit"] == "abc"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cpu-here.json", "cpu-here.md"]


def test_what_misses_its_target_is_listed() -> None:
    slow = cpu_report.judged(_state(**_times(ours=5.0, level_5=5.0)))
    fine = cpu_report.judged(_state("MLP x8 float32", OpenVINO=4.0, **{"ours, level 5": 4.0, "ours": 9.0}))
    (ratio, build) = cpu_report.missed([slow])
    assert "0.80 times as fast as OpenVINO" in ratio
    assert "1.67 times OpenVINO's time" in build
    assert not [line for line in cpu_report.missed([fine]) if "as fast" in line]


def test_means_are_geometric_and_by_precision() -> None:
    rows = [
        cpu_report.judged(_state(MLP, **_times(4.0, 1.0))),
        cpu_report.judged(_state("MLP x8 float32", **_times(4.0, 4.0))),
        cpu_report.judged(_state("MLP x1 int8", **_times(2.0, 2.0))),
    ]
    told = "\n".join(cpu_report.means(rows))
    assert "float32, level 5: best peer / ours 2.00 (geometric mean of 2 rows), least 1.00" in told
    assert "int8, level 5: best peer / ours 2.00 (geometric mean of 1 rows)" in told


def test_a_plot_per_model_that_grows_is_well_formed() -> None:
    rows = [
        cpu_report.judged(_state(name, **_times(1.0 * case.batch, 0.5 * case.batch)))
        for name, case in CASES.items()
        if case.grows == "batch"
    ]
    found = cpu_report.plots(rows)
    assert list(found) == ["MobileNetV2", "ResNet-50"]
    tree = ElementTree.fromstring(found["ResNet-50"])
    circles = [node for node in tree.iter() if node.tag.endswith("circle")]
    assert len(circles) == 4 * len(BATCHES)
    assert len(found["ResNet-50"]) < 10_000


def test_a_plot_puts_powers_of_two_at_equal_distances() -> None:
    tree = ElementTree.fromstring(line_plot("t", "x", "y", [Line("a < b", [(1, 1), (2, 10), (4, 100)])]))
    at = [float(node.attrib["cx"]) for node in tree.iter() if node.tag.endswith("circle")]
    assert at[1] - at[0] == pytest.approx(at[2] - at[1], abs=0.2)
    assert "a < b" in [node.text for node in tree.iter()]


def test_a_plot_of_nothing_says_so() -> None:
    with pytest.raises(ValueError, match="'empty' needs points above 0"):
        line_plot("empty", "x", "y", [Line("a", [])])


def test_a_contender_whose_time_is_over_is_interrupted() -> None:
    with pytest.raises(cpu_row.TookTooLong), cpu_row.time_limit(0.05):
        time.sleep(5)


def _row_run() -> cpu_row.RowRun:
    return cpu_row.RowRun(CASES[MLP], True, cpu_row.Limits(build=60, timing=0.01, tuning=1), {"gone": "it crashed"})


def _eager_plus(more: float) -> Any:
    def make(job: cpu_contenders.Job) -> cpu_contenders.Built:
        def call() -> object:
            return job.module(*job.inputs()) + more

        return cpu_contenders.Built(call, call, load_seconds=0.25)

    return make


def test_wrong_answers_and_errors_are_failures_and_right_ones_are_kept(capsys: pytest.CaptureFixture[str]) -> None:
    run = _row_run()
    run.build("right", _eager_plus(0.0))
    run.build("wrong", _eager_plus(1.0))
    run.build("not a number", _eager_plus(float("nan")))
    run.build("broken", lambda job: job.nothing)  # type: ignore[attr-defined]
    assert list(run.built) == ["right"]
    assert run.failed["gone"] == "it crashed"
    assert run.failed["wrong"].startswith("wrong: relative error")
    assert "AttributeError" in run.failed["broken"]
    assert run.facts["right"]["error"] == 0.0
    json.dumps(run.facts, allow_nan=False)


def test_a_row_builds_all_contenders_before_it_calls_them_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_row, "contenders", lambda case: {"gone": None, "eager": _eager_plus(0.0)})
    states: list[Mapping[str, object]] = []
    row = _row_run().run(states.append, [])
    assert [state.get("building") for state in states] == ["eager", None]
    assert list(row["milliseconds"]) == ["eager"]  # type: ignore[call-overload]
    assert row["failed"] == {"gone": "it crashed"}


def test_onnx_runtime_is_no_contender_in_bfloat16() -> None:
    assert "ONNX Runtime" not in cpu_contenders.contenders(Case("MLP", "bfloat16"))
    assert "ONNX Runtime" in cpu_contenders.contenders(Case("MLP", "int8"))


@pytest.mark.parametrize("model", ["MLP", "MiniLM's sizes", "GPT-2"])
def test_dynamic_rows_ask_for_a_second_size_in_every_dimension_that_varies(model: str) -> None:
    case = Case(model, dynamic=True)
    at, more = case.inputs(tiny=True)[0].shape, case.inputs(tiny=True, more=1)[0].shape
    varying = len(case.network.dims)
    assert [b - a for a, b in zip(at, more, strict=True)][:varying] == [1] * varying


@pytest.mark.slow
def test_the_program_measures_a_row_in_a_process_of_its_own(tmp_path: Path) -> None:
    program = Path(cpu.__file__)
    flags = ["--quick", "--only", "eager", "ours", "--exactly", MLP, "--seconds", "0.1", "--out", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(program.parents[1])}
    command = [sys.executable, str(program), *flags]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    (row,) = json.loads((tmp_path / "cpu-trial.json").read_text())["rows"]
    assert (row["failed"], row["best_peer"]) == ({}, "eager")
    assert row["facts"]["ours"]["error"] < 1e-5
    assert min(row["eager"], row["ours"], row["ratio_at_default_level"], row["facts"]["ours"]["load"]) > 0
    assert f"| {MLP} |" in done.stdout
