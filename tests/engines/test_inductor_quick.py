"""The inductor engine from compile to a file and back, once; test_inductor.py has the rest."""

from __future__ import annotations

import io

import pytest
import torch
from torch import Tensor, nn

import torch_tensorrt
from torch_tensorrt import engines

pytestmark = pytest.mark.skipif(
    not engines.backend("inductor").available(torch.device("cpu")), reason="no C++ compiler here"
)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 16), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        y = self.first(x).tanh()
        return {"mean": y.mean(-1), "scores": self.second(y).softmax(-1)}


def test_a_model_of_varying_sizes_is_compiled_saved_and_loaded() -> None:
    net = Net().eval()
    sizes = torch_tensorrt.Input(min_shape=(1, 6), opt_shape=(3, 6), max_shape=(8, 6))
    compiled = torch_tensorrt.compile(net, inputs=[sizes], engine="inductor", min_block_size=1)
    file = io.BytesIO()
    torch_tensorrt.save(compiled, file)
    file.seek(0)
    loaded = torch_tensorrt.load(file).module()
    for rows in (1, 3, 8):
        x = torch.randn(rows, 6)
        wanted = net(x)
        for form in (compiled, loaded):
            torch.testing.assert_close(form(x), wanted, rtol=1e-5, atol=1e-6)
