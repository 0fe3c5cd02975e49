"""What could go wrong silently, through the public API: state, aliases, strides, structures, threads, fallbacks."""

from __future__ import annotations

import copy
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from transformers.modeling_outputs import BaseModelOutput

import torch_tensorrt
from torch_tensorrt import UnsupportedError


def compile_whole(model: nn.Module, *args: object, **options: object) -> nn.Module:
    """Compiled with blocks of any size."""
    return torch_tensorrt.compile(model.eval(), arg_inputs=list(args), min_block_size=1, **options)


def engine_calls(compiled: nn.Module) -> int:
    """How many engine calls the compiled graph holds."""
    op = torch.ops.tensorrt.execute_engine.default
    return sum(node.target is op for node in compiled.graph.nodes)


def agree(answer: object, reference: object) -> None:
    """Same structure; every tensor has the same dtype, shape, strides and values; other leaves are equal."""
    given, structure = pytree.tree_flatten(answer)
    wanted, wanted_structure = pytree.tree_flatten(reference)
    assert structure == wanted_structure
    for one, two in zip(given, wanted, strict=True):
        if isinstance(two, Tensor):
            torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-6, check_stride=True)
        else:
            assert one == two


# State: buffers written in forward


class Counter(nn.Module):
    """Counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        self.calls.add_(1)
        return self.linear(x) * self.calls, self.calls.clone()


class Cache(nn.Module):
    """Writes keys and values at a position, as generation does, and attends to all of them."""

    def __init__(self, length: int = 8, width: int = 4) -> None:
        super().__init__()
        self.project = nn.Linear(width, 2 * width)
        self.register_buffer("keys", torch.zeros(1, length, width))
        self.register_buffer("values", torch.zeros(1, length, width))

    def forward(self, x: Tensor, position: Tensor) -> Tensor:
        key, value = self.project(x).chunk(2, dim=-1)
        self.keys.index_copy_(1, position, key)
        self.values.index_copy_(1, position, value)
        return F.scaled_dot_product_attention(x, self.keys, self.values)


class Before(nn.Module):
    """Gives a buffer as it was before and as it is after the update."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("state", torch.zeros(3))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        before = self.state.clone()
        self.state.mul_(0.5).add_(x.sum(0).tanh())
        return before + 0.0 * x.sum(), self.state * 2


STATEFUL: Mapping[str, tuple[type[nn.Module], Callable[[int], tuple[Tensor, ...]]]] = {
    "counter": (Counter, lambda step: (torch.randn(2, 4),)),
    "kv cache": (Cache, lambda step: (torch.randn(1, 1, 4), torch.tensor([step]))),
    "clone before update": (Before, lambda step: (torch.randn(2, 3),)),
}


@pytest.mark.parametrize("name", STATEFUL)
def test_buffers_written_in_forward_persist_from_call_to_call_as_in_eager(name: str) -> None:
    make, sample = STATEFUL[name]
    torch.manual_seed(0)
    model = make()
    compiled = compile_whole(copy.deepcopy(model), *sample(0))
    assert engine_calls(compiled) >= 1
    with torch.no_grad():
        for step in range(5):
            call = sample(step)
            agree(compiled(*call), model(*call))


@pytest.mark.parametrize("name", STATEFUL)
def test_neither_compiling_nor_running_writes_into_the_original_model(name: str) -> None:
    make, sample = STATEFUL[name]
    model = make()
    original = {key: value.clone() for key, value in model.state_dict().items()}
    compiled = compile_whole(model, *sample(0))
    for key, value in model.state_dict().items():
        assert torch.equal(value, original[key]), f"compiling changed the model's {key}"
    compiled(*sample(1))
    for key, value in model.state_dict().items():
        assert torch.equal(value, original[key]), f"running the compiled module changed the model's {key}"


def test_a_buffer_returned_by_one_call_is_not_changed_by_the_next() -> None:
    compiled, x = compile_whole(Counter(), torch.randn(2, 4)), torch.randn(2, 4)
    counts = [compiled(x)[1] for _ in range(3)]
    assert [int(count) for count in counts] == [1, 2, 3]


# Aliases, strides


class Twins(nn.Module):
    """One tensor under two names: a clone, a view and the tensor itself."""

    def __init__(self, second: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.second = second

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = x + 1
        return y, self.second(y)


TWINS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "clone": lambda y: y.clone(),
    "the same": lambda y: y,
    "view": lambda y: y.view(-1),
    "transpose": lambda y: y.t(),
    "detach": lambda y: y.detach(),
    "cast to its own dtype": lambda y: y.to(y.dtype),
    "slice of everything": lambda y: y[:],
}


@pytest.mark.parametrize("name", TWINS)
def test_an_output_that_is_another_under_a_second_name(name: str) -> None:
    model, x = Twins(TWINS[name]), torch.randn(2, 3)
    agree(compile_whole(model, torch.randn(2, 3))(x), model(x))


class Passes(nn.Module):
    """An output that is an input, one that is a view of it, and one that appears twice."""

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        y = (x * 2).relu() + 1
        return x, y, y, x.transpose(0, 1), y.view(-1)


def test_outputs_that_are_inputs_or_each_other_agree() -> None:
    x = torch.randn(3, 5)
    compiled = compile_whole(Passes(), x)
    other = torch.randn(3, 5)
    agree(compiled(other), Passes()(other))


def test_the_callers_input_is_never_changed() -> None:
    class InPlace(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            y = x * 1.0
            y.add_(1).relu_()
            return y

    x = torch.randn(3, 5)
    compiled, kept = compile_whole(InPlace(), x), x.clone()
    agree(compiled(x), InPlace()(x))
    assert torch.equal(x, kept)


def test_an_input_mutated_in_forward_is_mutated_as_in_eager_or_refused() -> None:
    class Mutates(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            x.add_(1)
            return (x * 2).relu()

    try:
        compiled = compile_whole(Mutates(), torch.randn(3, 5))
    except UnsupportedError:
        return
    given = torch.randn(3, 5)
    ours, eager = given.clone(), given.clone()
    agree(compiled(ours), Mutates()(eager))
    assert torch.equal(ours, eager)


def test_answers_of_two_calls_do_not_share_memory() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    compiled = compile_whole(model, torch.randn(2, 4))
    first = compiled(torch.ones(2, 4))
    kept = first.clone()
    second = compiled(torch.zeros(2, 4))
    assert torch.equal(first, kept)
    assert first.data_ptr() != second.data_ptr()


LAYOUTS: Mapping[str, tuple[Callable[[], nn.Module], Callable[[], Tensor]]] = {
    "channels_last": (
        lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()).to(memory_format=torch.channels_last),
        lambda: torch.randn(2, 3, 8, 8).contiguous(memory_format=torch.channels_last),
    ),
    "contiguous": (lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()), lambda: torch.randn(2, 3, 8, 8)),
    "transposed result": (lambda: Permuted(), lambda: torch.randn(2, 3, 4)),
    "sliced input": (lambda: nn.Sequential(nn.Linear(4, 4), nn.ReLU()), lambda: torch.randn(4, 8)[:, ::2]),
    "expanded input": (lambda: nn.Sequential(nn.Linear(4, 4), nn.ReLU()), lambda: torch.randn(1, 4).expand(3, 4)),
    "offset input": (lambda: nn.Sequential(nn.Linear(4, 4), nn.ReLU()), lambda: torch.randn(25)[1:].view(6, 4)),
}


class Permuted(nn.Module):
    """Gives a tensor that is not contiguous."""

    def forward(self, x: Tensor) -> Tensor:
        return (x * 2 + 1).relu().permute(2, 0, 1)


@pytest.mark.parametrize("name", LAYOUTS)
def test_strides_of_the_outputs_are_those_of_eager(name: str) -> None:
    make, sample = LAYOUTS[name]
    torch.manual_seed(0)
    model = make().eval()
    compiled, x = compile_whole(model, sample()), sample()
    with torch.no_grad():
        agree(compiled(x), model(x))


def test_a_tensor_of_other_strides_than_compiled_for_gives_the_same_values() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()).eval()
    compiled = compile_whole(model, torch.randn(2, 3, 8, 8))
    x = torch.randn(2, 3, 8, 8).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), model(x), rtol=1e-5, atol=1e-6)


# Structures


@dataclass
class Pair:
    """A user's own output type."""

    first: Tensor
    second: Tensor | None


pytree.register_dataclass(Pair)


class Structured(nn.Module):
    """Gives whatever `build` makes of three tensors."""

    def __init__(self, build: Callable[[Tensor, Tensor, Tensor], object]) -> None:
        super().__init__()
        self.build = build

    def forward(self, x: Tensor) -> object:
        return self.build(x + 1, (x * 2).relu(), x.sum(-1))


STRUCTURES: Mapping[str, Callable[[Tensor, Tensor, Tensor], object]] = {
    "tuple": lambda a, b, c: (a, b, c),
    "tuple of one": lambda a, b, c: (a,),
    "list": lambda a, b, c: [a, b, c],
    "dict": lambda a, b, c: {"z": a, "a": b, "m": c},
    "nested": lambda a, b, c: {"pair": (a, [b, {"c": c}]), "none": None},
    "None among tensors": lambda a, b, c: (a, None, c),
    "a constant number": lambda a, b, c: (a, 3, 2.5, True, "text"),
    "dataclass": lambda a, b, c: Pair(a, c),
    "dataclass with None": lambda a, b, c: Pair(a, None),
    "ModelOutput": lambda a, b, c: BaseModelOutput(last_hidden_state=a, hidden_states=(b, c)),
    "the same tensor twice": lambda a, b, c: (a, a, {"again": a}),
}


@pytest.mark.parametrize("name", STRUCTURES)
def test_the_outputs_structure_is_the_models_own(name: str) -> None:
    model, x = Structured(STRUCTURES[name]), torch.randn(2, 3)
    answer, reference = compile_whole(model, torch.randn(2, 3))(x), model(x)
    assert type(answer) is type(reference)
    agree(answer, reference)


class Keywords(nn.Module):
    """Its result depends on which argument is which."""

    def forward(self, x: Tensor, *, minus: Tensor, times: Tensor, extra: dict[str, Tensor] | None = None) -> Tensor:
        result = (x - minus) * times
        return result if extra is None else result + extra["b"] - 2 * extra["a"]


def test_keywords_may_come_in_any_order() -> None:
    x, minus, times = torch.randn(3), torch.randn(3), torch.randn(3)
    extra = {"a": torch.randn(3), "b": torch.randn(3)}
    keywords = {"times": times, "extra": extra, "minus": minus}
    compiled = torch_tensorrt.compile(Keywords().eval(), arg_inputs=[x], kwarg_inputs=keywords, min_block_size=1)
    wanted = Keywords()(x, minus=minus, times=times, extra=extra)
    agree(compiled(x, minus=minus, times=times, extra=extra), wanted)
    agree(compiled(x, extra={"b": extra["b"], "a": extra["a"]}, times=times, minus=minus), wanted)


@pytest.mark.parametrize(
    "x",
    [
        torch.arange(6).view(2, 3),
        torch.tensor([[True, False, True]]),
        torch.tensor(3.5),
        torch.tensor(7),
        torch.zeros(0, 3),
    ],
    ids=["int64", "bool", "float scalar", "int scalar", "empty"],
)
def test_inputs_of_every_kind_of_tensor(x: Tensor) -> None:
    class Mixed(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, ...]:
            y = x.float() * 2 + 1
            return y, y > 2, x * x if x.dtype != torch.bool else ~x, (y + 0.5).long()

    agree(compile_whole(Mixed(), x)(x), Mixed()(x))


@pytest.mark.parametrize("factor", [3, 2.5, True], ids=["int", "float", "bool"])
def test_a_python_scalar_among_the_inputs(factor: float) -> None:
    class Scaled(nn.Module):
        def forward(self, x: Tensor, factor: float) -> Tensor:
            return (x * factor + 1).relu()

    x = torch.randn(3)
    agree(compile_whole(Scaled(), x, factor)(x, factor), Scaled()(x, factor))


@pytest.mark.parametrize(
    "dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.float64, torch.float16, torch.bfloat16]
)
def test_results_keep_the_models_own_dtype(dtype: torch.dtype) -> None:
    class Doubled(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x + x, x.float().mean()

    x = torch.arange(6).to(dtype)
    agree(compile_whole(Doubled(), x)(x), Doubled()(x))


def test_a_model_without_tensor_inputs() -> None:
    class Table(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(4, 4))

        def forward(self) -> Tensor:
            return (self.weight @ self.weight).softmax(-1)

    model = Table().eval()
    with torch.no_grad():
        agree(torch_tensorrt.compile(model, inputs=[], min_block_size=1)(), model())


# Threads


def test_sixteen_threads_may_call_one_compiled_module() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 64, 5)).eval()
    shapes = {"min_shape": (1, 3, 8, 8), "opt_shape": (2, 3, 8, 8), "max_shape": (4, 3, 8, 8)}
    compiled = compile_whole(model, torch_tensorrt.Input(**shapes))
    calls = [torch.randn(1 + at % 4, 3, 8, 8) for at in range(16)]
    with torch.no_grad():
        wanted = [model(x) for x in calls]
    failures: list[str] = []
    barrier = threading.Barrier(16)

    def work(at: int) -> None:
        barrier.wait()
        for _ in range(20):
            answer = compiled(calls[at])
            if not torch.allclose(answer, wanted[at], rtol=1e-5, atol=1e-6):
                failures.append(f"thread {at} got another answer")

    threads = [threading.Thread(target=work, args=(at,)) for at in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert failures == []


# What stays in PyTorch


@torch.library.custom_op("zoo_test::twice_plus_one", mutates_args=())
def twice_plus_one(x: Tensor) -> Tensor:
    """An operator that no engine knows."""
    return x * 2 + 1


@twice_plus_one.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


class Mixed(nn.Module):
    """Ordinary layers around one operation that no engine takes."""

    def __init__(self, middle: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.middle = middle
        self.before, self.after = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.middle(self.before(x).relu())).tanh()


def through_nonzero(y: Tensor) -> Tensor:
    """As many rows as there are positive sums: a size that depends on the data."""
    return y[(y.sum(-1) >= 0).nonzero()[:, 0]]


def through_item(y: Tensor) -> Tensor:
    """A Python number out of a tensor."""
    return y * y.sum().item()


def through_complex(y: Tensor) -> Tensor:
    """Through complex numbers and back."""
    return torch.fft.irfft(torch.fft.rfft(y) * 2, n=4)


REFUSED: Mapping[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "nonzero": (through_nonzero, r"data|size"),
    "item": (through_item, r"data|number|scalar|PyTorch"),
    "complex": (through_complex, r"complex"),
    "custom op": (twice_plus_one, r"custom|zoo_test|unknown|no"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_engines_cannot_do_stays_in_pytorch_with_a_reason_and_the_rest_is_compiled(name: str) -> None:
    middle, words = REFUSED[name]
    torch.manual_seed(0)
    model = Mixed(middle).eval()
    compiled = compile_whole(model, torch.randn(3, 4))
    assert engine_calls(compiled) >= 2
    plan = compiled.plan
    assert plan.refusals
    assert all(plan.refusals.values()), "a refusal without a reason"
    assert any(re.search(words, reason) for reason in plan.refusals.values()), plan.refusals
    x = torch.randn(3, 4)
    with torch.no_grad():
        agree(compiled(x), model(x))


def test_require_full_compilation_lists_the_refused_node_its_reason_and_the_line() -> None:
    class TwoNodes(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return twice_plus_one(x).relu()

    with pytest.raises(UnsupportedError, match=r"(?s)twice_plus_one.*test_end_to_end\.py") as caught:
        torch_tensorrt.compile(TwoNodes().eval(), inputs=[torch.randn(3)], require_full_compilation=True)
    assert "require_full_compilation" in str(caught.value)


def test_a_dry_run_prints_the_plan_and_builds_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    model, x = Mixed(twice_plus_one).eval(), torch.randn(3, 4)
    result = torch_tensorrt.compile(model, inputs=[x], min_block_size=1, dryrun=True)
    shown = "".join(capsys.readouterr())
    assert "twice_plus_one" in shown
    assert not isinstance(result, torch.fx.GraphModule) or engine_calls(result) == 0


def test_a_forced_pytorch_operator_stays_out_of_engines() -> None:
    model, x = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4)).eval(), torch.randn(2, 4)
    compiled = compile_whole(model, x, torch_executed_ops={"torch.ops.aten.relu.default"})
    assert any(node.target is torch.ops.aten.relu.default for node in compiled.graph.nodes)
    with torch.no_grad():
        agree(compiled(x), model(x))


def test_a_graph_below_min_block_size_runs_in_pytorch_and_still_agrees() -> None:
    model, x = nn.Sequential(nn.Linear(4, 4), nn.ReLU()).eval(), torch.randn(2, 4)
    compiled = torch_tensorrt.compile(model, inputs=[x], min_block_size=50)
    assert engine_calls(compiled) == 0
    assert any("min_block_size" in reason for reason in compiled.plan.refusals.values())
    with torch.no_grad():
        agree(compiled(x), model(x))


def test_a_compiled_module_keeps_the_weights_it_was_compiled_with() -> None:
    model, x = nn.Sequential(nn.Linear(4, 4), nn.ReLU()).eval(), torch.randn(2, 4)
    compiled = compile_whole(model, x)
    before = compiled(x)
    with torch.no_grad():
        model[0].weight.mul_(10)
        model[0].bias.add_(1)
    assert torch.equal(compiled(x), before)


def test_two_inputs_with_equal_ranges_may_have_different_sizes() -> None:
    class Outer(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return (x[:, None] * y[None, :]).relu().sum(-1)

    described = [torch_tensorrt.Input(min_shape=(1,), opt_shape=(4,), max_shape=(8,)) for _ in range(2)]
    compiled = compile_whole(Outer(), *described)
    for one, two in ((1, 8), (8, 1), (3, 5), (4, 4)):
        x, y = torch.randn(one), torch.randn(two)
        agree(compiled(x, y), Outer()(x, y))
