"""The inductor engine from compile to a file and back, once; test_inductor.py has the rest."""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import nullcontext

import pytest
import torch
import torch._inductor.package as packing
from torch import Tensor, nn

import torch_tensorrt
from torch_tensorrt import engines
from torch_tensorrt.engines.inductor import sdk
from torch_tensorrt.spec.settings import CompilationSettings

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


def compiled_engine(model: nn.Module, x: Tensor) -> Callable[[Tensor], Tensor]:
    return torch_tensorrt.compile(model, inputs=[x], engine="inductor", min_block_size=1)


def package(model: nn.Module, x: Tensor) -> Callable[[Tensor], Tensor]:
    file = io.BytesIO()
    torch_tensorrt.save(torch.export.export(model, (x,)), file, output_format="aot_inductor")
    file.seek(0)
    return torch_tensorrt.load(file)


@pytest.mark.parametrize("make", [compiled_engine, package])
def test_weights_stay_apart_where_two_processes_compile_the_same_network(
    make: Callable[[nn.Module, Tensor], Callable[[Tensor], Tensor]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process compiles it with other weights, which are part of the code, before our files are packed."""
    mine, other, x = nn.Conv2d(3, 4, 3).eval(), nn.Conv2d(3, 4, 3).eval(), torch.randn(1, 3, 8, 8)
    pack = packing.package_aoti

    def interrupted(*arguments: object, **named: object) -> object:
        monkeypatch.setattr(packing, "package_aoti", pack)
        seen.append(make(other, x))
        return pack(*arguments, **named)

    seen: list[object] = []
    monkeypatch.setattr(sdk, "PREDICTING", nullcontext())  # another process doesn't know it
    monkeypatch.setattr(packing, "package_aoti", interrupted)
    made = make(mine, x)
    assert seen
    with torch.no_grad():
        torch.testing.assert_close(made(x), mine(x), rtol=1e-5, atol=1e-6)


F = torch.nn.functional
ANY = torch.export.Dim.DYNAMIC
# What Inductor compiles for the example sizes only, though it is told that they vary.
DECIDED = {
    "adaptive_avg_pool2d": lambda x: F.adaptive_avg_pool2d(x, (2, 3)),
    "adaptive_max_pool2d": lambda x: F.adaptive_max_pool2d(x, (2, 3)),
    "avg_pool2d": lambda x: F.avg_pool2d(x, 2, 2, ceil_mode=True),
    "max_pool2d_with_indices": lambda x: F.max_pool2d(x, 2, 2, ceil_mode=True),
    "diagonal": lambda x: x.diagonal(1, 2, 3) + 0,
}


class Applied(nn.Module):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, x: Tensor) -> Tensor:
        return DECIDED[self.name](x.relu())


def refusals(name: str, sizes: dict[int, object]) -> str:
    program = torch.export.export(Applied(name), (torch.ones(2, 2, 6, 8),), dynamic_shapes=(sizes,))
    backend, settings = engines.backend("inductor"), CompilationSettings.from_options()
    calls = [node for node in program.run_decompositions().graph.nodes if node.op == "call_function"]
    calls = [node for node in calls if isinstance(node.target, torch._ops.OpOverload) and node.target._schema.returns]
    return "; ".join(support.reason for node in calls if not (support := backend.supports(node, settings)))


@pytest.mark.parametrize("name", DECIDED)
def test_what_is_compiled_for_the_example_sizes_only_is_refused_where_they_vary(name: str) -> None:
    assert refusals(name, {0: ANY}) == "" or name.endswith("pool2d_with_indices") or name == "avg_pool2d"
    assert "decides that for the typical sizes only" in refusals(name, {2: ANY, 3: ANY})
    assert refusals(name, {}) == ""
