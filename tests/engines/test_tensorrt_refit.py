"""Other weights for TensorRT engines: what a build notes, and the SDK's Refitter, against a fake of it. No GPU."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence

import pytest
import torch
from suite.programs import make_partition
from torch import Tensor, nn

pytest.importorskip("tensorrt_rtx")

import torch_tensorrt
from engines.fake_tensorrt import SPEC, Gpu, made, plan, scale_of
from torch_tensorrt import engines
from torch_tensorrt.engines.tensorrt import build, kernels, sdk
from torch_tensorrt.engines.tensorrt.engine import TensorRTEngine
from torch_tensorrt.engines.tensorrt.payload import Payload, Weight, read_payload
from torch_tensorrt.engines.tensorrt.refitting import with_facts
from torch_tensorrt.spec.errors import (
    BuildError,
    EngineNotRunnable,
    FileFormatError,
    InputError,
    UnsupportedError,
)
from torch_tensorrt.spec.settings import CompilationSettings

BACKEND = engines.backend("tensorrt_rtx")
REFITTABLE = CompilationSettings.from_options(device="sm_89", immutable_weights=False)
OLD, NEW = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([4.0, 5.0, 6.0])
INDEX = torch.tensor([2, 0])
FACTS = {"w": Weight.of(OLD, "scale"), "index": Weight.of(INDEX, None)}


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Gpu:
    monkeypatch.setattr(kernels, "_open", {})
    monkeypatch.setattr(TensorRTEngine, "_kernel_file", lambda engine, chosen: None)
    return Gpu(monkeypatch)


def engine(**facts: object) -> TensorRTEngine:
    return made(payload=Payload(plan(scale=OLD.tolist()), refittable=True, **{"weights": FACTS, **facts}))  # type: ignore[arg-type]


def test_a_refitted_engine_computes_with_the_new_weights_and_the_old_one_goes_on(gpu: Gpu) -> None:
    old = engine()
    x = torch.randn(4, 3)
    (before,) = old.run([x])
    weights = {"w": NEW.clone(), "index": INDEX, "of another engine": torch.ones(9)}
    new = old.refit(weights)
    weights["w"].zero_()  # later changes don't reach it
    torch.testing.assert_close(new.run([x])[0], torch.cat([x, x]) * NEW)
    assert torch.equal(old.run([x])[0], before)
    assert scale_of(new.raw_bytes()) == NEW.tolist()
    assert scale_of(old.raw_bytes()) == OLD.tolist()


def test_weights_are_set_then_refitted_then_written_with_all_weights_and_to_be_refitted_again(gpu: Gpu) -> None:
    new = engine().refit({"w": NEW, "index": INDEX})
    assert gpu.calls == [("deserialize", False, -1), ("weight", "scale"), ("refit",), ("serialize", ["INCLUDE_REFIT"])]
    x = torch.randn(2, 3)
    again = new.refit({"w": OLD, "index": INDEX})
    torch.testing.assert_close(again.run([x])[0], torch.cat([x, x]) * OLD)
    assert gpu.steps().count("deserialize") == 2  # what was refitted is run as it is


def test_weights_that_are_not_contiguous_arrive_in_order(gpu: Gpu) -> None:
    x = torch.randn(2, 3)
    new = engine().refit({"w": torch.stack([NEW, OLD], 1)[:, 0], "index": INDEX})
    torch.testing.assert_close(new.run([x])[0], torch.cat([x, x]) * NEW)


@pytest.mark.parametrize(
    ("weights", "error", "says"),
    [
        ({"index": INDEX}, InputError, "needs a value for its constant 'w'"),
        ({"w": NEW.double(), "index": INDEX}, InputError, r"'w'.*float32 \[3\]; the new one is torch.float64 \[3\]"),
        ({"w": torch.ones(2), "index": INDEX}, InputError, r"'w'.*\[3\]; the new one is torch.float32 \[2\]"),
        ({"w": NEW, "index": INDEX + 1}, UnsupportedError, r"'index' of engine 'part_0' has another value"),
    ],
)
def test_constants_that_don_t_fit_are_refused_by_name(
    gpu: Gpu, weights: dict[str, Tensor], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        engine().refit(weights)
    assert "refit" not in gpu.steps()


@pytest.mark.parametrize(("step", "says"), [("weight", "refused the weight 'w'"), ("refit", "could not refit")])
def test_what_the_refitter_refuses_is_an_error(gpu: Gpu, step: str, says: str) -> None:
    gpu.fails = step
    with pytest.raises(BuildError, match=f"{says}.*part_0|part_0.*{says}|{says}"):
        engine().refit({"w": NEW, "index": INDEX})


def test_weights_that_the_sdk_misses_are_named(gpu: Gpu) -> None:
    gpu.missing = ["bias"]
    with pytest.raises(BuildError, match=r"it also wants \['bias'\]"):
        engine().refit({"w": NEW, "index": INDEX})
    assert "refit" not in gpu.steps()


def test_an_engine_for_identical_weights_takes_no_others(gpu: Gpu) -> None:
    with pytest.raises(InputError, match=r"refit_identical_engine_weights=True.*'w'"):
        engine(identical=True).refit({"w": NEW, "index": INDEX})
    engine(identical=True).refit({"w": OLD.clone(), "index": INDEX})


def test_constants_that_were_one_tensor_have_to_stay_one(gpu: Gpu) -> None:
    tied = engine(weights={"w": FACTS["w"], "v": FACTS["w"]})
    with pytest.raises(InputError, match=r"'scale' and 'v' .* were one tensor"):
        tied.refit({"w": NEW, "v": OLD})
    tied.refit({"w": NEW, "v": NEW.clone()})


def test_a_stripped_engine_says_that_it_has_no_weights_until_it_is_refitted(gpu: Gpu) -> None:
    bare = engine(stripped=True)
    x = torch.randn(2, 3)
    with pytest.raises(
        EngineNotRunnable, match=r"strip_engine_weights=True and has no weights yet.*refit_module_weights"
    ):
        bare.run([x])
    filled = bare.refit({"w": NEW, "index": INDEX})
    torch.testing.assert_close(filled.run([x])[0], torch.cat([x, x]) * NEW)
    saved = BACKEND.from_bytes(memoryview(filled.to_bytes()), filled.spec)
    torch.testing.assert_close(saved.run([x])[0], torch.cat([x, x]) * NEW)


def test_an_engine_that_was_not_built_for_it_can_t_be_refitted(gpu: Gpu) -> None:
    with pytest.raises(UnsupportedError, match="immutable_weights=False"):
        made().refit({})


# What a build notes


class Model(nn.Module):
    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.conv, self.first, self.second = nn.Conv2d(2, 3, 1), nn.Linear(3, 3), nn.Linear(3, 3)
        self.second.weight = self.first.weight
        self.register_buffer("index", INDEX)
        self.register_buffer("wide", torch.randn(3, 4).t())

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(self.first(self.conv(x).mean((2, 3)))).relu() * 2.5
        return (y @ self.wide.t())[:, self.index] + (y @ self.wide.t()).sum()


def defined(model: Callable[..., object], inputs: Sequence[Tensor]) -> build.Definition:
    return build.define(
        sdk.load("tensorrt_rtx"), make_partition(model, inputs, BACKEND, settings=REFITTABLE), REFITTABLE
    )


def test_a_build_notes_every_constant_with_the_sdk_s_name_and_marks_it() -> None:
    definition = defined(Model(0).eval(), [torch.randn(2, 2, 4, 4)])
    payload = with_facts(b"plan", definition.net, REFITTABLE)
    assert payload.refittable
    names = {known.rpartition("function.")[2]: fact.name for known, fact in payload.weights.items()}
    assert names["index"] is None  # whole numbers can't change
    assert all(name for known, name in names.items() if known != "index")
    assert {"conv.weight", "conv.bias", "first.bias", "second.bias", "wide"} <= set(names)
    with pytest.raises(BuildError, match="Myelin"):  # refittable plans need a GPU to be built; marking them does not
        build.serialize(definition, REFITTABLE)
    marked = definition.net.network
    assert all(marked.are_weights_marked_refittable(name) for name in names.values() if name)


def test_tied_weights_have_one_name() -> None:
    shared = torch.randn(3, 3)

    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = self.b = nn.Parameter(shared)

        def forward(self, x: Tensor) -> Tensor:
            return (x @ self.a).relu() @ self.b

    partition = make_partition(Tied(), [torch.randn(2, 3)], BACKEND, settings=REFITTABLE)
    (first, *rest) = [node for node in partition.module.graph.nodes if node.op == "get_attr"]
    module = partition.module
    module.register_parameter("again", nn.Parameter(torch.fx.graph_module._get_attr(module, first.target)))
    net = build.define(sdk.load("tensorrt_rtx"), partition, REFITTABLE).net
    assert len(set(net.named_weights().values())) == 1
    assert not rest or len(net.named_weights()) > 1


def test_a_constant_that_a_converter_computes_with_is_noted_as_one_that_can_t_change() -> None:
    definition = defined(Model(0).eval(), [torch.randn(2, 2, 4, 4)])
    net = definition.net
    node = next(node for node in definition.partition.module.graph.nodes if node.op == "get_attr")
    value = net.attributes[str(node.target)]
    net.constant(net.name_weight(node, value) * 2)  # what a converter would do
    payload = with_facts(b"plan", net, REFITTABLE)
    assert payload.weights[str(node.target)].name is None


def test_a_compiled_module_is_refitted_from_the_new_program_to_the_sdk(monkeypatch: pytest.MonkeyPatch) -> None:
    handed: list[dict[str, Tensor]] = []

    def without_gpu(definition: build.Definition, settings: CompilationSettings) -> bytes:
        return b"a plan of " + json.dumps(sorted(definition.net.named_weights())).encode()

    def put(chosen: object, native: object, payload: Payload, weights: dict[str, Tensor], name: str) -> Payload:
        handed.append({known: weights[known].clone() for known in payload.weights})
        return dataclasses.replace(payload, plan=b"another plan")

    monkeypatch.setattr("torch_tensorrt.engines.tensorrt.backend.serialize", without_gpu)
    x = torch.randn(2, 2, 4, 4)
    old, new = (torch.export.export(Model(seed).eval(), (x,), strict=False) for seed in (0, 1))
    module = torch_tensorrt.dynamo.compile(
        old, engine="tensorrt_rtx", device="sm_89", immutable_weights=False, min_block_size=1
    )
    Gpu(monkeypatch)
    monkeypatch.setattr("torch_tensorrt.engines.tensorrt.engine.put_weights", put)
    monkeypatch.setattr(TensorRTEngine, "_deserialize", lambda engine, chosen: (None, None))
    monkeypatch.setattr(TensorRTEngine, "_bring_up", lambda engine, *natives: None)
    refitted = torch_tensorrt.dynamo.refit_module_weights(module, new)
    weights = {known: value for one in handed for known, value in one.items()}
    values = [new.state_dict[name] for name in ("conv.weight", "conv.bias", "first.weight", "second.bias")]
    assert all(any(torch.equal(value, given) for given in weights.values()) for value in values)
    plans = [bytes(buffer.numpy()) for buffer in refitted.buffers() if buffer.dtype is torch.uint8]
    assert any(b"another plan" in found for found in plans)
    assert not any(b"another plan" in bytes(b.numpy()) for b in module.buffers() if b.dtype is torch.uint8)


# The bytes


@pytest.mark.parametrize(
    "payload",
    [
        Payload(b"vtrt plan"),
        Payload(b"vtrt plan", refittable=True, weights=FACTS, stripped=True, identical=True),
        Payload(b"vtrt plan", host_code=True),
        Payload(b"vtrt plan", dla_core=1),
    ],
    ids=["a plan alone", "to be refitted", "code for the CPU", "for a DLA"],
)
def test_a_plan_and_its_facts_come_back_from_their_bytes(payload: Payload) -> None:
    data = b"".join(payload.parts())
    assert sum(map(len, payload.parts()[:-1])) % 64 == 0  # the SDK may map the plan in place
    found = read_payload(memoryview(data))
    assert bytes(found.plan) == b"vtrt plan"
    assert dataclasses.replace(found, plan=b"") == dataclasses.replace(payload, plan=b"")
    assert TensorRTEngine(SPEC, found).raw_bytes() == b"vtrt plan"
    if payload == Payload(b"vtrt plan"):
        assert data == b"vtrt plan"


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data[:10],
        lambda data: data[:40],
        lambda data: data.replace(b'"stripped"', b'"striped_"'),
        lambda data: data.replace(b'"dla_core":-1', b'"dla_core":"1'),
        lambda data: data.replace(b'"dla_core":-1', b'"dla_core":[]'),
        lambda data: data.replace(b'"float32"', b'"float33"'),
        lambda data: data.replace(b"[3]", b"[x]"),
        lambda data: data.replace(b"[3]", b'"3"'),
    ],
)
def test_facts_that_were_cut_off_or_changed_are_a_file_error(change: Callable[[bytes], bytes]) -> None:
    data = b"".join(Payload(b"plan", refittable=True, weights=FACTS).parts())
    changed = change(data)
    assert changed != data
    with pytest.raises(FileFormatError):
        read_payload(memoryview(changed))


def test_the_runtime_is_told_of_host_code_and_of_the_dla(gpu: Gpu) -> None:
    made(payload=Payload(plan(), host_code=True, dla_core=1)).run([torch.ones(4, 3)])
    assert gpu.calls[0] == ("deserialize", True, 1)
