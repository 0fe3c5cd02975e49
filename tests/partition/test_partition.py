"""Which operations share an engine, which stay in PyTorch, and that every refusal has a reason."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import torch_tensorrt
from torch_tensorrt import engines
from torch_tensorrt.graphs.editing import FUSED
from torch_tensorrt.lowering.pipeline import lower
from torch_tensorrt.partition.cutter import cut
from torch_tensorrt.partition.planner import plan
from torch_tensorrt.spec.settings import CompilationSettings
from torch_tensorrt.trace.symbols import symbol_ranges

EXECUTE = torch.ops.tensorrt.execute_engine.default


class Chain(nn.Module):
    """Eleven pointwise operations with a cosine in their middle."""

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(5):
            x = torch.relu(x) if _ % 2 else torch.sigmoid(x)
        x = torch.cos(x)
        for _ in range(5):
            x = torch.tanh(x) if _ % 2 else torch.exp(-x)
        return x


class Diamond(nn.Module):
    """x -> sigmoid -> cos -> add with sigmoid: the two ends may not be in one engine when cos is outside."""

    def forward(self, x: Tensor) -> Tensor:
        y = torch.sigmoid(x)
        return torch.cos(y) + y


def compiled(model: nn.Module, *shapes: tuple[int, ...], **options: object) -> torch_tensorrt.CompiledModule:
    return torch_tensorrt.compile(
        model.eval(), inputs=[torch.randn(shape) for shape in shapes], engine="eager", **options
    )


def engine_calls(module: torch_tensorrt.CompiledModule) -> int:
    return sum(node.target is EXECUTE for node in module.graph.nodes)


def test_an_operator_forced_to_pytorch_splits_the_graph() -> None:
    module, x = compiled(Chain(), (3,), torch_executed_ops={"torch.ops.aten.cos.default"}), torch.randn(3)
    assert engine_calls(module) == 2
    assert "torch_executed_ops" in module.plan.refusals["cos"]
    torch.testing.assert_close(module(x), Chain()(x))


@pytest.mark.parametrize("named", [torch.ops.aten.cos, torch.ops.aten.cos.default, "aten.cos", "aten::cos"])
def test_operators_may_be_named_in_every_form(named: object) -> None:
    assert "cos" in compiled(Chain(), (3,), torch_executed_ops={named}).plan.refusals


def test_no_engine_waits_for_itself_through_pytorch() -> None:
    module = compiled(Diamond(), (3,), torch_executed_ops={"aten.cos"}, min_block_size=1)
    assert engine_calls(module) == 2
    x = torch.randn(3)
    torch.testing.assert_close(module(x), Diamond()(x))


def test_independent_branches_share_one_engine() -> None:
    class Branches(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
            return torch.relu(x).exp(), torch.tanh(y).exp()

    assert engine_calls(compiled(Branches(), (3,), (4,), min_block_size=1)) == 1


def test_a_block_smaller_than_min_block_size_stays_in_pytorch() -> None:
    plan = compiled(Diamond(), (3,)).plan
    assert not plan.groups
    assert all("smaller than min_block_size=5" in reason for reason in plan.refusals.values())
    assert len(compiled(Diamond(), (3,), min_block_size=3).plan.groups) == 1


def test_a_fused_operation_counts_as_those_of_the_model_that_it_does() -> None:
    settings, eager = CompilationSettings.from_options(), engines.backend("eager")
    program = torch_tensorrt.dynamo.trace(Diamond(), arg_inputs=[torch.randn(3)])
    lowered = lower(program, eager, settings)
    assert not plan(lowered, eager, settings, device=torch.device("cpu")).groups
    lowered.graph.find_nodes(op="call_function", target=torch.ops.aten.cos.default)[0].meta[FUSED] = 3
    assert len(plan(lowered, eager, settings, device=torch.device("cpu")).groups) == 1


def test_modules_named_by_class_or_path_stay_in_pytorch() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.GELU(), nn.Linear(4, 4))
    by_class = compiled(model, (2, 4), torch_executed_modules={nn.GELU}, min_block_size=1).plan
    by_path = compiled(model, (2, 4), torch_executed_modules={"1"}, min_block_size=1).plan
    assert set(by_class.refusals) == set(by_path.refusals)
    assert all("torch_executed_modules" in reason for reason in by_class.refusals.values())


@pytest.mark.parametrize("forced", ["aten.sigmoid", "aten.cos", "aten.add"])
def test_full_compilation_counts_every_operation(forced: str) -> None:
    with pytest.raises(
        torch_tensorrt.UnsupportedError, match=r"(?s)1 of 3 operations.*torch_executed_ops.*test_partition\.py"
    ):
        compiled(Diamond(), (3,), torch_executed_ops={forced}, require_full_compilation=True)


def test_full_compilation_of_a_small_graph_makes_one_engine() -> None:
    assert engine_calls(compiled(Diamond(), (3,), require_full_compilation=True)) == 1


def test_dryrun_prints_the_plan_and_builds_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    module, x = compiled(Chain(), (3,), dryrun=True, torch_executed_ops={"aten.cos"}), torch.randn(3)
    printed = capsys.readouterr().out
    assert "in PyTorch: 1 operation\n" in printed
    assert "listed in torch_executed_ops" in printed
    assert engine_calls(module) == 0
    torch.testing.assert_close(module(x), Chain()(x))


def test_what_stays_in_pytorch_is_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    compiled(Chain(), (3,), torch_executed_ops={"aten.cos"})
    assert any("cos" in record.message and record.levelname == "WARNING" for record in caplog.records)


def test_sizes_are_computed_inside_each_engine() -> None:
    class Reshaped(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            y = torch.cos(torch.relu(x))
            return y.reshape(y.shape[0] * y.shape[1]) * x.shape[0]

    batch = torch_tensorrt.Input(min_shape=(1, 4), opt_shape=(3, 4), max_shape=(9, 4))
    module = torch_tensorrt.compile(
        Reshaped(), inputs=[batch], engine="eager", min_block_size=1, torch_executed_ops={"aten.cos"}
    )
    assert engine_calls(module) == 2
    for size in (1, 2, 9):
        x = torch.randn(size, 4)
        torch.testing.assert_close(module(x), Reshaped()(x))


def test_a_size_of_what_is_inside_an_engine_only_is_read_inside() -> None:
    class Doubled(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(x) * x.shape[0]

    call = (torch.randn(3, 2),)
    program = torch.export.export(Doubled(), call, dynamic_shapes={"x": {0: torch.export.Dim.DYNAMIC}})
    settings, eager = CompilationSettings.from_options(min_block_size=1), engines.backend("eager")
    lowered = lower(program, eager, settings)
    (size,) = lowered.graph.find_nodes(op="call_function", target=torch.ops.aten.sym_size.int)
    (relu,) = lowered.graph.find_nodes(op="call_function", target=torch.ops.aten.relu.default)
    relu.append(size)
    size.args = (relu, 0)
    planned = plan(lowered, eager, settings, device=torch.device("cpu"))
    (call_of_it,) = cut(lowered, planned, symbol_ranges(program, None)).calls
    partition = call_of_it.partition
    assert len(partition.inputs) == 1
    assert len(partition.outputs) == 1
    torch.testing.assert_close(partition.module(*call), (Doubled()(*call),))


@pytest.mark.parametrize("name", ["aten.hardshrink", "aten.hardshrink.default", "aten.max_pool2d"])
def test_an_operator_that_is_kept_in_pytorch_is_not_taken_apart_first(name: str) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2), nn.Hardshrink()).eval()
    compiled = torch_tensorrt.compile(
        model, inputs=[torch.randn(1, 3, 8, 8)], min_block_size=1, engine="eager", torch_executed_ops={name}
    )
    (why,) = compiled.plan.refusals.values()
    assert "listed in torch_executed_ops" in why
    x = torch.randn(1, 3, 8, 8)
    torch.testing.assert_close(compiled(x), model(x))


@pytest.mark.parametrize(
    ("option", "name"), [("torch_executed_ops", "aten.tanh"), ("torch_executed_modules", "Absent")]
)
def test_a_name_that_stands_for_nothing_in_the_model_is_warned_about(
    option: str, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    torch_tensorrt.compile(nn.ReLU(), inputs=[torch.randn(2, 3)], min_block_size=1, engine="eager", **{option: {name}})
    assert f"{option} lists {name!r}, which is nowhere" in caplog.text


class Strided(nn.Module):
    """The size of what the first layer gives is computed from the input's."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.Conv2d(4, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.second(torch.tanh(self.first(x))))


class Diagonal(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[:, 0].diagonal(-1, 1, 2) + 1


@pytest.mark.parametrize("model", [Strided(), Diagonal()], ids=["strided", "diagonal"])
@pytest.mark.parametrize("engine", ["openvino", "eager"])
def test_sizes_that_pytorch_computes_between_engines_are_right_at_every_size(model: nn.Module, engine: str) -> None:
    images = torch_tensorrt.Input(min_shape=(1, 3, 8, 8), opt_shape=(1, 3, 16, 16), max_shape=(2, 3, 40, 40))
    kept = (
        {"torch_executed_modules": {"first"}}
        if isinstance(model, Strided)
        else {"torch_executed_ops": {"aten.diagonal"}}
    )
    compiled = torch_tensorrt.compile(model.eval(), inputs=[images], min_block_size=1, engine=engine, **kept)
    for sizes in ((1, 3, 9, 8), (2, 3, 16, 33), (1, 3, 40, 17)):
        x = torch.randn(sizes)
        torch.testing.assert_close(compiled(x), model(x), rtol=1e-4, atol=1e-5)
    with pytest.raises(torch_tensorrt.InputError, match="range 1 to 2"):
        compiled(torch.randn(3, 3, 16, 16))
