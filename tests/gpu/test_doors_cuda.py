"""The documented ways in and out of a compiled model, with the model on a CUDA GPU."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import torch_tensorrt
from torch_tensorrt.contracts.partition import Plan

pytestmark = pytest.mark.gpu
DEVICE = "cuda"


class Net(nn.Module):
    """Two linear layers, and one operator between them that can be kept in PyTorch."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(16, 32), nn.Linear(32, 8)
        self.register_buffer("shift", torch.randn(32))

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.relu(self.first(x)) + self.shift)


def network() -> tuple[nn.Module, Tensor]:
    return Net().eval().to(DEVICE).requires_grad_(False), torch.randn(4, 16, device=DEVICE)


def compiled(model: nn.Module, x: object, **options: object) -> torch_tensorrt.CompiledModule:
    module = torch_tensorrt.compile(model, inputs=[x], min_block_size=1, **options)
    assert module.plan is not None
    assert module.plan.in_engines
    return module


def disagreement(given: Tensor, model: nn.Module, x: Tensor) -> float:
    assert given.device == x.device
    with torch.no_grad():
        wanted = model(x)
    return float((given - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("kept", [set(), {"aten.relu.default"}], ids=["whole", "with PyTorch"])
@pytest.mark.parametrize("varying", [False, True], ids=["fixed", "varying"])
@pytest.mark.parametrize("output_format", ["exported_program", "torchscript", "aot_inductor"])
def test_every_format_is_saved_and_loaded(output_format: str, varying: bool, kept: set[str], tmp_path: Path) -> None:
    model, x = network()
    sizes = torch_tensorrt.Input(min_shape=(2, 16), opt_shape=(4, 16), max_shape=(8, 16))
    module = compiled(model, sizes if varying else x, torch_executed_ops=kept)
    path = tmp_path / "model"
    torch_tensorrt.save(module, path, output_format=output_format, inputs=[sizes if varying else x])
    again = torch_tensorrt.load(path)
    run = again.module() if output_format == "exported_program" else again
    for rows in (4, 8, 2) if varying else (4,):
        given = torch.randn(rows, 16, device=DEVICE)
        assert disagreement(run(given), model, given) < 1e-3


def test_torchscript_runs_in_another_process(tmp_path: Path) -> None:
    model, x = network()
    torch_tensorrt.save(compiled(model, x), tmp_path / "net.ts", output_format="torchscript", inputs=[x])
    with torch.no_grad():
        torch.save((x, model(x)), tmp_path / "pair.pt")
    code = (
        "import sys, torch, torch_tensorrt\n"
        "x, wanted = torch.load(sys.argv[2])\n"
        "given = torch.jit.load(sys.argv[1])(x)\n"
        "assert given.device == x.device\n"
        "assert (given - wanted).norm() / wanted.norm() < 1e-3\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "net.ts"), str(tmp_path / "pair.pt")], check=True)


def test_a_portable_file_is_right(tmp_path: Path) -> None:
    model, x = network()
    torch_tensorrt.save(compiled(model, x), tmp_path / "model.ep", inputs=[x], portable=True)
    assert disagreement(torch_tensorrt.load(tmp_path / "model.ep").module()(x), model, x) < 1e-3


def test_other_weights_after_loading(tmp_path: Path) -> None:
    model, x = network()
    module = compiled(model, x, immutable_weights=False)
    torch_tensorrt.save(module, tmp_path / "model.ep", inputs=[x])
    other = Net().to(DEVICE).eval().requires_grad_(False)
    for parameter in other.parameters():
        parameter.mul_(1.5)
    loaded = torch_tensorrt.load(tmp_path / "model.ep")
    replaced = torch_tensorrt.dynamo.refit_module_weights(loaded, torch.export.export(other, (x,)))
    run = replaced.module() if isinstance(replaced, torch.export.ExportedProgram) else replaced
    assert disagreement(run(x), other, x) < 1e-3


def test_torch_compile(plans: list[Plan]) -> None:
    model, x = network()
    run = torch.compile(model, backend="torch_tensorrt", dynamic=False, options={"min_block_size": 1})
    with torch.no_grad():
        assert disagreement(run(x), model, x) < 1e-3
    assert [plan.in_engines for plan in plans] == [plan.total for plan in plans] != []


def test_a_mutable_module_follows_its_weights() -> None:
    model, x = network()
    mutable = torch_tensorrt.MutableTorchTensorRTModule(model, min_block_size=1, immutable_weights=False)
    with torch.no_grad():
        first = mutable(x)
        other = {name: 2 * value for name, value in model.state_dict().items()}
        mutable.load_state_dict(other)
        second = mutable(x)
    exact = Net().to(DEVICE).eval()
    assert disagreement(first, exact, x) < 1e-3
    exact.load_state_dict(other)
    assert disagreement(second, exact, x) < 1e-3


def test_calls_that_are_submitted() -> None:
    model, x = network()
    module = compiled(model, x)
    inputs = [torch.randn(4, 16, device=DEVICE) for _ in range(16)]
    with torch_tensorrt.runtime.Throughput(module, requests=4) as pool:
        for given, result in [(each, pool.submit(each)) for each in inputs]:
            assert disagreement(result.result(), model, given) < 1e-3


def test_inputs_that_only_describe() -> None:
    model, x = network()
    module = torch_tensorrt.compile(
        model, inputs=[torch_tensorrt.Input((4, 16))], min_block_size=1, device=torch_tensorrt.Device(f"{DEVICE}:0")
    )
    assert disagreement(module(x), model, x) < 1e-3


@pytest.mark.parametrize("kind", ["scripted", "traced", "graph", "exported"])
def test_every_kind_of_model(kind: str) -> None:
    model, x = network()
    made: object = {
        "scripted": lambda: torch.jit.script(model),
        "traced": lambda: torch.jit.trace(model, x),
        "graph": lambda: torch.fx.symbolic_trace(model),
        "exported": lambda: torch.export.export(model, (x,)),
    }[kind]()
    module = torch_tensorrt.compile(made, inputs=[x], min_block_size=1)  # type: ignore[arg-type]
    assert disagreement(module(x), model, x) < 1e-3


def test_engine_bytes_are_a_package_that_pytorch_alone_runs(tmp_path: Path) -> None:
    model, x = network()
    path = tmp_path / "net.pt2"
    path.write_bytes(torch_tensorrt.convert_method_to_trt_engine(model, inputs=[x], engine="inductor"))
    (given,) = torch._inductor.aoti_load_package(str(path))(x)
    assert disagreement(given, model, x) < 1e-3


def test_an_engine_is_taken_from_the_cache(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = {"cache_built_engines": True, "reuse_cached_engines": True, "engine_cache_dir": str(tmp_path)}
    model, x = network()
    for taken in (0, 1):
        caplog.clear()
        with caplog.at_level("INFO", "torch_tensorrt"):
            module = compiled(model, x, **cache)
        assert disagreement(module(x), model, x) < 1e-3
        assert caplog.text.count("taken from the engine cache") == taken


@pytest.mark.parametrize("varying", [False, True], ids=["fixed", "varying"])
def test_torch_compile_with_the_mode_of_the_process(varying: bool, plans: list[Plan]) -> None:
    model, x = network()
    run = torch.compile(model, backend="torch_tensorrt", dynamic=varying, options={"min_block_size": 1})
    torch_tensorrt.runtime.set_cudagraphs_mode(True)
    try:
        with torch.no_grad():
            for rows in (4, 8, 4) if varying else (4, 4):
                given = torch.randn(rows, 16, device=DEVICE)
                assert disagreement(run(given), model, given) < 1e-3
            model.second.weight.mul_(2)
            assert disagreement(run(x), model, x) < 1e-3
    finally:
        torch_tensorrt.runtime.set_cudagraphs_mode(False)
    assert [plan.in_engines for plan in plans] == [plan.total for plan in plans] != []


def test_an_exact_part_within_the_callers_autocast_stays_exact(plans: list[Plan]) -> None:
    model, x = network()

    def exact_inside(x: Tensor) -> Tensor:
        with torch.autocast(DEVICE, enabled=False):
            return model(x).softmax(-1)

    with torch.no_grad(), torch.autocast(DEVICE, torch.bfloat16):
        given = torch.compile(exact_inside, backend="torch_tensorrt", options={"min_block_size": 1})(x)
        wanted = exact_inside(x)
    assert given.dtype == wanted.dtype == torch.float32
    assert float((given - wanted).norm() / wanted.norm()) < 1e-3
    assert [plan.in_engines for plan in plans] == [plan.total for plan in plans] != []
