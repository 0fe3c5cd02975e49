"""What holds for every test: the same random numbers each time, and no engine chosen by the shell that runs the tests."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch

from torch_tensorrt.contracts.partition import Plan
from torch_tensorrt.dynamo.backend import entry


@pytest.fixture(autouse=True)
def _same_random_numbers() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _no_engine_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCH_TENSORRT_ENGINE", raising=False)


@pytest.fixture(scope="module")
def own_folder_for_compiled_code(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What Inductor compiled for other modules isn't found, unless the shell that runs the tests names a folder."""
    with pytest.MonkeyPatch.context() as patch:
        if "TORCHINDUCTOR_CACHE_DIR" not in os.environ:
            patch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path_factory.mktemp("inductor")))
        yield


@pytest.fixture
def plans(monkeypatch: pytest.MonkeyPatch) -> list[Plan]:
    """The plan of each graph that torch.compile hands over from now on."""
    made: list[Plan] = []
    compile_graph = entry.compile_graph

    def compile_and_note(*given: object) -> object:
        outer, plan = compile_graph(*given)  # type: ignore[arg-type]
        made.append(plan)
        return outer, plan

    monkeypatch.setattr(entry, "compile_graph", compile_and_note)
    return made


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked `gpu` are skipped, with the reason, where there is no NVIDIA GPU."""
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu") is not None:
            item.add_marker(pytest.mark.skip(reason="no NVIDIA GPU here"))
