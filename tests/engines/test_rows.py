"""Linear layers over rows, in `openvino` engines: no reshaping is left where the rows get back the dimensions they came from."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor, nn

import torch_tensorrt


class Back(nn.Module):
    """Rows that become what they were, with what follows a linear layer in transformers."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 12)

    def forward(self, x: Tensor) -> Tensor:
        first, second, width = x.shape
        return torch.relu(self.layer(x.view(first * second, width)).view(first, second, 12))


class Turned(Back):
    """The rows get other dimensions: as many, but not the same."""

    def forward(self, x: Tensor) -> Tensor:
        first, second, width = x.shape
        return torch.relu(self.layer(x.view(first * second, width)).view(second, first, 12))


class Shared(Back):
    """The rows are read by something else as well."""

    def forward(self, x: Tensor) -> Tensor:
        first, second, width = x.shape
        rows = self.layer(x.view(first * second, width))
        return torch.relu(rows.view(first, second, 12)) + rows.sum(0)


class Narrow(Back):
    """The rows are shorter than the last dimension of what they are made of."""

    def forward(self, x: Tensor) -> Tensor:
        first, second, width = x.shape
        return self.layer(x.view(first * second, width // 8, 8)).view(first, second, -1)


class Gate(Back):
    """A weight of one dimension, for which a layer takes one away: the view back adds one."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(8))

    def forward(self, x: Tensor) -> Tensor:
        first, second, width = x.shape
        return x * torch.sigmoid(
            nn.functional.linear(x.view(first * second, width), self.weight).view(first, second, 1)
        )


class RowsOfBias(Back):
    """A bias for each row."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(12, 8)), nn.Parameter(torch.randn(64, 12))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(nn.functional.linear(x.view(64, 8), self.weight, self.bias).view(8, 8, 12))


def kinds(compiled: nn.Module) -> list[str]:
    (told,) = torch_tensorrt.runtime.get_layer_info(compiled).values()
    return [layer["LayerType"] for layer in json.loads(told)["Layers"]]


@pytest.mark.parametrize(
    ("model", "width", "reshapes"), [(Back, 8, False), (Turned, 8, True), (Shared, 8, True), (Narrow, 16, True)]
)
def test_rows_become_what_they_were(model: type[Back], width: int, reshapes: bool) -> None:
    torch.manual_seed(0)
    network = model().eval()
    given = torch_tensorrt.Input(min_shape=(1, 1, width), opt_shape=(2, 3, width), max_shape=(4, 9, width))
    compiled = torch_tensorrt.compile(network, inputs=[given], engine="openvino", require_full_compilation=True)
    assert ("Reshape" in kinds(compiled)) is reshapes
    for sizes in ((1, 1), (2, 3), (4, 9), (3, 2)):
        x = torch.randn(*sizes, width)
        with torch.no_grad():
            torch.testing.assert_close(compiled(x), network(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("model", [Gate, RowsOfBias])
def test_other_shapes_of_weights_stay_over_rows(model: type[Back]) -> None:
    torch.manual_seed(0)
    network, x = (
        model().eval(),
        torch.randn(8, 8, 8),
    )  # of one size, which a layer over dimensions would take for another
    compiled = torch_tensorrt.compile(network, inputs=[x], engine="openvino", require_full_compilation=True)
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), network(x), rtol=1e-5, atol=1e-5)
