"""What `load` gives for an exported program checks its arguments as the compiled module does, and is PyTorch's own class otherwise."""

from __future__ import annotations

import copy
import gc
import io
import weakref
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

import torch_tensorrt
from torch_tensorrt import FileFormatError, Input, InputError
from torch_tensorrt.runtime.op import execute_engine, live_engine

EXECUTE = torch.ops.tensorrt.execute_engine.default


class Sum(nn.Module):
    def forward(self, x: Tensor, y: Tensor, *, times: int = 2, both: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"out": (x @ y).relu() * times + both["a"], "double": x + both["b"]}


VARYING = Input(min_shape=(2, 4), opt_shape=(4, 4), max_shape=(8, 4))
Y, BOTH = torch.ones(4, 3), {"a": torch.zeros(3), "b": torch.ones(4)}


def compiled(given: object) -> nn.Module:
    inputs = {"times": 2, "both": BOTH}
    return torch_tensorrt.compile(
        Sum().eval(), inputs=[given, Y], kwarg_inputs=inputs, engine="eager", min_block_size=1
    )


def loaded(module: nn.Module) -> torch.export.ExportedProgram:
    file = io.BytesIO()
    torch_tensorrt.save(module, file)
    file.seek(0)
    program = torch_tensorrt.load(file)
    assert isinstance(program, torch.export.ExportedProgram)
    return program


RIGHT = {"times": 2, "both": BOTH}
WRONG: dict[str, tuple[tuple[object, ...], dict[str, object]]] = {
    "a size": ((torch.ones(4, 5), Y), RIGHT),
    "a size outside of the range": ((torch.ones(9, 4), Y), RIGHT),
    "a size below the range": ((torch.ones(1, 4), Y), RIGHT),
    "a number of dimensions": ((torch.ones(4, 4, 1), Y), RIGHT),
    "a dtype": ((torch.ones(4, 4, dtype=torch.float64), Y), RIGHT),
    "no tensor": ((torch.ones(4, 4), 5), RIGHT),
    "one argument too few": ((torch.ones(4, 4),), RIGHT),
    "one argument too many": ((torch.ones(4, 4), Y, Y), RIGHT),
    "another number": ((torch.ones(4, 4), Y), {**RIGHT, "times": 3}),
    "another form": ((torch.ones(4, 4), Y), {**RIGHT, "both": [Y, Y]}),
    "a keyword that it doesn't know": ((torch.ones(4, 4), Y), {**RIGHT, "scale": 1}),
}


@pytest.mark.parametrize("given", [VARYING, Input((4, 4))], ids=["varying", "fixed"])
def test_wrong_arguments_are_the_error_of_the_compiled_module(given: Input) -> None:
    module = compiled(given)
    again = loaded(module).module()
    for what, (args, kwargs) in WRONG.items():
        with pytest.raises(InputError) as ours:
            module(*args, **kwargs)
        with pytest.raises(InputError) as theirs:
            again(*args, **kwargs)
        assert str(ours.value) == str(theirs.value), what


@pytest.mark.parametrize("rows", [2, 5, 8])
def test_right_arguments_pass(rows: int) -> None:
    x, again = torch.randn(rows, 4), loaded(compiled(VARYING)).module()
    for module in (again, copy.deepcopy(again)):
        torch.testing.assert_close(module(x, Y, **RIGHT), Sum()(x, Y, **RIGHT))


def test_a_copy_checks_too() -> None:
    again = copy.deepcopy(loaded(compiled(VARYING)).module())
    with pytest.raises(InputError, match="range 2 to 8"):
        again(torch.ones(9, 4), Y, **RIGHT)


def test_the_check_can_be_left_out() -> None:
    again = loaded(compiled(VARYING)).module(check_guards=False)
    with pytest.raises(Exception, match=r"expected|Expected|range"):
        again(torch.ones(4, 4, 1), Y, **RIGHT)
    assert not any("ArgumentCheck" in str(hook) for hook in again._forward_pre_hooks.values())


@pytest.mark.parametrize(
    "use",
    [
        lambda module, x: torch.export.export(module, (x, Y), RIGHT, strict=False).module(),
        lambda module, x: torch.compile(module, backend="eager", fullgraph=False),
        lambda module, x: loaded_again(module),
    ],
    ids=["exported again", "torch.compile", "saved again"],
)
def test_it_can_be_recorded_like_any_other_module(use: Callable[[nn.Module, Tensor], nn.Module]) -> None:
    x = torch.randn(4, 4)
    torch.testing.assert_close(use(loaded(compiled(VARYING)).module(), x)(x, Y, **RIGHT), Sum()(x, Y, **RIGHT))


def loaded_again(module: nn.Module) -> nn.Module:
    return loaded(module).module()


def test_a_program_of_somebody_else_is_checked_by_pytorch_alone() -> None:
    file = io.BytesIO()
    torch.export.save(torch.export.export(nn.ReLU(), (torch.ones(3),)), file)
    file.seek(0)
    module = torch_tensorrt.load(file).module()
    assert len(module._forward_pre_hooks) == len(
        torch.export.export(nn.ReLU(), (torch.ones(3),)).module()._forward_pre_hooks
    )


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda entry: setattr(entry, "fqn", "elsewhere"), "AssertionError"),
        (lambda entry: setattr(entry.signature, "forward_arg_names", "xy"), "AttributeError"),
    ],
)
def test_a_program_that_pytorch_makes_no_module_of_is_a_file_format_error(
    change: Callable[[object], None], told: str
) -> None:
    program = loaded(compiled(VARYING))
    change(program.module_call_graph[0])
    with pytest.raises(FileFormatError, match=f"The file: PyTorch can't make a module of this program: {told}"):
        program.module()


class Two(nn.Module):
    """An engine, an operator that PyTorch runs, another engine, and a buffer that is written."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        self.calls.add_(1)
        return self.linear(x.relu().erfinv()), self.calls * x.sum()


@pytest.fixture
def dispatched() -> Iterator[list[object]]:
    """A list that grows with each call of an engine through the operator."""
    calls: list[object] = []

    def execute_and_note(*given: object) -> list[Tensor]:
        calls.append(given)
        return execute_engine(*given)  # type: ignore[arg-type]

    library = torch.library.Library("tensorrt", "IMPL")
    library.impl("execute_engine", execute_and_note, "CPU")
    yield calls
    library._destroy()


def test_a_call_goes_straight_to_the_engine(dispatched: list[object]) -> None:
    for given in (VARYING, Input((4, 4))):
        again, x = loaded(compiled(given)).module(), torch.randn(4, 4)
        for args, kwargs in (((x, Y), RIGHT), ((), {"both": BOTH, "y": Y, "x": x, "times": 2})):
            torch.testing.assert_close(again(*args, **kwargs), Sum()(x, Y, **RIGHT))
    assert dispatched == []
    again.forward(x, Y, **RIGHT)
    assert len(dispatched) > 0  # what is counted here does count


def with_a_hook(module: nn.Module) -> Callable[[Tensor], object]:
    module.register_forward_hook(lambda *given: None)
    return module


def with_another_graph(module: nn.Module) -> Callable[[Tensor], object]:
    assert isinstance(module, torch.fx.GraphModule)
    (node,) = module.graph.find_nodes(op="output")
    with module.graph.inserting_before(node):
        doubled = module.graph.call_function(torch.ops.aten.mul.Tensor, (node.args[0][0], 2))
    node.args = ((doubled,),)
    module.recompile()
    return lambda x: module(x) / 2


def with_a_mode(module: nn.Module) -> Callable[[Tensor], object]:
    def call(x: Tensor) -> object:
        with torch.utils.flop_counter.FlopCounterMode(display=False):
            return module(x)

    return call


class Marked(Tensor):
    """A subclass, for which PyTorch asks __torch_dispatch__ or __torch_function__."""


@pytest.mark.parametrize(
    "use",
    [
        with_a_hook,
        with_another_graph,
        with_a_mode,
        lambda module: lambda x: module(x.as_subclass(Marked)),
        lambda module: torch.jit.trace(module, torch.ones(2, 4)),
        copy.deepcopy,
    ],
    ids=["a hook", "another graph", "a mode", "a subclass", "traced", "copied"],
)
def test_whoever_wants_to_see_the_operators_sees_them(
    use: Callable[[nn.Module], Callable[[Tensor], object]], dispatched: list[object]
) -> None:
    module = torch_tensorrt.compile(nn.ReLU(), inputs=[torch.ones(2, 4)], engine="eager", min_block_size=1)
    call, x = use(loaded(module).module()), torch.randn(2, 4)
    dispatched.clear()
    torch.testing.assert_close(torch.as_tensor(call(x)).as_subclass(Tensor), x.relu())  # type: ignore[call-overload]
    assert len(dispatched) == 1


def test_engines_and_operators_of_pytorch_in_turn_give_what_the_model_gives(dispatched: list[object]) -> None:
    model, x = Two().eval(), torch.rand(3, 4) * 0.9
    wanted = copy.deepcopy(model)
    module = torch_tensorrt.compile(
        model, inputs=[x], engine="eager", min_block_size=1, torch_executed_ops={"torch.ops.aten.erfinv.default"}
    )
    again = loaded(module).module()
    for _ in range(3):
        torch.testing.assert_close(again(x), wanted(x))
    assert float(again.calls) == 3
    assert dispatched == []


def test_engines_go_with_the_module() -> None:
    module = torch_tensorrt.compile(nn.ReLU(), inputs=[torch.ones(2, 4)], engine="eager", min_block_size=1)
    again = loaded(module).module()
    again(torch.ones(2, 4))
    (name,) = (str(node.args[1].target) for node in again.graph.nodes if node.target is EXECUTE)
    engine = weakref.ref(live_engine(getattr(again, name)))
    assert engine() is not None
    del again
    gc.collect()  # PyTorch's module holds itself
    assert engine() is None


def test_another_engine_in_the_same_place_is_called_from_then_on() -> None:
    first, second = (
        loaded(torch_tensorrt.compile(model, inputs=[torch.ones(2, 4)], engine="eager", min_block_size=1)).module()
        for model in (nn.ReLU(), nn.Tanh())
    )
    x = torch.randn(2, 4)
    first(x)
    (name,) = (str(node.args[1].target) for node in first.graph.nodes if node.target is EXECUTE)
    (other,) = (str(node.args[1].target) for node in second.graph.nodes if node.target is EXECUTE)
    setattr(first, name, getattr(second, other))
    torch.testing.assert_close(first(x), x.tanh())
