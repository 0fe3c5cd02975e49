"""What is special about the OpenVINO engine: precision, its bytes, zero copies, its errors."""

from __future__ import annotations

import dataclasses
import io
import json
import logging
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from suite.programs import make_partition
from torch import Tensor, nn

import torch_tensorrt
from engines.test_engines import SETTINGS, Net, assert_right, build
from torch_tensorrt import Input, engines
from torch_tensorrt.contracts.engine import Engine
from torch_tensorrt.contracts.partition import Partition
from torch_tensorrt.engines.openvino import ir, sdk
from torch_tensorrt.engines.openvino.ir import Ir, in_pieces
from torch_tensorrt.engines.openvino.payload import Facts, read_payload, write_payload
from torch_tensorrt.engines.openvino.wiring import Wiring
from torch_tensorrt.spec.errors import BuildError, FileFormatError, InputError, UnsupportedError
from torch_tensorrt.spec.settings import CompilationSettings
from torch_tensorrt.spec.tensor_spec import TensorSpec

BACKEND = engines.backend("openvino")


def build_function(function: Callable[..., object], inputs: list[Tensor], **options: object) -> Engine:
    settings = CompilationSettings.from_options(**options)
    return BACKEND.build(make_partition(function, inputs, BACKEND, settings=settings), settings)


def test_float32_stays_float32_on_every_cpu() -> None:
    x, y = torch.randn(64, 256), torch.randn(256, 256)
    (given,) = build_function(lambda a, b: (a @ b,), [x, y]).run([x, y])
    assert float((given - x @ y).norm() / (x @ y).norm()) < 1e-6


@pytest.mark.skipif("BF16" not in sdk.capabilities(), reason="this CPU has no bfloat16")
def test_bfloat16_is_used_when_enabled_and_results_stay_float32() -> None:
    x, y = torch.randn(64, 256), torch.randn(256, 256)
    (given,) = build_function(lambda a, b: (a @ b,), [x, y], enabled_precisions={torch.bfloat16}).run([x, y])
    error = float((given - x @ y).norm() / (x @ y).norm())
    assert given.dtype is torch.float32
    assert 1e-6 < error < 2e-2


def test_a_precision_that_the_cpu_lacks_is_told_once() -> None:
    settings = CompilationSettings.from_options(enabled_precisions={torch.float16})
    assert bool(BACKEND.unhonoured(settings)) == ("FP16" not in sdk.capabilities())


def test_an_engine_of_another_openvino_is_compiled_again_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    engine = build("openvino")
    for other in (
        dataclasses.replace(engine.spec, versions={**engine.spec.versions, "openvino": "1999.1"}),
        dataclasses.replace(engine.spec, target="cpu;another;FP32"),
    ):
        caplog.clear()
        with caplog.at_level(logging.WARNING, logger="torch_tensorrt"):
            again = BACKEND.from_bytes(memoryview(engine.to_bytes()), other)
        x, n = torch.randn(6, 8), torch.arange(3)
        assert_right(again.run([x, n]), x, n)
        (told,) = [record.getMessage() for record in caplog.records]
        assert sdk.version() in told
        assert "1999.1" in told or "another" in told


def test_weights_are_written_once() -> None:
    layers = torch.nn.Sequential(*(torch.nn.Conv2d(64, 64, 3) for _ in range(4)))
    x = torch.randn(1, 64, 20, 20)
    engine = build_function(layers, [x])
    weights = sum(parameter.numel() * parameter.element_size() for parameter in layers.parameters())
    assert len(engine.to_bytes()) < 1.2 * weights


def test_engine_bytes_may_start_at_any_address() -> None:
    engine = build("openvino")
    data = engine.to_bytes()
    for shift in (1, 7, 33):
        moved = memoryview(bytearray(b"\0" * shift + data))[shift:]
        x, n = torch.randn(4, 8), torch.arange(3)
        assert_right(BACKEND.from_bytes(moved, engine.spec).run([x, n]), x, n)


def _with_index(data: bytes, **changes: object) -> bytes:
    length = struct.unpack_from("<I", data)[0]
    index = json.loads(data[4 : 4 + length])
    header = json.dumps({**index, **changes}).encode()
    return struct.pack("<I", len(header)) + header + data[4 + length :]


@pytest.mark.parametrize(
    "changes",
    [
        {"precision": "float99"},
        {"precision": "int64"},
        {"blob": -1},
        {"blob": 2**60},
        {"blob": "many"},
        {"xml": 1.5},
        {"weights": 3},
        {"weights": [[0, 0]]},
        {"weights": [[2, 0, 1]]},
        {"weights": [[0, -1, 1]]},
        {"weights": [[0, 0, 2**50]]},
        {"weights": [[0, 0, 1000]] * 1000},
        {"inputs": [5]},
        {"inputs": None},
        {"outputs": [0]},
        {"outputs": [-1, 0, 0, 0, 0]},
        {"outputs": [70, 0, 0, 0, 0]},
        {"extra": 1},
    ],
)
def test_an_index_that_makes_no_sense_is_a_file_format_error(changes: dict[str, object]) -> None:
    engine = build("openvino")
    with pytest.raises(FileFormatError):
        BACKEND.from_bytes(memoryview(_with_index(engine.to_bytes(), **changes)), engine.spec)


def put_together(precision: torch.dtype, wiring: Wiring, blob: bytes, ir: Ir) -> bytes:
    file = io.BytesIO()
    write_payload(file, Facts(precision, wiring), lambda file: file.write(blob), ir)
    return file.getvalue()


def test_a_document_type_in_the_representation_is_refused() -> None:
    engine = build("openvino")
    payload = read_payload(memoryview(engine.to_bytes()), (2, 5))
    bomb = b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "c">]>' + bytes(payload.xml)[21:]
    data = put_together(payload.precision, payload.wiring, bytes(payload.blob), in_pieces(bomb, payload.weights()))
    with pytest.raises(FileFormatError, match="document type"):
        BACKEND.from_bytes(memoryview(data), dataclasses.replace(engine.spec, target="another"))


def test_a_payload_comes_apart_as_it_was_put_together() -> None:
    blob = bytes(range(256)) * 64
    xml = b'<data element_type="f32" offset="10" size="8192"/>'
    weights = b"0123456789" + blob[256 : 256 + 8192] + b"rest"
    data = put_together(torch.bfloat16, Wiring((1, 0), (0,)), blob, in_pieces(xml, weights))
    payload = read_payload(memoryview(data), (2, 1))
    assert payload.weights() == weights
    assert bytes(payload.blob) == blob
    assert bytes(payload.xml) == xml
    assert len(payload.literal) == 14
    assert payload.wiring == Wiring((1, 0), (0,))


class Constants(torch.nn.Module):
    """Constants of many types, one of them empty, one a scalar, two that are tied, and one that is larger than a page."""

    def __init__(self) -> None:
        super().__init__()
        dtypes = (torch.float16, torch.bfloat16, torch.int8, torch.uint8, torch.int64, torch.bool, torch.float64)
        for place, dtype in enumerate(dtypes):
            self.register_buffer(f"of{place}", (torch.rand(3, 7) * 3).to(dtype))
        self.register_buffer("scalar", torch.tensor(2.5))
        self.register_buffer("empty", torch.zeros(0, 7))
        self.large = torch.nn.Parameter(torch.randn(7, 2048))
        self.tied = self.large

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        mixed = [x * getattr(self, f"of{place}") for place in range(7)]
        return (*mixed, torch.cat([x, self.empty]) * self.scalar, x @ self.large, (x + 1) @ self.tied)


def test_constants_in_memory_and_in_a_file_are_the_same_model(monkeypatch: pytest.MonkeyPatch) -> None:
    module, x = Constants().eval(), torch.randn(3, 7)
    wanted, found = module(x), []
    for in_memory in (True, False):
        if not in_memory:
            monkeypatch.setattr(ir, "_in_memory", lambda model: None)
        engine = build_function(module, [x], enabled_precisions={torch.float32})
        data = engine.to_bytes()
        payload = read_payload(memoryview(data), (1, len(wanted)))
        found.append(sum(length for _, _, length in payload.pieces))
        again = BACKEND.from_bytes(memoryview(data), dataclasses.replace(engine.spec, target="another"))
        for of in (engine, again):
            for one, other in zip(of.run([x]), wanted, strict=True):
                torch.testing.assert_close(one, other, check_dtype=True)
    assert abs(found[0] - found[1]) < 1000  # tied weights are there once, in both


def test_inputs_reach_openvino_without_a_copy() -> None:
    x = torch.randn(4, 8)
    show = sdk.wrap(torch.float32)
    assert show(x).data.ctypes.data == x.data_ptr()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "dtype",
    [
        torch.float32, torch.float16, torch.bfloat16, torch.float64,
        torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool,
    ],
)  # fmt: skip
@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3)])
def test_every_dtype_and_shape_can_cross_the_boundary(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    x = (torch.rand(shape) * 3).to(dtype)
    engine = build_function(lambda a, b: (a, b.relu(), a), [x, torch.randn(3)])
    given = engine.run([x, torch.randn(3)])
    assert torch.equal(given[0], x)
    assert torch.equal(given[2], x)
    assert given[0].dtype is dtype
    assert given[0].data_ptr() != x.data_ptr() or x.numel() == 0


def test_an_operator_without_a_rule_is_a_build_error_that_names_the_node_and_the_remedy() -> None:
    with pytest.raises(BuildError, match=r"(?s)lgamma.*torch_executed_ops=\{'aten.lgamma.default'\}") as caught:
        build_function(lambda a: (a.lgamma(),), [torch.rand(3)])
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize("names", [("input", "other"), ("b", "a"), ("engine_input_1", "engine_input_0"), ("x", "len")])
def test_inputs_may_have_any_names(names: tuple[str, str]) -> None:
    graph = torch.fx.Graph()
    first, second = (graph.placeholder(name) for name in names)
    less = graph.call_function(torch.ops.aten.sub.Tensor, (first, second))
    graph.output((less,))
    for node in (first, second, less):
        node.meta["val"] = torch.zeros(3)
    spec = TensorSpec("x", torch.float32, (3,))
    module = torch.fx.GraphModule(torch.nn.Module(), graph)
    engine = BACKEND.build(Partition("part_0", "openvino", module, (spec, spec), (spec,)), SETTINGS)
    (given,) = engine.run([torch.full((3,), 5.0), torch.full((3,), 2.0)])
    assert given.tolist() == [3.0] * 3


def test_refitting_is_refused_with_a_way_out() -> None:
    with pytest.raises(NotImplementedError, match="compile the model again"):
        build("openvino").refit({})


def test_a_graph_of_many_nodes_is_converted_in_seconds() -> None:
    layers = torch.nn.Sequential(*(torch.nn.ReLU() if place % 2 else torch.nn.Linear(4, 4) for place in range(1000)))
    partition = make_partition(layers, [torch.randn(2, 4)], BACKEND)
    assert BACKEND.build(partition, SETTINGS).run([torch.randn(2, 4)])[0].shape == (2, 4)


def test_the_users_module_is_not_edited() -> None:
    net = Net().eval()
    partition = make_partition(net, [torch.randn(4, 8), torch.arange(3)], BACKEND)
    before = str(partition.module.graph)
    BACKEND.build(partition, SETTINGS)
    assert str(partition.module.graph) == before


def test_whole_numbers_that_openvino_cannot_hold_are_an_error_and_not_another_number() -> None:
    class Doubled(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.flip(0) * 2

    compiled = torch_tensorrt.compile(Doubled(), inputs=[torch.arange(4)], min_block_size=1)
    with pytest.raises(InputError, match="int32"):
        compiled(torch.tensor([1, 2, 3, 2**31]))
    assert torch.equal(compiled(torch.arange(4)), torch.tensor([6, 4, 2, 0]))


@pytest.mark.parametrize(
    "constants", [3, [["bias", 0]], [[1, 0, 64]], [["bias", -64, 64]], [["bias", 1, 4]], [["bias", 0, 2**50]]]
)
def test_places_of_constants_that_make_no_sense_are_a_file_format_error(constants: object) -> None:
    net = torch.nn.Linear(8, 8)
    settings = CompilationSettings.from_options(engine="openvino", immutable_weights=False)
    engine = BACKEND.build(make_partition(net, [torch.randn(2, 8)], BACKEND), settings)
    assert torch.equal(
        BACKEND.from_bytes(memoryview(engine.to_bytes()), engine.spec).run([torch.ones(2, 8)])[0],
        engine.run([torch.ones(2, 8)])[0],
    )
    with pytest.raises(FileFormatError):
        BACKEND.from_bytes(memoryview(_with_index(engine.to_bytes(), constants=constants)), engine.spec)


def test_a_graph_with_whose_weights_the_frontend_computes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def fold(module: torch.fx.GraphModule, *others: object) -> sdk.Model:
        for name, buffer in list(module.named_buffers()):  # as a frontend that folds would have it
            torch.fx.graph_module._assign_attr(buffer * 2, module, name)
        return convert(module, *others)  # type: ignore[arg-type]

    convert = sdk.convert
    monkeypatch.setattr(sdk, "convert", fold)
    settings = CompilationSettings.from_options(engine="openvino", immutable_weights=False)
    with pytest.raises(UnsupportedError, match="immutable_weights=True"):
        BACKEND.build(make_partition(torch.nn.Linear(8, 8), [torch.randn(2, 8)], BACKEND), settings)


class Layers(nn.Module):
    """Two results, one of them far larger than the other."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.narrow, self.wide = nn.Linear(8, 4), nn.Linear(8, 1024)

    def forward(self, x: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
        return self.narrow(x) + shift, self.wide(x)


@pytest.fixture(scope="module")
def varying() -> tuple[nn.Module, torch_tensorrt.CompiledModule]:
    model = Layers().eval().requires_grad_(False)
    sizes = Input(min_shape=(1, 8), opt_shape=(2, 8), max_shape=(64, 8))
    return model, torch_tensorrt.compile(model, inputs=[sizes, Input((4,))], min_block_size=1, engine="openvino")


@pytest.mark.parametrize("order", [(1, 1, 1), (1, 2, 1, 3), (64, 1, 64, 2), (1, 64, 64, 1)], ids=str)
def test_small_and_large_tensors_of_sizes_that_vary(
    order: tuple[int, ...], varying: tuple[nn.Module, torch_tensorrt.CompiledModule]
) -> None:
    """Results of 4 kilobytes are copied from the request's memory, those of 256 are written to their own."""
    model, compiled = varying
    kept = []
    for rows in order:
        inputs = torch.randn(rows, 8), torch.randn(4)
        kept.append((compiled(*inputs), model(*inputs)))
    for given, wanted in kept:  # after all calls: none may write to another's results
        torch.testing.assert_close(given, wanted, rtol=1e-4, atol=1e-5)


def test_memory_for_small_tensors_serves_inside_and_outside_of_inference_mode() -> None:
    model = Layers().eval()
    sizes = Input(min_shape=(1, 8), opt_shape=(2, 8), max_shape=(64, 8))
    compiled = torch_tensorrt.compile(model, inputs=[sizes, Input((4,))], min_block_size=1, engine="openvino")
    x, shift = torch.randn(3, 8), torch.randn(4)
    with torch.inference_mode():
        first = compiled(x, shift)
    with torch.no_grad():
        for each in (
            compiled(x, shift),
            compiled(x.t().contiguous().t(), shift),
            compiled(x.clone().requires_grad_(), shift),
        ):
            torch.testing.assert_close(each, first)
            torch.testing.assert_close(each, model(x, shift), rtol=1e-4, atol=1e-5)


def test_threads_whose_sizes_vary_get_their_own_results(
    varying: tuple[nn.Module, torch_tensorrt.CompiledModule],
) -> None:
    model, compiled = varying

    def calls(seed: int) -> bool:
        generator = torch.Generator().manual_seed(seed)
        for _ in range(200):
            rows = int(torch.randint(1, 12, (1,), generator=generator))
            inputs = torch.randn(rows, 8, generator=generator), torch.randn(4, generator=generator)
            for given, wanted in zip(compiled(*inputs), model(*inputs), strict=True):
                if not torch.allclose(given, wanted, rtol=1e-4, atol=1e-5):
                    return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(calls, range(8)))
