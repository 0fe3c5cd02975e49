"""The inductor engine in lower precisions: casting by `enabled_precisions`, and linear layers in float8."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, fx, nn
from torch.export import Dim
from torch.nn import functional
from torch.utils._pytree import tree_leaves

import torch_tensorrt
from torch_tensorrt import engines
from torch_tensorrt.archives.reading import read_program
from torch_tensorrt.engines.inductor.passes import PASSES, float8_sizes, gate
from torch_tensorrt.engines.inductor.passes.magnitudes import Magnitudes
from torch_tensorrt.lowering.pipeline import lower
from torch_tensorrt.spec.errors import InputError
from torch_tensorrt.spec.settings import CompilationSettings

aten = torch.ops.aten
scaled_mm = aten._scaled_mm.default
FLOAT8 = torch.float8_e4m3fn
BACKEND = engines.backend("inductor")
ALL = frozenset(each.name for each in PASSES)


@pytest.fixture(autouse=True)
def _graphs_of_the_cpu_are_rewritten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "DEVICES", {"cuda", "cpu"})
    for name, size in {"ROWS": 512, "WEIGHTS": 2**20, "BOUNDED_COLUMNS": 48, "SEARCHED_COLUMNS": 64}.items():
        monkeypatch.setattr(float8_sizes, name, size)


class Encoder(nn.Module):
    """Two layers of a small BERT."""

    def __init__(self, size: int = 64, layers: int = 2) -> None:
        super().__init__()
        torch.manual_seed(0)
        made = [
            nn.TransformerEncoderLayer(size, 4, 4 * size, batch_first=True, activation="gelu") for _ in range(layers)
        ]
        self.layers = nn.ModuleList(made)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer.norm1(x + _attended(layer.self_attn, x))
            x = layer.norm2(x + layer.linear2(functional.gelu(layer.linear1(x))))
        return x


def _attended(attention: nn.MultiheadAttention, x: Tensor) -> Tensor:
    q, k, v = functional.linear(x, attention.in_proj_weight, attention.in_proj_bias).chunk(3, -1)
    heads = [part.unflatten(-1, (4, -1)).transpose(1, 2) for part in (q, k, v)]
    result = attention.out_proj(functional.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2))
    assert isinstance(result, Tensor)
    return result


def lowered(model: nn.Module, x: Tensor, *names: str, dynamic: object = None, **options: object) -> fx.GraphModule:
    settings = CompilationSettings.from_options(disabled_passes=ALL - set(names), **options)
    with torch.no_grad():
        program = torch.export.export(model.eval(), (x,), dynamic_shapes=dynamic, strict=False)  # type: ignore[arg-type]
        return lower(program, BACKEND, settings)


def calls(graph_module: fx.GraphModule, target: object) -> list[fx.Node]:
    return list(graph_module.graph.find_nodes(op="call_function", target=target))


class OnTheCpu(fx.Interpreter):
    """Runs a graph, with float32 for products of float8."""

    def call_function(
        self, target: Callable[..., object], args: tuple[object, ...], kwargs: dict[str, object]
    ) -> object:
        if target is not scaled_mm:
            return super().call_function(target, args, kwargs)  # type: ignore[arg-type]
        first, second, scale, other_scale, bias, _, dtype, _ = args
        assert first.is_contiguous()  # type: ignore[attr-defined]
        assert second.t().is_contiguous()  # type: ignore[attr-defined]
        product = (first.float() @ second.float()) * scale * other_scale  # type: ignore[attr-defined]
        return (product if bias is None else product + bias).to(dtype)  # type: ignore[attr-defined]


def error_of(graph_module: fx.GraphModule, model: nn.Module, x: Tensor) -> float:
    with torch.no_grad():
        (given,) = tree_leaves(OnTheCpu(graph_module).run(x))
        wanted = model.float()(x.float())
    return float((given.double() - wanted.double()).norm() / wanted.double().norm())


# ---------------------------------------------------------------------------------------------------- half floats


@pytest.mark.parametrize("low", [torch.float16, torch.bfloat16])
def test_an_enabled_precision_is_what_products_and_attention_compute_in(low: torch.dtype) -> None:
    model, x = Encoder(), torch.randn(2, 16, 64)
    graph_module = lowered(model, x, enabled_precisions={low})
    products = [node for node in graph_module.graph.nodes if node.target in {aten.addmm.default, aten.mm.default}]
    (attention, *_) = calls(graph_module, aten.scaled_dot_product_attention.default)
    assert len(products) == 8
    assert {node.meta["val"].dtype for node in [*products, attention]} == {low}
    statistics = calls(graph_module, aten.native_layer_norm.default)
    assert {node.meta["val"][0].dtype for node in statistics} == {torch.float32}
    (result,) = graph_module.graph.output_node().all_input_nodes
    assert result.meta["val"].dtype is torch.float32
    assert 1e-6 < error_of(graph_module, model, x) < (1e-2 if low is torch.bfloat16 else 2e-3)


def test_without_an_enabled_precision_the_model_computes_in_its_own() -> None:
    graph_module = lowered(Encoder(), torch.randn(2, 16, 64))
    values = [node.meta.get("val") for node in graph_module.graph.nodes]
    assert {value.dtype for value in values if isinstance(value, Tensor)} == {torch.float32}


def test_a_precision_that_no_pass_casts_to_is_told_of() -> None:
    assert not BACKEND.unhonoured(CompilationSettings.from_options(enabled_precisions={torch.float16, FLOAT8}))
    (told,) = BACKEND.unhonoured(CompilationSettings.from_options(enabled_precisions={torch.int8}))
    assert "enabled_precisions" in told


# --------------------------------------------------------------------------------------------------------- float8


def in_float8(model: nn.Module, x: Tensor, **options: object) -> fx.GraphModule:
    precisions = {FLOAT8} | ({x.dtype} if x.dtype is not torch.float32 else set())
    return lowered(model, x, "quantize_linears", enabled_precisions=precisions, **options)


@pytest.mark.parametrize("enabled", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_scales_that_were_found_with_data_are_constants(dtype: torch.dtype, enabled: bool) -> None:
    model, data = Encoder().to(dtype).eval(), [torch.randn(32, 16, 64, dtype=dtype) for _ in range(3)]
    program = torch_tensorrt.quantize(model, data, precision="float8")
    precisions = {"enabled_precisions": {FLOAT8, dtype}} if enabled else {}
    settings = CompilationSettings.from_options(disabled_passes=ALL - {"quantize_linears"}, **precisions)
    with torch.no_grad():
        graph_module = lower(program, BACKEND, settings)
    products = calls(graph_module, scaled_mm)
    assert len(products) == 8
    assert not calls(graph_module, aten.amax.default)  # nothing is looked for at run time
    assert all(isinstance(node.args[2], fx.Node) and node.args[2].op == "get_attr" for node in products)
    assert "quantized_decomposed" not in str(graph_module.graph)
    assert 1e-3 < error_of(graph_module, model, data[0]) < 0.1
    far = data[0] * 100  # of which most is cut off, and no infinity comes
    (result,) = tree_leaves(OnTheCpu(graph_module).run(far))
    assert result.isfinite().all()


def test_scales_that_were_found_with_data_stay_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "DEVICES", {"cuda"})
    model, x = Encoder(layers=1).eval(), torch.randn(32, 16, 64)
    program = torch_tensorrt.quantize(model, [x], precision="float8")
    with torch.no_grad():
        graph_module = lower(program, BACKEND, CompilationSettings())
    assert not calls(graph_module, scaled_mm)
    assert str(graph_module.graph).count("quantized_decomposed.dequantize_per_tensor") == 4
    with torch.no_grad():
        (given,), wanted = tree_leaves(graph_module(x)), program.module()(x)
    assert (given - wanted).norm() / wanted.norm() < 5e-3  # a value between two steps may become either


@pytest.mark.parametrize("tensorwise", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_large_linears_multiply_float8(dtype: torch.dtype, tensorwise: bool) -> None:
    model, x = Encoder().to(dtype), torch.randn(32, 16, 64, dtype=dtype)
    graph_module = in_float8(model, x, engine_options={"float8_tensorwise": tensorwise})
    products = calls(graph_module, scaled_mm)
    assert len(products) == 8
    assert not calls(graph_module, aten.addmm.default)
    assert {node.args[0].meta["val"].dtype for node in products} == {FLOAT8}
    scales = [node.args[2].meta["val"].dim() for node in products]
    assert scales == ([0] * 8 if tensorwise else [2, 2, *[0] * 6]), "after the first normalisation, all is bounded"
    assert len(calls(graph_module, aten.amax.default)) == 2
    assert 1e-3 < error_of(graph_module, model, x) < 3e-2


def test_a_row_of_zeros_and_a_row_of_large_numbers_keep_their_size() -> None:
    model, x = nn.Linear(64, 64).half(), torch.randn(512, 64).half()
    x[0], x[1] = 0.0, 60000.0 / 64
    x[2] *= 1e-6
    graph_module = in_float8(model, x)
    (given,) = tree_leaves(OnTheCpu(graph_module).run(x))
    wanted = model.float()(x.float())
    torch.testing.assert_close(given[0].float(), wanted[0], rtol=1e-3, atol=1e-3)
    for row in (1, 2):
        assert float((given[row] - wanted[row]).norm() / wanted[row].norm()) < 3e-2


class Gated(nn.Module):
    """RMSNorm by hand, and a gated layer, as Llama has them."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(size))
        self.gate, self.up, self.down = (nn.Linear(size, size, bias=False) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        y = self.scale * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))
        return x + self.down(functional.silu(self.gate(y)) * self.up(y))


@pytest.mark.parametrize(("model", "least"), [(Encoder(64), 20), (Encoder(256), 20), (Gated(64), 8)])
def test_what_is_proven_of_magnitudes_holds(model: nn.Module, least: int) -> None:
    """Every bound that is found, against the values of a model with weights of all sizes and inputs of all sizes."""
    size = next(model.parameters()).shape[-1]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(torch.empty_like(parameter).uniform_(0.5, 3.0)).add_(0.3)
    x = torch.randn(4, 16, size) * torch.logspace(-3, 3, 4)[:, None, None]
    graph_module = lowered(model, x)
    magnitudes, kept = Magnitudes(graph_module), Values(graph_module)
    kept.run(x)
    found = 0
    for node, value in kept.values.items():
        bound = magnitudes.of(node)
        if bound is not None and isinstance(value, Tensor):
            found += 1
            assert float(value.abs().max()) <= bound.most * 1.001, node
            if bound.length is not None:
                assert float(value.norm(dim=-1).max()) <= bound.length * 1.001, node
    assert found > least


class Values(OnTheCpu):
    """Keeps what each node gave."""

    def run_node(self, n: fx.Node) -> object:
        value = super().run_node(n)
        self.values: dict[fx.Node, object] = {**getattr(self, "values", {}), n: value}
        return value


def test_layers_that_read_one_input_take_it_to_float8_once() -> None:
    class Three(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q, self.k, self.v = (nn.Linear(64, 64) for _ in range(3))

        def forward(self, x: Tensor) -> Tensor:
            return self.q(x) + self.k(x) * self.v(x)

    model, x = Three().half(), torch.randn(8, 64, 64).half()
    graph_module = in_float8(model, x)
    assert len(calls(graph_module, scaled_mm)) == 3
    assert len(calls(graph_module, aten.amax.default)) == 1
    assert error_of(graph_module, model, x) < 5e-2


class After(nn.Module):
    """A linear layer, after a normalisation or not."""

    def __init__(self, taken: int, given: int, *, normed: bool = True, bias: bool = True) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(taken) if normed else nn.Identity()
        self.layer = nn.Linear(taken, given, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(self.norm(x))
        assert isinstance(y, Tensor)
        return y


ROWS = {
    "few rows": (After(64, 64), 256, 0),
    "few rows, a large weight": (After(1024, 1024), 2, 1),
    "few rows, a large weight, an input of any size": (After(1024, 1024, normed=False), 2, 0),
    "many rows, an input of any size": (After(64, 64, normed=False), 1024, 1),
    "few columns": (After(64, 32), 1024, 0),
    "few columns, an input of any size": (After(64, 48, normed=False), 1024, 0),
    "a width that is no multiple of 16": (After(64, 72), 1024, 0),
    "an input that is no multiple of 16 wide": (After(72, 64), 1024, 0),
    "no bias": (After(64, 64, bias=False), 1024, 1),
}


@pytest.mark.parametrize("name", ROWS)
def test_linears_multiply_float8_where_that_is_faster_and_possible(name: str) -> None:
    model, rows, wanted = ROWS[name]
    model, x = model.half(), torch.randn(rows, model.layer.in_features).half()
    graph_module = in_float8(model, x)
    assert len(calls(graph_module, scaled_mm)) == wanted
    assert error_of(graph_module, model, x) < 5e-2


def test_sizes_that_vary_count_as_their_typical_ones() -> None:
    model, x = nn.Linear(64, 64).half(), torch.randn(1024, 64).half()
    graph_module = in_float8(model, x, dynamic=({0: Dim("rows", min=2, max=4096)},))
    assert calls(graph_module, scaled_mm)
    assert error_of(graph_module, model, x[:5]) < 5e-2


@pytest.mark.parametrize("precisions", [{torch.float16}, set()])
def test_float8_is_used_only_where_it_is_enabled(precisions: set[torch.dtype]) -> None:
    graph_module = lowered(
        nn.Linear(64, 64).half(), torch.randn(1024, 64).half(), "quantize_linears", enabled_precisions=precisions
    )
    assert not calls(graph_module, scaled_mm)


def test_weights_that_the_model_writes_stay() -> None:
    class Written(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Buffer(torch.randn(64, 64).half())

        def forward(self, x: Tensor) -> Tensor:
            y = x @ self.weight
            self.weight.add_(1.0)
            return y

    assert not calls(in_float8(Written(), torch.randn(1024, 64).half()), scaled_mm)


def test_a_program_in_float8_can_be_saved_and_is_let_through_when_it_is_read() -> None:
    graph_module = in_float8(Encoder().half(), torch.randn(32, 16, 64).half())
    program = torch.export.export(graph_module, (torch.randn(32, 16, 64).half(),))
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    buffer.seek(0)
    again = read_program(buffer, "The program of a test")
    assert any(node.target is scaled_mm for node in again.graph.nodes)


def test_a_float8_knob_that_is_not_true_or_false_is_refused() -> None:
    with pytest.raises(InputError, match="float8_tensorwise"):
        BACKEND.unhonoured(CompilationSettings.from_options(engine_options={"float8_tensorwise": "yes"}))


# ----------------------------------------------------------------------------------------------------------- GELU


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_gelu_in_fewer_instructions_is_as_exact_as_pytorchs(dtype: torch.dtype) -> None:
    x = torch.cat([torch.linspace(-12.0, 12.0, 20001), torch.tensor([0.0, -0.0, 6e4, -6e4, 1e-7, -1e-7])]).to(dtype)
    graph_module = lowered(nn.GELU(), x, "expand_gelu")
    assert not calls(graph_module, aten.gelu.default)
    (given,) = tree_leaves(graph_module(x))
    exact = functional.gelu(x.double())
    ours, theirs = (given.double() - exact).abs(), (functional.gelu(x).double() - exact).abs()
    assert given.dtype is dtype
    assert float(ours.max()) <= float(theirs.max())
    assert float(ours.sum()) < 1.001 * float(theirs.sum())
    torch.testing.assert_close(given.double(), exact, rtol=2 * torch.finfo(dtype).eps, atol=3e-7)


@pytest.mark.parametrize(("dtype", "approximate"), [(torch.float32, "none"), (torch.float16, "tanh")])
def test_gelu_in_float32_and_with_tanh_stays(dtype: torch.dtype, approximate: str) -> None:
    graph_module = lowered(nn.GELU(approximate), torch.randn(8, dtype=dtype), "expand_gelu")
    assert calls(graph_module, aten.gelu.default)
