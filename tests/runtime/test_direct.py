"""The short way to an engine: the same results in the same order, and nothing that was checked before goes unchecked."""

from __future__ import annotations

import copy
import dataclasses
import threading
from collections.abc import Callable

import numpy
import pytest
import torch
from torch import Tensor, fx, nn

import torch_tensorrt
from torch_tensorrt import InputError
from torch_tensorrt.runtime.direct import EngineCall, direct_function
from torch_tensorrt.runtime.module import CompiledModule

EXECUTE = torch.ops.tensorrt.execute_engine.default
FORMS: dict[str, Callable[[Tensor, Tensor], object]] = {
    "in order": lambda x, y: (x.exp(), y.sin()),
    "the other way round": lambda x, y: (y.sin(), x.exp()),
    "one twice": lambda x, y: ((x + y).exp(), (x + y).exp()),
    "a dict": lambda x, y: {"b": x.exp(), "a": [y.sin(), x + y]},
    "alone": lambda x, y: (x - y).exp(),
    "in a list": lambda x, y: [(x - y).exp()],
    "with an input": lambda x, y: (x.exp(), y),
    "with a number": lambda x, y: (x.exp(), 3, y.sin(), None),
    "with an input that is not used": lambda x, y: y.exp(),
}


class Form(nn.Module):
    def __init__(self, form: str) -> None:
        super().__init__()
        self.form = FORMS[form]

    def forward(self, x: Tensor, y: Tensor) -> object:
        return self.form(x, y)


def compiled(form: str = "in order", engine: str = "openvino", **options: object) -> nn.Module:
    x = torch.ones(2, 4)
    return torch_tensorrt.compile(Form(form), inputs=[x, x], engine=engine, min_block_size=1, **options)


@pytest.mark.parametrize("engine", ["openvino", "eager"])
@pytest.mark.parametrize("form", FORMS)
def test_results_come_in_the_models_own_order_and_form(form: str, engine: str) -> None:
    module = compiled(form, engine)
    for _ in range(2):
        x, y = torch.randn(2, 4), torch.randn(2, 4)
        for call in (module, copy.deepcopy(module), module.forward):
            torch.testing.assert_close(call(x, y), FORMS[form](x, y), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("form", ["in order", "alone", "in a list"])
def test_a_graph_that_is_one_engine_has_no_code_around_it(form: str) -> None:
    assert isinstance(direct_function(compiled(form)), EngineCall)


WRONG: dict[str, tuple[object, ...]] = {
    "a size": (torch.ones(2, 5), torch.ones(2, 4)),
    "a dtype": (torch.ones(2, 4), torch.ones(2, 4, dtype=torch.float64)),
    "a device": (torch.ones(2, 4), torch.ones(2, 4, device="meta")),
    "a layout": (torch.ones(2, 4).to_sparse(), torch.ones(2, 4)),
    "an array": (torch.ones(2, 4), numpy.ones((2, 4), dtype="float32")),
    "too few": (torch.ones(2, 4),),
    "too many": (torch.ones(2, 4),) * 3,
    "none": (),
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_arguments_are_refused_after_right_ones_too(what: str) -> None:
    module, right = compiled(), (torch.ones(2, 4), torch.ones(2, 4))
    for _ in range(2):
        module(*right)
        with pytest.raises(InputError):
            module(*WRONG[what])
    module(*right)


@pytest.mark.parametrize("nodes", ["one engine", "more than that"])
def test_an_engine_refuses_what_only_the_module_around_it_lets_in(nodes: str) -> None:
    """As a damaged file can have it: each call is checked, whatever went well or wrong before."""
    given = torch_tensorrt.Input(min_shape=(1, 4), opt_shape=(2, 4), max_shape=(4, 4))
    more = {"torch_executed_ops": {"torch.ops.aten.sin.default"}} if nodes == "more than that" else {}
    made = torch_tensorrt.compile(
        nn.Sequential(nn.Linear(4, 4), nn.ReLU(), Sine()), inputs=[given], engine="eager", min_block_size=1, **more
    )
    (spec,) = made.input_specs
    assert spec is not None
    wider = dataclasses.replace(spec, shape=(dataclasses.replace(spec.shape[0], max=8), 4))  # type: ignore[type-var]
    module = CompiledModule.wrap(fx.GraphModule(made, made.graph), [wider], None, made.settings)
    assert isinstance(direct_function(module), EngineCall) == (nodes == "one engine")
    for right in (torch.ones(2, 4), torch.ones(4, 4), torch.ones(4, 4)):
        module(right)
        for _ in range(2):
            with pytest.raises(InputError, match="Engine"):
                module(torch.ones(8, 4))


def test_each_module_around_an_engine_checks_what_it_is_given() -> None:
    given = torch_tensorrt.Input(min_shape=(1, 4), opt_shape=(2, 4), max_shape=(8, 4))
    wide = torch_tensorrt.compile(nn.ReLU(), inputs=[given], engine="eager", min_block_size=1)
    (spec,) = wide.input_specs
    assert spec is not None
    narrower = dataclasses.replace(spec, shape=(dataclasses.replace(spec.shape[0], max=4), 4))  # type: ignore[type-var]
    narrow = CompiledModule.wrap(fx.GraphModule(wide, wide.graph), [narrower], None, wide.settings)
    for _ in range(3):
        wide(torch.ones(8, 4))
        narrow(torch.ones(2, 4))
        with pytest.raises(InputError, match="compiled model"):
            narrow(torch.ones(8, 4))


class Sine(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.sin()


def test_a_mode_that_wants_to_see_operators_sees_the_engines() -> None:
    class Seen(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func: object, types: object, args: tuple = (), kwargs: object = None) -> object:
            seen.append(func)
            return func(*args, **(kwargs or {}))  # type: ignore[operator]

    seen: list[object] = []
    module = compiled("alone")
    with Seen():
        module(torch.ones(2, 4), torch.ones(2, 4))
    assert EXECUTE in seen


def test_a_fake_tensor_passes_through_a_compiled_module() -> None:
    module = compiled("alone")
    with torch._subclasses.FakeTensorMode(allow_non_fake_inputs=True) as mode:
        x = mode.from_tensor(torch.empty(2, 4))
        assert module(x, x).shape == (2, 4)


def test_threads_get_the_results_of_their_own_arguments() -> None:
    module, wrong = compiled("alone"), list[object]()

    def call(value: float) -> None:
        x, y = torch.full((2, 4), value), torch.zeros(2, 4)
        for _ in range(200):
            if not torch.allclose(module(x, y), x.exp(), rtol=1e-5):
                wrong.append(value)

    threads = [threading.Thread(target=call, args=(value / 8,)) for value in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
