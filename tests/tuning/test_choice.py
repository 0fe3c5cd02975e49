"""Above optimization_level 3 each partition is built with what was the fastest here and gave PyTorch's results."""

from __future__ import annotations

import logging
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import torch_tensorrt
from torch_tensorrt import engines
from torch_tensorrt.contracts.partition import Trial
from torch_tensorrt.contracts.passes import LoweringPass
from torch_tensorrt.runtime.module import CompiledModule
from torch_tensorrt.spec.errors import BuildError, InputError
from tuning.conftest import Small, World

X = torch.randn(3, 4)


def trials(compiled: CompiledModule, place: str = "part_0") -> dict[str, Trial]:
    assert compiled.plan is not None
    return {trial.label: trial for trial in compiled.plan.trials if trial.place == place}


def winner(compiled: CompiledModule, place: str = "part_0") -> str:
    (label,) = [trial.label for trial in trials(compiled, place).values() if trial.note == "chosen"]
    return label


def test_the_fastest_engine_is_taken_and_the_plan_tells_what_was_tried(world: World) -> None:
    model = Small()
    compiled = world.compile(model, X)
    assert winner(compiled) == "quick: usual"
    assert {label: round(trial.milliseconds or 0, 6) for label, trial in trials(compiled).items()} == {
        "openvino: usual": 6.0,
        "eager: usual": 8.0,
        "openvino: brisk": 5.0,
        "quick: usual": 3.0,
    }
    assert all(trial.build_seconds == 1.0 and trial.error == 0.0 for trial in trials(compiled).values())
    shown = str(compiled.plan)
    assert "in 1 'quick' engine(s)" in shown
    assert any("quick: usual" in line and "3.0000" in line and line.endswith("chosen") for line in shown.splitlines())
    torch.testing.assert_close(compiled(X), model(X))


def test_the_plan_says_why_its_engine_was_chosen(world: World) -> None:
    model = Small()

    def told(**options: object) -> str:
        return str(world.compile(model, X, **options).plan).splitlines()[0]

    assert told(optimization_level=3).endswith("'openvino' engine(s) (the inputs are on cpu)")
    assert told().endswith("'quick' engine(s) (the fastest)")
    assert told().endswith("'quick' engine(s) (the fastest when this was measured before, says the timing cache)")
    assert told(engine="openvino").endswith("'openvino' engine(s) (engine= asked for it)")


def test_below_level_4_nothing_is_measured(world: World) -> None:
    compiled = world.compile(Small(), X, optimization_level=3)
    assert compiled.plan is not None
    assert compiled.plan.trials == ()
    assert world.built() == {"openvino": [""]}


def test_a_named_engine_is_kept_and_only_its_variants_are_measured(world: World) -> None:
    compiled = world.compile(Small(), X, engine="openvino")
    assert list(trials(compiled)) == ["openvino: usual", "openvino: brisk"]
    assert winner(compiled) == "openvino: brisk"


def test_an_engine_named_by_the_environment_is_kept_too(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_TENSORRT_ENGINE", "openvino")
    assert winner(world.compile(Small(), X)) == "openvino: brisk"


def test_with_one_way_to_build_nothing_is_measured(world: World) -> None:
    compiled = world.compile(Small(), X, engine="quick")
    assert trials(compiled) == {}
    assert world.built() == {"quick": [""]}


def test_pytorch_itself_wins_where_every_engine_is_slower(world: World) -> None:
    world.backends["eager"].milliseconds = {"": 2.0}
    assert winner(world.compile(Small(), X)) == "eager: usual"


@pytest.mark.parametrize(("milliseconds", "expected"), [(4.95, "openvino: brisk"), (4.85, "quick: usual")])
def test_within_two_percent_the_earlier_one_is_kept(world: World, milliseconds: float, expected: str) -> None:
    world.backends["quick"].milliseconds = {"": milliseconds}
    assert winner(world.compile(Small(), X)) == expected


def test_a_wrong_candidate_is_left_out_with_a_warning(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.backends["quick"].wrong = {""}
    with caplog.at_level(logging.WARNING, logger="torch_tensorrt"):
        compiled = world.compile(Small(), X)
    told = trials(compiled)["quick: usual"]
    assert winner(compiled) == "openvino: brisk"
    assert told.milliseconds is None
    assert told.note.startswith("wrong")
    assert (told.error or 0) > 0.1
    (line,) = [record.getMessage() for record in caplog.records if "left out" in record.getMessage()]
    assert "quick: usual" in line
    torch.testing.assert_close(compiled(X), compiled(X))


def test_a_candidate_that_can_not_be_built_is_left_out_with_its_reason(world: World) -> None:
    world.backends["openvino"].broken = {"", "brisk"}
    world.backends["quick"].refuses = lambda node: node.target is torch.ops.aten.relu.default
    compiled = world.compile(Small(), X)
    assert winner(compiled) == "eager: usual"
    assert trials(compiled)["openvino: usual"].note == "can't be used: openvino can't build it"
    assert "relu" in trials(compiled)["quick: usual"].note
    assert "quick has no such operator" in trials(compiled)["quick: usual"].note


def test_where_nothing_can_be_built_the_usual_engine_says_why(world: World) -> None:
    world.backends["openvino"].broken = {"", "brisk"}
    with pytest.raises(BuildError, match="openvino can't build it"):
        world.compile(Small(), X, engine="openvino")


def test_where_all_are_wrong_that_is_an_error_with_the_table(world: World) -> None:
    world.backends["openvino"].wrong = {"", "brisk"}
    with pytest.raises(BuildError, match=r"No engine gives PyTorch's results(.|\n)*openvino: brisk(.|\n)*level=3"):
        world.compile(Small(), X, engine="openvino")


def test_after_max_tuning_seconds_only_the_usual_way_and_pytorch_are_built(world: World) -> None:
    compiled = world.compile(Small(), X, max_tuning_seconds=0)
    assert world.built() == {"openvino": [""], "eager": [""]}
    assert winner(compiled) == "openvino: usual"
    assert "max_tuning_seconds=0 are over" in trials(compiled)["quick: usual"].note


def test_an_option_that_the_user_set_is_not_varied(world: World) -> None:
    compiled = world.compile(Small(), X, engine_options={"speed": "brisk"})
    labels = list(trials(compiled))
    assert "openvino: usual" in labels  # with the user's option: a variant changes nothing else
    assert world.built()["openvino"] == ["brisk", "brisk"]


# The second build


def test_the_second_build_builds_the_winner_only(world: World) -> None:
    model = Small()
    first = world.compile(model, X)
    assert len(world.built()) == 3
    second = world.compile(model, X)
    assert world.built() == {"quick": [""]}
    assert first.plan is not None
    assert second.plan is not None
    assert second.plan.trials == first.plan.trials
    torch.testing.assert_close(second(X), model(X))


@pytest.mark.parametrize("change", ["weights", "shape", "options", "engines", "threads"])
def test_what_is_measured_is_measured_anew_when_it_depends_on_what_changed(
    world: World, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, x, options = Small(), X, {}
    world.compile(model, x)
    world.built()
    if change == "weights":
        model = Small()
    elif change == "shape":
        x = torch.randn(5, 4)
    elif change == "options":
        options = {"truncate_double": True}
    elif change == "engines":
        world.backends["openvino"].milliseconds = {"": 6.0}
    else:
        monkeypatch.setattr(torch, "get_num_threads", lambda: 77)
    world.compile(model, x, **options)
    assert len(world.built()) == 3


def test_more_time_than_before_is_used(world: World) -> None:
    model = Small()
    world.compile(model, X, max_tuning_seconds=0)
    world.compile(model, X, max_tuning_seconds=0)
    world.built()
    assert winner(world.compile(model, X, max_tuning_seconds=100)) == "quick: usual"


def test_a_damaged_file_is_told_and_written_anew(world: World, caplog: pytest.LogCaptureFixture) -> None:
    model = Small()
    world.path.write_bytes(b"{")
    with caplog.at_level(logging.WARNING, logger="torch_tensorrt"):
        world.compile(model, X)
    assert len(_told(caplog)) == 1
    world.built()
    world.compile(model, X)
    assert world.built() == {"quick": [""]}
    assert len(_told(caplog)) == 1


def _told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "timing cache" in record.getMessage()]


def test_a_damaged_entry_is_told_and_written_anew(world: World, caplog: pytest.LogCaptureFixture) -> None:
    model = Small()
    world.compile(model, X)
    world.path.write_text(world.path.read_text().replace('"trials"', '"trails"'))
    world.built()
    with caplog.at_level(logging.WARNING, logger="torch_tensorrt"):
        world.compile(model, X)
    assert any("measured anew" in told for told in _told(caplog))
    assert len(world.built()) == 3


def test_a_folder_that_can_not_be_written_is_no_obstacle_and_told_before_measuring(
    world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    with caplog.at_level(logging.INFO, logger="torch_tensorrt"):
        compiled = world.compile(Small(), X, timing_cache_path=str(tmp_path / "file" / "timings"))
    assert winner(compiled) == "quick: usual"
    told = [record.getMessage() for record in caplog.records]
    (refused,) = [at for at, words in enumerate(told) if "can't be written" in words]
    assert refused < next(at for at, words in enumerate(told) if "usual: " in words)


def test_the_engine_cache_keeps_the_winner(world: World, tmp_path: Path) -> None:
    model, cache = Small(), {"cache_built_engines": True, "reuse_cached_engines": True, "engine_cache_dir": tmp_path}
    world.compile(model, X, **cache)
    world.built()
    again = world.compile(model, X, **cache)
    assert world.built() == {}
    torch.testing.assert_close(again(X), model(X))


# Several partitions, other lowerings, the whole model


class Pooled(nn.Module):
    """With an operation in the middle that the usual engine refuses."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.erf(self.first(x)))


def _refuse_erf(world: World) -> None:
    world.backends["openvino"].refuses = lambda node: node.target is torch.ops.aten.erf.default


def test_another_engine_takes_the_whole_model_when_that_is_faster(world: World) -> None:
    _refuse_erf(world)
    model = Pooled()
    compiled = world.compile(model, X)
    assert winner(compiled, "as planned: part_0") == "quick: usual"
    assert winner(compiled, "whole model") == "quick: usual"  # 3 ms, as planned it is 3 + 3
    assert round(trials(compiled, "whole model")["as planned"].milliseconds or 0, 6) == 6.0
    assert compiled.plan is not None
    assert (len(compiled.plan.groups), compiled.plan.refusals) == (1, {})
    torch.testing.assert_close(compiled(X), model(X))
    world.built()
    again = world.compile(model, X)
    assert world.built() == {"quick": [""]}
    assert again.plan is not None
    assert again.plan.trials == compiled.plan.trials


def test_the_plan_stays_when_no_engine_is_faster_for_the_whole(world: World) -> None:
    _refuse_erf(world)
    world.backends["quick"].refuses = lambda node: node.target is torch.ops.aten.erf.default
    model = Pooled()
    compiled = world.compile(model, X)
    assert winner(compiled, "whole model") == "as planned"
    world.built()
    world.compile(model, X)
    assert world.built() == {"quick": ["", ""]}


def test_a_wrong_whole_model_is_left_out(world: World, caplog: pytest.LogCaptureFixture) -> None:
    _refuse_erf(world)
    world.backends["quick"].wrong = {""}
    compiled = world.compile(Pooled(), X)
    assert trials(compiled, "whole model")["quick: usual"].note.startswith(("wrong", "can't be used"))


def test_partitions_are_measured_on_the_values_that_reach_them(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    _refuse_erf(world)
    seen: list[Tensor] = []
    original = type(world.backends["quick"]).build

    def build(self: object, partition: object, settings: object) -> object:
        engine = original(self, partition, settings)  # type: ignore[arg-type]
        run = engine.run
        engine.run = lambda inputs: (seen.append(inputs[0]), run(inputs))[1]  # type: ignore[method-assign]
        return engine

    monkeypatch.setattr(type(world.backends["quick"]), "build", build)
    model = Pooled()
    world.compile(model, X, engine="openvino")
    assert any(torch.equal(one, X) for one in seen)
    assert any(torch.allclose(one, torch.erf(model.first(X)), atol=1e-6) for one in seen)


def _without_ones() -> LoweringPass:
    """x + 1  ->  x * 1, which shows that a pass was left out."""

    def run(graph_module: torch.fx.GraphModule, settings: object) -> bool:
        nodes = graph_module.graph.find_nodes(op="call_function", target=torch.ops.aten.add.Tensor)
        for node in nodes:
            node.target = torch.ops.aten.sub.Tensor
            node.args = (node.args[0], -node.args[1])
        return bool(nodes)

    return LoweringPass("subtract", run)


def test_a_pass_is_left_out_where_the_whole_model_is_faster_without_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = world.backends["openvino"]
    usual.own_passes = [_without_ones()]
    original = type(usual).build

    def build(self: object, partition: object, settings: object) -> object:
        engine = original(self, partition, settings)  # type: ignore[arg-type]
        subtracts = partition.module.graph.find_nodes(op="call_function", target=torch.ops.aten.sub.Tensor)
        engine.seconds *= 1.0 if subtracts else 0.5
        return engine

    monkeypatch.setattr(type(usual), "build", build)
    model = Small()
    compiled = world.compile(model, X, engine="openvino")
    assert winner(compiled, "whole model") == "openvino: without subtract"
    assert compiled.settings.disabled_passes == {"subtract"}
    torch.testing.assert_close(compiled(X), model(X))


def test_a_pass_that_changes_nothing_is_not_measured_twice(world: World) -> None:
    usual = world.backends["openvino"]
    usual.own_passes = [LoweringPass("idle", lambda graph_module, settings: False)]
    compiled = world.compile(Small(), X, engine="openvino")
    assert trials(compiled, "whole model")["openvino: without idle"].note == "gives a graph that was measured already"
    assert world.built() == {"openvino": ["", "brisk"]}


# What must not suffer


def test_a_saved_module_runs_the_chosen_engine(world: World, tmp_path: Path) -> None:
    model = Small()
    compiled = world.compile(model, X)
    torch_tensorrt.save(compiled, str(tmp_path / "model.ep"))
    loaded = torch_tensorrt.load(str(tmp_path / "model.ep")).module()
    torch.testing.assert_close(loaded(X), model(X))
    before = world.clock.now
    loaded(X)
    assert math.isclose(world.clock.now - before, 0.003)


class Counter(nn.Module):
    """Counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls.add_(1)
        return x * 2 + self.calls


def test_measuring_leaves_a_models_state_alone(world: World) -> None:
    _refuse_erf(world)
    compiled = world.compile(Counter(), X)
    torch.testing.assert_close(compiled(X), X * 2 + 1)
    torch.testing.assert_close(compiled(X), X * 2 + 2)
    assert trials(compiled, "whole model") == {}


def test_indices_are_valid_because_they_are_the_users(world: World) -> None:
    model = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 4))
    words = torch_tensorrt.Input(torch_tensor=torch.tensor([[4, 0, 1]]))
    assert winner(world.compile(model, words)) == "quick: usual"


def test_sizes_that_vary_are_measured_at_the_typical_ones(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[torch.Size] = []
    original = type(world.backends["quick"]).build

    def build(self: object, partition: object, settings: object) -> object:
        engine = original(self, partition, settings)  # type: ignore[arg-type]
        run = engine.run
        engine.run = lambda inputs: (sizes.append(inputs[0].shape), run(inputs))[1]  # type: ignore[method-assign]
        return engine

    monkeypatch.setattr(type(world.backends["quick"]), "build", build)
    rows = torch_tensorrt.Input(min_shape=(1, 4), opt_shape=(1, 4), max_shape=(9, 4))
    compiled = world.compile(Small(), rows)
    assert set(sizes) == {torch.Size((1, 4))}
    assert compiled(torch.randn(7, 4)).shape == (7, 4)


def test_a_module_that_is_to_be_refitted_can_be(world: World) -> None:
    model, other = Small(), Small()
    compiled = world.compile(model, X, immutable_weights=False)
    assert winner(compiled) == "quick: usual"
    refitted = torch_tensorrt.dynamo.refit_module_weights(compiled, torch.export.export(other.eval(), (X,)))
    torch.testing.assert_close(refitted(X), other(X))


def test_torch_compile_measures_too(world: World) -> None:
    model = Small().eval()
    given = {"optimization_level": 4, "min_block_size": 1, "timing_cache_path": str(world.path)}
    with torch.no_grad():
        torch.testing.assert_close(torch.compile(model, backend="tensorrt", options=given)(X), model(X))
    assert len(world.built()) == 3


def test_a_model_that_fails_on_its_examples_is_the_callers(world: World) -> None:
    words = torch_tensorrt.Input(torch_tensor=torch.tensor([[7]]))
    with pytest.raises(InputError, match="example inputs"):
        world.compile(nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 4)), words)


# With real engines


def test_a_small_network_is_as_fast_as_its_fastest_candidate(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(engines, "names", lambda: ("eager", "openvino"))  # the others take long to build
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)).eval()
    x = torch.randn(1, 3, 24, 24)
    given = {"optimization_level": 4, "min_block_size": 1, "timing_cache_path": str(tmp_path / "timings")}
    compiled = torch_tensorrt.compile(model, inputs=[x], **given)
    measured = [trial for trial in trials(compiled).values() if trial.milliseconds is not None]
    chosen = next(trial for trial in measured if trial.note == "chosen")
    assert len(measured) >= 3
    assert chosen.milliseconds is not None
    assert all(chosen.milliseconds <= (trial.milliseconds or 0) / 0.98 for trial in measured)
    torch.testing.assert_close(compiled(x), model(x), rtol=1e-4, atol=1e-5)
