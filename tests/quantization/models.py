"""What the tests of quantization work on: a small network, and one trained on scikit-learn's digits."""

from __future__ import annotations

from functools import cache

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

import torch_tensorrt


class Net(nn.Module):
    """Two convolutions with a residual connection, and two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.second = nn.Conv2d(16, 16, 3, padding=1)
        self.wide, self.last = nn.Linear(16, 256), nn.Linear(256, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.first(x)))
        x = torch.relu(self.second(x) + x)
        return self.last(torch.relu(self.wide(x.mean((2, 3)))))


class Padded(nn.Conv2d):
    """Pads by itself, more at the end than at the beginning, as networks from TensorFlow do."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(nn.functional.pad(x, (0, 1, 0, 1)))


class Unusual(nn.Module):
    """Layers that are no module of PyTorch's own: a class of one's own, and functions."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.again = Padded(3, 16, 3, stride=2), Padded(16, 16, 2, groups=16)
        self.kernel = nn.Parameter(torch.randn(16, 16, 1, 1) / 4)
        self.rows = nn.Parameter(torch.randn(10, 16) / 4)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.relu6(self.first(x))
        x = torch.conv2d(nn.functional.relu6(self.again(x)), self.kernel) + x
        return nn.functional.linear(x.mean((2, 3)), self.rows)


def images(count: int = 2) -> Tensor:
    return torch.randn(count, 3, 16, 16)


def ranged(*sizes: int) -> list[torch_tensorrt.Input]:
    """A batch of 1 to 8 of what has such sizes."""
    return [torch_tensorrt.Input(min_shape=(1, *sizes), opt_shape=(2, *sizes), max_shape=(8, *sizes), name="x")]


def relative(given: Tensor, wanted: Tensor) -> float:
    """The error against what is wanted."""
    return float((given - wanted).norm() / wanted.norm())


@cache
def digits() -> tuple[nn.Module, Tensor, Tensor, Tensor]:
    """A network of some seconds of training, the images it was trained on, and others with their labels."""
    torch.manual_seed(0)
    data = load_digits()
    pictures = torch.tensor(data.images, dtype=torch.float32)[:, None] / 16
    labels = torch.tensor(data.target)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(1))
    pictures, labels = pictures[order], labels[order]
    model = nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU()),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU()),
        *(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(512, 10)),
    )
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    for _ in range(6):
        for start in range(0, 1024, 64):
            optimizer.zero_grad()
            part = slice(start, start + 64)
            nn.functional.cross_entropy(model(pictures[part]), labels[part]).backward()
            optimizer.step()
    return model.eval(), pictures[:1024], pictures[1024:], labels[1024:]
