"""The inductor engine's own passes for convolutions and linear layers: graphs on the CPU, rewritten as they are on a GPU."""

from __future__ import annotations

import importlib
import math
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional

import torch_tensorrt
from torch_tensorrt import engines
from torch_tensorrt.engines.inductor import first_runs
from torch_tensorrt.engines.inductor.passes import PASSES, chosen_passes, gate
from torch_tensorrt.engines.inductor.payload import Payload, read_payload
from torch_tensorrt.engines.inductor.sdk import Choices
from torch_tensorrt.graphs.editing import FUSED
from torch_tensorrt.lowering.pipeline import lower
from torch_tensorrt.lowering.runner import check_graph, run_passes
from torch_tensorrt.spec.errors import FileFormatError, InputError
from torch_tensorrt.spec.settings import CompilationSettings

aten = torch.ops.aten
BACKEND = engines.backend("inductor")
ALL = frozenset(each.name for each in PASSES)
LAST = torch.channels_last
PADDING = importlib.import_module(
    "torch_tensorrt.engines.inductor.passes.pad_linears"
)  # the package has the pass by that name


@pytest.fixture(autouse=True)
def _graphs_of_the_cpu_are_rewritten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "DEVICES", {"cuda", "cpu"})


def with_only(*names: str, **options: object) -> CompilationSettings:
    return CompilationSettings.from_options(disabled_passes=ALL - set(names), **options)


def lowered(
    model: nn.Module, inputs: tuple[Tensor, ...], settings: CompilationSettings, dynamic: object = None
) -> fx.GraphModule:
    with torch.no_grad():
        program = torch.export.export(model.eval(), inputs, dynamic_shapes=dynamic, strict=False)  # type: ignore[arg-type]
        return lower(program, BACKEND, settings)


def operators(graph_module: fx.GraphModule) -> Counter[str]:
    """How often each operator occurs, by its short name."""
    named = [str(node.target) for node in graph_module.graph.nodes if node.op == "call_function"]
    return Counter(name.removeprefix("aten.").removesuffix(".default") for name in named)


class OnTheCpu(fx.Interpreter):
    """Runs a graph, with PyTorch's words for what only cuDNN and cuBLAS have kernels for."""

    def call_function(
        self, target: Callable[..., object], args: tuple[object, ...], kwargs: dict[str, object]
    ) -> object:
        if target in {aten.cudnn_convolution_relu.default, aten.cudnn_convolution_add_relu.default}:
            x, weight, *more = args
            added = more[0] if target is aten.cudnn_convolution_add_relu.default else 0
            bias, stride, padding, dilation, groups = more[-5:]
            convolved = functional.conv2d(x, weight, bias, stride, padding, dilation, groups)  # type: ignore[arg-type]
            return torch.relu(convolved + added)
        if target is aten._addmm_activation.default:
            product = aten.addmm.default(*args)
            return functional.gelu(product, approximate="tanh") if kwargs["use_gelu"] else torch.relu(product)
        return super().call_function(target, args, kwargs)


def disagreement(graph_module: fx.GraphModule, model: nn.Module, inputs: tuple[Tensor, ...]) -> float:
    """Relative, against the model in float32; the results' strides are compared as well."""
    with torch.no_grad():
        results = OnTheCpu(graph_module).run(*inputs)
        expected = model(*inputs)
        wanted = model.float()(*[given.float() for given in inputs])
    model.to(inputs[0].dtype)
    results, expected, wanted = (
        (given,) if isinstance(given, Tensor) else given for given in (results, expected, wanted)
    )
    assert [result.stride() for result in results] == [result.stride() for result in expected]
    errors = [float((a.float() - b).norm() / b.norm()) for a, b in zip(results, wanted, strict=True)]
    return max(errors)


class Residual(nn.Module):
    """A residual network in small: a stem, a block with a downsampling branch, one without, and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.norm = nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        self.down, self.first = nn.Conv2d(16, 32, 1, stride=2), nn.Conv2d(16, 32, 3, stride=2, padding=1)
        self.second, self.last = nn.Conv2d(32, 32, 3, padding=1), nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.stem(x)))
        x = torch.relu(self.first(x) + self.down(x))
        x = torch.relu(x + self.second(x))
        return self.last(functional.adaptive_avg_pool2d(x, 1).flatten(1))


def image(dtype: torch.dtype = torch.float16, channels: int = 3) -> Tensor:
    torch.manual_seed(1)
    return torch.randn(2, channels, 12, 12).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_convolutions_of_half_floats_work_channels_last_with_one_conversion_at_the_entry(dtype: torch.dtype) -> None:
    model, x = Residual().to(dtype), image(dtype)
    graph = lowered(model, (x,), with_only("use_channels_last"))
    assert operators(graph)["clone"] == 1
    for node in graph.graph.find_nodes(op="call_function", target=aten.convolution.default):
        values = [node.meta["val"], *(argument.meta["val"] for argument in node.all_input_nodes[:2])]
        assert all(value.is_contiguous(memory_format=LAST) for value in values), node
    for node in graph.graph.find_nodes(op="get_attr"):
        held = getattr(graph, str(node.target), None)
        if isinstance(held, Tensor):
            assert held.stride() == node.meta["val"].stride()
    assert disagreement(graph, model, (x,)) < 2e-2


def test_results_keep_pytorchs_strides() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = nn.Conv2d(3, 8, 3)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            y = self.one(x)
            return y, y.flatten(2)

    model, x = Two().half(), image()
    graph = lowered(model, (x,), with_only("use_channels_last"))
    assert disagreement(graph, model, (x,)) < 1e-2
    given = x.to(memory_format=LAST)
    assert disagreement(lowered(model, (given,), with_only("use_channels_last")), model, (given,)) < 1e-2


def test_views_that_the_new_strides_do_not_allow_get_a_copy() -> None:
    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Conv2d(3, 8, 3), nn.Linear(8 * 100, 4)

        def forward(self, x: Tensor) -> Tensor:
            y = torch.relu(self.one(x))
            return self.two(y.view(y.shape[0], -1))

    model, x = Flat().half(), image()
    graph = lowered(model, (x,), with_only("use_channels_last"))
    assert operators(graph)["clone"] == 2
    assert disagreement(graph, model, (x,)) < 1e-2


@pytest.mark.parametrize(
    ("model", "x"),
    [
        pytest.param(nn.Conv2d(3, 8, 3), image(torch.float32), id="float32"),
        pytest.param(nn.Conv2d(16, 16, 3, groups=4).half(), image(channels=16), id="groups of four"),
        pytest.param(nn.Conv1d(3, 8, 3).half(), torch.randn(2, 3, 12).half(), id="rank 3"),
    ],
)
def test_other_convolutions_keep_their_layout(model: nn.Module, x: Tensor) -> None:
    assert operators(lowered(model, (x,), with_only("use_channels_last"))) == {"convolution": 1}


def test_a_batch_that_varies_stays_one() -> None:
    model, x = Residual().half(), image()
    batch = torch.export.Dim("batch", min=2, max=64)
    settings = with_only("widen_inputs", "use_channels_last", "fuse_convolutions")
    graph = lowered(model, (x,), settings, ({0: batch},))
    (source,) = graph.graph.find_nodes(op="placeholder")
    assert not isinstance(source.meta["val"].shape[0], int)
    more = torch.cat([x, x, x])
    assert disagreement(graph, model, (more,)) < 1e-2


def test_bias_residual_and_relu_become_part_of_the_convolution() -> None:
    model, x = Residual().half(), image()
    graph = lowered(model, (x,), with_only("use_channels_last", "fuse_convolutions"))
    found = operators(graph)
    assert (found["cudnn_convolution_relu"], found["cudnn_convolution_add_relu"], found["convolution"]) == (1, 2, 1)
    assert found["relu"] == found["add.Tensor"] == 0
    (branch,) = graph.graph.find_nodes(op="call_function", target=aten.convolution.default)
    assert branch.args[2] is None, "its bias is part of the sum's"
    assert disagreement(graph, model, (x,)) < 1e-2


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_strides_that_were_never_true_do_not_keep_convolutions_apart(dtype: torch.dtype) -> None:
    """On a GPU the strides that a graph is told of before batch norm is folded may be others than those after it."""
    model, x = Residual().to(dtype), image(dtype).to(memory_format=LAST)
    graph = lowered(model, (x,), with_only())
    for node in graph.graph.find_nodes(op="call_function", target=aten.relu.default):
        node.meta["val"] = node.meta["val"].contiguous()
    run_passes(graph, chosen_passes(with_only("use_channels_last", "fuse_convolutions")), CompilationSettings())
    found = operators(graph)
    assert (found["cudnn_convolution_relu"], found["cudnn_convolution_add_relu"]) == (1, 2)
    for node in graph.graph.nodes:
        if "cudnn" in str(node.target):
            assert node.meta["val"].is_contiguous(memory_format=LAST)
    assert disagreement(graph, model, (x,)) < 1e-2


def test_float32_is_fused_in_its_own_layout() -> None:
    model, x = Residual(), image(torch.float32)
    graph = lowered(model, (x,), with_only("use_channels_last", "fuse_convolutions"))
    assert operators(graph)["cudnn_convolution_add_relu"] == 2
    assert disagreement(graph, model, (x,)) < 1e-5


class Chain(nn.Module):
    """A convolution and what is done with its result."""

    def __init__(self, then: Callable[[Tensor, Tensor], Tensor], **options: object) -> None:
        super().__init__()
        self.then = then
        self.one = nn.Conv2d(4, 4, 3, padding=1, **options)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return self.then(self.one(x), x)


@pytest.mark.parametrize(
    ("model", "fused"),
    [
        (Chain(lambda y, x: torch.relu(y)), "cudnn_convolution_relu"),
        (Chain(lambda y, x: torch.relu(y), bias=False), "cudnn_convolution_relu"),
        (Chain(lambda y, x: torch.relu(y), dilation=2), "cudnn_convolution_relu"),
        (Chain(lambda y, x: torch.relu(x + y)), "cudnn_convolution_add_relu"),
        (Chain(lambda y, x: torch.relu(y) + y), ""),
        (Chain(lambda y, x: torch.relu(y + x) + y), ""),
        (Chain(lambda y, x: torch.relu(torch.add(y, x, alpha=2))), ""),
        (Chain(lambda y, x: torch.relu(y + x[:, :1])), ""),
        (Chain(lambda y, x: torch.relu(y + 1)), ""),
        (Chain(lambda y, x: functional.silu(y)), ""),
        (Chain(lambda y, x: torch.relu(y), groups=2), ""),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_fused_and_what_is_not(model: nn.Module, fused: str) -> None:
    x = image(torch.float32, 4)
    graph = lowered(model, (x,), with_only("fuse_convolutions"))
    assert [name for name in operators(graph) if "cudnn" in name] == ([fused] if fused else [])
    assert sum(node.meta.get(FUSED, 0) for node in graph.graph.nodes) == (fused.count("_") if fused else 0)
    assert disagreement(graph, model, (x,)) < 1e-5


@pytest.mark.parametrize(("channels", "widened"), [(3, True), (4, False), (2, False), (16, False)])
def test_images_get_a_fourth_channel_of_zeros(channels: int, widened: bool) -> None:
    model, x = nn.Conv2d(channels, 8, 3, padding=1).half(), image(channels=channels)
    graph = lowered(model, (x,), with_only("widen_inputs", "use_channels_last"))
    found = operators(graph)
    assert found["constant_pad_nd"] == widened
    assert found["clone"] == 2, "one at the entry, one for PyTorch's strides"
    assert disagreement(graph, model, (x,)) < 1e-2


def test_convolutions_of_rank_3_and_5_pass_through_all_passes() -> None:
    class Other(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Conv1d(3, 6, 3, padding=1), nn.Conv1d(6, 6, 3, groups=6)
            self.three = nn.Conv3d(3, 3, 1, groups=3)

        def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
            return torch.relu(self.two(torch.relu(self.one(x)))), torch.relu(self.three(y))

    inputs = (torch.randn(2, 3, 9).half(), torch.randn(1, 3, 4, 4, 4).half())
    model = Other().half()
    graph = lowered(model, inputs, CompilationSettings())
    assert operators(graph)["convolution"] == 3
    assert disagreement(graph, model, inputs) < 1e-2


class Excited(nn.Module):
    """Squeeze and excitation: two convolutions of a single pixel, the second one without bias."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.two(torch.relu(self.one(x.mean((2, 3), keepdim=True)))))


@pytest.mark.parametrize("dynamic", [False, True])
def test_convolutions_of_single_pixels_become_products(dynamic: bool) -> None:
    model, x = Excited().half(), image(channels=8)
    dims = ({0: torch.export.Dim("batch", min=2, max=64)},) if dynamic else None
    graph = lowered(model, (x,), with_only("multiply_pointwise"), dims)
    found = operators(graph)
    assert (found["convolution"], found["addmm"], found["mm"]) == (0, 1, 1)
    assert disagreement(graph, model, (x,)) < 1e-2
    assert disagreement(graph, model, (torch.cat([x, x]),)) < 1e-2 if dynamic else True


@pytest.mark.parametrize("options", [{"padding": 1}, {"groups": 2}], ids=str)
def test_other_convolutions_of_single_pixels_stay(options: dict[str, int]) -> None:
    model, x = nn.Conv2d(8, 8, 1, **options).half(), torch.randn(2, 8, 1, 1).half()  # type: ignore[arg-type]
    assert operators(lowered(model, (x,), with_only("multiply_pointwise")))["convolution"] == 1


@pytest.mark.parametrize(
    ("pool", "sizes"),
    [
        (nn.AvgPool2d(1280, ceil_mode=True), (7, 5)),
        (nn.AvgPool2d((7, 9), stride=(2, 5), ceil_mode=True, count_include_pad=False), (7, 5)),
        (nn.AvgPool2d((7, 5)), (7, 5)),
    ],
    ids=str,
)
def test_one_average_over_the_whole_image_becomes_a_mean(pool: nn.AvgPool2d, sizes: tuple[int, int]) -> None:
    x = torch.randn(2, 3, *sizes)
    graph = lowered(pool, (x,), with_only("average_whole"))
    assert operators(graph) == {"mean.dim": 1}
    assert disagreement(graph, pool, (x,)) < 1e-6


@pytest.mark.parametrize(
    "pool",
    [
        nn.AvgPool2d(5, ceil_mode=True),
        nn.AvgPool2d(7, padding=1),
        nn.AvgPool2d(9, ceil_mode=True, divisor_override=81),
        nn.AvgPool2d(7, stride=1, padding=(0, 1)),
    ],
    ids=str,
)
def test_other_averages_stay_as_they_are(pool: nn.AvgPool2d) -> None:
    graph = lowered(pool, (torch.randn(2, 3, 7, 7),), with_only("average_whole"))
    assert operators(graph)["avg_pool2d"] == 1


def test_an_average_over_images_that_vary_becomes_a_mean_where_all_of_them_fit() -> None:
    x, dims = torch.randn(2, 3, 7, 6), ({2: torch.export.Dim("height", min=4, max=15)},)
    pool = nn.AvgPool2d((16, 6), stride=32, ceil_mode=True)
    graph = lowered(pool, (x,), with_only("average_whole"), dims)
    assert operators(graph)["mean.dim"] == 1
    assert disagreement(graph, pool, (torch.randn(2, 3, 15, 6),)) < 1e-6


class Projections(nn.Module):
    """Queries, keys and values of one input, heads and all; the keys have no bias."""

    def __init__(self, bias: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.q, self.k, self.v = nn.Linear(16, 16, bias=bias), nn.Linear(16, 8, bias=False), nn.Linear(16, 8, bias=bias)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        heads = [part.unflatten(-1, (-1, 4)).transpose(1, 2) for part in (self.q(x), self.k(x), self.v(x))]
        return heads[0] * 2, heads[1] * 2, self.v(x)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dynamic", [False, True])
def test_linears_that_read_one_input_become_one(bias: bool, dynamic: bool) -> None:
    model, x = Projections(bias), torch.randn(2, 5, 16)
    dims = ({0: torch.export.Dim("batch", min=2, max=9), 1: torch.export.Dim("length", min=3, max=9)},)
    graph = lowered(model, (x,), with_only("merge_linears"), dims if dynamic else None)
    found = operators(graph)
    assert found["addmm"] + found["mm"] == 1
    assert found["addmm"] == bias
    assert disagreement(graph, model, (x,)) < 1e-6
    if dynamic:
        assert disagreement(graph, model, (torch.randn(4, 7, 16),)) < 1e-6


def test_linears_of_different_inputs_stay_apart() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(8, 8), nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            return self.two(self.one(x))

    assert operators(lowered(Two(), (torch.randn(3, 8),), with_only("merge_linears"))) == {"addmm": 2}


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("columns", [33, 36])
def test_odd_columns_are_padded(bias: bool, dynamic: bool, columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PADDING, "LARGE", 16 * 33)
    monkeypatch.setattr(PADDING, "WIDE", 30)
    model, x = nn.Linear(16, columns, bias=bias).bfloat16(), torch.randn(2, 5, 16).bfloat16()
    dims = ({0: torch.export.Dim("batch", min=2, max=9), 1: torch.export.Dim("length", min=3, max=9)},)
    graph = lowered(model, (x,), with_only("pad_linears"), dims if dynamic else None)
    (product,) = graph.graph.find_nodes(op="call_function", target=aten.mm.default)
    weight = product.args[1].meta["val"]
    assert (weight.shape, weight.stride()) == ((16, 48), (1, 16))
    assert disagreement(graph, model, (x,)) < 1e-2
    if dynamic:
        assert disagreement(graph, model, (torch.randn(4, 7, 16).bfloat16(),)) < 1e-2


@pytest.mark.parametrize(
    ("inner", "columns", "rows", "dtype"),
    [
        (16, 40, 9, torch.float16),  # aligned
        (16, 33, 9, torch.float32),  # no faster
        (15, 33, 16, torch.float16),  # the input isn't aligned either
        (16, 31, 16, torch.float16),  # small
        (40, 29, 40, torch.float16),  # few columns
    ],
)
def test_other_linears_are_not_padded(
    inner: int, columns: int, rows: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PADDING, "LARGE", 16 * 33)
    monkeypatch.setattr(PADDING, "WIDE", 30)
    model = nn.Linear(inner, columns, dtype=dtype)
    assert operators(lowered(model, (torch.randn(rows, inner, dtype=dtype),), with_only("pad_linears"))) == {"addmm": 1}


def test_two_uses_of_a_weight_share_its_padded_form(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PADDING, "LARGE", 16 * 33)
    monkeypatch.setattr(PADDING, "WIDE", 30)

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(16, 33).half())

        def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
            return x @ self.weight, (y * 2) @ self.weight

    model, inputs = Twice(), (torch.randn(4, 16).half(), torch.randn(3, 16).half())
    graph = lowered(model, inputs, with_only("pad_linears"))
    assert len({node.target for node in graph.graph.find_nodes(op="get_attr")}) == 1
    assert disagreement(graph, model, inputs) < 1e-2


def test_the_examples_rows_decide_nothing_where_they_vary(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refitting compares the graph with one that was made of another example: 200 rows would make a large result, 8 don't."""
    monkeypatch.setattr(PADDING, "LARGE", 3300)
    monkeypatch.setattr(PADDING, "WIDE", 30)
    dims = ({0: torch.export.Dim("rows", min=1, max=400)},)
    model = nn.Linear(16, 33).half()
    graphs = [lowered(model, (torch.randn(rows, 16).half(),), with_only("pad_linears"), dims) for rows in (8, 200)]
    assert operators(graphs[0]) == operators(graphs[1]) == {"addmm": 1}


def test_a_padded_linear_compiles_to_what_pytorch_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PADDING, "LARGE", 16 * 33)
    monkeypatch.setattr(PADDING, "WIDE", 30)
    torch.manual_seed(0)
    model, x = nn.Linear(16, 33).eval().bfloat16(), torch.randn(2, 5, 16).bfloat16()
    module = torch_tensorrt.compile(model, arg_inputs=[x], engine="inductor", min_block_size=1)
    assert "aten.mm.default" in str(module.plan)  # of addmm, as no product is padded elsewhere
    with torch.no_grad():
        given, wanted = module(x), model(x)
    assert given.stride() == wanted.stride()
    assert float((given - wanted).norm() / wanted.norm()) < 1e-2


@pytest.mark.parametrize("rank", [2, 3])
@pytest.mark.parametrize(
    ("activation", "options", "fused"),
    [
        (nn.ReLU(), {}, True),
        (nn.GELU(approximate="tanh"), {}, True),
        (nn.GELU(), {}, False),
        (nn.GELU(), {"approximate_gelu": True}, True),
        (nn.SiLU(), {}, False),
    ],
)
def test_an_activation_joins_its_linear_where_cublas_has_it(
    activation: nn.Module, options: dict[str, bool], fused: bool, rank: int
) -> None:
    model = nn.Sequential(nn.Linear(16, 32), activation)
    x = torch.randn(2, 3, 16)[0 if rank == 2 else slice(None)]
    graph = lowered(model, (x,), with_only("fuse_linear_activation", engine_options=options))
    assert operators(graph)["_addmm_activation"] == fused
    assert [node.meta[FUSED] for node in graph.graph.nodes if FUSED in node.meta] == [2] * fused
    assert disagreement(graph, model, (x,)) < (1e-2 if options else 1e-6)


class Formula(nn.Module):
    """GELU by hand, with a number that may be another."""

    def __init__(self, number: float = 0.044715, *, power: bool = True) -> None:
        super().__init__()
        self.number, self.power = number, power

    def forward(self, x: Tensor) -> Tensor:
        cube = torch.pow(x, 3.0) if self.power else x * x * x
        return 0.5 * x * (1.0 + torch.tanh(math.sqrt(2.0 / math.pi) * (x + self.number * cube)))


@pytest.mark.parametrize(
    ("formula", "found"),
    [(Formula(), 1), (Formula(power=False), 1), (Formula(0.05), 0), (Formula(0.0447, power=False), 0)],
)
def test_gelu_by_hand_is_recognised(formula: nn.Module, found: int) -> None:
    x = torch.randn(4, 16)
    graph = lowered(formula, (x,), with_only("recognise_gelu"))
    assert operators(graph)["gelu"] == found
    assert [node.meta[FUSED] for node in graph.graph.nodes if FUSED in node.meta] == [5] * found
    assert (len(operators(graph)) == 1) == bool(found)
    assert disagreement(graph, formula, (x,)) < 1e-6


def test_an_activation_stays_apart_where_the_linear_has_another_reader() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            y = self.one(x)
            return torch.relu(y) + y

    graph = lowered(Twice(), (torch.randn(3, 8),), with_only("fuse_linear_activation"))
    assert operators(graph)["_addmm_activation"] == 0


def test_graphs_of_the_cpu_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "DEVICES", {"cuda"})
    model, x = Residual().half(), image()
    assert operators(lowered(model, (x,), CompilationSettings())) == operators(lowered(model, (x,), with_only()))


def test_every_pass_leaves_a_graph_that_holds_the_invariants() -> None:
    graph = lowered(Residual().half(), (image(),), CompilationSettings())
    check_graph(graph)
    for node in graph.graph.nodes:
        assert "val" in node.meta or node.op == "output"


def test_passes_are_left_out_by_name() -> None:
    assert [each.name for each in chosen_passes(with_only())] == []
    assert chosen_passes(CompilationSettings()) == tuple(PASSES)


def test_cudnn_measures_for_large_convolutions_once_per_thread_and_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    model = nn.Conv2d(256, 256, 3)
    graphs = [lowered(model, (torch.zeros(batch, 256, 16, 16),), with_only()).graph for batch in (1, 64)]
    assert [first_runs.worth_measuring(graph) for graph in graphs] == [False, True]
    runs, x, y = first_runs.FirstRuns(), torch.zeros(2), torch.zeros(3)
    assert [runs.is_first(given) for given in ([x], [x], [y], [x])] == [True, False, True, False]
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(runs.is_first, [x]).result()


@pytest.mark.parametrize("deterministic", [False, True])
def test_the_switch_for_measuring_is_put_back_by_the_last_to_leave(
    deterministic: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", deterministic)
    with first_runs.measuring():
        with first_runs.measuring():
            assert torch.backends.cudnn.benchmark is not deterministic
        assert torch.backends.cudnn.benchmark is not deterministic
    assert torch.backends.cudnn.benchmark is False


@pytest.mark.parametrize("later", [{}, {"max_autotune": True}, {"coordinate_descent_tuning": True, "measured": True}])
def test_how_an_engine_was_built_is_in_its_bytes_and_what_came_later_only_where_it_is_so(
    later: dict[str, bool],
) -> None:
    choices = Choices(frozen=False, apart=True, refittable=False, tf32=True, **later)
    data = Payload(b"package", b"program", {}, choices, ("contiguous",)).write()
    assert read_payload(memoryview(data), 1).choices == choices
    assert [name.encode() in data for name in ("max_autotune", "coordinate_descent_tuning", "measured")] == [
        name in later for name in ("max_autotune", "coordinate_descent_tuning", "measured")
    ]
    if later:
        with pytest.raises(FileFormatError, match="wrong fields"):
            read_payload(memoryview(data.replace(b'"tf32":true', b'"tf33":true')), 1)


def test_unknown_names_are_refused_and_the_known_ones_listed() -> None:
    with pytest.raises(InputError, match=r"'fuse_convolution'.*fuse_convolutions"):
        BACKEND.unhonoured(CompilationSettings.from_options(disabled_passes={"fuse_convolution"}))
    with pytest.raises(InputError, match=r"'max_autotun'.*max_autotune"):
        BACKEND.unhonoured(CompilationSettings.from_options(engine_options={"max_autotun": True}))
    with pytest.raises(InputError, match=r"True or False"):
        BACKEND.unhonoured(CompilationSettings.from_options(engine_options={"max_autotune": 3}))
