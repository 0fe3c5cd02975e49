"""A mutable module gives what the wrapped model gives, however that was changed, and compiles no more often than it must."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

from torch_tensorrt import FileFormatError, InputError, MutableTorchTensorRTModule, UnsupportedError
from torch_tensorrt.dynamo.runtime._MutableTorchTensorRTModule import DynamicShapeOutOfRangeException, RefitFlag

X = torch.linspace(-1, 1, 12).view(3, 4)


class Network(nn.Module):
    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.first, self.norm, self.last = nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 2)
        self.plain, self.scale, self.flags = torch.ones(2), 2.0, {"relu": True}
        self.eval()

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        y = self.norm(self.first(x))
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
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls.add_(1)
        return x + self.calls


def test_a_model_that_writes_its_buffers_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="'calls'"):
        wrapped(model=_Counts())(X)


def test_what_cannot_be_done_is_refused() -> None:
    with pytest.raises(InputError, match="call it first"):
        wrapped().get_exported_program()
    with pytest.raises(InputError, match="an nn"):
        MutableTorchTensorRTModule(3)  # type: ignore[arg-type]
    with pytest.raises(UnsupportedError, match="weight_streaming"):
        wrapped(weight_streaming_budget=1)
