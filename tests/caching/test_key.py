"""Equal keys mean interchangeable engines: whatever an engine is built from changes its key, and names don't."""

from __future__ import annotations

import copy
import itertools
import math
import operator
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from caching.programs import EAGER, MODE, Given, Net, Renamed, aten, key, partitions_of
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, fx, nn

from torch_tensorrt import Input, engines
from torch_tensorrt.caching.key import UndescribableError, digests_of, key_of
from torch_tensorrt.contracts.partition import Partition
from torch_tensorrt.spec.settings import CompilationSettings

SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.complex_numbers(), st.text(max_size=3),
    st.sampled_from([torch.float32, torch.float16, torch.device("cpu"), torch.contiguous_format, torch.strided, ...]),
    st.sampled_from([0, 1, 0.0, -0.0, 1.0, True, False, math.inf, -math.inf, math.nan, "1", "None", None, 1 + 0j]),
)  # fmt: skip
ARGUMENTS = st.recursive(
    SCALARS, lambda part: st.lists(part, max_size=3) | st.lists(part, max_size=3).map(tuple), max_leaves=5
)


def bits(value: object) -> str:
    """What tells one argument from another: the type and repr of every part."""
    if isinstance(value, (list, tuple)):
        return f"{isinstance(value, list)}({','.join(map(bits, value))})"
    return f"{type(value).__name__}:{value!r}"


@settings(max_examples=300, deadline=None)
@given(ARGUMENTS, ARGUMENTS)
def test_another_argument_gives_another_key_and_a_copy_the_same(one: object, other: object) -> None:
    first = key(Given(args=(one,)).partition())
    assert first == key(Given(args=(copy.deepcopy(one),)).partition())
    if bits(one) != bits(other):
        assert first != key(Given(args=(other,)).partition())


@pytest.mark.parametrize(("one", "other"), itertools.combinations([1, 1.0, True, "1", 1 + 0j, [1], (1,), None, -1], 2))
def test_values_that_python_or_json_might_confuse_have_keys_of_their_own(one: object, other: object) -> None:
    assert key(Given(args=(one,)).partition()) != key(Given(args=(other,)).partition())


@pytest.mark.parametrize(
    ("one", "other"), itertools.combinations([0.0, -0.0, math.nan, math.inf, -math.inf, 1e-310], 2)
)
def test_floats_are_told_apart_by_their_bits(one: float, other: float) -> None:
    assert key(Given(args=(one,)).partition()) != key(Given(args=(other,)).partition())


LAYOUTS = st.tuples(
    st.sampled_from([torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.bool]),
    st.sampled_from([(2, 3), (3, 2), (6,), (2, 3, 1), (1, 2, 3), ()]),
    st.integers(0, 5),
)


def laid_out(dtype: torch.dtype, size: tuple[int, ...], order: int) -> Given:
    """An x of that kind whose dimensions stand in memory in one of the possible orders."""
    orders = list(itertools.permutations(range(len(size))))
    stride, step = [0] * len(size), 1
    for dim in reversed(orders[order % len(orders)]):
        stride[dim], step = step, step * size[dim]
    return Given(dtype=dtype, size=size, stride=tuple(stride))


@settings(max_examples=200, deadline=None)
@given(LAYOUTS, LAYOUTS)
def test_dtype_size_and_stride_are_part_of_the_key(one: tuple, other: tuple) -> None:
    first, second = laid_out(*one), laid_out(*other)
    assert (key(first.partition()) == key(second.partition())) == (first == second)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(width=32), min_size=1, max_size=4), st.integers(0, 3), st.floats(width=32))
def test_weights_are_told_apart_by_their_bits(values: list[float], place: int, other: float) -> None:
    one = torch.tensor(values)
    two = one.clone()
    two[place % len(values)] = other
    same = one.view(torch.int32).tolist() == two.view(torch.int32).tolist()
    first, second = digests_of([one, two])
    assert (first == second) == same


def test_tracing_twice_and_other_names_give_the_same_key() -> None:
    x = torch.randn(2, 8)
    keys = [key(part) for model in (Net(), Net(), Renamed()) for part in partitions_of(model, [x])]
    assert len(keys) == 3
    assert len(set(keys)) == 1
    (part,) = partitions_of(Net(), [x])
    assert key(replace(part, name="part_7")) == keys[0]


def test_a_model_of_varying_sizes_traced_twice_has_the_same_key() -> None:
    rows = Input(min_shape=(1, 8), opt_shape=(4, 8), max_shape=(16, 8))
    assert len({key(part) for model in (Net(), Net(), Renamed()) for part in partitions_of(model, [rows])}) == 1


def rows(low: int, opt: int, high: int) -> Input:
    return Input(min_shape=(low, 8), opt_shape=(opt, 8), max_shape=(high, 8))


class Doubled(Net):
    """Net on a batch that is put together from two."""

    def __init__(self, *, twice: bool) -> None:
        super().__init__()
        self.twice = twice

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(torch.cat([x, x] if self.twice else [x, x[:1]]))


class Swapped(nn.Module):
    """Subtraction in one direction or the other."""

    def __init__(self, *, turned: bool = False) -> None:
        super().__init__()
        self.turned = turned

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return (y - x if self.turned else x - y) * x * y


def changed(change: Callable[[Net], None]) -> Net:
    """Net after `change`, which may not record gradients."""
    net = Net()
    with torch.no_grad():
        change(net)
    return net


def tie(net: Net) -> None:
    """Makes the second row of weights the first."""
    net.first.weight[1] = net.first.weight[0]


PAIR = [torch.randn(2, 8), torch.randn(2, 8)]
DIFFERENT: dict[str, tuple[nn.Module, list[object], dict[str, object]]] = {
    "the net": (Net(), [torch.randn(2, 8)], {}),
    "another batch": (Net(), [torch.randn(3, 8)], {}),
    "another width": (Net(17), [torch.randn(2, 8)], {}),
    "another dtype": (Net().double(), [torch.randn(2, 8).double()], {}),
    "one weight changed": (changed(lambda net: net.second.weight[0, 0].add_(1e-6)), [torch.randn(2, 8)], {}),
    "two rows tied": (changed(tie), [torch.randn(2, 8)], {}),
    "zero and minus zero": (changed(lambda net: net.first.bias.zero_()), [torch.randn(2, 8)], {}),
    "minus zero": (changed(lambda net: net.first.bias.zero_().neg_()), [torch.randn(2, 8)], {}),
    "a layout": (Net(), [torch.randn(8, 2).t()], {}),
    "an option": (Net(), [torch.randn(2, 8)], {"truncate_double": True}),
    "to be refitted": (Net(), [torch.randn(2, 8)], {"immutable_weights": False}),
    "to be refitted by other names": (Renamed(), [torch.randn(2, 8)], {"immutable_weights": False}),
    "a range": (Net(), [rows(1, 4, 16)], {}),
    "a longer range": (Net(), [rows(1, 4, 17)], {}),
    "a range from 2": (Net(), [rows(2, 4, 16)], {}),
    "another typical size": (Net(), [rows(1, 5, 16)], {}),
    "2 * batch": (Doubled(twice=True), [rows(1, 4, 16)], {}),
    "batch + 1": (Doubled(twice=False), [rows(1, 4, 16)], {}),
    "x - y": (Swapped(), PAIR, {}),
    "y - x": (Swapped(turned=True), PAIR, {}),
}


def test_whatever_an_engine_is_built_from_changes_its_key() -> None:
    keys = {
        name: tuple(key(part, **options) for part in partitions_of(model, inputs, **options))
        for name, (model, inputs, options) in DIFFERENT.items()
    }
    same = [pair for pair in itertools.combinations(keys, 2) if keys[pair[0]] == keys[pair[1]]]
    assert same == []


def test_the_backend_its_sdk_and_its_source_are_part_of_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    part, options = Given().partition(), CompilationSettings()
    found = {key_of(part, engines.backend(name), options).hash for name in ("eager", "openvino")}
    monkeypatch.setattr(type(EAGER), "fingerprint", lambda *_: {"torch": "99"})
    found.add(key_of(part, EAGER, options).hash)
    monkeypatch.setattr(type(EAGER), "format_version", 99)
    found.add(key_of(part, EAGER, options).hash)
    monkeypatch.setattr("torch_tensorrt.caching.key.source_digest", lambda _: "edited")
    found.add(key_of(part, EAGER, options).hash)
    monkeypatch.setattr("torch_tensorrt.caching.key.own_version", lambda: "99")
    found.add(key_of(part, EAGER, options).hash)
    assert len(found) == 6


def test_what_a_pass_left_for_the_backend_is_part_of_the_key() -> None:
    part = Given().partition()
    before = key(part)
    list(part.module.graph.nodes)[1].meta["stack_trace"] = "line 3"
    assert key(part) == before
    list(part.module.graph.nodes)[1].meta["torch_tensorrt_precision"] = torch.float16
    assert key(part) != before


class Wrapped(Tensor):
    """Something whose behaviour its elements don't tell."""


def with_constant(value: object) -> Partition:
    """x + w, with `value` for w."""
    graph, root = fx.Graph(), nn.Module()
    root.w = value
    x = graph.placeholder("x")
    with MODE:
        x.meta["val"] = torch.empty(2)
    y = graph.call_function(aten.add.Tensor, (x, graph.get_attr("w")))
    y.meta["val"] = x.meta["val"]
    graph.output((y,))
    return replace(Given().partition(), module=fx.GraphModule(root, graph))


def with_call() -> Partition:
    """A graph that calls a module."""
    graph = fx.Graph()
    graph.output((graph.call_module("inner", (graph.placeholder("x"),)),))
    return replace(Given().partition(), module=fx.GraphModule({"inner": nn.ReLU()}, graph))


@pytest.mark.parametrize(
    ("partition", "words"),
    {
        "operator of others": (lambda: Given(target=torch.ops.tensorrt.execute_engine.default), "outside PyTorch"),
        "function of others": (lambda: Given(target=copy.copy), "outside PyTorch"),
        "lambda": (lambda: Given(target=lambda x, y: x), "outside PyTorch"),
        "tensor as an argument": (lambda: Given(args=(torch.ones(1),)), "Tensor"),
        "set as an argument": (lambda: Given(args=({1},)), "set"),
    }.values(),
)
def test_what_can_t_be_told_for_certain_is_not_cached(partition: Callable[[], Given], words: str) -> None:
    with pytest.raises(UndescribableError, match=words):
        key(partition().partition())


@pytest.mark.parametrize(
    "value", [Wrapped(2), torch.ones(2).to_sparse(), nn.ReLU()], ids=["subclass", "sparse", "module"]
)
def test_constants_that_are_more_than_their_elements_are_not_cached(value: object) -> None:
    with pytest.raises(UndescribableError):
        key(with_constant(value))


def test_calls_of_modules_are_not_cached() -> None:
    with pytest.raises(UndescribableError, match="call_module"):
        key(with_call())


def test_functions_of_python_are_known_by_their_names() -> None:
    assert key(Given(target=operator.add).partition()) != key(Given(target=operator.sub).partition())


@pytest.mark.parametrize("dtype", [torch.bool, torch.bfloat16, torch.complex64, torch.float8_e4m3fn, torch.int64])
@pytest.mark.parametrize("size", [(), (0,), (3, 2)])
def test_every_dtype_and_size_of_weight_has_a_digest(dtype: torch.dtype, size: tuple[int, ...]) -> None:
    weight = torch.ones(size).to(dtype)
    assert digests_of([weight]) == digests_of([weight.clone()])
    assert digests_of([torch.arange(6).reshape(2, 3).t()]) == digests_of(
        [torch.arange(6).reshape(2, 3).t().contiguous()]
    )
