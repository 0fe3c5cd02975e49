"""Whole networks through torch.compile: as exact as through dynamo, in as few engines, and for other sizes without a new graph."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tests.zoo.models import ROWS, Row
from torch_tensorrt.contracts.partition import Plan
from torch_tensorrt.dynamo.backend import torch_tensorrt_backend
from torch_tensorrt.tools.coverage import relative_error

QUICK = {"bert", "resnet", "mlp"}
# How many graphs there are after each size, where it isn't once for the first size and once for all others.
GRAPHS = {"segformer": [2, 3, 3]}  # transformers installs a hook in the first call, and the graph ends before that


@pytest.fixture(autouse=True)
def _fresh_dynamo() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def rows() -> list[object]:
    """Every network of the zoo; all but a few are slow."""
    return [pytest.param(row, id=row.name, marks=[] if row.name in QUICK else [pytest.mark.slow]) for row in ROWS]


def test_ten_architectures_of_transformers_are_among_them() -> None:
    assert sum(row.family == "transformer" for row in ROWS) >= 10


@pytest.mark.parametrize("row", rows())
def test_a_network_is_as_exact_as_through_dynamo_and_compiled_twice_at_most(row: Row, plans: list[Plan]) -> None:
    model = row.build()
    compiled = torch.compile(model, backend=torch_tensorrt_backend)
    counts = []
    for batch in (2, 3, 5):
        torch.manual_seed(100 + batch)
        args, kwargs = row.sample(batch)
        # Dynamo leaves LSTMs to Python unless it is told otherwise.
        with torch.no_grad(), torch._dynamo.config.patch(allow_rnn=True):
            assert relative_error(compiled(*args, **kwargs), model(*args, **kwargs)) <= row.tolerance
        counts.append(len(plans))
    assert counts == GRAPHS.get(row.name, [1, 2, 2])  # once for the first size, once for all sizes
    assert all(len(plan.groups) == 1 and not plan.refusals for plan in plans)
