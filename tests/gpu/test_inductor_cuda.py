"""The inductor engine on a CUDA GPU: streams, threads, another device, exactness, other processes."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import torch_tensorrt
from torch_tensorrt.contracts.engine import Engine
from torch_tensorrt.runtime.op import live_engine
from torch_tensorrt.spec.errors import InputError

pytestmark = pytest.mark.gpu


class Layers(nn.Module):
    """Products and pointwise work between them, and results that are inputs and views."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(64, 256), nn.Linear(256, 64)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y = self.second(torch.nn.functional.gelu(self.first(x))) + x
        return y, x, y.t()


def compiled(model: nn.Module, *inputs: object, **options: object) -> torch_tensorrt.CompiledModule:
    return torch_tensorrt.compile(model, inputs=list(inputs), min_block_size=1, **options)


def engine_of(module: torch_tensorrt.CompiledModule) -> Engine:
    (constant,) = [buffer for name, buffer in module.named_buffers() if name.startswith("engine_")]
    return live_engine(constant).engine


@pytest.fixture(scope="module")
def layers() -> tuple[nn.Module, torch_tensorrt.CompiledModule]:
    model = Layers().eval().cuda()
    batch = torch_tensorrt.Input(min_shape=(1, 64), opt_shape=(8, 64), max_shape=(32, 64))
    return model, compiled(model, batch, device="cuda")


def assert_agree(given: tuple[Tensor, ...], wanted: tuple[Tensor, ...]) -> None:
    for a, b in zip(given, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_inputs_on_a_gpu_choose_inductor_and_give_what_pytorch_gives() -> None:
    model = Layers().eval().cuda()
    module = compiled(model, torch.randn(8, 64, device="cuda"))
    assert module.plan is not None
    assert module.plan.backend == "inductor"
    assert engine_of(module).spec.target.startswith("sm_")
    x = torch.randn(8, 64, device="cuda")
    with torch.no_grad():
        assert_agree(module(x), model(x))


def test_sizes_vary(layers: tuple[nn.Module, torch_tensorrt.CompiledModule]) -> None:
    model, module = layers
    for size in (1, 2, 8, 31):
        x = torch.randn(size, 64, device="cuda")
        with torch.no_grad():
            assert_agree(module(x), model(x))


def test_results_share_no_memory(layers: tuple[nn.Module, torch_tensorrt.CompiledModule]) -> None:
    x = torch.randn(4, 64, device="cuda")
    engine = engine_of(layers[1])
    tensors = [x, *engine.run([x]), *engine.run([x])]
    assert len({tensor.untyped_storage().data_ptr() for tensor in tensors}) == len(tensors)


def test_a_result_that_is_an_input_is_that_input_as_in_pytorch(
    layers: tuple[nn.Module, torch_tensorrt.CompiledModule],
) -> None:
    x = torch.randn(4, 64, device="cuda")
    assert layers[1](x)[1] is x
    assert layers[0](x)[1] is x


def test_an_engine_runs_on_the_callers_stream(layers: tuple[nn.Module, torch_tensorrt.CompiledModule]) -> None:
    model, module = layers
    stream = torch.cuda.Stream()
    x = torch.randn(8, 64, device="cuda")
    module(x)
    torch.cuda.synchronize()
    with torch.cuda.stream(stream), torch.no_grad():
        torch.cuda._sleep(200_000_000)  # the input is written only after this, on the same stream
        x.copy_(torch.full_like(x, 2.0))
        given = module(x)
        wanted = model(x)
    stream.synchronize()
    assert_agree(given, wanted)


def test_an_engine_can_be_captured_in_a_cuda_graph(layers: tuple[nn.Module, torch_tensorrt.CompiledModule]) -> None:
    model, module = layers
    x = torch.randn(8, 64, device="cuda")
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        for _ in range(3):
            module(x)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        given = module(x)
    x.copy_(torch.randn_like(x))
    graph.replay()
    with torch.no_grad():
        assert_agree(given, model(x))


def test_sixteen_threads_on_streams_of_their_own(layers: tuple[nn.Module, torch_tensorrt.CompiledModule]) -> None:
    model, module = layers

    def call(seed: int) -> None:
        with torch.cuda.stream(torch.cuda.Stream()), torch.no_grad():
            for turn in range(20):
                x = torch.randn(1 + (seed + turn) % 7, 64, device="cuda")
                assert_agree(module(x), model(x))

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(call, range(16)))


@pytest.mark.parametrize("allowed", [False, True])
def test_float32_is_float32_unless_tf32_is_allowed(allowed: bool) -> None:
    model = nn.Sequential(nn.Conv2d(64, 64, 3), nn.ReLU(), nn.Conv2d(64, 64, 3)).eval().cuda()
    x = torch.randn(8, 64, 32, 32, device="cuda")
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = allowed
    try:
        given = compiled(model, x)(x)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
    wanted = model.double()(x.double())
    error = float((given.double() - wanted).norm() / wanted.norm())
    assert error < 1e-5 if not allowed else error < 1e-2


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_floats_channels_last(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = (
        nn.Sequential(nn.Conv2d(16, 32, 3), nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 16, 3)).eval().cuda().to(dtype)
    )
    model = model.to(memory_format=torch.channels_last)
    x = torch.randn(4, 16, 20, 20, device="cuda", dtype=dtype).to(memory_format=torch.channels_last)
    with torch.no_grad():
        wanted = model.float()(x.float())
        given = compiled(model.to(dtype), x)(x)
    assert float((given.float() - wanted).norm() / wanted.norm()) < 1e-2


def test_a_saved_file_runs_in_another_process_that_has_neither_compiler_nor_cache(tmp_path: Path) -> None:
    model = Layers().eval().cuda()
    x = torch.randn(8, 64, device="cuda")
    module = compiled(model, x)
    torch_tensorrt.save(module, str(tmp_path / "model.ep"), inputs=[x])
    torch.save((x, module(x)), tmp_path / "answers.pt")
    code = (
        "import torch, torch_tensorrt\n"
        "x, wanted = torch.load('answers.pt')\n"
        "given = torch_tensorrt.load('model.ep').module()(x)\n"
        "assert all(torch.equal(a, b) for a, b in zip(given, wanted))\n"
    )
    environment = {**os.environ, "CXX": "no-such-compiler", "PYTHONPATH": os.pathsep.join(sys.path)}
    environment |= {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "a"), "TRITON_CACHE_DIR": str(tmp_path / "b")}
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert not [name for *_, names in os.walk(tmp_path / "a") for name in names]


def test_weights_can_be_replaced() -> None:
    model = Layers().eval().cuda()
    x = torch.randn(8, 64, device="cuda")
    engine = engine_of(compiled(model, x, immutable_weights=False))
    program = engine.program()
    assert program is not None
    doubled = {name: 2 * value for name, value in program.state_dict.items() if isinstance(value, Tensor)}
    first, again = engine.run([x])[0], engine.refit(doubled).run([x])[0]
    assert not torch.allclose(first, again)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="one GPU")
def test_an_engine_stays_on_the_gpu_that_it_was_built_on() -> None:
    model = Layers().eval().cuda()
    module = compiled(model, torch.randn(8, 64, device="cuda:0"))
    with pytest.raises(InputError, match=r"on cuda:1, and is on cuda:0"):
        engine_of(module).run([torch.randn(8, 64, device="cuda:1")])
    x = torch.randn(8, 64, device="cuda:0")
    with torch.no_grad():
        assert_agree(module(x), model(x))
