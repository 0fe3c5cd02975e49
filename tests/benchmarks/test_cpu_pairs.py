"""The logic of benchmarks/cpu_pairs.py: which rows, how ours is built again, ratios, the table, and kernels."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import torch_tensorrt
from torch_tensorrt.runtime.module import CompiledModule

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

import cpu_pairs
import kernels
from cpu_contenders import OPENVINO, Job
from cpu_models import Case


def _row(name: str, ratio: float | None, peer: str = "OpenVINO") -> dict[str, Any]:
    times = {peer: 1.0, "ours, level 5": 1.0}
    return {
        "row": name, "ratio_to_best_peer": ratio, "best_peer": peer, "chosen": "openvino: latency", "milliseconds": times,
    }  # fmt: skip


class TwoLinear(nn.Module):
    """Two linear layers, which OpenVINO runs as kernels of one kind."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(16, 16), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.relu(self.first(x)))


def _compiled() -> tuple[CompiledModule, Tensor]:
    x = torch.randn(2, 16)
    return torch_tensorrt.compile(TwoLinear().eval(), arg_inputs=[x], engine="openvino", min_block_size=1), x


def test_rows_under_target_are_measured_again_or_those_asked_for() -> None:
    rows = [_row("slow", 0.9), _row("fast", 1.1), _row("failed", None)]
    assert [row["row"] for row in cpu_pairs.chosen_rows(rows, [])] == ["slow"]
    assert [row["row"] for row in cpu_pairs.chosen_rows(rows, ["fast"])] == ["fast"]


@pytest.mark.parametrize(
    ("label", "options"),
    [
        ("openvino: latency", {"engine": "openvino"}),
        ("openvino: 1 thread", {"engine": "openvino", "engine_options": {"num_threads": 1}}),
        ("onnxruntime: without spinning", {"engine": "onnxruntime", "engine_options": {"allow_spinning": False}}),
    ],
)
def test_what_level_5_chose_can_be_built_again(
    label: str, options: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert cpu_pairs.as_chosen(label) == options


def test_the_median_of_the_ratios_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = [{"peer": 9.0, "ours": 10.0}, {"peer": 12.0, "ours": 10.0}, {"peer": 20.0, "ours": 20.0}]
    found = cpu_pairs.judged(_row("a", 0.9), {"pairs": pairs, "kernels": None})
    assert (found["least"], found["ratio"], found["most"]) == (0.9, 1.0, 1.2)
    assert (found["peer"], found["ours"], found["in_the_row"]) == (12.0, 10.0, 0.9)


def test_the_table_shows_ratios_kernels_and_failures() -> None:
    counted = {"peer": {"MatMul": (2.0, 3.0), "Add": (1.0, 1.0)}, "ours": {"MatMul": (2.5, 3.0)}}
    pairs = [{"peer": 9.0, "ours": 10.0}] * 3
    good = cpu_pairs.judged(_row("good", 0.9), {"pairs": pairs, "kernels": counted})
    bad = cpu_pairs.judged(_row("bad", 0.8), {"failed": "it crashed"})
    record = {"cpu": "A CPU", "cores": 2, "threads": 2, "versions": {"torch": "2"}, "rows": [good, bad]}
    lines = cpu_pairs.markdown(record).splitlines()
    assert lines[-2].startswith(
        "| good | OpenVINO | openvino: latency | 0.90 | 0.90 (0.90 to 0.90) | 9 | 10 | 3 in 4, 2.5 in 3 |"
    )
    assert "Add 1 in 1, 0 in 0; MatMul 2 in 3, 2.5 in 3" in lines[-2]
    assert "failed: it crashed" in lines[-1]
    assert {line.count("|") for line in lines if line.startswith("|")} == {10}


def test_kernels_of_ours_are_counted_per_call() -> None:
    module, x = _compiled()
    found = kernels.kernels_of_ours(module, [x])
    assert found["FullyConnected"][1] == 2.0
    assert all(milliseconds >= 0 for milliseconds, _ in found.values())


def test_a_pair_is_built_several_times_and_called_in_turns(tmp_path: Path) -> None:
    with torch.no_grad():
        job = Job(Case("MLP"), True, tmp_path)
        found = cpu_pairs.pair(job, OPENVINO, "openvino: latency", 0.05)
        counted = cpu_pairs.counted(job, OPENVINO, "openvino: latency")
    assert len(found) == cpu_pairs.TIMES
    assert all(set(pair) == {"peer", "ours"} and min(pair.values()) > 0 for pair in found)
    assert counted is not None
    assert counted["peer"]["FullyConnected"][1] == counted["ours"]["FullyConnected"][1] == 3.0
