"""Weights are constants of the engines, and yet no answer is ever computed with weights that have been replaced or written."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor, nn

from torch_tensorrt.dynamo.backend import entry, torch_tensorrt_backend, weights


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """For each build: how many weights are constants."""
    made: list[int] = []
    compile_graph = entry.compile_graph

    def compile_and_note(graph: torch.fx.GraphModule, *given: object) -> object:
        made.append(len(graph.graph.find_nodes(op="get_attr")))
        return compile_graph(graph, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(entry, "compile_graph", compile_and_note)
    return made


class Net(nn.Module):
    """Parameters, buffers, and one weight under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.norm = nn.BatchNorm1d(4)
        self.second = nn.Linear(4, 4)
        self.second.weight = self.first.weight
        self.register_buffer("scale", torch.rand(4) + 1)

    def forward(self, x: Tensor) -> Tensor:
        """All of them matter."""
        return self.second(self.norm(self.first(x)).relu()) * self.scale


def compiled_by(model: nn.Module, **options: object) -> Callable[..., Tensor]:
    """`model` through torch.compile, with blocks of any size."""
    return torch.compile(model, backend=torch_tensorrt_backend, options={"min_block_size": 1, **options})


def write(model: Net) -> None:
    with torch.no_grad():
        model.first.weight.mul_(2)


def write_a_part(model: Net) -> None:
    with torch.no_grad():
        model.first.bias[1] = 7


def write_in_inference_mode(model: Net) -> None:
    with torch.inference_mode():
        model.first.weight.add_(1)


def load(model: Net) -> None:
    model.load_state_dict({name: value + 1 for name, value in model.state_dict().items()})


def load_other_tensors(model: Net) -> None:
    model.load_state_dict({name: value + 1 for name, value in model.state_dict().items()}, assign=True)


def assign_data(model: Net) -> None:
    model.first.weight.data = model.first.weight.data * 3


def assign_a_parameter(model: Net) -> None:
    model.second.bias = nn.Parameter(torch.ones(4))


def assign_a_parameter_with_the_same_memory(model: Net) -> None:
    with torch.no_grad():
        model.first.bias.mul_(5)
    model.first.bias = nn.Parameter(model.first.bias.detach())


def write_a_buffer(model: Net) -> None:
    model.scale.fill_(3)


def assign_a_buffer(model: Net) -> None:
    model.scale = torch.full((4,), 0.5)


def write_a_statistic(model: Net) -> None:
    model.norm.running_mean.add_(1)


def untie(model: Net) -> None:
    model.second.weight = nn.Parameter(torch.eye(4))


def train_a_step(model: Net) -> None:
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with torch.enable_grad():
        model(torch.ones(2, 4)).sum().backward()
    optimizer.step()
    model.zero_grad()


CHANGES: Mapping[str, Callable[[Net], None]] = {
    change.__name__: change
    for change in (
        *(write, write_a_part, write_in_inference_mode, load, load_other_tensors, assign_data, assign_a_parameter),
        *(assign_a_parameter_with_the_same_memory, write_a_buffer, assign_a_buffer, write_a_statistic, untie, train_a_step),
    )
}  # fmt: skip


@pytest.mark.parametrize("options", [{}, {"immutable_weights": False}], ids=["constants", "inputs"])
@pytest.mark.parametrize("change", CHANGES)
def test_an_answer_is_never_computed_with_old_weights(change: str, options: Mapping[str, object]) -> None:
    model = Net().eval()
    compiled, x = compiled_by(model, **options), torch.randn(3, 4)
    with torch.no_grad():
        before = compiled(x)
        torch.testing.assert_close(before, model(x))
        CHANGES[change](model)
        assert not torch.equal(model(x), before), "this change changes nothing"
        for _ in range(2):
            torch.testing.assert_close(compiled(x), model(x))


@pytest.mark.parametrize("change", [write, load, assign_data, assign_a_parameter, assign_a_buffer])
def test_changed_weights_are_seen_where_the_user_has_torch_compile_skip_its_guards(
    change: Callable[[Net], None],
) -> None:
    model = Net().eval()
    compiled, x = compiled_by(model), torch.randn(3, 4)
    with torch.no_grad():
        before = compiled(x)
        with torch.compiler.set_stance("default", skip_guard_eval_unsafe=True):
            torch.testing.assert_close(compiled(x), before)
            change(model)
            torch.testing.assert_close(compiled(x), model(x))
        assert not torch.equal(model(x), before)


def test_weights_that_stay_are_built_into_engines_once(builds: list[int]) -> None:
    model = Net().eval()
    compiled = compiled_by(model)
    with torch.no_grad():
        for _ in range(5):
            compiled(torch.randn(3, 4))
    assert builds == [8]  # 2 linear layers of which the weight is one, 4 of the norm, 1 buffer


def test_a_weight_that_changes_all_the_time_becomes_an_input(
    builds: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    model = Net().eval()
    compiled, x = compiled_by(model), torch.randn(3, 4)
    with torch.no_grad():
        for step in range(weights.MOST_BUILDS + 5):
            model.scale.fill_(step)
            torch.testing.assert_close(compiled(x), model(x))
    assert builds == [8] * weights.MOST_BUILDS + [7]
    assert caplog.text.count("they are inputs of the engines from now on") == 1


def test_immutable_weights_false_makes_all_weights_inputs(builds: list[int]) -> None:
    model = Net().eval()
    compiled, x = compiled_by(model, immutable_weights=False), torch.randn(3, 4)
    with torch.no_grad():
        compiled(x)
        model.first.weight.data.mul_(2)  # which nothing counts
        torch.testing.assert_close(compiled(x), model(x))
    assert builds == [0]


def test_weights_without_a_count_of_their_changes_are_inputs(builds: list[int]) -> None:
    with torch.inference_mode():
        model = Net().eval()
        compiled, x = compiled_by(model), torch.randn(3, 4)
        torch.testing.assert_close(compiled(x), model(x))
        model.first.weight.mul_(2)
        torch.testing.assert_close(compiled(x), model(x))
    assert builds == [0]


def test_the_models_weights_are_not_written(builds: list[int]) -> None:
    model = Net().eval()
    before = copy.deepcopy(model.state_dict())
    with torch.no_grad():
        compiled_by(model)(torch.randn(3, 4))
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


def test_threads_that_find_a_change_together_build_once(builds: list[int]) -> None:
    model = Net().eval()
    compiled, x, answers = compiled_by(model), torch.randn(3, 4), list[Tensor]()
    with torch.no_grad():
        compiled(x)
        model.scale.fill_(3)
        wanted = model(x)

    def call() -> None:
        with torch.no_grad():
            answers.append(compiled(x))

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 4
    for answer in answers:
        torch.testing.assert_close(answer, wanted)
    assert builds == [8, 8]
