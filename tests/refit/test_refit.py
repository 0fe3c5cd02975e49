"""Weights that change: whatever a model's numbers go through, a refitted module gives what a fresh compilation gives."""

from __future__ import annotations

import copy
import io
import threading
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

import torch_tensorrt
from torch_tensorrt import InputError, UnsupportedError
from torch_tensorrt.dynamo import CompilationSettings, CompiledModule
from torch_tensorrt.dynamo._refit import construct_refit_mapping, refit_module_weights
from torch_tensorrt.engines.eager.backend import EagerEngine
from torch_tensorrt.runtime.modes import engines_in

ENGINES = ("eager", "openvino")


class Everything(nn.Module):
    """Folded batch norm, tied weights, folded constants, literals, a plain tensor, and a buffer that forward writes."""

    def __init__(self, seed: int, width: int = 4, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.conv, self.norm = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)
        self.first, self.second, self.third = nn.Linear(8, width), nn.Linear(width, width), nn.Linear(width, width)
        self.third.weight = self.second.weight
        self.norm.running_mean.normal_()
        self.norm.running_var.uniform_(0.5, 1.5)
        self.register_buffer("calls", torch.full((width,), float(seed)))
        self.register_buffer("scale", torch.rand(width), persistent=False)
        self.plain = torch.randn(width, width)
        self.to(dtype).eval()

    def forward(self, x: Tensor) -> Tensor:
        self.calls.add_(1)
        y = self.norm(self.conv(x)).relu().mean((2, 3))
        y = self.third(self.second(self.first(y)) * self.scale.exp())
        return y @ self.plain.T.sigmoid() + self.calls


X = torch.linspace(-1, 1, 2 * 3 * 8 * 8).view(2, 3, 8, 8)


def program(model: nn.Module, *, dynamic: bool = False) -> ExportedProgram:
    shapes = ({0: Dim("batch", min=1, max=8)},) if dynamic else None
    return torch.export.export(model, (X,), dynamic_shapes=shapes, strict=False)


def compiled(exported: ExportedProgram, engine: str, **options: object) -> CompiledModule:
    return torch_tensorrt.dynamo.compile(
        exported, engine=engine, min_block_size=1, **{"immutable_weights": False, **options}
    )


def first_result(module: Callable[..., Tensor], x: Tensor = X) -> Tensor:
    """What a copy gives, so that the state of `module` stays."""
    return copy.deepcopy(module)(x)


@pytest.mark.parametrize("use_weight_map_cache", [True, False])
@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("engine", ENGINES)
def test_a_refitted_module_gives_what_a_fresh_compilation_gives_bit_for_bit(
    engine: str, dynamic: bool, use_weight_map_cache: bool
) -> None:
    old, new = (program(Everything(seed), dynamic=dynamic) for seed in (0, 1))
    module = compiled(old, engine)
    refitted = refit_module_weights(module, new, use_weight_map_cache=use_weight_map_cache)
    fresh = compiled(new, engine)
    for batch in (1, 2, 5) if dynamic else (2,):
        x = X[:1].repeat(batch, 1, 1, 1)
        assert torch.equal(first_result(refitted, x), first_result(fresh, x))
        torch.testing.assert_close(first_result(refitted, x), first_result(new.module(), x))
        torch.testing.assert_close(first_result(module, x), first_result(old.module(), x))


@pytest.mark.slow
@pytest.mark.parametrize("dynamic", [False, True])
def test_native_code_takes_other_weights_before_and_after_it_was_saved(dynamic: bool) -> None:
    if not torch_tensorrt.engines.backend("inductor").available(torch.device("cpu")):
        pytest.skip("no C++ compiler here")
    old, new = (program(Everything(seed), dynamic=dynamic) for seed in (0, 1))
    module = compiled(old, "inductor")
    refitted = refit_module_weights(module, new, verify_output=True)
    loaded = saved_and_loaded(module, retrace=False)
    again = saved_and_loaded(refit_module_weights(loaded, new), retrace=False)
    for batch in (1, 2, 5) if dynamic else (2,):
        x = X[:1].repeat(batch, 1, 1, 1)
        expected = first_result(new.module(), x)
        for found in (refitted, refit_module_weights(loaded.module(), new), again.module()):
            torch.testing.assert_close(first_result(found, x), expected)
        torch.testing.assert_close(first_result(module, x), first_result(old.module(), x))


@pytest.mark.parametrize(
    "kept", [{"aten.linear", "aten.addmm"}, {"aten.addmm", "aten.convolution"}, {"aten.relu", "aten.mm", "aten.mean"}]
)
@pytest.mark.parametrize("engine", ENGINES)
def test_weights_of_what_stays_in_pytorch_change_too(engine: str, kept: set[str]) -> None:
    old, new = program(Everything(0)), program(Everything(1))
    module = compiled(old, engine, torch_executed_ops=kept)
    assert module.plan is not None
    assert module.plan.refusals
    refitted = refit_module_weights(module, new, verify_output=True)
    assert torch.equal(first_result(refitted), first_result(compiled(new, engine, torch_executed_ops=kept)))


@pytest.mark.parametrize("retrace", [True, False])
@pytest.mark.parametrize("as_module", [True, False])
@pytest.mark.parametrize("engine", ENGINES)
def test_a_loaded_file_can_be_refitted_and_saved_and_refitted_again(
    engine: str, as_module: bool, retrace: bool
) -> None:
    old, new = program(Everything(0)), program(Everything(1))
    loaded = saved_and_loaded(compiled(old, engine, torch_executed_ops={"aten.relu"}), retrace=retrace)
    refitted = refit_module_weights(loaded.module() if as_module else loaded, new)
    expected = first_result(compiled(new, engine, torch_executed_ops={"aten.relu"}))
    assert torch.equal(first_result(refitted), expected)
    again = saved_and_loaded(refitted, retrace=False)
    assert torch.equal(again.module()(X), expected)
    torch.testing.assert_close(first_result(refit_module_weights(again, old)), first_result(old.module()))


def saved_and_loaded(module: nn.Module, *, retrace: bool) -> ExportedProgram:
    file = io.BytesIO()
    torch_tensorrt.save(module, file, retrace=retrace)
    loaded = torch_tensorrt.load(io.BytesIO(file.getvalue()))
    assert isinstance(loaded, ExportedProgram)
    return loaded


@pytest.mark.parametrize("engine", ENGINES)
def test_a_saved_refitted_module_has_the_new_weights(engine: str) -> None:
    new = program(Everything(1))
    refitted = refit_module_weights(compiled(program(Everything(0)), engine), new)
    assert torch.equal(saved_and_loaded(refitted, retrace=False).module()(X), first_result(refitted))
    assert torch.equal(copy.deepcopy(refitted)(X), first_result(refitted))


@pytest.mark.parametrize("engine", ENGINES)
def test_later_changes_of_the_new_model_do_not_reach_the_refitted_module(engine: str) -> None:
    model = Everything(1)
    refitted = refit_module_weights(compiled(program(Everything(0)), engine), program(model))
    before = first_result(refitted)
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers(), model.plain):
            tensor.fill_(7)
    assert torch.equal(first_result(refitted), before)


@pytest.mark.parametrize("engine", ENGINES)
def test_state_starts_as_in_the_new_program_and_is_not_shared(engine: str) -> None:
    module, new = compiled(program(Everything(0)), engine), program(Everything(1))
    module(X)
    refitted = refit_module_weights(module, new, verify_output=True)
    model = Everything(1)
    for _ in range(3):
        torch.testing.assert_close(refitted(X), model(X))
    torch.testing.assert_close(refit_module_weights(module, new)(X), Everything(1)(X))


@pytest.mark.parametrize("engine", ENGINES)
def test_in_place_changes_the_module_that_was_given(engine: str) -> None:
    old, new = program(Everything(0)), program(Everything(1))
    module = compiled(old, engine, torch_executed_ops={"aten.mean"})
    same = refit_module_weights(module, new, in_place=True)
    assert same is module
    fresh = first_result(compiled(new, engine, torch_executed_ops={"aten.mean"}))
    assert torch.equal(first_result(module), fresh)
    assert torch.equal(saved_and_loaded(module, retrace=False).module()(X), fresh)
    module.register_forward_hook(lambda *_: None)  # the long way, through nn.Module
    assert torch.equal(module(X), fresh)


def test_every_call_during_a_refit_in_place_sees_one_set_of_weights() -> None:
    class Twice(nn.Module):
        """Engine, PyTorch and engine again, each with the same factor."""

        def __init__(self, factor: float) -> None:
            super().__init__()
            self.factors = nn.ParameterList([nn.Parameter(torch.full((8,), factor)) for _ in range(3)])

        def forward(self, x: Tensor) -> tuple[Tensor, ...]:
            first = x * self.factors[0]
            second = torch.maximum(first * 0, self.factors[1])
            return first, second, second * self.factors[2]

    x = torch.ones(8)
    one, two = (torch.export.export(Twice(factor), (x,)) for factor in (2.0, 3.0))
    module = compiled(one, "openvino", torch_executed_ops={"aten.maximum"})
    seen, stop = set[tuple[float, ...]](), threading.Event()

    def call() -> None:
        while not stop.is_set():
            seen.add(tuple(float(result[0]) for result in module(x)))

    threads = [threading.Thread(target=call) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(10):
        refit_module_weights(module, two, in_place=True)
        refit_module_weights(module, one, in_place=True)
    stop.set()
    for thread in threads:
        thread.join()
    assert seen <= {(2.0, 2.0, 4.0), (3.0, 3.0, 9.0)}


@pytest.mark.parametrize("in_place", [True, False])
def test_a_refit_that_fails_half_way_leaves_the_module_as_it_was(
    in_place: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = compiled(program(Everything(0)), "eager", torch_executed_ops={"aten.relu"})
    before, refit, done = first_result(module), EagerEngine.refit, []

    def fail_at_the_second(self: EagerEngine, weights: dict[str, Tensor]) -> object:
        if done:
            raise UnsupportedError("not this one")
        done.append(self)
        return refit(self, weights)

    monkeypatch.setattr(EagerEngine, "refit", fail_at_the_second)
    with pytest.raises(UnsupportedError, match="not this one"):
        refit_module_weights(module, program(Everything(1)), in_place=in_place)
    assert len(done) == 1
    assert torch.equal(first_result(module), before)


class Changed(Everything):
    """The same weights in another forward."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).tanh()


class Untied(Everything):
    """third.weight is one of its own."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.third.weight = nn.Parameter(torch.randn(4, 4))


class Renormalised(Everything):
    """Another number among the literals."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.norm = nn.GroupNorm(2, 8, eps=1e-3).eval()


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (lambda: program(Changed(1)), r"first difference.*tanh"),
        (lambda: program(Everything(1, width=5)), r"\[4.*\[5|\[5.*\[4"),
        (lambda: program(Everything(1), dynamic=True), r"n0"),
        (lambda: program(Renormalised(1)), r"native_group_norm"),
        (lambda: torch.export.export(Everything(1, dtype=torch.float64), (X.double(),)), r"float32.*float64"),
        (lambda: torch.export.export(Everything(1), (), {"x": X}), r"calling convention"),
    ],
)
@pytest.mark.parametrize("use_weight_map_cache", [True, False])
def test_a_program_that_differs_is_refused_naming_the_first_difference(
    other: Callable[[], ExportedProgram], told: str, use_weight_map_cache: bool
) -> None:
    module = compiled(program(Everything(0)), "eager")
    before = first_result(module)
    with pytest.raises(InputError, match=told):
        refit_module_weights(module, other(), use_weight_map_cache=use_weight_map_cache, in_place=True)
    assert torch.equal(first_result(module), before)


def test_weights_that_were_tied_must_be_tied_or_have_places_of_their_own() -> None:
    with pytest.raises(InputError, match=r"third.weight|second.weight"):
        refit_module_weights(compiled(program(Everything(0)), "openvino"), program(Untied(1)))
    # The eager engine has each of them transposed, as a constant of its own.
    refitted = refit_module_weights(compiled(program(Everything(0)), "eager"), program(Untied(1)), verify_output=True)
    assert torch.equal(first_result(refitted), first_result(compiled(program(Untied(1)), "eager")))


def test_weights_that_become_tied_are_taken() -> None:
    new = program(Everything(1))
    refit_module_weights(compiled(program(Untied(0)), "eager"), new, verify_output=True)


def test_weights_under_other_names_are_matched_by_their_place() -> None:
    class Wrapped(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x)

    module = compiled(program(Everything(0)), "openvino")
    refitted = refit_module_weights(module, program(Wrapped(Everything(1))), verify_output=True)
    torch.testing.assert_close(refitted(X), Everything(1)(X))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("saved", [True, False])
def test_a_module_with_immutable_weights_is_refused_with_the_remedy(engine: str, saved: bool) -> None:
    module = compiled(program(Everything(0)), engine, immutable_weights=True)
    given = saved_and_loaded(module, retrace=False) if saved else module
    with pytest.raises(UnsupportedError, match="immutable_weights=False"):
        refit_module_weights(given, program(Everything(1)))


@pytest.mark.parametrize(
    ("given", "new", "told"),
    [
        (nn.Linear(1, 1), None, "Linear"),
        (None, nn.Linear(1, 1), "torch.export.export"),
    ],
)
def test_anything_but_a_compiled_module_and_a_program_is_refused(
    given: nn.Module | None, new: nn.Module | None, told: str
) -> None:
    exported = program(Everything(0))
    with pytest.raises(InputError, match=told):
        refit_module_weights(given or compiled(exported, "eager"), new or exported)


def test_a_loaded_program_is_not_refitted_in_place() -> None:
    loaded = saved_and_loaded(compiled(program(Everything(0)), "eager"), retrace=False)
    with pytest.raises(InputError, match="in place"):
        refit_module_weights(loaded, program(Everything(1)), in_place=True)


def test_verification_tells_a_result_that_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EagerEngine, "refit", lambda self, weights: self)  # stale weights
    module = compiled(program(Everything(0)), "eager")
    with pytest.raises(InputError, match="result 0 differs"):
        refit_module_weights(module, program(Everything(1)), arg_inputs=[X], verify_output=True)


def test_equal_constants_of_openvino_do_not_share_a_place() -> None:
    class Zeros(nn.Module):
        def __init__(self, first: float, second: float) -> None:
            super().__init__()
            self.first, self.second = nn.Parameter(torch.full((64,), first)), nn.Parameter(torch.full((64,), second))

        def forward(self, x: Tensor) -> Tensor:
            return (x + self.first).relu() * 2 + self.second

    x = torch.zeros(64)
    module = compiled(torch.export.export(Zeros(0.0, 0.0), (x,)), "openvino")
    refitted = refit_module_weights(module, torch.export.export(Zeros(1.0, 5.0), (x,)))
    assert refitted(x).tolist() == [7.0] * 64


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.bool])
def test_openvino_takes_new_constants_of_every_dtype(dtype: torch.dtype) -> None:
    class Where(nn.Module):
        def __init__(self, values: list[int]) -> None:
            super().__init__()
            self.register_buffer("values", torch.tensor(values).to(dtype))

        def forward(self, x: Tensor) -> Tensor:
            return torch.where(x > 0, self.values, self.values.flip(0))

    x = torch.tensor([1.0, -1.0, 1.0])
    module = compiled(torch.export.export(Where([1, 0, 0]), (x,)), "openvino")
    refitted = refit_module_weights(module, torch.export.export(Where([0, 1, 1]), (x,)))
    assert torch.equal(refitted(x), Where([0, 1, 1])(x))


def test_channels_last_weights_can_be_refitted() -> None:
    old, new = (program(Everything(seed).to(memory_format=torch.channels_last)) for seed in (0, 1))
    refitted = refit_module_weights(compiled(old, "openvino"), new, verify_output=True)
    assert torch.equal(first_result(refitted), first_result(compiled(new, "openvino")))


def test_a_refit_mapping_holds_what_refitting_gives_the_engines() -> None:
    torch.manual_seed(0)
    models = [
        torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2)).eval() for _ in range(2)
    ]
    x = torch.randn(5, 3)
    compiled = torch_tensorrt.compile(models[0], inputs=[x], engine="eager", min_block_size=1, immutable_weights=False)
    settings = CompilationSettings(engine="eager", immutable_weights=False)
    mapping = construct_refit_mapping(models[1], [x], settings)
    assert sorted([*tensor.shape] for tensor in mapping.values()) == [
        [2],
        [3, 4],
        [4],
        [4, 2],
    ]  # as they are multiplied
    torch.testing.assert_close(mapping["2.bias"], models[1][2].bias.detach())
    (engine,) = engines_in(compiled)
    torch.testing.assert_close(engine.refit(mapping).run([x])[0], models[1](x))
    program = torch.export.export(models[1], (x,))
    assert construct_refit_mapping(program, None, settings).keys() == mapping.keys()
