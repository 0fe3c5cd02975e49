"""The network of the golden files, and the inputs that they are tried with."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import torch_tensorrt


class Golden(nn.Module):
    """One linear layer, a keyword, and a dict of results."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 4)
        with torch.no_grad():
            self.layer.weight.copy_(torch.linspace(-1, 1, 24).view(4, 6))
            self.layer.bias.copy_(torch.linspace(0, 1, 4))

    def forward(self, x: Tensor, *, shift: Tensor) -> dict[str, Tensor]:
        return {"scores": torch.relu(self.layer(x)) + shift}


STATIC = torch_tensorrt.Input((3, 6))
DYNAMIC = torch_tensorrt.Input(min_shape=(2, 6), opt_shape=(4, 6), max_shape=(8, 6))
SHIFT = torch.tensor([0.0, 1.0, 2.0, 3.0])


def sample(rows: int) -> Tensor:
    """`rows` x 6 numbers between -1 and 1, always the same ones."""
    return torch.linspace(-1, 1, rows * 6).sin().view(rows, 6)
