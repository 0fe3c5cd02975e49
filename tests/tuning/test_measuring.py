"""How results are compared, and how times are taken."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from torch_tensorrt.spec.settings import CompilationSettings
from torch_tensorrt.tuning import measuring
from torch_tensorrt.tuning.agreement import allowed_error, loosest, relative_error
from tuning.fakes import Clock

NAN, INF = math.nan, math.inf
ROWS = [
    ([1.0, 2.0], [1.0, 2.0], 0.0),
    ([1.0, 2.2], [1.0, 2.0], 0.2 / math.sqrt(5)),
    ([0.0, 0.5], [0.0, 0.0], 0.5),
    ([1.0, NAN], [1.0, NAN], 0.0),
    ([1.0, INF], [1.0, INF], 0.0),
    ([1.0, -INF], [1.0, INF], INF),
    ([1.0, NAN], [1.0, INF], INF),
    ([1.0, NAN], [1.0, 2.0], INF),
    ([1.0], [1.0, 2.0], INF),
    ([], [], 0.0),
]


@pytest.mark.parametrize(("given", "wanted", "error"), ROWS)
def test_the_error_is_relative_and_infinite_where_numbers_are_none(
    given: list[float], wanted: list[float], error: float
) -> None:
    found = relative_error([torch.tensor(given)], [torch.tensor(wanted)])
    assert found == pytest.approx(error)


def test_results_of_another_dtype_or_number_are_wrong() -> None:
    one = torch.ones(2)
    assert relative_error([one.half()], [one]) == INF
    assert relative_error([one, one], [one]) == INF


def test_whole_numbers_count_by_how_many_differ() -> None:
    wanted = torch.arange(10)
    assert relative_error([torch.where(wanted == 3, 4, wanted)], [wanted]) == pytest.approx(0.1)


def test_the_coarsest_dtype_that_may_be_computed_in_decides() -> None:
    graph = torch.fx.Graph()
    graph.placeholder("x").meta["val"] = torch.zeros(1)
    cpu = torch.device("cpu")
    plain = allowed_error(graph, CompilationSettings(), cpu)
    narrow = allowed_error(graph, CompilationSettings.from_options(enabled_precisions={torch.bfloat16}), cpu)
    assert plain < narrow < loosest([torch.float8_e4m3fn], on_gpu=False)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(measuring, "time", made)
    return made


def _taking(clock: Clock, *seconds: float) -> Callable[[], None]:
    calls = [0]

    def run() -> None:
        clock.now += seconds[calls[0] % len(seconds)]
        calls[0] += 1

    return run


def test_the_median_is_taken_and_one_slow_run_in_some_is_forgotten(clock: Clock) -> None:
    run = _taking(clock, *[0.002] * 7, 1.0)
    assert measuring.measure([run], torch.device("cpu")) == [pytest.approx(2.0)]


def test_a_slow_function_is_run_a_few_times_only(clock: Clock) -> None:
    assert measuring.measure([_taking(clock, 5.0)], torch.device("cpu")) == [pytest.approx(5000)]
    assert clock.now < 60


def test_times_are_compared_with_those_of_the_same_minutes(clock: Clock) -> None:
    """A machine that has become twice as slow meanwhile makes no newcomer slower than it is."""
    race = measuring.Race(torch.device("cpu"))
    pace = [1.0]
    runs = [lambda share=share: setattr(clock, "now", clock.now + share * pace[0]) for share in (0.004, 0.003, 0.0035)]
    assert race.enter(runs[0]) == (pytest.approx(4.0), True)
    pace[0] = 2.0
    assert race.enter(runs[1]) == (pytest.approx(3.0), True)
    pace[0] = 0.5
    assert race.enter(runs[2]) == (pytest.approx(3.5), False)
