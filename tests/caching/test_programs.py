"""Whole programs in the engine cache: nothing is lowered again, and nothing else is ever taken for what was compiled."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from caching.programs import Net, Renamed
from caching.test_reuse import BOTH, ENGINES, RANGE, Memory, agrees, compiled
from torch import Tensor, nn

import torch_tensorrt
from torch_tensorrt import compiler
from torch_tensorrt.caching.program_entry import MAGIC


@pytest.fixture
def lowered(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each program that is lowered."""
    seen: list[int] = []
    decompose = compiler.decompose

    def spy(*given: object) -> object:
        seen.append(1)
        return decompose(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(compiler, "decompose", spy)
    return seen


class Branches(nn.Module):
    """Several engines, an operation in PyTorch between them, nested inputs, two results, a buffer that forward writes."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.linear = nn.Linear(8, 8)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, pair: tuple[Tensor, Tensor], *, scale: float = 1.0) -> dict[str, Tensor]:
        self.calls.add_(1)
        first, second = pair
        mixed = torch.sort(self.linear(first) * scale).values
        return {"sum": torch.relu(mixed + second), "count": self.calls * 1}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("inputs", [[torch.ones(3, 8)], [RANGE]], ids=["fixed", "varying"])
def test_a_program_from_the_cache_runs_like_the_one_that_was_compiled(
    engine: str, inputs: list[object], lowered: list[int]
) -> None:
    cache = Memory()
    first, again = (compiled(Net(), inputs, engine=engine, custom_engine_cache=cache, **BOTH) for _ in range(2))
    assert len(lowered) == 1
    assert str(again.plan) == str(first.plan)
    assert again.input_specs == first.input_specs
    for batch in (3,) if inputs[0] is not RANGE else (1, 5, 16):
        x = torch.randn(batch, 8)
        assert torch.equal(first(x), again(x))
    with pytest.raises(torch_tensorrt.InputError, match="'x'"):
        again(torch.randn(17, 8))


def test_pytrees_written_buffers_and_operations_in_pytorch_come_back(lowered: list[int]) -> None:
    cache = Memory()
    options = {
        "arg_inputs": [(RANGE, RANGE)],
        "kwarg_inputs": {"scale": 2.0},
        "min_block_size": 1,
        "torch_executed_ops": {"aten.sort"},
        "custom_engine_cache": cache,
        **BOTH,
    }
    for turn in range(2):
        module = torch_tensorrt.compile(Branches().eval(), **options)
        model = Branches().eval()
        for batch in (2, 7):
            pair = torch.randn(batch, 8), torch.randn(batch, 8)
            given, expected = module(pair, scale=2.0), model(pair, scale=2.0)
            assert list(given) == ["sum", "count"]
            torch.testing.assert_close(given, expected, rtol=1e-4, atol=1e-5)
        assert len(lowered) == 1, turn
        assert "aten.sort" in str(module.plan)


def scaled(model: Net) -> None:
    with torch.no_grad():
        model.first.weight[0, 0] += 1


def tied(model: Net) -> None:
    model.second.bias = nn.Parameter(model.second.weight[:, 0])


CHANGES: dict[str, tuple[Callable[[Net], None] | None, dict[str, object]]] = {
    "a weight": (scaled, {}),
    "weights that share memory": (tied, {}),
    "the fewest operations of an engine": (None, {"min_block_size": 2}),
    "operations in PyTorch": (None, {"torch_executed_ops": {"aten.relu"}}),
    "modules in PyTorch": (None, {"torch_executed_modules": {"first"}}),
    "the engine": (None, {"engine": "eager"}),
    "the typical size": (None, {"inputs": [torch_tensorrt.Input(min_shape=(1, 8), opt_shape=(5, 8), max_shape=(16, 8))]}),
    "the greatest size": (None, {"inputs": [torch_tensorrt.Input(min_shape=(1, 8), opt_shape=(4, 8), max_shape=(17, 8))]}),
    "refitting": (None, {"immutable_weights": False}),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_a_program_is_lowered_anew_when_this_changes(change: str, lowered: list[int]) -> None:
    cache, edit = Memory(), CHANGES[change]
    options: dict[str, object] = {"inputs": [RANGE], "min_block_size": 1, "custom_engine_cache": cache, **BOTH}
    torch_tensorrt.compile(Net().eval(), **options)
    model = Net().eval()
    if edit[0] is not None:
        edit[0](model)
    module = torch_tensorrt.compile(model, **{**options, **edit[1]})
    assert len(lowered) == 2
    agrees(module, model, torch.randn(4, 8))


def test_other_names_are_another_program(lowered: list[int]) -> None:
    cache = Memory()
    compiled(Net(), [RANGE], custom_engine_cache=cache, **BOTH)
    agrees(compiled(Renamed(), [RANGE], custom_engine_cache=cache, **BOTH), Renamed(), torch.randn(4, 8))
    assert len(lowered) == 2


def test_the_model_may_change_after_it_was_taken_from_the_cache() -> None:
    cache, model, x = Memory(), Net(), torch.randn(3, 8)
    compiled(model, [RANGE], custom_engine_cache=cache, **BOTH)
    module, expected = compiled(model, [RANGE], custom_engine_cache=cache, **BOTH), model(x)
    with torch.no_grad():
        model.first.weight.zero_()
    torch.testing.assert_close(module(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("changed", [False, True])
def test_a_portable_file_of_it_is_written_unless_the_model_changed(changed: bool, tmp_path: Path) -> None:
    cache, model = Memory(), Net()
    compiled(model, [RANGE], custom_engine_cache=cache, **BOTH)
    module = compiled(model, [RANGE], custom_engine_cache=cache, **BOTH)
    if not changed:
        torch_tensorrt.save(module, tmp_path / "net.ep", portable=True)
        agrees(torch_tensorrt.load(tmp_path / "net.ep").module(), model, torch.randn(9, 8))
        return
    with torch.no_grad():
        model.first.weight.zero_()
    with pytest.raises(torch_tensorrt.InputError, match="weights of the model were changed"):
        torch_tensorrt.save(module, tmp_path / "net.ep", portable=True)


def programs(cache: Memory) -> dict[str, bytes]:
    return {hash: blob for hash, blob in cache.kept.items() if blob.startswith(MAGIC)}


@pytest.mark.parametrize("at", [0, 8, 30, 70, 1500, -1])
def test_a_damaged_program_is_dropped_and_lowered_anew(
    at: int, lowered: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    cache = Memory()
    compiled(Net(), [RANGE], custom_engine_cache=cache, **BOTH)
    ((hash, blob),) = programs(cache).items()
    damaged = bytearray(blob)
    damaged[at] ^= 1
    cache.kept[hash] = bytes(damaged)
    agrees(compiled(Net(), [RANGE], custom_engine_cache=cache, **BOTH), Net(), torch.randn(4, 8))
    assert len(lowered) == 2
    assert hash in caplog.text
    assert programs(cache) == {hash: blob}


def test_a_program_whose_engine_left_the_cache_is_built_anew(lowered: list[int]) -> None:
    cache = Memory()
    compiled(Net(), [RANGE], custom_engine_cache=cache, **BOTH)
    for hash in cache.engines():
        del cache.kept[hash]
    agrees(compiled(Net(), [RANGE], custom_engine_cache=cache, **BOTH), Net(), torch.randn(4, 8))
    assert len(lowered) == 2
    compiled(Net(), [RANGE], custom_engine_cache=cache, **BOTH)
    assert len(lowered) == 2


def test_a_program_under_the_name_of_another_is_not_taken_for_it() -> None:
    cache, other = Memory(), Net()
    scaled(other)
    compiled(Net(), [RANGE], custom_engine_cache=cache, **BOTH)
    compiled(other, [RANGE], custom_engine_cache=cache, **BOTH)
    (one, first), (two, second) = programs(cache).items()
    cache.kept.update({one: second, two: first})
    agrees(compiled(Net(), [RANGE], custom_engine_cache=cache, **BOTH), Net(), torch.randn(4, 8))


def test_a_dry_run_asks_no_cache(capsys: pytest.CaptureFixture[str]) -> None:
    cache = Memory()
    compiled(Net(), [RANGE], custom_engine_cache=cache, **BOTH)
    compiled(Net(), [RANGE], custom_engine_cache=cache, dryrun=True, **BOTH)
    assert "3 of 3 operations" in capsys.readouterr().out
