"""Each pass: the graph before, the graph after, and the same results."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, fx, nn
from torch.fx.experimental.proxy_tensor import make_fx

import torch_tensorrt
from torch_tensorrt import engines
from torch_tensorrt.contracts.passes import LoweringPass
from torch_tensorrt.graphs import editing
from torch_tensorrt.lowering.passes.cast_precision import cast_precision
from torch_tensorrt.lowering.pipeline import lower
from torch_tensorrt.lowering.runner import run_passes
from torch_tensorrt.spec.settings import CompilationSettings

aten = torch.ops.aten


def lowered(model: nn.Module, *args: Tensor, **options: object) -> fx.GraphModule:
    program = torch_tensorrt.dynamo.trace(model.eval(), arg_inputs=args)
    return lower(program, engines.backend("eager"), CompilationSettings.from_options(**options))


def targets(module: fx.GraphModule) -> list[object]:
    return [node.target for node in module.graph.nodes if node.op == "call_function"]


class Folded(nn.Module):
    def __init__(self, convolution: nn.Module, norm: nn.Module) -> None:
        super().__init__()
        self.convolution, self.norm = convolution, norm
        with torch.no_grad():
            for tensor in (norm.running_mean, norm.running_var, norm.weight, norm.bias):
                tensor.uniform_(0.5, 2.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.convolution(x))


CONVOLUTIONS = {
    "1d": (nn.Conv1d(4, 6, 3), nn.BatchNorm1d(6), (2, 4, 9)),
    "2d without bias": (nn.Conv2d(4, 6, 3, bias=False), nn.BatchNorm2d(6), (2, 4, 9, 9)),
    "2d in groups": (nn.Conv2d(4, 6, 3, groups=2), nn.BatchNorm2d(6), (2, 4, 9, 9)),
    "2d transposed in groups": (nn.ConvTranspose2d(4, 6, 3, groups=2), nn.BatchNorm2d(6), (2, 4, 9, 9)),
    "3d": (nn.Conv3d(4, 6, 3), nn.BatchNorm3d(6), (2, 4, 5, 5, 5)),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_batch_norm_is_folded_into_the_convolution_before_it(name: str) -> None:
    convolution, norm, shape = CONVOLUTIONS[name]
    model = Folded(convolution, norm).eval()
    module, x = lowered(model, torch.randn(shape)), torch.randn(shape)
    assert targets(module) == [aten.convolution.default]
    torch.testing.assert_close(module(x), model(x), rtol=1e-4, atol=1e-5)


def test_batch_norm_after_a_convolution_with_another_user_stays() -> None:
    class Shared(Folded):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            y = self.convolution(x)
            return self.norm(y), y

    model = Shared(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6)).eval()
    module, x = lowered(model, torch.randn(2, 4, 9, 9)), torch.randn(2, 4, 9, 9)
    assert aten._native_batch_norm_legit_no_training.default in targets(module)
    for ours, eager in zip(module(x), model(x), strict=True):
        torch.testing.assert_close(ours, eager)


def test_what_depends_on_weights_alone_is_computed_once() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(4, 4))

        def forward(self, x: Tensor) -> Tensor:
            return x @ (self.weight.exp() + torch.arange(4)).t()

    model = Scaled()
    module, x = lowered(model, torch.randn(2, 4)), torch.randn(2, 4)
    assert targets(module) == [aten.mm.default]
    torch.testing.assert_close(module(x), model(x))


def test_random_numbers_and_large_expansions_are_not_folded() -> None:
    class Large(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x + torch.rand(3), torch.ones(1, 1).expand(4096, 4096)

    found = targets(lowered(Large(), torch.randn(3)))
    assert aten.rand.default in found
    assert aten.expand.default in found


def test_detach_and_copies_of_computed_values_go() -> None:
    class Copies(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x.relu().clone().detach().to(torch.float32) + 1).view(2, 3)

    assert targets(lowered(Copies(), torch.randn(2, 3))) == [aten.relu.default, aten.add.Tensor, aten.view.default]


def test_a_copy_of_an_input_stays() -> None:
    class Copy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.view(-1).clone()

    module, x = lowered(Copy(), torch.randn(2, 3)), torch.randn(2, 3)
    result = module(x)
    result.zero_()
    assert x.abs().sum() > 0


def test_a_constant_result_is_a_copy_each_time() -> None:
    class Constant(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x + 1, torch.arange(3) * 2

    module = lowered(Constant(), torch.randn(3))
    module(torch.randn(3))[1].zero_()
    assert module(torch.randn(3))[1].tolist() == [0, 2, 4]


def test_float64_is_computed_in_float32_when_allowed_and_kept_otherwise() -> None:
    model = nn.Linear(4, 3).double()
    x = torch.randn(2, 4, dtype=torch.float64)
    narrow, wide = lowered(model, x, truncate_double=True), lowered(model, x)
    assert narrow(x).dtype == torch.float64
    dtypes = [node.meta["val"].dtype for node in narrow.graph.nodes if node.target is aten.addmm.default]
    assert dtypes == [torch.float32]
    torch.testing.assert_close(narrow(x), model(x), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(wide(x), model(x), rtol=1e-12, atol=1e-12)


def test_a_buffer_written_in_forward_stays_written() -> None:
    class Counter(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("count", torch.zeros(1))

        def forward(self, x: Tensor) -> Tensor:
            self.count.add_(1)
            return x * self.count

    module = lowered(Counter(), torch.ones(2))
    assert [module(torch.ones(2))[0].item() for _ in range(3)] == [1, 2, 3]


def test_weights_are_copies_and_tied_ones_are_copied_once() -> None:
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.ReLU(), nn.Linear(4, 4, bias=False))
    model[2].weight = model[0].weight
    module, x = lowered(model, torch.randn(2, 4)), torch.randn(2, 4)
    before = module(x)
    with torch.no_grad():
        model[0].weight.add_(1)
    assert torch.equal(module(x), before)


def test_a_failing_pass_is_named_with_those_before_it() -> None:
    def fail(graph_module: fx.GraphModule, settings: CompilationSettings) -> bool:
        raise KeyError("lost")

    def forget(graph_module: fx.GraphModule, settings: CompilationSettings) -> bool:
        next(node for node in graph_module.graph.nodes if node.op == "call_function").meta.clear()
        return True

    module = lowered(nn.ReLU(), torch.randn(3))
    good = LoweringPass("good", lambda graph_module, settings: False)
    with pytest.raises(torch_tensorrt.InternalError, match=r"'fail_here' failed after \['good'\].*lost"):
        run_passes(copy.deepcopy(module), (good, LoweringPass("fail_here", fail)), CompilationSettings())
    with pytest.raises(torch_tensorrt.InternalError, match=r"relu.*no meta"):
        run_passes(module, (LoweringPass("forget", forget),), CompilationSettings())


@pytest.mark.parametrize(("sizes", "strides", "offset", "kept"), [
    ((2, 3, 1), (3, 1, 3), 0, 0),  # as it was, but for the stride of the size 1
    ((2, 3, 1), (1, 2, 1), 0, 1),
    ((2, 3, 1), (3, 1, 1), 0, 0),
    ((2, 2, 1), (3, 1, 1), 0, 1),
    ((1, 3, 1), (3, 1, 1), 3, 1),
])  # fmt: skip
def test_as_strided_goes_only_where_it_reads_what_is_there(
    sizes: tuple[int, ...], strides: tuple[int, ...], offset: int, kept: int
) -> None:
    class Strided(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x + 1).as_strided(sizes, strides, offset) * 2

    x = torch.randn(2, 3, 1)
    module = lowered(Strided(), x)
    assert targets(module).count(aten.as_strided.default) == kept
    torch.testing.assert_close(module(x), Strided()(x))


def test_a_size_is_read_from_the_tensor_that_has_it_and_not_from_a_cast_of_it() -> None:
    class Doubled(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(x) * x.shape[0]

    shapes = {"x": {0: torch.export.Dim.DYNAMIC}}
    program = torch.export.export(Doubled(), (torch.randn(3, 2),), dynamic_shapes=shapes)
    settings = CompilationSettings.from_options(enabled_precisions={torch.float16})
    graph = lower(program, engines.backend("tensorrt_rtx"), settings).graph
    (size,) = graph.find_nodes(op="call_function", target=torch.ops.aten.sym_size.int)
    assert size.args[0].op == "placeholder"
    assert {
        node.meta["val"].dtype for node in graph.find_nodes(op="call_function", target=torch.ops.aten.relu.default)
    } == {torch.float16}


def test_a_cast_graph_keeps_the_sizes_that_vary() -> None:
    class Padded(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.pad(x, (0, 0, 0, 1))

    call, shapes = (torch.randn(4, 3, 5),), {"x": {0: torch.export.Dim("batch", max=8)}}
    program = torch.export.export(Padded(), call, dynamic_shapes=shapes)
    settings = CompilationSettings.from_options(enabled_precisions={torch.float16})
    graph = lower(program, engines.backend("tensorrt_rtx"), settings).graph
    (padded,) = graph.find_nodes(
        op="call_function", target=torch.ops.aten.pad.default
    )  # it consists of other operators
    assert padded.meta["val"].dtype is torch.float16
    assert isinstance(padded.meta["val"].shape[0], torch.SymInt)
    assert not padded.meta["val"].shape[0].node.expr.is_number


class Hidden(nn.Module):
    """Attention scores with a mask that is made at run time, as transformers make theirs."""

    def forward(self, scores: Tensor, seen: Tensor) -> Tensor:
        lowest = torch.finfo(torch.float32).min
        mask = torch.where(seen, torch.zeros(()), torch.full((), lowest))
        return torch.softmax(scores * 2 + mask, dim=-1)


@pytest.mark.parametrize("low", [torch.float16, torch.bfloat16])
def test_the_lowest_float32_stays_finite_when_it_is_cast_so_that_hidden_rows_are_no_nan(low: torch.dtype) -> None:
    scores, seen = torch.randn(3, 4), torch.tensor([[True] * 4, [False] * 4, [True, False, True, False]])
    module = lowered(Hidden(), scores, seen)
    options = CompilationSettings.from_options(enabled_precisions={low})
    run_passes(module, (cast_precision,), options)
    given, wanted = module(scores, seen), Hidden()(scores, seen)
    assert not given.isnan().any()
    torch.testing.assert_close(given[0], wanted[0], rtol=2e-2, atol=2e-2)
    torch.testing.assert_close(given[2], wanted[2], rtol=2e-2, atol=2e-2)


def test_a_view_of_a_layout_that_has_gone_reads_a_copy() -> None:
    """As where attention in float16 gives its result in another layout than in float32."""
    module = make_fx(lambda x: (x + 1).view(2, 60), tracing_mode="fake")(torch.randn(2, 3, 4, 5))
    (add,) = module.graph.find_nodes(op="call_function", target=aten.add.Tensor)
    (view,) = module.graph.find_nodes(op="call_function", target=aten.view.default)
    mode = editing.fake_mode_of(module)
    with mode:
        add.meta["val"] = torch.empty(2, 4, 3, 5).transpose(1, 2)
    again = editing.infer_again(view, mode)
    assert isinstance(again, Tensor)
    assert again.shape == (2, 60)
    module.graph.lint()
    assert [node.target for node in view.all_input_nodes] == [aten.clone.default]
    with pytest.raises((RuntimeError, ValueError)), mode:  # what the mend is for
        add.meta["val"].view(2, 60)
