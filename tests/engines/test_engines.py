"""What every engine promises: bytes that come back, threads, fresh memory."""

from __future__ import annotations

import gc
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from suite.programs import make_partition
from torch import Tensor

from torch_tensorrt import engines
from torch_tensorrt.contracts.engine import Engine, EngineSpec
from torch_tensorrt.spec.errors import FileFormatError, InputError
from torch_tensorrt.spec.settings import CompilationSettings

SETTINGS = CompilationSettings.from_options()
NAMES = ("eager", "openvino")
ENGINES = (*NAMES, "onnxruntime")


class Net(torch.nn.Module):
    """Two layers, a dynamic batch, integers, a bool and a copied input."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = torch.nn.Linear(8, 64)
        self.second = torch.nn.Linear(64, 3)

    def forward(self, x: Tensor, n: Tensor) -> tuple[Tensor, ...]:
        y = self.second(torch.relu(self.first(x)))
        return y, y.view(-1), n + 1, y > 0, n


NET = Net().eval()


def build(name: str, dynamic: bool = True) -> Engine:
    inputs = [torch.randn(4, 8), torch.arange(3)]
    backend = engines.backend(name)
    return backend.build(make_partition(NET, inputs, backend, {0: [0]} if dynamic else None), SETTINGS)


def wanted(x: Tensor, n: Tensor) -> tuple[Tensor, ...]:
    with torch.no_grad():
        return tuple(NET(x, n))


def assert_right(given: tuple[Tensor, ...], x: Tensor, n: Tensor) -> None:
    for a, b in zip(given, wanted(x, n), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_an_unknown_engine_is_an_input_error_that_names_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"eager, .*openvino"):
        engines.backend("openvimo")


@pytest.mark.parametrize("name", NAMES)
def test_a_backend_is_made_once_and_available_on_the_cpu(name: str) -> None:
    assert engines.backend(name) is engines.backend(name)
    assert engines.backend(name).available(torch.device("cpu"))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dynamic", [False, True])
def test_an_engine_comes_back_from_its_bytes(name: str, dynamic: bool) -> None:
    engine = build(name, dynamic)
    spec = EngineSpec.from_json(engine.spec.to_json())
    data = engine.to_bytes()
    again = engines.backend(name).from_bytes(memoryview(data), spec)
    for size in (2, 4, 9) if dynamic else (4,):
        x, n = torch.randn(size, 8), torch.arange(3) + size
        assert_right(engine.run([x, n]), x, n)
        assert_right(again.run([x, n]), x, n)
    assert (
        engines.backend(name).from_bytes(memoryview(again.to_bytes()), spec).run([torch.zeros(4, 8), torch.arange(3)])
    )


@pytest.mark.parametrize("name", NAMES)
def test_sixteen_threads_get_their_own_answers(name: str) -> None:
    engine = build(name)

    def call(seed: int) -> None:
        random = torch.Generator().manual_seed(seed)
        for turn in range(20):
            x, n = torch.randn(1 + (seed + turn) % 7 + 1, 8, generator=random), torch.arange(3) * seed
            assert_right(engine.run([x, n]), x, n)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(call, range(16)))


@pytest.mark.parametrize("name", NAMES)
def test_outputs_share_no_memory_with_inputs_each_other_or_later_calls(name: str) -> None:
    engine = build(name)
    x, n = torch.randn(4, 8), torch.arange(3)
    first = engine.run([x, n])
    kept = [tensor.clone() for tensor in first]
    second = engine.run([x + 1, n + 5])
    places = [tensor.untyped_storage().data_ptr() for tensor in (x, n, *first, *second)]
    assert len(set(places)) == len(places)
    assert all(torch.equal(a, b) for a, b in zip(first, kept, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_inputs_are_left_alone_and_let_go_after_a_call(name: str) -> None:
    engine = build(name)
    x, n = torch.randn(4, 8), torch.arange(3)
    before = x.clone()
    engine.run([x, n])
    assert torch.equal(x, before)
    gone = weakref.ref(x)
    del x
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("rows", [4, 4096], ids=["small", "large"])
@pytest.mark.parametrize("dynamic", [False, True], ids=["fixed", "varying"])
@pytest.mark.parametrize("name", ENGINES)
def test_views_that_are_negated_and_other_default_devices_change_nothing(name: str, dynamic: bool, rows: int) -> None:
    backend = engines.backend(name)
    if not backend.available(torch.device("cpu")):
        pytest.skip(f"{name} is not here")
    x = torch.randn(rows, 8)
    net = torch.nn.Sequential(NET.first, torch.nn.ReLU(), NET.second)
    partition = make_partition(net, [x], backend, {0: [0]} if dynamic else None)
    with torch.device("meta"):  # as torch.set_default_device does
        engine = backend.build(partition, SETTINGS)
        for given in (x, torch._neg_view(x), x):
            (result,) = engine.run([given])
            torch.testing.assert_close(result, net(given.clone()), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("damage", [b"", b"abc", b"\xff" * 400, b"PK\x03\x04" + b"\0" * 60])
def test_bytes_that_are_not_an_engine_are_a_file_format_error(name: str, damage: bytes) -> None:
    with pytest.raises(FileFormatError):
        engines.backend(name).from_bytes(memoryview(damage), build(name).spec)


@pytest.mark.parametrize("name", NAMES)
def test_a_truncated_engine_is_a_file_format_error(name: str) -> None:
    engine = build(name)
    data = engine.to_bytes()
    for length in (3, 40, len(data) // 2, len(data) - 1):
        with pytest.raises(FileFormatError):
            engines.backend(name).from_bytes(memoryview(data)[:length], engine.spec)


@pytest.mark.parametrize("name", NAMES)
def test_an_operator_that_writes_is_refused_with_a_reason(name: str) -> None:
    graph = torch.fx.Graph()
    x = graph.placeholder("x")
    node = graph.call_function(torch.ops.aten.add_.Tensor, (x, 1))
    support = engines.backend(name).supports(node, SETTINGS)
    assert not support
    assert "writes" in support.reason
