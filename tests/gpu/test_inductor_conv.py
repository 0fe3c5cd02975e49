"""The passes for convolutions and linear layers on a CUDA GPU: right results, in the kernels that they are for."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import torch_tensorrt
from torch_tensorrt.engines.inductor import first_runs

pytestmark = pytest.mark.gpu


class Residual(nn.Module):
    """A residual network in small, with a depthwise convolution and one that isn't fused."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.norm = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False), nn.BatchNorm2d(64)
        self.down, self.first = nn.Conv2d(64, 128, 1, stride=2), nn.Conv2d(64, 128, 3, stride=2, padding=1)
        self.second, self.deep = nn.Conv2d(128, 128, 3, padding=1), nn.Conv2d(128, 128, 5, padding=2, groups=128)
        self.third, self.last = nn.Conv2d(128, 96, 1), nn.Linear(96, 10)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = torch.relu(self.norm(self.stem(x)))
        x = torch.relu(self.first(x) + self.down(x))
        x = torch.relu(x + self.second(x))
        y = functional.silu(self.third(self.deep(x)))
        return self.last(functional.adaptive_avg_pool2d(y, 1).flatten(1)), y


@pytest.mark.parametrize("engine", ["eager", "inductor"])
def test_a_saved_package_is_right_whatever_the_memory_format(engine: str, tmp_path: Path) -> None:
    """AOTInductor alone got convolutions wrong (PyTorch 2.11) where the model and its inputs were channels-last."""
    model = Residual().eval().cuda().half().to(memory_format=torch.channels_last).requires_grad_(False)
    x = torch.randn(1, 3, 224, 224, device="cuda").half().to(memory_format=torch.channels_last)
    compiled = torch_tensorrt.compile(model, arg_inputs=[x], engine=engine, min_block_size=1)
    torch_tensorrt.save(compiled, tmp_path / "model.pt2", output_format="aot_inductor", arg_inputs=[x])
    loaded = torch_tensorrt.load(tmp_path / "model.pt2")
    for given in (x, x.contiguous(), x.transpose(2, 3).contiguous().transpose(2, 3)):
        for got, wanted in zip(loaded(given), model(given), strict=True):
            assert (got - wanted).norm() / wanted.norm() < 1e-2


class Branch(nn.Module):
    """A convolution that reads the input directly, and what would hide nothing of a layout taken for another."""

    def __init__(self, convolution: nn.Module) -> None:
        super().__init__()
        self.convolution, self.norm = convolution, nn.BatchNorm2d(32)
        for tensor in (self.norm.running_mean, self.norm.bias.data):
            tensor.normal_()
        self.norm.running_var.uniform_(0.5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return functional.silu(self.norm(self.convolution(x)))


class Branches(nn.Module):
    """Convolutions of all kinds; the last one's result is seen as a matrix."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        kinds = [
            nn.Conv2d(32, 32, 1, bias=False),
            nn.Conv2d(32, 32, 3, padding=1),
            nn.Conv2d(32, 32, 7, stride=2),
            nn.Conv2d(32, 32, 3, dilation=2),
            nn.Conv2d(32, 32, 3, groups=32),
            nn.Conv2d(32, 32, 3, groups=2),
            nn.ConvTranspose2d(32, 32, 2, stride=2),
        ]
        self.branches = nn.ModuleList([Branch(kind) for kind in kinds])
        self.patches, self.last = nn.Conv2d(32, 48, 4, stride=4), nn.Linear(48, 16)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return (*(branch(x) for branch in self.branches), self.last(self.patches(x).flatten(2).transpose(1, 2)))


LAYOUTS = [torch.contiguous_format, torch.channels_last]


@pytest.mark.parametrize("way", ["inductor", "package", "varying"])
@pytest.mark.parametrize("weights", LAYOUTS, ids=["", "weights-last"])
@pytest.mark.parametrize("inputs", LAYOUTS, ids=["", "inputs-last"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32], ids=["f16", "f32"])
def test_a_convolution_that_reads_an_input_directly_is_right(
    dtype: torch.dtype, inputs: torch.memory_format, weights: torch.memory_format, way: str, tmp_path: Path
) -> None:
    """torch.export switches cuDNN off, and what it predicts of layouts then was taken for true when kernels were made."""
    model = Branches().eval().cuda().to(dtype).to(memory_format=weights).requires_grad_(False)
    x = torch.randn(2, 32, 28, 28, device="cuda", dtype=dtype).to(memory_format=inputs)
    options: dict[str, object] = {"arg_inputs": [x]}
    if way == "varying":
        sizes = {f"{name}_shape": (batch, 32, 28, 28) for name, batch in (("min", 1), ("opt", 2), ("max", 5))}
        options = {"inputs": [torch_tensorrt.Input(**sizes, dtype=dtype, format=inputs)], "device": "cuda"}
    engine = "eager" if way == "package" else "inductor"
    run: object = torch_tensorrt.compile(model, engine=engine, min_block_size=1, **options)
    if way == "package":
        torch_tensorrt.save(run, tmp_path / "model.pt2", output_format="aot_inductor", arg_inputs=[x])
        run = torch_tensorrt.load(tmp_path / "model.pt2")
    others = [torch.randn(5, 32, 28, 28, device="cuda", dtype=dtype)] if way == "varying" else []
    for given in (x, x.contiguous(), x.to(memory_format=torch.channels_last), *others):
        for got, wanted in zip(run(given), model(given), strict=True):  # type: ignore[operator]
            assert (got - wanted).norm() / wanted.norm() < 1e-2


def test_scales_that_were_found_with_data_multiply_float8() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(1024, 4096), nn.GELU(), nn.Linear(4096, 1024)).eval().cuda().half()
    data = [torch.randn(1024, 1024, device="cuda").half() for _ in range(2)]
    program = torch_tensorrt.quantize(model, data, precision="float8")
    compiled = torch_tensorrt.compile(program, engine="inductor", min_block_size=1)
    assert "scaled_mm" in str(torch_tensorrt.runtime.get_layer_info(compiled))
    with torch.no_grad():
        assert 1e-3 < (compiled(data[0]) - model(data[0])).norm() / model(data[0]).norm() < 0.1


class Attention(nn.Module):
    """Three linear layers of one input, and two with activations."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.q, self.k, self.v = nn.Linear(64, 64), nn.Linear(64, 64, bias=False), nn.Linear(64, 64)
        self.up, self.down = nn.Linear(64, 256), nn.Linear(256, 64)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        q, k, v = (part.unflatten(-1, (4, 16)).transpose(1, 2) for part in (self.q(x), self.k(x), self.v(x)))
        y = (q @ k.transpose(-1, -2)).softmax(-1) @ v
        y = self.down(functional.gelu(self.up(y.transpose(1, 2).flatten(2)), approximate="tanh"))
        return y, torch.relu(self.down(torch.relu(self.up(y))))


def operators(module: torch_tensorrt.CompiledModule) -> Counter[str]:
    graphs = [partition.module.graph for partition in module.partitions.values()]
    return Counter(str(node.target) for graph in graphs for node in graph.nodes if node.op == "call_function")


def disagreement(given: tuple[Tensor, ...], model: nn.Module, x: Tensor) -> float:
    """Relative, against the model in float64. The strides are those that torch.export tells of."""
    with torch.no_grad():
        wanted = model.double()(x.double())
        program = torch.export.export(model.to(x.dtype), (x,), strict=False)
    told = [node.meta["val"] for node in program.graph.output_node().all_input_nodes]
    assert [steps(result) for result in given] == [steps(result) for result in told]
    return max(float((a.double() - b).norm() / b.norm()) for a, b in zip(given, wanted, strict=True))


def steps(tensor: Tensor) -> list[int]:
    """The strides that matter: that of a dimension of one element is any."""
    return [stride for stride, size in zip(tensor.stride(), tensor.shape, strict=True) if size > 1]


def compiled(model: nn.Module, x: object, **options: object) -> torch_tensorrt.CompiledModule:
    return torch_tensorrt.compile(model, inputs=[x], engine="inductor", min_block_size=1, **options)


@pytest.mark.parametrize(
    ("dtype", "most", "last"),
    [
        (torch.float16, 1e-2, False),
        (torch.float16, 1e-2, True),
        (torch.bfloat16, 4e-2, False),
        (torch.float32, 1e-5, False),
        (torch.float32, 1e-5, True),
    ],
    ids=str,
)
def test_a_convolution_network_is_fused_and_right(dtype: torch.dtype, most: float, last: bool) -> None:
    model = Residual().eval().cuda().to(dtype)
    x = torch.randn(4, 3, 64, 64, device="cuda", dtype=dtype)
    x = x.to(memory_format=torch.channels_last) if last else x
    module = compiled(model, x)
    found = operators(module)
    fused = (found["aten.cudnn_convolution_relu.default"], found["aten.cudnn_convolution_add_relu.default"])
    assert fused == (1, 2), found
    for _ in range(2):
        assert disagreement(module(x), model, x) < most


@pytest.mark.parametrize("name", ["use_channels_last", "fuse_convolutions"])
def test_each_pass_can_be_left_out(name: str) -> None:
    model = Residual().eval().cuda().half()
    x = torch.randn(2, 3, 64, 64, device="cuda", dtype=torch.half)
    assert disagreement(compiled(model, x, disabled_passes={name})(x), model, x) < 1e-2


def test_a_batch_that_varies() -> None:
    model = Residual().eval().cuda().half()
    batch = torch_tensorrt.Input(
        min_shape=(1, 3, 64, 64), opt_shape=(4, 3, 64, 64), max_shape=(16, 3, 64, 64), dtype=torch.half
    )
    module = compiled(model, batch, device="cuda")
    for size in (1, 3, 16):
        x = torch.randn(size, 3, 64, 64, device="cuda", dtype=torch.half)
        assert disagreement(module(x), model, x) < 1e-2


@pytest.mark.parametrize(("dtype", "most"), [(torch.float16, 1e-2), (torch.float32, 1e-5)], ids=str)
def test_linears_are_merged_and_activations_fused(dtype: torch.dtype, most: float) -> None:
    model = Attention().eval().cuda().to(dtype)
    x = torch.randn(4, 24, 64, device="cuda", dtype=dtype)
    module = compiled(model, x)
    assert operators(module)["aten._addmm_activation.default"] == 3
    assert disagreement(module(x), model, x) < most


def test_cudnn_measures_in_the_first_run_only_and_the_switch_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_runs, "_LARGE", 0.0)
    seen: list[bool] = []
    model = Residual().eval().cuda().half()
    x = torch.randn(2, 3, 64, 64, device="cuda", dtype=torch.half)
    module = compiled(model, x)
    watched = first_runs._switch
    entered = watched.enter
    watched.enter = lambda: (entered(), seen.append(torch.backends.cudnn.benchmark))[0]  # type: ignore[method-assign]
    try:
        for _ in range(3):
            module(x)
        thread = threading.Thread(target=lambda: module(x))
        thread.start()
        thread.join()
    finally:
        watched.enter = entered  # type: ignore[method-assign]
    assert seen == [True, True], "once per thread"
    assert not torch.backends.cudnn.benchmark


def test_a_fused_network_can_be_captured_in_a_cuda_graph() -> None:
    model = Residual().eval().cuda().half()
    x = torch.randn(2, 3, 64, 64, device="cuda", dtype=torch.half)
    module = compiled(model, x)
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        module(x)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        given = module(x)
    x.copy_(torch.randn_like(x))
    graph.replay()
    assert disagreement(given, model, x) < 1e-2


def test_a_fused_network_is_saved_and_loaded(tmp_path: object) -> None:
    model = Residual().eval().cuda().half()
    x = torch.randn(2, 3, 64, 64, device="cuda", dtype=torch.half)
    module = compiled(model, x)
    torch_tensorrt.save(module, f"{tmp_path}/model.ep", inputs=[x])
    again = torch_tensorrt.load(f"{tmp_path}/model.ep").module()
    assert disagreement(tuple(again(x)), model, x) < 1e-2


@pytest.mark.parametrize("knob", ["coordinate_descent_tuning"])
def test_inductors_own_measurements_can_be_asked_for(knob: str) -> None:
    model = Attention().eval().cuda().half()
    x = torch.randn(2, 8, 64, device="cuda", dtype=torch.half)
    assert disagreement(compiled(model, x, engine_options={knob: True})(x), model, x) < 1e-2


@pytest.mark.parametrize("engine", ["eager", "inductor"])
@pytest.mark.parametrize("way", ["call", "package"])
def test_a_view_that_channels_last_results_have_not_reads_a_copy(engine: str, way: str, tmp_path: Path) -> None:
    """torch.export predicts a contiguous result of the convolution; cuDNN gives a channels-last one."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Flatten(1)).eval().cuda().half().requires_grad_(False)
    network.to(memory_format=torch.channels_last)
    x = torch.randn(2, 3, 17, 17, device="cuda").half().to(memory_format=torch.channels_last)
    module = torch_tensorrt.compile(network, arg_inputs=[x], engine=engine, min_block_size=1)
    if way == "package":
        torch_tensorrt.save(module, tmp_path / "model.pt2", output_format="aot_inductor", arg_inputs=[x])
        module = torch_tensorrt.load(tmp_path / "model.pt2")
    with torch.no_grad():
        for given in (x, x.contiguous()):
            got, wanted = module(given), network(given)
            assert (got - wanted).norm() / wanted.norm() < 1e-2


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("rows", [1, 512])
def test_linears_with_odd_columns_are_padded_while_compiling(rows: int, bias: bool) -> None:
    torch.manual_seed(0)
    model = nn.Linear(768, 50257, bias=bias).eval().cuda().half().requires_grad_(False)
    x = torch.randn(rows, 768, device="cuda").half()
    module = compiled(model, x)
    with torch.no_grad(), torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as kernels:
        given = module(x)
        torch.cuda.synchronize()
    with torch.no_grad():
        wanted = functional.linear(x.float(), model.weight.float(), None if model.bias is None else model.bias.float())
    assert given.stride() == wanted.stride()
    assert (given - wanted).norm() / wanted.norm() < 1e-2
    assert not [event.name for event in kernels.events() if "direct_copy" in event.name]
