"""How results are compared, and how times are taken."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from torch_tensorrt.graphs.agreement import allowed_error, loosest, relative_error
from torch_tensorrt.spec.settings import CompilationSettings
from torch_tensorrt.tuning import measuring
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


@pytest.mark.parametrize("seconds", [0.0001, 0.019, 0.021, 0.05, 0.08, 1.0])
def test_functions_of_any_speed_are_measured(clock: Clock, seconds: float) -> None:
    assert measuring.measure([_taking(clock, seconds)], torch.device("cpu")) == [pytest.approx(seconds * 1000)]


def test_a_slow_function_is_run_a_few_times_only(clock: Clock) -> None:
    assert measuring.measure([_taking(clock, 5.0)], torch.device("cpu")) == [pytest.approx(5000)]
    assert clock.now < 60


def test_a_function_that_is_far_slower_than_the_fastest_is_run_a_few_times_only(clock: Clock) -> None:
    race = measuring.Race(torch.device("cpu"))
    race.enter(_taking(clock, 0.08))
    before = clock.now
    assert race.enter(_taking(clock, 0.6)) == (pytest.approx(600), False)
    assert clock.now - before < 4  # 28 seconds of turns would tell no more


class Paced:
    """Functions on a machine whose pace changes: `pace` says how much longer everything takes at a moment."""

    def __init__(self, clock: Clock, pace: Callable[[float], float]) -> None:
        self.clock, self.pace = clock, pace

    def taking(self, seconds: float) -> Callable[[], None]:
        def run() -> None:
            self.clock.now += seconds * self.pace(self.clock.now)

        return run


def test_a_newcomer_wins_by_more_than_two_percent(clock: Clock) -> None:
    race, steady = measuring.Race(torch.device("cpu")), Paced(clock, lambda now: 1.0)
    assert race.enter(steady.taking(0.004)) == (pytest.approx(4.0), True)
    assert race.enter(steady.taking(0.00395)) == (pytest.approx(3.95), False)
    assert race.enter(steady.taking(0.0039)) == (pytest.approx(3.9), True)
    assert race.enter(steady.taking(0.0039)) == (pytest.approx(3.9), False)


def test_a_disturbance_is_one_for_both(clock: Clock) -> None:
    busy_until = [0.0]
    race, paced = measuring.Race(torch.device("cpu")), Paced(clock, lambda now: 9.0 if now < busy_until[0] else 1.0)
    race.enter(paced.taking(0.004))
    busy_until[0] = clock.now + 0.5
    assert race.enter(paced.taking(0.005)) == (pytest.approx(5.0), False)
    busy_until[0] = clock.now + 0.5
    assert race.enter(paced.taking(0.003)) == (pytest.approx(3.0), True)


def test_a_disturbance_of_one_of_them_is_outvoted(clock: Clock) -> None:
    race, steady = measuring.Race(torch.device("cpu")), Paced(clock, lambda now: 1.0)
    race.enter(steady.taking(0.004))
    disturbed = [clock.now, clock.now + 0.3]  # the first round
    unlucky = Paced(clock, lambda now: 1.2 if disturbed[0] < now < disturbed[1] else 1.0)
    assert race.enter(unlucky.taking(0.0038)) == (pytest.approx(3.8), True)


@pytest.mark.parametrize(("seconds", "wins"), [(0.003, True), (0.0039, True), (0.00395, False), (0.005, False)])
def test_a_machine_that_is_slower_now_is_so_for_both(clock: Clock, seconds: float, wins: bool) -> None:
    started = [float("inf")]
    race, paced = measuring.Race(torch.device("cpu")), Paced(clock, lambda now: 9.0 if now > started[0] else 1.0)
    race.enter(paced.taking(0.004))
    started[0] = clock.now
    assert race.enter(paced.taking(seconds)) == (pytest.approx(seconds * 1000), wins)
