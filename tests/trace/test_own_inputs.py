"""Inputs that are described for an ExportedProgram, which has sizes of its own: what differs is told."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn
from torch.export import Dim, ExportedProgram

import torch_tensorrt


class Two(nn.Module):
    def forward(self, x: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        return torch.relu(x) + ids


def program() -> ExportedProgram:
    batch = Dim("batch", min=1, max=8)
    return torch.export.export(
        Two(), (torch.randn(2, 3), torch.ones(2, 3, dtype=torch.int64)), dynamic_shapes=({0: batch}, {0: batch})
    )


def ranged(most: int, columns: int = 3, dtype: torch.dtype = torch.float32) -> torch_tensorrt.Input:
    return torch_tensorrt.Input(min_shape=(1, columns), opt_shape=(2, columns), max_shape=(most, columns), dtype=dtype)


WHOLE = torch.int64


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ([ranged(16), ranged(8, dtype=WHOLE)], "size 1 to 16 in dimension 0, and the program takes 1 to 8"),
        ([ranged(8, 4), ranged(8, dtype=WHOLE)], "size 4 in dimension 1, and the program takes 3"),
        ([ranged(8), ranged(8)], "dtype torch.float32, and the program takes torch.int64"),
        ([ranged(8), torch.ones(9, 3, dtype=WHOLE)], "size 9 in dimension 0, and the program takes 1 to 8"),
        ([torch.randn(2), ranged(8, dtype=WHOLE)], "1 dimensions, and the program takes 2"),
        ([ranged(8)], r"1 inputs are described, and the ExportedProgram takes 2 tensors \(x, ids\)"),
    ],
)
def test_what_the_program_does_not_take_is_told(
    inputs: list[object], words: str, caplog: pytest.LogCaptureFixture
) -> None:
    torch_tensorrt.compile(program(), inputs=inputs, engine="eager", min_block_size=1)
    (said,) = [record.getMessage() for record in caplog.records if "described" in record.getMessage()]
    assert re.search(words, said), said


@pytest.mark.parametrize(
    "inputs",
    [
        [ranged(8), ranged(8, dtype=WHOLE)],
        [ranged(4), torch.ones(4, 3, dtype=WHOLE)],
        [torch.randn(1, 3), torch.ones(1, 3, dtype=WHOLE)],
        None,
    ],
)
def test_what_it_takes_is_not(inputs: list[object] | None, caplog: pytest.LogCaptureFixture) -> None:
    compiled = torch_tensorrt.compile(program(), inputs=inputs, engine="eager", min_block_size=1)
    assert "described" not in caplog.text
    x, ids = torch.randn(4, 3), torch.ones(4, 3, dtype=WHOLE)
    torch.testing.assert_close(compiled(x, ids), torch.relu(x) + 1)
