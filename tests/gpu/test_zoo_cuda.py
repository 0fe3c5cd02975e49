"""Twenty architectures on a GPU: each is one engine, for all batch sizes of a range, by compile and by torch.compile, and agrees."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

import torch_tensorrt
from tests.zoo import models as zoo
from torch_tensorrt.contracts.partition import Plan
from torch_tensorrt.tools.coverage import dynamic_inputs, relative_error

pytestmark = pytest.mark.gpu
DEVICE = "cuda"
HALF_BOUND = 1e-2
RANDOM = [pytest.param(row, id=row.name) for row in zoo.ROWS if not row.trained]


@pytest.fixture(autouse=True)
def _exact_products_and_fresh_dynamo() -> Iterator[None]:
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def sample(row: zoo.Row, batch: int) -> tuple[list[Tensor], dict[str, Tensor]]:
    torch.manual_seed(100 + batch)
    args, kwargs = row.sample(batch)
    return [value.to(DEVICE) for value in args], {name: value.to(DEVICE) for name, value in kwargs.items()}


def error(row: zoo.Row, run: Callable[..., object], batch: int) -> float:
    """Against float32 in PyTorch."""
    args, kwargs = sample(row, batch)
    exact = row.build().to(DEVICE)
    with torch.no_grad():
        return relative_error(run(*args, **kwargs), exact(*args, **kwargs))


def one_engine(plan: Plan | None) -> bool:
    """Random numbers, which wav2vec2 draws and doesn't use, are PyTorch's."""
    assert plan is not None
    refused = [why for why in plan.refusals.values() if "random numbers" not in why]
    return plan.backend == "inductor" and len(plan.groups) == 1 and not refused


@pytest.mark.parametrize("row", RANDOM)
def test_a_range_of_batch_sizes(row: zoo.Row, caplog: pytest.LogCaptureFixture) -> None:
    described = dynamic_inputs(row.sample)
    assert described is not None
    module = torch_tensorrt.compile(
        row.build().to(DEVICE), arg_inputs=list(described[0]), kwarg_inputs=described[1] or None, disable_tf32=True
    )
    assert one_engine(module.plan)
    # PyTorch upsamples images of fewer than 4 channels by other code on a GPU, and DETR's masks have its batch there.
    narrowed = row.name == "detr"
    assert ("the model as traced takes 4 to 8" in caplog.text) == narrowed
    assert max(error(row, module, batch) for batch in ((4, 8) if narrowed else (1, 3, 4, 8))) <= row.tolerance


@pytest.mark.parametrize("row", RANDOM)
def test_half_floats(row: zoo.Row) -> None:
    args, kwargs = sample(row, 2)
    module = torch_tensorrt.compile(
        row.build().to(DEVICE), arg_inputs=args, kwarg_inputs=kwargs or None, enabled_precisions={torch.float16}
    )
    assert one_engine(module.plan)
    assert error(row, module, 2) <= HALF_BOUND


@pytest.mark.parametrize("row", RANDOM)
def test_by_torch_compile(row: zoo.Row, plans: list[Plan]) -> None:
    # Dynamo leaves LSTMs to Python unless it is told otherwise.
    with torch._dynamo.config.patch(allow_rnn=True):
        run = torch.compile(row.build().to(DEVICE), backend="torch_tensorrt", options={"disable_tf32": True})
        assert max(error(row, run, batch) for batch in (2, 3, 5)) <= row.tolerance
    assert plans
    assert all(map(one_engine, plans))
