"""The options of OpenVINO itself: reaching it, travelling with the bytes, and nothing else from a file."""

from __future__ import annotations

import json
import struct

import pytest
import torch
from torch.nn.functional import gelu

import torch_tensorrt
from engines.test_openvino import BACKEND, build_function
from torch_tensorrt.engines.openvino import sdk
from torch_tensorrt.engines.openvino.payload import read_payload
from torch_tensorrt.spec.errors import FileFormatError, InputError
from torch_tensorrt.spec.settings import CompilationSettings

KNOBS = {
    "performance_hint": ("throughput", {"PERFORMANCE_HINT": "THROUGHPUT"}),
    "num_threads": (1, {"INFERENCE_NUM_THREADS": "1"}),
    "num_streams": (2, {"NUM_STREAMS": "2"}),
    "num_requests": (3, {"PERFORMANCE_HINT_NUM_REQUESTS": "3"}),
    "enable_cpu_pinning": (False, {"ENABLE_CPU_PINNING": "NO"}),
    "enable_hyper_threading": (True, {"ENABLE_HYPER_THREADING": "YES"}),
}


@pytest.mark.parametrize("name", KNOBS)
def test_an_engine_option_reaches_openvino_and_travels_with_the_bytes(name: str) -> None:
    value, properties = KNOBS[name]
    x = torch.randn(3)
    engine = build_function(lambda a: (a * 2,), [x], engine_options={name: value})
    blob = memoryview(engine.to_bytes())
    assert read_payload(blob, (1, 1)).knobs == properties
    again = BACKEND.from_bytes(blob, engine.spec)
    torch.testing.assert_close(again.run([x])[0], x * 2)
    for known in (engine, again):
        assert known._options.items() >= properties.items()  # type: ignore[attr-defined]


def test_an_engine_option_survives_refitting() -> None:
    options = {"engine_options": {"num_threads": 1}, "immutable_weights": False}
    engine = build_function(torch.nn.Linear(4, 4), [torch.randn(1, 4)], **options)
    again = BACKEND.from_bytes(memoryview(engine.to_bytes()), engine.spec)
    assert again._options["INFERENCE_NUM_THREADS"] == "1"  # type: ignore[attr-defined]


def test_an_engine_without_options_has_the_bytes_that_it_always_had() -> None:
    index = build_function(lambda a: (a * 2,), [torch.randn(3)]).to_bytes()
    assert b'"options"' not in index[:4096]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_thread": 1}, "Did you mean 'num_threads'"),
        ({"max_autotune": True}, "performance_hint, num_threads"),
        ({"num_threads": 0}, "from 1 on"),
        ({"performance_hint": "FAST"}, "'LATENCY' or 'THROUGHPUT'"),
        ({"enable_cpu_pinning": 1}, "True or False"),
    ],
)
def test_an_unknown_engine_option_or_value_is_the_callers_mistake(options: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        torch_tensorrt.compile(torch.nn.ReLU(), inputs=[torch.randn(3)], engine="openvino", engine_options=options)


@pytest.mark.parametrize("options", [{"CACHE_DIR": "/tmp"}, {"NUM_STREAMS": 2}, ["NUM_STREAMS"], "x"])
def test_a_file_can_not_set_other_properties(options: object) -> None:
    engine = build_function(lambda a: (a * 2,), [torch.randn(3)])
    data = engine.to_bytes()
    length = struct.unpack_from("<I", data)[0]
    index = json.dumps({**json.loads(data[4 : 4 + length]), "options": options}).encode()
    with pytest.raises(FileFormatError, match="none of its options"):
        BACKEND.from_bytes(memoryview(struct.pack("<I", len(index)) + index + data[4 + length :]), engine.spec)


def test_precisions_are_variants_where_the_cpu_has_several() -> None:
    settings = CompilationSettings.from_options(enabled_precisions={torch.float32, torch.bfloat16})
    labels = BACKEND.variants(settings, torch.device("cpu"))
    assert ("computing in float32" in labels) == ("BF16" in sdk.capabilities())
    assert next(iter(labels)) == "latency"


class Rows(torch.nn.Module):
    """Linears in a row, some of them to a single number."""

    def __init__(self) -> None:
        super().__init__()
        sizes = [3, 1, 1, 8, 4, 64]
        self.layers = torch.nn.ModuleList(map(torch.nn.Linear, sizes, sizes[1:]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer, function in zip(self.layers, (torch.tanh, torch.relu, torch.tanh, gelu, torch.relu), strict=True):
            x = function(layer(x))
        return x @ x.transpose(-1, -2)


def test_linears_in_a_row_are_built_for_one_thread() -> None:
    model, x = Rows().eval(), torch.randn(5, 3)
    engine = build_function(model, [x], num_threads=1)
    torch.testing.assert_close(engine.run([x])[0], model(x))
