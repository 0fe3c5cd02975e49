"""The inductor engine's passes for transformers on a CUDA GPU: attention kernels, half precision, float8."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import torch_tensorrt

pytestmark = pytest.mark.gpu
aten = torch.ops.aten
CUDNN = aten._scaled_dot_product_cudnn_attention.default
FLASH = aten._scaled_dot_product_flash_attention.default
EFFICIENT = aten._scaled_dot_product_efficient_attention.default


class Block(nn.Module):
    """A transformer's layer. shared: heads of keys and values. bias: numbers that are added to the scores of each head."""

    def __init__(self, heads: int = 4, shared: int = 4, causal: bool = False, bias: int = 0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.heads, self.shared, self.causal, self.width = heads, shared, causal, 64
        size = heads * self.width
        self.q = nn.Linear(size, size)
        self.k, self.v = nn.Linear(size, shared * self.width), nn.Linear(size, shared * self.width)
        self.out, self.norm, self.last = nn.Linear(size, size), nn.LayerNorm(size), nn.LayerNorm(size)
        self.up, self.down = nn.Linear(size, 4 * size), nn.Linear(4 * size, size)
        self.bias = nn.Buffer(torch.randn(1, heads, bias, bias)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        def split(given: Tensor, heads: int) -> Tensor:
            return given.view(*x.shape[:2], heads, self.width).transpose(1, 2)

        places = torch.arange(x.shape[1], device=x.device)
        mask = places[:, None] >= places[None, :] if self.causal else (places >= 0).expand(x.shape[1], -1)
        y = functional.scaled_dot_product_attention(
            split(self.q(x), self.heads),
            split(self.k(x), self.shared),
            split(self.v(x), self.shared),
            attn_mask=mask if self.bias is None else self.bias,
            enable_gqa=self.heads != self.shared,
        )
        x = self.norm(x + self.out(y.transpose(1, 2).reshape(x.shape)))
        return self.last(x + self.down(functional.gelu(self.up(x))))


def operators(module: torch_tensorrt.CompiledModule) -> set[object]:
    assert module.partitions
    return {node.target for part in module.partitions.values() for node in part.module.graph.nodes}


def relative_error(given: Tensor, wanted: Tensor) -> float:
    return float((given.double() - wanted.double()).norm() / wanted.double().norm())


def kernel() -> object:
    return CUDNN if torch.cuda.get_device_capability() >= (9, 0) else FLASH


CASES: Mapping[str, tuple[Block, int]] = {
    "no mask": (Block(), 200),
    "causal": (Block(causal=True), 256),
    "heads that share keys": (Block(shared=2, causal=True), 192),
    "one query": (Block(), 1),
    "few queries": (Block(), 40),
}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", CASES)
def test_attention_runs_in_the_kernel_of_the_gpu(name: str, dtype: torch.dtype) -> None:
    model, length = CASES[name]
    model = model.eval().cuda().float()
    x = torch.randn(3, length, 256, device="cuda")
    with torch.no_grad():
        wanted = model(x)
        module = torch_tensorrt.compile(model.to(dtype), inputs=[x.to(dtype)], min_block_size=1)
        assert operators(module) & {CUDNN, FLASH, EFFICIENT}
        if length > 128:
            assert kernel() in operators(module)
        assert relative_error(module(x.to(dtype)), wanted) < (1e-2 if dtype is torch.bfloat16 else 2e-3)


def test_lengths_that_vary_down_to_one() -> None:
    model = Block(causal=True).eval().cuda()
    sizes = torch_tensorrt.Input(
        min_shape=(1, 1, 256), opt_shape=(2, 128, 256), max_shape=(4, 256, 256), dtype=torch.float16
    )
    with torch.no_grad():
        module = torch_tensorrt.compile(model.half(), inputs=[sizes], device="cuda", min_block_size=1)
        for batch, length in ((1, 1), (2, 128), (3, 77), (4, 256)):
            x = torch.randn(batch, length, 256, device="cuda").half()
            assert relative_error(module(x), model(x)) < 2e-3


@pytest.mark.parametrize("length", [49, 64])
def test_numbers_added_to_few_scores_go_to_the_memory_efficient_kernel(length: int) -> None:
    model = Block(bias=length).eval().cuda()
    x = torch.randn(8, length, 256, device="cuda")
    with torch.no_grad():
        wanted = model(x)
        module = torch_tensorrt.compile(model.half(), inputs=[x.half()], min_block_size=1)
        assert EFFICIENT in operators(module)
        assert relative_error(module(x.half()), wanted) < 2e-3


def test_float32_computes_in_float16_where_that_is_enabled_and_gives_float32() -> None:
    model = Block().eval().cuda()
    x = torch.randn(4, 256, 256, device="cuda")
    with torch.no_grad():
        module = torch_tensorrt.compile(model, inputs=[x], min_block_size=1, enabled_precisions={torch.float16})
        given = module(x)
        assert kernel() in operators(module)
        assert given.dtype is torch.float32
        assert 1e-6 < relative_error(given, model(x)) < 2e-3


@pytest.mark.skipif(
    torch.cuda.is_available() and torch.cuda.get_device_capability() < (8, 9), reason="no float8 before 8.9"
)
@pytest.mark.parametrize("tensorwise", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_linears_multiply_float8_where_that_is_enabled(dtype: torch.dtype, tensorwise: bool) -> None:
    model = nn.Sequential(Block(), Block()).eval().cuda()
    x = torch.randn(8, 128, 256, device="cuda")
    with torch.no_grad():
        wanted = model(x)
        module = torch_tensorrt.compile(
            model.to(dtype),
            inputs=[x.to(dtype)],
            min_block_size=1,
            enabled_precisions={dtype, torch.float8_e4m3fn},
            engine_options={"float8_tensorwise": tensorwise},
        )
        assert aten._scaled_mm.default in operators(module)
        error = relative_error(module(x.to(dtype)), wanted)
    assert 1e-3 < error < 3e-2


def test_a_saved_float8_module_gives_the_same(tmp_path: Path) -> None:
    model = Block().eval().cuda().half()
    x = torch.randn(8, 128, 256, device="cuda").half()
    precisions = {torch.float16, torch.float8_e4m3fn}
    module = torch_tensorrt.compile(model, inputs=[x], min_block_size=1, enabled_precisions=precisions)
    torch_tensorrt.save(module, str(tmp_path / "module.ep"), inputs=[x])
    assert torch.equal(torch_tensorrt.load(str(tmp_path / "module.ep")).module()(x), module(x))


def test_attention_captured_in_a_cuda_graph_follows_its_input() -> None:
    model = Block(causal=True).eval().cuda().half()
    x = torch.randn(2, 128, 256, device="cuda").half()
    with torch.no_grad():
        module = torch_tensorrt.compile(model, inputs=[x], min_block_size=1)
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
        assert relative_error(given, model(x)) < 2e-3
