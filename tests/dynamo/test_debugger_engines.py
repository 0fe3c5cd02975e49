"""What the Debugger writes about engines: their layers, and what these take. Results are the same with it and without."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import torch_tensorrt
from torch_tensorrt import BuildError, EngineNotRunnable, UnsupportedError
from torch_tensorrt.contracts.abilities import DescribesLayers, TimesLayers
from torch_tensorrt.contracts.engine import Engine, EngineSpec
from torch_tensorrt.dynamo import Debugger
from torch_tensorrt.dynamo.debug._EngineFiles import RUNS_DRAWN, EngineFiles
from torch_tensorrt.runtime.modes import engines_in
from torch_tensorrt.runtime.watching import watching

X = torch.randn(2, 4)
ENGINES = ["eager", "openvino", "inductor"]
# A layer of the model below, as each engine tells it.
PRODUCT = {"eager": "aten.addmm.default", "openvino": "FullyConnected", "inductor": "extern"}


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Linear(4, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x).relu())


def compiled(engine: str = "eager", **options: Any) -> torch_tensorrt.CompiledModule:
    made = torch_tensorrt.compile(Network().eval(), inputs=[X], engine=engine, min_block_size=1, **options)
    assert isinstance(made, torch_tensorrt.CompiledModule)
    return made


def read(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_text())


@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_tells_its_layers_and_their_times(engine: str, tmp_path: Path) -> None:
    with Debugger(logging_dir=tmp_path, save_layer_info=True, save_engine_profile=True, profile_format="trex"):
        module = compiled(engine)
        results = [module(X) for _ in range(3)]
    assert all(torch.equal(result, module(X)) for result in results)
    layers = read(tmp_path, "engine_layer_information/part_0.json")
    assert layers == json.loads(torch_tensorrt.runtime.get_layer_info(module)["part_0"])
    kinds = [layer["LayerType"] for layer in layers["Layers"]]
    assert PRODUCT[engine] in kinds
    assert all(layer["Name"] for layer in layers["Layers"])
    head, *profile = read(tmp_path, "engine_profiles/part_0.trex.json")
    assert head == {"count": 3}
    timed = [layer["name"] for layer in profile]
    assert timed
    assert set(timed) <= {layer["Name"] for layer in layers["Layers"]}, "both files have the same names"
    assert any(layer["kind"].startswith(PRODUCT[engine]) for layer in profile)
    assert all(layer["timeMs"] == pytest.approx(3 * layer["averageMs"]) for layer in profile)
    assert sum(layer["percentage"] for layer in profile) == pytest.approx(100)


def test_a_trace_has_every_run_with_its_layers_inside(tmp_path: Path) -> None:
    module = compiled()
    with Debugger(logging_dir=tmp_path, save_engine_profile=True):
        for _ in range(RUNS_DRAWN + 1):
            module(X)
    assert not (tmp_path / "engine_layer_information").exists()
    events = [
        event for event in read(tmp_path, "engine_profiles/part_0.perfetto.json")["traceEvents"] if event["ph"] == "X"
    ]
    runs = [event for event in events if event["name"].startswith("run ")]
    assert len(runs) == RUNS_DRAWN
    assert [event["name"] for event in events[1 : len(events) // RUNS_DRAWN]] == ["addmm", "relu", "addmm_1"]
    for event in events:
        run = next(run for run in reversed(runs) if run["ts"] <= event["ts"])
        assert event["ts"] + event["dur"] <= run["ts"] + run["dur"] + 0.01
    ends = [run["ts"] + run["dur"] for run in runs]
    assert all(end <= run["ts"] + 0.01 for end, run in zip(ends, runs[1:], strict=False))


def test_only_runs_in_the_block_are_timed(tmp_path: Path) -> None:
    module = compiled()
    module(X)
    with Debugger(logging_dir=tmp_path, save_engine_profile=True, profile_format="trex"):
        module(X)
    module(X)
    assert read(tmp_path, "engine_profiles/part_0.trex.json")[0] == {"count": 1}
    with Debugger(logging_dir=tmp_path / "other", save_engine_profile=True):
        pass
    assert not (tmp_path / "other" / "engine_profiles").exists()


def test_engines_of_one_name_and_loaded_ones_get_files_of_their_own(tmp_path: Path) -> None:
    torch_tensorrt.save(compiled(), tmp_path / "model.ep", inputs=[X])
    with Debugger(logging_dir=tmp_path, save_layer_info=True, save_engine_profile=True):
        first, loaded = compiled(), torch_tensorrt.load(tmp_path / "model.ep").module()
        assert torch.equal(first(X), loaded(X))
    for folder, end in (("engine_layer_information", "json"), ("engine_profiles", "perfetto.json")):
        assert {path.name for path in (tmp_path / folder).iterdir()} == {f"part_0.{end}", f"part_0.2.{end}"}


def test_a_name_in_a_file_reaches_no_other_folder(tmp_path: Path) -> None:
    engine = engines_in(compiled())[0]
    engine.spec = EngineSpec(**{**vars(engine.spec), "name": "../../part/" + "x" * 300})
    files = EngineFiles(tmp_path / "debug", profiles="trex", layers=True)
    files.made(engine)
    files.run(engine, [X])
    files.close()
    found = [path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()]
    assert {str(path.parent) for path in found} == {"debug/engine_layer_information", "debug/engine_profiles"}
    assert all(len(path.name) < 150 for path in found)


class Foreign(Engine):
    """An engine that can do no more than it must."""

    def __init__(self, spec: EngineSpec) -> None:
        self.spec = spec

    def run(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return (inputs[0] + 1,)

    def to_bytes(self) -> bytes:
        return b""


class Untimeable(Foreign):
    """One whose layers can't be timed here, or told."""

    def layer_information(self) -> str:
        raise EngineNotRunnable("it needs a GPU")

    def run_timed(self, inputs: Sequence[Tensor]) -> Any:
        raise BuildError("it can't be compiled again")


@pytest.mark.parametrize("kind", [Foreign, Untimeable])
def test_an_engine_whose_layers_cant_be_told_is_timed_whole_and_a_warning_says_so(
    kind: type[Foreign], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    engine = kind(engines_in(compiled())[0].spec)
    assert isinstance(engine, DescribesLayers) == isinstance(engine, TimesLayers) == (kind is Untimeable)
    files = EngineFiles(tmp_path, profiles="trex", layers=True)
    with caplog.at_level(logging.WARNING, "torch_tensorrt"):
        files.made(engine)
        for _ in range(2):
            assert torch.equal(files.run(engine, [X])[0], X + 1)
    files.close()
    count, whole = read(tmp_path, "engine_profiles/part_0.trex.json")
    assert (count, whole["name"], whole["kind"]) == ({"count": 2}, "part_0", "eager")
    assert not (tmp_path / "engine_layer_information").exists()
    told = {Foreign: ["don't tell them"], Untimeable: ["it needs a GPU", "it can't be compiled again"]}[kind]
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == len(told)
    assert all(words in message for words, message in zip(told, warnings, strict=True))


def test_a_failed_run_raises_as_it_does_outside_and_the_rest_is_written(tmp_path: Path) -> None:
    module = compiled()
    with Debugger(logging_dir=tmp_path, save_engine_profile=True, profile_format="trex"):
        module(X)
        with pytest.raises(torch_tensorrt.InputError):
            module(X.double())
    assert read(tmp_path, "engine_profiles/part_0.trex.json")[0] == {"count": 1}


class Counter:
    """A watcher that counts."""

    def __init__(self) -> None:
        self.made_, self.runs = 0, 0

    def made(self, engine: Engine) -> None:
        self.made_ += 1

    def run(self, engine: Engine, inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        self.runs += 1
        return engine.run(inputs)


def test_of_several_watchers_all_hear_of_an_engine_and_the_last_one_runs_it() -> None:
    outer, inner = Counter(), Counter()
    with watching(outer):
        with watching(inner):
            module = compiled()
            module(X)
            assert (outer.made_, inner.made_, outer.runs, inner.runs) == (1, 1, 0, 1)
        module(X)
    module(X)
    assert (outer.runs, inner.runs) == (1, 1)


def test_a_graph_without_engines_has_no_layers() -> None:
    module = compiled(torch_executed_ops={"aten.addmm", "aten.relu", "aten.linear"})
    with pytest.raises(UnsupportedError, match="all runs in PyTorch"):
        torch_tensorrt.runtime.get_layer_info(module)


def test_times_of_openvino_are_of_each_run_and_never_negative() -> None:
    engine = engines_in(compiled("openvino"))[0]
    assert isinstance(engine, TimesLayers)
    runs: list[Mapping[str, float]] = []
    for _ in range(4):
        outputs, times = engine.run_timed([X])
        assert torch.equal(outputs[0], engine.run([X])[0])
        runs.append({known.name: known.milliseconds for known in times})
    assert all(value >= 0 for run in runs for value in run.values())
    assert sum(runs[0].values()) > 0
