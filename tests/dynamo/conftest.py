"""What the tests of torch.compile share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from torch_tensorrt.contracts.partition import Plan
from torch_tensorrt.dynamo.backend import entry


@pytest.fixture(autouse=True)
def _fresh_dynamo() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.fixture
def plans(monkeypatch: pytest.MonkeyPatch) -> list[Plan]:
    """The plan of each graph that is compiled from now on."""
    made: list[Plan] = []
    compile_graph = entry.compile_graph

    def compile_and_note(*given: object) -> object:
        outer, plan = compile_graph(*given)  # type: ignore[arg-type]
        made.append(plan)
        return outer, plan

    monkeypatch.setattr(entry, "compile_graph", compile_and_note)
    return made
