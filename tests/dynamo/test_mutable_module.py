"""A mutable module gives what the wrapped model gives, however that was changed, and compiles no more often than it must."""

from __future__ import annotations

import copy
import gc
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

from torch_tensorrt import FileFormatError, InputError, MutableTorchTensorRTModule, UnsupportedError
from torch_tensorrt.dynamo.runtime._MutableTorchTensorRTModule import DynamicShapeOutOfRangeException, RefitFlag
from torch_tensorrt.dynamo.runtime._watching import ModelWatch

X = torch.linspace(-1, 1, 12).view(3, 4)


class Network(nn.Module):
    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.first, self.norm, self.last = nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 2)
        self.plain, self.scale, self.flags = torch.ones(2), 2.0, {"relu": True}
        self.square, self.numbers, self.power = nn.Parameter(torch.arange(16.0).view(4, 4) / 16), [1.0], 3.0
        self.steps = OrderedDict(add=1.0, multiply=2.0)
        self.eval()

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        y = self.norm(self.first(x @ self.square))
        for step, value in self.steps.items():
            y = y + value if step == "add" else y * value
        y = y * self.numbers[0] + (0 if isinstance(self.power, float) else 1)
        y = self.last(y.relu() if self.flags["relu"] else y) * self.scale + self.plain
        return y if bias is None else y + bias


def wrapped(engine: str = "eager", model: nn.Module | None = None, **options: Any) -> Any:
    return MutableTorchTensorRTModule(model or Network(), engine=engine, min_block_size=1, strict=False, **options)


def check(module: Any, *args: Tensor, **kwargs: Tensor) -> None:
    with torch.no_grad():
        wanted = module.original_model(*args, **kwargs)
    torch.testing.assert_close(module(*args, **kwargs), wanted, atol=1e-4, rtol=1e-4)


def _merge_lora(model: Any) -> None:
    model.first.weight.data += torch.outer(torch.arange(8.0), torch.arange(4.0))


def _in_place(model: Any) -> None:
    with torch.no_grad():
        model.last.weight.mul_(3)


def _in_inference_mode(model: Any) -> None:
    with torch.inference_mode():
        model.last.bias.add_(3)


def _set(model: Any) -> None:
    with torch.no_grad():
        model.last.weight.set_(torch.ones(2, 8))


class _Doubled(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return weight * 2


def _train(model: Any) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    model(X).sum().backward() if isinstance(model, Network) else model.original_model(X).sum().backward()
    optimizer.step()


EDITS: dict[str, Callable[[Any], object]] = {
    "load_state_dict": lambda model: model.load_state_dict(Network(1).state_dict()),
    "assigned state": lambda model: model.load_state_dict(Network(1).state_dict(), assign=True),
    "parameter": lambda model: setattr(model.first, "weight", nn.Parameter(torch.ones(8, 4))),
    "data": lambda model: setattr(model.first.weight, "data", torch.ones(8, 4)),
    "LoRA merge": _merge_lora,
    "in place": _in_place,
    "buffer": lambda model: model.norm.running_var.fill_(4),
    "plain tensor": lambda model: model.plain.add_(1),
    "optimizer": _train,
    "number": lambda model: setattr(model, "scale", 7.0),
    "in a dict": lambda model: model.flags.update(relu=False),
    "submodule": lambda model: setattr(model, "last", nn.Linear(8, 5).eval()) or setattr(model, "plain", torch.ones(5)),
    "hook of a submodule": lambda model: model.first.register_forward_hook(lambda *given: given[2] * 2),
    "inference mode": lambda model: _in_inference_mode(model),
    "set_": lambda model: _set(model),
    "view of its own memory": lambda model: setattr(model.square, "data", model.square.data.t()),
    "all at once": lambda model: torch._foreach_mul_([known.data for known in model.parameters()], 2),
    "from a vector": lambda model: nn.utils.vector_to_parameters(
        torch.linspace(-1, 1, sum(known.numel() for known in model.parameters())), model.parameters()
    ),
    "slot": lambda model: model.last._parameters.update(weight=nn.Parameter(torch.ones(2, 8))),
    "parametrization": lambda model: nn.utils.parametrize.register_parametrization(model.last, "weight", _Doubled()),
    "order of an ordered dict": lambda model: model.steps.move_to_end("add"),
    "item of a list": lambda model: model.numbers.__setitem__(0, 5.0),
    "number of another type": lambda model: setattr(model, "power", 3),
    "hook": lambda model: model.register_forward_hook(lambda *given: given[2] - 1),
}


@pytest.mark.parametrize("through", ["wrapper", "model"])
@pytest.mark.parametrize("edit", EDITS)
def test_no_change_goes_unseen(edit: str, through: str) -> None:
    module = wrapped()
    check(module, X)
    before = module(X)
    EDITS[edit](module if through == "wrapper" else module.original_model)
    check(module, X)
    assert before.shape != module(X).shape or not torch.equal(before, module(X))


@pytest.mark.parametrize("engine", ["openvino", "inductor"])
def test_other_engines_follow_new_weights(engine: str) -> None:
    module = wrapped(engine)
    check(module, X)
    module.load_state_dict(Network(1).state_dict())
    check(module, X)


def test_the_same_engines_run_while_nothing_changes() -> None:
    module = wrapped()
    module(X)
    live = module._live.compiled
    check(module, X)
    module.first.weight.data.mul_(1)  # written, with the same values
    check(module, X)
    assert module._live.compiled is live
    _merge_lora(module)
    module.update_refit_condition()
    assert module.refit_state.get_state() is RefitFlag.NEEDS_REFIT
    check(module, X)
    assert module._live.compiled is not live


def test_other_shapes_dtypes_and_keywords_compile_again() -> None:
    module = wrapped()
    check(module, X)
    check(module, X[:2])
    check(module, X, bias=torch.ones(2))
    module.to(torch.float64)
    check(module, X.double())
    assert module.device.type == "cpu"


def test_sizes_in_the_range_run_without_compiling_and_others_raise() -> None:
    module = wrapped()
    module.set_expected_dynamic_shape_range(({0: Dim("batch", min=1, max=8)},), {"bias": None})
    check(module, X)
    live = module._live.compiled
    for rows in (1, 2, 8):
        check(module, X[:1].expand(rows, 4).contiguous())
    assert module._live.compiled is live
    with pytest.raises(DynamicShapeOutOfRangeException, match=r"inputs\[0\].*1 to 8"):
        module(X[:1].expand(9, 4))
    with pytest.raises(InputError, match="upper bound"):
        module.set_expected_dynamic_shape_range(({0: Dim("batch")},))


def test_a_saved_module_has_weights_and_ranges(tmp_path: Path) -> None:
    module = wrapped()
    module.set_expected_dynamic_shape_range(({0: Dim("batch", min=1, max=8)},))
    check(module, X)
    MutableTorchTensorRTModule.save(module, tmp_path / "model.mutable")
    again: Any = MutableTorchTensorRTModule.load(tmp_path / "model.mutable")
    torch.testing.assert_close(again(X), module(X))
    torch.testing.assert_close(again(X[:2]), module(X[:2]))
    again.load_state_dict(Network(1).state_dict(), strict=False)
    module.load_state_dict(Network(1).state_dict())
    torch.testing.assert_close(again(X), module(X))
    (tmp_path / "other").write_bytes(b"something")
    with pytest.raises(FileFormatError, match="is not a file of"):
        MutableTorchTensorRTModule.load(tmp_path / "other")


def test_several_threads_may_make_the_first_call() -> None:
    module = wrapped()
    wanted, results = module.original_model(X).detach(), []
    threads = [threading.Thread(target=lambda: results.append(module(X))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 3
    for result in results:
        torch.testing.assert_close(result, wanted)


class _Counts(nn.Module):
    """Keeps what it has seen, in a submodule, and a cache of some size."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.product, self.memory = nn.Linear(4, 4), nn.Module()
        self.memory.register_buffer("calls", torch.zeros(()))
        self.register_buffer("seen", torch.zeros(4), persistent=False)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        self.memory.calls.add_(1)
        self.seen = self.seen * 0.5 + x.sum(0)
        return self.product(x + self.seen) * self.memory.calls


STATE_EDITS: dict[str, Callable[[Any], object]] = {
    "nothing": lambda model: None,
    "written": lambda model: model.memory.calls.fill_(7),
    "assigned": lambda model: setattr(model.memory, "calls", torch.tensor(5.0)),
    "data": lambda model: setattr(model.memory.calls, "data", torch.tensor(4.0)),
    "loaded": lambda model: model.load_state_dict(_Counts().state_dict()),
    "assigned state": lambda model: model.load_state_dict(_Counts().state_dict(), assign=True),
    "a weight": lambda model: model.product.weight.data.mul_(2),
    "another shape": lambda model: setattr(model, "seen", torch.ones(1, 4)),
}


@pytest.mark.parametrize("options", [{}, {"immutable_weights": True}], ids=["refitted", "compiled again"])
@pytest.mark.parametrize("edit", STATE_EDITS)
def test_the_model_and_its_compiled_form_have_one_state(edit: str, options: dict[str, Any]) -> None:
    model = _Counts()
    twin, module = copy.deepcopy(model), wrapped(model=model, **options)

    def same(x: Tensor) -> None:
        with torch.no_grad():
            torch.testing.assert_close(module(x), twin(x), atol=1e-5, rtol=1e-5)
        for (name, mine), (_, its) in zip(model.named_buffers(), twin.named_buffers(), strict=True):
            torch.testing.assert_close(mine, its, msg=name)

    same(X)
    same(X * 2)
    for either in (model, twin):
        STATE_EDITS[edit](either)
    same(X)
    same(X * 3)


@pytest.mark.parametrize("engine", ["openvino", "inductor"])
def test_state_of_other_engines_is_one_too_and_running_is_no_change(engine: str) -> None:
    model = _Counts()
    twin, module = copy.deepcopy(model), wrapped(engine, model)
    compiled = []
    for step in range(3):
        torch.testing.assert_close(module(X * step), twin(X * step), atol=1e-4, rtol=1e-4)
        compiled.append(module._live.compiled)
    assert compiled[0] is compiled[1] is compiled[2]
    assert model.memory.calls == 3


def test_a_saved_module_goes_on_where_it_was(tmp_path: Path) -> None:
    module = wrapped(model=_Counts())
    for _ in range(3):
        module(X)
    MutableTorchTensorRTModule.save(module, tmp_path / "state")
    again = MutableTorchTensorRTModule.load(tmp_path / "state")
    for _ in range(2):
        torch.testing.assert_close(again(X), module(X))
    assert module.memory.calls == 5


class _WritesParameter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4))

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.weight.mul_(2)
        return x * self.weight


def test_a_parameter_that_forward_writes_is_state_too() -> None:
    model = _WritesParameter()
    module = wrapped(model=model)
    for factor in (2, 4, 8):
        assert torch.equal(module(X), X * factor)
        assert torch.equal(model.weight, torch.full((4,), float(factor)))


@pytest.mark.parametrize("edit", ["load_state_dict", "parameter", "LoRA merge", "number", "in a dict", "submodule"])
def test_strict_tracing_which_is_the_default_sees_the_same_changes(edit: str) -> None:
    module = MutableTorchTensorRTModule(Network(), engine="eager", min_block_size=1)
    assert module.strict is True
    check(module, X)
    EDITS[edit](module)
    check(module, X)
    check(module, X, bias=torch.ones(module(X).shape[1]))


def test_strict_tracing_refuses_what_it_cannot_follow_and_the_other_way_is_named() -> None:
    class Prints(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + 1 if float(x.sum()) > 0 else x

    with pytest.raises(UnsupportedError):
        MutableTorchTensorRTModule(Prints(), engine="eager", min_block_size=1)(X)


class _InPlace(_Counts):
    def forward(self, x: Tensor) -> Tensor:
        self.memory.calls.add_(1)
        return self.product(x) * self.memory.calls


def test_strict_tracing_keeps_state_that_is_written_in_place_and_refuses_to_lose_what_is_assigned() -> None:
    model = _InPlace()
    twin, module = copy.deepcopy(model), MutableTorchTensorRTModule(model, engine="eager", min_block_size=1)
    for _ in range(3):
        torch.testing.assert_close(module(X), twin(X), atol=1e-5, rtol=1e-5)
    assert model.memory.calls == 3
    with pytest.raises(UnsupportedError, match="strict=False"):
        MutableTorchTensorRTModule(_Counts(), engine="eager", min_block_size=1)(X)


def test_keywords_with_ranges_are_saved_and_loaded(tmp_path: Path) -> None:
    module = wrapped()
    rows = Dim("rows", min=1, max=8)
    module.set_expected_dynamic_shape_range(({0: rows},), {"bias": {0: rows}})
    check(module, X, bias=torch.ones(3, 2))
    live = module._live.compiled
    check(module, X[:2], bias=torch.ones(2, 2))
    assert module._live.compiled is live
    MutableTorchTensorRTModule.save(module, tmp_path / "model")
    again: Any = MutableTorchTensorRTModule.load(tmp_path / "model")
    assert again.serialize_dynamic_shapes() == module.serialize_dynamic_shapes()
    for count in (3, 1, 8):
        given = X[:1].expand(count, 4).contiguous()
        torch.testing.assert_close(again(given, bias=torch.ones(count, 2)), module(given, bias=torch.ones(count, 2)))
    with pytest.raises(DynamicShapeOutOfRangeException, match="1 to 8"):
        again(X[:1].expand(9, 4), bias=torch.ones(9, 2))


def test_a_loaded_module_of_fixed_sizes_refuses_others(tmp_path: Path) -> None:
    module = wrapped()
    module(X)
    MutableTorchTensorRTModule.save(module, tmp_path / "model")
    with pytest.raises(InputError, match="it was saved with"):
        MutableTorchTensorRTModule.load(tmp_path / "model")(X[:2])


def test_looking_for_changes_asks_no_weight_for_its_values_and_moves_none() -> None:
    model = Network()
    watch = ModelWatch(model)
    addresses = [torch._C._data_address(weight) for weight in model.parameters()]
    assert watch.is_untouched()
    assert [torch._C._data_address(weight) for weight in model.parameters()] == addresses
    model.first.weight.data.view(-1)[3] = 5
    assert not watch.is_untouched()
    assert not watch.has_same_values(ModelWatch(model))


def test_an_object_in_the_place_of_one_that_is_gone_is_another() -> None:
    model = Network()
    model.thing = object()
    watch = ModelWatch(model)
    for _ in range(50):
        model.thing = object()  # might get the address of the first, were that not kept
        assert not watch.is_untouched()
    gc.collect()


def test_what_cannot_be_done_is_refused() -> None:
    with pytest.raises(InputError, match="call it first"):
        wrapped().get_exported_program()
    with pytest.raises(InputError, match="an nn"):
        MutableTorchTensorRTModule(3)  # type: ignore[arg-type]
    with pytest.raises(UnsupportedError, match="weight_streaming"):
        wrapped(weight_streaming_budget=1)
