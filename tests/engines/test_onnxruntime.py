"""What is special about the ONNX Runtime engine: its bytes, its options, varying sizes, results that are inputs, threads."""

from __future__ import annotations

import dataclasses
import json
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from suite.programs import make_partition
from torch import Tensor

import torch_tensorrt
from torch_tensorrt import engines
from torch_tensorrt.contracts.engine import Engine
from torch_tensorrt.engines.onnxruntime.payload import read_payload, write_payload
from torch_tensorrt.spec.errors import BuildError, FileFormatError, InputError
from torch_tensorrt.spec.settings import CompilationSettings

BACKEND = engines.backend("onnxruntime")
CPU = torch.device("cpu")
pytestmark = pytest.mark.skipif(not BACKEND.available(CPU), reason="onnxruntime or onnxscript is not installed")


def build(function: Callable[..., object], inputs: list[Tensor], **options: object) -> Engine:
    settings = CompilationSettings.from_options(**options)
    return BACKEND.build(make_partition(function, inputs, BACKEND, settings=settings), settings)


def agree(given: tuple[Tensor, ...], wanted: tuple[Tensor, ...]) -> None:
    for one, two in zip(given, wanted, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-5)  # values of order 1, added up in another order


class Net(torch.nn.Module):
    """A small convolution network with an integer input."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = torch.nn.Conv2d(3, 4, 3)
        self.norm = torch.nn.LayerNorm(6)

    def forward(self, x: Tensor, n: Tensor) -> tuple[Tensor, Tensor]:
        return self.norm(torch.relu(self.convolution(x))), n * 2


torch.manual_seed(0)  # made here, before the fixture that sets it for each test
NET = Net().eval()
INPUTS = [torch.randn(2, 3, 8, 8), torch.arange(3)]


@pytest.fixture(scope="module")
def engine() -> Engine:
    return build(NET, INPUTS)


def test_results_are_pytorchs(engine: Engine) -> None:
    with torch.no_grad():
        agree(engine.run(INPUTS), NET(*INPUTS))


def test_the_bytes_make_the_same_engine(engine: Engine) -> None:
    blob = engine.to_bytes()
    again = BACKEND.from_bytes(memoryview(blob), engine.spec)
    agree(again.run(INPUTS), engine.run(INPUTS))
    assert again.to_bytes() == blob


def test_the_bytes_tell_nothing_about_where_the_model_was_written(engine: Engine) -> None:
    blob = engine.to_bytes()
    for word in (b"location", b"convolution", b".py", b"aten", b"tests"):
        assert word not in blob.partition(b"pytorch")[2].lower(), word


def test_weights_are_written_once(engine: Engine) -> None:
    big = build(torch.nn.Linear(300, 300), [torch.randn(1, 300)])
    assert len(big.to_bytes()) < 1.05 * 4 * (300 * 300 + 300) + 4096


def test_inputs_in_any_layout_and_with_gradients_are_taken(engine: Engine) -> None:
    x = INPUTS[0].to(memory_format=torch.channels_last).requires_grad_()
    with torch.no_grad():
        agree(engine.run([x, INPUTS[1]]), NET(*INPUTS))


def test_results_are_fresh_memory_even_where_they_are_inputs_or_each_other() -> None:
    table = torch.arange(3.0)
    made = build(lambda x: (x, x + 1, x, table, (y := x * 2), y), [torch.randn(3)])
    x = torch.randn(3)
    first = made.run([x])
    agree(first, (x, x + 1, x, table, x * 2, x * 2))
    assert len({tensor.data_ptr() for tensor in (x, table, *first)}) == 8


@pytest.mark.parametrize("rows", [1, 2, 7])
def test_sizes_may_vary(rows: int) -> None:
    settings = CompilationSettings()
    x = torch.randn(3, 4)
    partition = make_partition(lambda a: (a.sum(1), a.reshape(-1)), [x], BACKEND, {0: [0]}, settings)
    given = torch.randn(rows, 4)
    agree(BACKEND.build(partition, settings).run([given]), (given.sum(1), given.reshape(-1)))


def test_tensors_without_elements_pass_where_sizes_vary() -> None:
    partition = make_partition(lambda a: (a * 2, torch.relu(a)), [torch.randn(3, 4)], BACKEND, {0: [0]})
    x = torch.empty(0, 4)
    agree(BACKEND.build(partition, CompilationSettings()).run([x]), (x, x))


def test_memory_is_bound_anew_only_where_sizes_change(monkeypatch: pytest.MonkeyPatch) -> None:
    partition = make_partition(lambda a: (a * 2, a.sum(1)), [torch.randn(3, 4)], BACKEND, {0: [0]})
    made, bound = BACKEND.build(partition, CompilationSettings()), []
    give = made._give_memory

    def noted(slot: object, inputs: list[Tensor], sizes: object) -> bool:
        bound.append(len(inputs[0]))
        return give(slot, inputs, sizes)

    monkeypatch.setattr(made, "_give_memory", noted)
    large = 4096  # rows that are no small tensor
    for rows in (4, 4, 5, 5, 4, large, large, 0, 0, 4, 4, 0, large, 3):
        x = torch.randn(rows, 4)
        given = made.run([x])
        agree(given, (x * 2, x.sum(1)))
        agree(made.run([x + 1]), ((x + 1) * 2, (x + 1).sum(1)))
        agree(given, (x * 2, x.sum(1)))  # its own memory
    assert bound == [4, 5, 4, large, 0, large, 3]


def test_threads_share_an_engine_with_calls_of_all_sizes() -> None:
    partition = make_partition(lambda a: (a * 2, a.sum(1)), [torch.randn(3, 4)], BACKEND, {0: [0]})
    made = BACKEND.build(partition, CompilationSettings())
    batches = [torch.randn(rows, 4) for rows in (1, 2, 3, 0, 4096, 3, 3, 2, 4096, 5) for _ in range(20)]
    with ThreadPoolExecutor(8) as pool:
        for given, x in zip(pool.map(lambda x: made.run([x]), batches), batches, strict=True):
            agree(given, (x * 2, x.sum(1)))


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.float16, torch.int64, torch.int32, torch.bool, torch.uint8]
)
def test_dtypes_keep_their_values(dtype: torch.dtype) -> None:
    x = torch.tensor([0, 1, 3, 200]).to(dtype)
    agree(build(lambda a: (a.reshape(2, 2).t(),), [x]).run([x]), (x.reshape(2, 2).t(),))


def test_threads_share_an_engine(engine: Engine) -> None:
    batches = [[torch.randn(2, 3, 8, 8), torch.arange(3)] for _ in range(16)]
    with ThreadPoolExecutor(8) as pool, torch.no_grad():
        for given, batch in zip(pool.map(engine.run, batches), batches, strict=True):
            with torch.no_grad():
                agree(given, NET(*batch))


REFUSED = {
    "bfloat16": (lambda x: x.bfloat16() + 1, "bfloat16"),
    "no rule": (torch.special.digamma, "no rule"),
    "nothing to reduce": (lambda x: x[:0].sum() + x, "of nothing"),
    "random numbers": (lambda x: torch.nn.functional.dropout(x, training=True), "random"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_it_does_not_take_is_refused_with_a_reason(name: str) -> None:
    function, words = REFUSED[name]
    partition = make_partition(lambda x: (function(x),), [torch.randn(3)], BACKEND)
    nodes = partition.module.graph.find_nodes
    calls = [node for node in partition.module.graph.nodes if node.op == "call_function"]
    assert nodes(op="placeholder")
    reasons = [support.reason for node in calls if not (support := BACKEND.supports(node, CompilationSettings()))]
    assert any(words in reason for reason in reasons), reasons


def test_a_refusal_of_its_own_names_the_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("no kernel for \x1b[31mMul\x1b[0m")

    monkeypatch.setattr("torch_tensorrt.engines.onnxruntime.sdk.open_session", refuse)
    with pytest.raises(BuildError, match=r"'mul'.*no kernel for Mul\n.*torch_executed_ops=\{'aten.mul.Tensor'\}"):
        build(lambda x: (x * x,), [torch.randn(3)])


# Options


def test_options_of_the_session_travel_with_the_bytes() -> None:
    options = {"num_threads": 1, "allow_spinning": False}
    made = build(lambda x: (x + 1,), [torch.randn(3)], engine_options=options)
    assert read_payload(memoryview(made.to_bytes()))[0] == options


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_thread": 1}, "Did you mean 'num_threads'"),
        ({"elephants": 1}, "num_threads, allow_spinning"),
        ({"num_threads": 0}, "from 1 on"),
        ({"num_threads": True}, "from 1 on"),
        ({"allow_spinning": 1}, "True or False"),
    ],
)
def test_an_unknown_option_or_value_is_the_callers_mistake(options: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        torch_tensorrt.compile(torch.nn.ReLU(), inputs=[torch.randn(3)], engine="onnxruntime", engine_options=options)


# Files


def _with_index(engine: Engine, index: bytes) -> bytes:
    return struct.pack("<I", len(index)) + index + engine.raw_bytes()


DAMAGED: dict[str, Callable[[Engine], bytes]] = {
    "nothing": lambda engine: b"",
    "cut off": lambda engine: engine.to_bytes()[:200],
    "a long index": lambda engine: struct.pack("<I", 1 << 30) + engine.to_bytes()[4:],
    "no JSON": lambda engine: _with_index(engine, b"{"),
    "no options": lambda engine: _with_index(engine, b"{}"),
    "an unknown option": lambda engine: _with_index(engine, json.dumps({"options": {"profile": 1}}).encode()),
    "a wrong value": lambda engine: _with_index(engine, json.dumps({"options": {"num_threads": -1}}).encode()),
    "another file": lambda engine: write_payload({}, engine.raw_bytes() + b"\x0a\x08location"),
    "no model": lambda engine: write_payload({}, b"\xff" * 100),
    "an empty model": lambda engine: write_payload({}, b""),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_bytes_are_refused(engine: Engine, name: str) -> None:
    with pytest.raises(FileFormatError):
        BACKEND.from_bytes(memoryview(DAMAGED[name](engine)), engine.spec)


@pytest.mark.parametrize("change", ["fewer inputs", "another dtype"])
def test_a_model_that_is_not_what_is_described_is_refused(engine: Engine, change: str) -> None:
    first, second = engine.spec.inputs
    inputs = (first,) if change == "fewer inputs" else (first, dataclasses.replace(second, dtype=torch.int32))
    with pytest.raises(FileFormatError, match="inputs and outputs"):
        BACKEND.from_bytes(memoryview(engine.to_bytes()), dataclasses.replace(engine.spec, inputs=inputs))


def test_a_compiled_model_is_saved_and_loaded(tmp_path: object) -> None:
    compiled = torch_tensorrt.compile(NET, inputs=INPUTS, engine="onnxruntime", min_block_size=1)
    assert [group.backend for group in compiled.plan.groups] == ["onnxruntime"]
    path = f"{tmp_path}/model.ep"
    torch_tensorrt.save(compiled, path)
    with torch.no_grad():
        agree(torch_tensorrt.load(path).module()(*INPUTS), NET(*INPUTS))
