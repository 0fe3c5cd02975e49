"""Several GPUs: which one a model belongs to, and inputs on another one. The GPUs needn't be here: tensors are fake."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, fx
from torch._subclasses.fake_tensor import FakeTensorMode

from torch_tensorrt import InputError, runtime
from torch_tensorrt.engine_choice import choose_backend_for
from torch_tensorrt.observe import log
from torch_tensorrt.runtime import devices
from torch_tensorrt.runtime.devices import Home, home_of
from torch_tensorrt.runtime.input_check import InputCheck
from torch_tensorrt.spec.settings import CompilationSettings
from torch_tensorrt.spec.tensor_spec import TensorSpec

FIRST, SECOND = torch.device("cuda:0"), torch.device("cuda:1")


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(log, "_said", set())
    yield
    runtime.set_multi_device_safe_mode(False)


def tensor(device: torch.device | str) -> Tensor:
    with FakeTensorMode():
        return torch.empty(2, 3, device=device)


def graph_of(place: torch.device | str, weight: torch.device | str | None = None, **made: object) -> fx.Graph:
    graph = fx.Graph()
    graph.placeholder("x").meta["val"] = tensor(place)
    if weight is not None:
        graph.get_attr("layer.weight").meta["val"] = tensor(weight)
    if made:
        graph.call_function(torch.ops.aten.arange.default, (4,), made, name="arange")  # type: ignore[arg-type]
    return graph


@pytest.mark.parametrize(
    ("graph", "home"),
    [
        (graph_of("cpu"), None),
        (graph_of(SECOND), Home(SECOND, "")),
        (graph_of(SECOND, "cpu"), Home(SECOND, "")),
        (graph_of(SECOND, SECOND), Home(SECOND, "weight 'layer.weight' is")),
        (graph_of(SECOND, device=SECOND), Home(SECOND, "operation 'arange' makes a tensor")),
        (graph_of(SECOND, device=torch.device("cpu")), Home(SECOND, "")),
    ],
    ids=["cpu", "engines only", "constants on the CPU", "weights", "tensors made", "tensors made on the CPU"],
)
def test_the_home_of_a_model_is_where_it_was_compiled(graph: fx.Graph, home: Home | None) -> None:
    assert home_of(graph) == home


def test_an_input_on_another_gpu_than_the_weights_is_an_error_naming_both() -> None:
    check = InputCheck(
        "The compiled model", [TensorSpec("x", torch.float32, (2, 3), device="cuda")], Home(SECOND, "weight 'w' is")
    )
    check([tensor(SECOND)])
    with pytest.raises(InputError, match=r"input 'x' is on cuda:0, .* compiled on cuda:1 and its weight 'w' is there"):
        check([tensor(FIRST)])


def test_engines_follow_their_inputs_to_another_gpu() -> None:
    check = InputCheck("The compiled model", [TensorSpec("x", torch.float32, (2, 3), device="cuda")], Home(SECOND, ""))
    check([tensor(FIRST)])


def test_in_safe_mode_inputs_are_moved_and_a_warning_says_so_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "_lazy_init", lambda: None)
    home = Home(SECOND, "")
    for _ in range(2):
        with FakeTensorMode(allow_non_fake_inputs=True):
            here, there = (torch.empty(2, 3, device=device) for device in (SECOND, FIRST))
            given = home.bring([here, there, 3])
        assert given[0] is here
        assert isinstance(given[1], Tensor)
        assert given[1].device == SECOND
        assert given[2] == 3
    (told,) = caplog.records
    assert "on cuda:0 are moved to cuda:1" in told.message
    same = [here]
    assert home.bring(same) is same


def test_safe_mode_is_a_function_and_a_context_manager() -> None:
    runtime.set_multi_device_safe_mode(True)
    assert devices.moves_inputs
    with runtime.set_multi_device_safe_mode(False):
        assert not devices.moves_inputs
    assert devices.moves_inputs
    with pytest.raises(InputError, match="'yes'"):
        runtime.set_multi_device_safe_mode("yes")  # type: ignore[arg-type]


def test_another_gpu_than_that_of_the_tensors_is_refused_at_compile_time() -> None:
    with pytest.raises(InputError, match=r"tensors are on cuda:0, and device= asks for cuda:1"):
        choose_backend_for(FIRST, CompilationSettings.from_options(device="cuda:1"))
