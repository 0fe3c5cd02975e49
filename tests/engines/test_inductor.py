"""What is special about the inductor engine: native code that is loaded late, other machines, memory, layouts, refitting."""

from __future__ import annotations

import dataclasses
import functools
import io
import json
import logging
import os
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from suite.agreement import disagreement
from suite.programs import FunctionModule, make_partition
from torch import Tensor

import torch_tensorrt
from engines.test_engines import Net, assert_right
from torch_tensorrt import engines
from torch_tensorrt.contracts.engine import Engine, EngineSpec
from torch_tensorrt.contracts.partition import Partition
from torch_tensorrt.engines.inductor import cxx, sdk
from torch_tensorrt.engines.inductor.engine import InductorEngine
from torch_tensorrt.engines.inductor.payload import read_payload
from torch_tensorrt.engines.inductor.programs import lift
from torch_tensorrt.spec.errors import BuildError, EngineNotRunnable, FileFormatError, InputError, UnsupportedError
from torch_tensorrt.spec.settings import CompilationSettings

BACKEND = engines.backend("inductor")
SETTINGS = CompilationSettings.from_options()
pytestmark = [
    pytest.mark.usefixtures("own_folder_for_compiled_code"),
    pytest.mark.skipif(not BACKEND.available(torch.device("cpu")), reason="no C++ compiler here"),
    pytest.mark.slow,  # some twenty compilations; test_inductor_quick.py has one
]
CPU = torch.device("cpu")


class Everything(torch.nn.Module):
    """One graph for most tests, because each takes a compiler some seconds: layers, results that are inputs, views of them,
    constants, folded constants and each other, numbers, bools, integers and scalars, strange layouts.
    """

    scale: Tensor
    table: Tensor

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = torch.nn.Linear(8, 64)
        self.second = torch.nn.Linear(64, 3)
        self.register_buffer("scale", torch.tensor(2.5))
        self.register_buffer("table", torch.arange(12.0).reshape(3, 4).t())
        self.register_buffer("spread", torch.arange(3.0).expand(2, 3))

    def forward(self, x: Tensor, n: Tensor, flag: Tensor, number: Tensor) -> tuple[Tensor, ...]:
        y = self.second(torch.relu(self.first(x)))
        results = (y, y.view(-1), y[:, 1], n + 1, y > 0, n, x.view(-1), x.t(), self.table, self.table + 1, self.scale)
        return (
            *results,
            self.spread * number,
            flag.logical_not(),
            number * self.scale,
            (y * y).sum(),
            y.t().expand(2, 3, -1),
        )


EVERYTHING = Everything().eval()


def samples(size: int) -> list[Tensor]:
    return [torch.randn(size, 8), torch.arange(3) + size, torch.tensor([True, False]), torch.tensor(1.5 + size)]


def build(function: Callable[..., object], inputs: list[Tensor], dynamic: bool = False, **options: object) -> Engine:
    settings = CompilationSettings.from_options(**options)
    return BACKEND.build(make_partition(function, inputs, BACKEND, {0: [0]} if dynamic else None, settings), settings)


@functools.cache
def everything(dynamic: bool = True, **options: object) -> Engine:
    return build(EVERYTHING, samples(4), dynamic, **options)


def read_back(engine: Engine) -> Engine:
    spec = EngineSpec.from_json(engine.spec.to_json())
    return BACKEND.from_bytes(memoryview(bytearray(engine.to_bytes())), spec)


def assert_agrees(given: tuple[Tensor, ...], inputs: list[Tensor], model: Callable[..., object] = EVERYTHING) -> None:
    with torch.no_grad():
        wanted = model(*inputs)
    assert isinstance(wanted, tuple)
    told = [disagreement(a, b, 1e-6) for a, b in zip(given, wanted, strict=True)]
    assert not any(told), "; ".join(told)
    assert all(tensor.is_contiguous() and not tensor.requires_grad for tensor in given)


@pytest.mark.parametrize("dynamic", [False, True])
def test_an_engine_comes_back_from_its_bytes_and_gives_what_pytorch_gives(dynamic: bool) -> None:
    again = read_back(everything(dynamic))
    for size in (1, 2, 4, 9, 0) if dynamic else (4,):
        inputs = samples(size)
        assert_agrees(everything(dynamic).run(inputs), inputs)
        assert_agrees(again.run(inputs), inputs)
    assert read_back(again).to_bytes() == again.to_bytes()


def test_the_program_that_an_engine_keeps_is_the_partition_with_its_weights() -> None:
    for engine in (everything(), read_back(everything())):
        program = engine.program()
        assert program is not None
        inputs = samples(5)
        with torch.no_grad():
            assert_agrees(tuple(program.module()(*inputs)), inputs)


def test_results_share_no_memory_with_inputs_weights_each_other_or_later_calls() -> None:
    engine, inputs = everything(), samples(4)
    first = engine.run(inputs)
    kept = [tensor.clone() for tensor in first]
    second = engine.run(inputs)
    places = [tensor.untyped_storage().data_ptr() for tensor in (*inputs, *first, *second)]
    assert len(set(places)) == len(places)
    for tensor in second:
        tensor.zero_()
    assert all(torch.equal(a, b) for a, b in zip(first, kept, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(engine.run(inputs), kept, strict=True))


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "transposed": lambda x: x.t().contiguous().t(),
    "a piece of a larger tensor": lambda x: torch.cat([x, x, x])[len(x) : 2 * len(x)],
    "every other column": lambda x: torch.stack([x, x], -1).flatten(1)[:, ::2],
    "expanded": lambda x: x[:1].expand_as(x),
    "off by four bytes": lambda x: torch.cat([torch.zeros(1), x.flatten()])[1:].view(x.shape),
    "negated lazily": lambda x: torch.complex(x, -x).conj().imag,
    "with a gradient": lambda x: x.clone().requires_grad_(),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_inputs_may_lie_in_memory_in_any_way(layout: str) -> None:
    x, *others = samples(6)
    laid = LAYOUTS[layout](x)
    with torch.no_grad():
        plain = laid.resolve_neg().clone(memory_format=torch.contiguous_format)
    assert_agrees(everything().run([laid, *others]), [plain, *others])


def test_an_engine_runs_in_inference_mode_and_out_of_it_again() -> None:
    inputs = samples(3)
    with torch.inference_mode():
        assert_agrees(everything().run(inputs), inputs)
    assert_agrees(everything().run(inputs), inputs)


def test_sixteen_threads_get_their_own_answers_from_an_engine_that_none_has_loaded() -> None:
    engine = read_back(everything())

    def call(seed: int) -> None:
        for turn in range(20):
            inputs = samples(1 + (seed + turn) % 7)
            assert_agrees(engine.run(inputs), inputs)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(call, range(16)))


class Convolutions(torch.nn.Module):
    """What the CPU's library keeps packed weights for."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(*(torch.nn.Conv2d(32, 32, 3, padding=1) for _ in range(3)))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        y = self.layers(x)
        return y, y.mean((2, 3))


@functools.cache
def convolutions() -> tuple[Convolutions, Engine, Tensor]:
    torch.manual_seed(0)
    x = torch.randn(2, 32, 9, 9).to(memory_format=torch.channels_last)
    model = Convolutions().eval()
    return model, build(model, [x]), x


@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
def test_a_graph_traced_channels_last_takes_inputs_of_any_layout_and_gives_contiguous_results(
    memory_format: torch.memory_format,
) -> None:
    model, engine, x = convolutions()
    given = x.contiguous(memory_format=memory_format)
    assert_agrees(read_back(engine).run([given]), [given], model)
    assert read_payload(memoryview(engine.to_bytes()), 1).formats == ("channels_last",)


def test_weights_are_packed_for_convolutions_and_not_for_products_of_float32() -> None:
    assert read_payload(memoryview(convolutions()[1].to_bytes()), 1).choices.frozen
    assert not read_payload(memoryview(everything().to_bytes()), 4).choices.frozen


def test_weights_that_are_not_packed_are_written_once() -> None:
    layers = torch.nn.Sequential(torch.nn.Linear(700, 700), torch.nn.Linear(700, 700)).eval()
    engine = build(lambda x: (layers(x),), [torch.randn(2, 700)])
    weights = sum(parameter.numel() * parameter.element_size() for parameter in layers.parameters())
    assert len(engine.to_bytes()) < weights + 2**20


def test_engine_bytes_may_start_at_any_address_and_be_read_only() -> None:
    data, inputs = everything().to_bytes(), samples(4)
    for shift in (0, 1, 7, 33):
        for kind in (bytes, bytearray):
            moved = memoryview(kind(b"\0" * shift + data))[shift:]
            assert_agrees(BACKEND.from_bytes(moved, everything().spec).run(inputs), inputs)


def test_there_may_be_no_inputs_at_all() -> None:
    engine = build(lambda: (torch.ones(3) * EVERYTHING.scale,), [])
    assert read_back(engine).run([])[0].tolist() == [2.5] * 3


def test_code_is_loaded_when_the_engine_first_runs_and_not_before(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = []
    load = sdk.load_package
    monkeypatch.setattr(sdk, "load_package", lambda *given: loaded.append(1) or load(*given))
    engine = read_back(everything())
    engine.program()
    engine.to_bytes()
    assert not loaded
    engine.run(samples(2))
    engine.run(samples(3))
    assert len(loaded) == 1


def test_a_saved_file_runs_in_a_process_that_has_no_compiler(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3)).eval()
    batch = torch_tensorrt.Input(min_shape=(1, 8), opt_shape=(4, 8), max_shape=(9, 8))
    compiled = torch_tensorrt.compile(model, inputs=[batch], engine="inductor", min_block_size=1)
    x = torch.randn(7, 8)
    torch.testing.assert_close(compiled(x), model(x))
    torch_tensorrt.save(compiled, str(tmp_path / "model.ep"), inputs=[batch])
    torch.save((x, compiled(x)), tmp_path / "answers.pt")
    code = (
        "import os, torch, torch_tensorrt\n"
        "x, y = torch.load('answers.pt')\n"
        "assert torch.equal(torch_tensorrt.load('model.ep').module()(x), y)\n"
        "assert not [name for *_, names in os.walk('cache') for name in names]\n"
        "try: torch_tensorrt.compile(torch.nn.ReLU(), inputs=[x], engine='inductor')\n"
        "except torch_tensorrt.InputError as error: print(error)\n"
    )
    environment = {**os.environ, "PATH": "", "CXX": "no-such-compiler", "PYTHONPATH": os.pathsep.join(sys.path)}
    environment["TORCHINDUCTOR_CACHE_DIR"] = str(tmp_path / "cache")
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "no-such-compiler" in done.stdout


OTHERS = {
    "another PyTorch": {"versions": {"torch": "1999.1"}},
    "a processor with other instructions": {"target": f"cpu;{sdk._system()};avx4096;avx4096f"},
    "another system": {"target": "cpu;beos-ppc;default;"},
    "a GPU": {"target": "sm_90;linux-x86_64;avx2;"},
    "nothing known": {"target": "?"},
}


@pytest.mark.parametrize("other", OTHERS)
def test_code_for_another_machine_is_compiled_again_with_a_warning_or_refused_without_a_compiler(
    other: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    spec = dataclasses.replace(everything().spec, **OTHERS[other])  # type: ignore[arg-type]
    data = memoryview(everything().to_bytes())
    compiled = read_payload(data, 4).package
    monkeypatch.setattr(sdk, "compile_package", lambda _, choices, __: (bytes(compiled), choices))
    with caplog.at_level(logging.WARNING, logger="torch_tensorrt"):
        engine = BACKEND.from_bytes(data, spec)
        inputs = samples(3)
        assert_agrees(engine.run(inputs), inputs)
    (told,) = [record.getMessage() for record in caplog.records]
    assert (spec.target in told) and (torch.__version__ in told) and (sdk.target(CPU) in told)
    assert engine.spec == everything().spec

    monkeypatch.setattr(cxx, "_answers", lambda _: False)
    with pytest.raises(EngineNotRunnable, match=r"(?s)was built for.*this is.*'g\+\+'.*save the model again") as caught:
        BACKEND.from_bytes(data, spec).run(inputs)
    assert spec.target in str(caught.value)


def test_the_program_in_the_bytes_can_really_be_compiled_again(caplog: pytest.LogCaptureFixture) -> None:
    spec = dataclasses.replace(everything().spec, versions={"torch": "1999.1"})
    engine = BACKEND.from_bytes(memoryview(everything().to_bytes()), spec)
    for size in (1, 6):
        inputs = samples(size)
        assert_agrees(engine.run(inputs), inputs)


def test_code_runs_on_a_processor_that_knows_more_instructions() -> None:
    kind, system, vectors, instructions = sdk.target(CPU).split(";")
    assert sdk.runs_on(";".join((kind, system, vectors, " ".join(instructions.split()[1:]))), CPU)
    assert not sdk.runs_on(";".join((kind, system, vectors, instructions + " avx4096f")), CPU)


def test_weights_can_be_replaced_when_the_engine_was_built_for_that() -> None:
    engine = everything(immutable_weights=False)
    torch.manual_seed(1)
    other = Everything().eval()
    with torch.no_grad():
        other.scale += 1
        other.table = other.table * 2
    names = {f"function.{name}": value for name, value in (*other.named_parameters(), *other.named_buffers())}
    inputs = samples(4)
    before = engine.run(inputs)
    refitted = engine.refit({**names, "not its own": torch.zeros(1)})
    assert_agrees(refitted.run(inputs), inputs, other)
    assert_agrees(read_back(refitted).run(inputs), inputs, other)
    program = refitted.program()
    assert program is not None
    assert_agrees(tuple(program.module()(*inputs)), inputs, other)
    with torch.no_grad():
        names["function.first.weight"].zero_()
    assert_agrees(refitted.run(inputs), inputs, read_program_module(refitted))
    assert all(torch.equal(a, b) for a, b in zip(engine.run(inputs), before, strict=True))
    assert refitted.spec == engine.spec


def read_program_module(engine: Engine) -> Callable[..., object]:
    program = engine.program()
    assert program is not None
    module = program.module()
    return lambda *inputs: tuple(module(*inputs))


def test_weights_that_do_not_fit_are_refused_and_change_nothing() -> None:
    engine = everything(immutable_weights=False)
    names = {f"function.{name}": value for name, value in (*EVERYTHING.named_parameters(), *EVERYTHING.named_buffers())}
    for wrong, told in (
        ({"function.first.weight": torch.zeros(3)}, r"first.weight.*\(64, 8\).*\(3,\)"),
        ({"function.first.weight": torch.zeros(64, 8).double()}, "float64"),
    ):
        with pytest.raises(InputError, match=told):
            engine.refit({**names, **wrong})
    del names["function.second.bias"]
    with pytest.raises(InputError, match=r"second.bias.*nothing"):
        engine.refit(names)
    inputs = samples(4)
    assert_agrees(engine.run(inputs), inputs)


def test_refitting_an_engine_that_was_not_built_for_it_is_refused_with_a_way_out() -> None:
    with pytest.raises(UnsupportedError, match="immutable_weights=False"):
        everything().refit({})


def _with_index(data: bytes, **changes: object) -> bytes:
    length = struct.unpack_from("<I", data)[0]
    index = json.loads(data[4 : 4 + length])
    header = json.dumps({**index, **changes}).encode()
    body = data[4 + length + -(4 + length) % 64 :]
    head = struct.pack("<I", len(header)) + header
    return head + b"\0" * (-len(head) % 64) + body


WEIGHT = ["w", "float32", [2, 2], [2, 1], 1, 0]


@pytest.mark.parametrize(
    "changes",
    [
        {"package": -1},
        {"package": 2**60},
        {"package": "many"},
        {"program": 1.5},
        {"literal": 3},
        {"frozen": 1},
        {"apart": 0},
        {"refittable": None},
        {"formats": []},
        {"formats": ["contiguous"] * 3 + ["upside down"]},
        {"formats": ["contiguous"] * 3 + [4]},
        {"weights": 3},
        {"weights": [3]},
        {"weights": [WEIGHT[:5]]},
        {"weights": [[*WEIGHT[:1], "float99", *WEIGHT[2:]]]},
        {"weights": [[*WEIGHT[:2], [2, -2], *WEIGHT[3:]]]},
        {"weights": [[*WEIGHT[:2], [2, "2"], *WEIGHT[3:]]]},
        {"weights": [[*WEIGHT[:2], [2, 2, 2], *WEIGHT[3:]]]},
        {"weights": [[*WEIGHT[:2], [2**40, 2**40], *WEIGHT[3:]]]},
        {"weights": [[*WEIGHT[:3], [2**60, 1], *WEIGHT[4:]]]},
        {"weights": [[*WEIGHT[:4], 2, 0]]},
        {"weights": [[*WEIGHT[:4], 1, 2**60]]},
        {"weights": [[*WEIGHT[:4], 1, -8]]},
        {"extra": 1},
    ],
)
def test_an_index_that_makes_no_sense_is_a_file_format_error(changes: dict[str, object]) -> None:
    with pytest.raises(FileFormatError):
        BACKEND.from_bytes(memoryview(_with_index(everything().to_bytes(), **changes)), everything().spec)


@pytest.mark.parametrize("damage", [b"", b"abc", b"\xff" * 400, b"PK\x03\x04" + b"\0" * 60])
def test_bytes_that_are_not_an_engine_are_a_file_format_error(damage: bytes) -> None:
    with pytest.raises(FileFormatError):
        BACKEND.from_bytes(memoryview(damage), everything().spec)


def test_a_truncated_engine_is_a_file_format_error() -> None:
    data = everything().to_bytes()
    for length in (3, 40, len(data) // 2, len(data) - 1):
        with pytest.raises(FileFormatError):
            BACKEND.from_bytes(memoryview(data)[:length], everything().spec)


def test_a_package_that_can_not_be_loaded_is_a_file_format_error_that_says_what_it_was_built_for() -> None:
    payload = read_payload(memoryview(everything().to_bytes()), 4)
    engine = InductorEngine(everything().spec, dataclasses.replace(payload, package=b"PK\x03\x04 nothing"))
    with pytest.raises(FileFormatError, match=r"built for 'cpu;.*can't be loaded"):
        engine.run(samples(4))


def test_a_program_that_can_not_be_read_is_a_file_format_error() -> None:
    payload = read_payload(memoryview(everything().to_bytes()), 4)
    engine = InductorEngine(everything().spec, dataclasses.replace(payload, program=b"PK\x03\x04 nothing"))
    with pytest.raises(FileFormatError, match="program"):
        engine.program()


def test_a_program_with_members_that_pytorch_would_unpickle_is_refused() -> None:
    payload = read_payload(memoryview(everything().to_bytes()), 4)
    archive = io.BytesIO(bytes(payload.program))
    with zipfile.ZipFile(archive, "a") as members:
        members.writestr("archive/data/constants/evil.pt", b"not looked at")
    engine = InductorEngine(everything().spec, dataclasses.replace(payload, program=archive.getvalue()))
    with pytest.raises(FileFormatError, match=r"evil\.pt"):
        engine.program()


REFUSED: dict[str, tuple[Callable[..., object], list[Tensor], str]] = {
    "random numbers": (torch.bernoulli, [torch.rand(3)], "random"),
    "sizes known at run time": (torch.nonzero, [torch.ones(3)], "known only when it has run"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_inductor_would_do_otherwise_stays_in_pytorch_with_a_reason(case: str) -> None:
    function, inputs, told = REFUSED[case]
    program = torch.export.export(FunctionModule(function), tuple(inputs), strict=False)
    calls = [node for node in program.graph.nodes if isinstance(node.target, torch._ops.OpOverload)]
    supports = [BACKEND.supports(node, SETTINGS) for node in calls]
    assert any(told in support.reason for support in supports if not support)


def _node(target: torch._ops.OpOverload, *values: Tensor) -> torch.fx.Node:
    graph = torch.fx.Graph()
    places = [graph.placeholder(f"x{at}") for at in range(len(values))]
    for place, value in zip(places, values, strict=True):
        place.meta["val"] = value
    node = graph.call_function(target, tuple(places))
    node.meta["val"] = values[0]
    return node


@pytest.mark.parametrize(
    ("node", "told"),
    [
        (_node(torch.ops.aten.add_.Tensor, torch.ones(3), torch.ones(3)), "writes"),
        (_node(torch.ops.aten.relu.default, torch.ones(3).to_sparse()), "dense"),
        (_node(torch.ops.aten.add.Tensor, torch.ones(3), torch.ones(3, device="meta")), "one device"),
        (_node(torch.ops.aten.as_strided.default, torch.ones(3, 4).t()), "layout"),
    ],
    ids=["writes", "sparse", "two devices", "as_strided"],
)
def test_a_node_is_refused_with_a_reason(node: torch.fx.Node, told: str) -> None:
    support = BACKEND.supports(node, SETTINGS)
    assert not support
    assert told in support.reason


def test_without_a_compiler_the_engine_is_not_available_and_says_which_ones_were_looked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cxx, "_answers", lambda _: False)
    available = BACKEND.available(CPU)
    assert not available
    assert "'g++'" in available.reason
    assert BACKEND.runnable(CPU)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize(("device", "told"), [("cuda", "no CUDA GPU"), ("meta", "not for meta")])
def test_a_device_that_is_not_there_is_not_available(device: str, told: str) -> None:
    assert told in BACKEND.available(torch.device(device)).reason
    assert not BACKEND.runnable(torch.device(device))


def test_what_inductor_refuses_is_a_build_error_that_names_the_operators_and_the_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("no lowering of aten.relu.default today")

    monkeypatch.setattr(sdk, "compile_package", refuse)
    with pytest.raises(BuildError, match=r"(?s)relu.*today.*torch_executed_ops=\{'aten.relu.default'\}") as caught:
        build(lambda x: (x.relu().exp(),), [torch.rand(3)])
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_the_users_graph_is_not_edited() -> None:
    partition: Partition = make_partition(EVERYTHING, samples(4), BACKEND, {0: [0]})
    before = str(partition.module.graph)
    metas = [dict(node.meta) for node in partition.module.graph.nodes]
    lift(partition)
    assert str(partition.module.graph) == before
    assert all(
        node.meta["val"] is meta["val"]
        for node, meta in zip(partition.module.graph.nodes, metas, strict=True)
        if "val" in meta
    )


def test_tf32_is_off_inside_and_as_it_was_outside_also_with_several_threads() -> None:
    before = torch._C._get_cudnn_allow_tf32(), torch._C._get_cublas_allow_tf32()
    with sdk.exact_float32():
        with sdk.exact_float32():
            pass
        assert not torch._C._get_cudnn_allow_tf32()
        assert not torch._C._get_cublas_allow_tf32()
    assert (torch._C._get_cudnn_allow_tf32(), torch._C._get_cublas_allow_tf32()) == before


def test_options_that_it_honours_are_not_warned_about() -> None:
    settings = CompilationSettings.from_options(immutable_weights=False, disable_tf32=True, num_avg_timing_iters=3)
    (told,) = BACKEND.unhonoured(settings)
    assert "num_avg_timing_iters" in told


def test_the_small_network_of_the_other_engines_agrees_too() -> None:
    torch.manual_seed(0)
    engine = build(Net().eval(), [torch.randn(4, 8), torch.arange(3)], dynamic=True)
    x, n = torch.randn(5, 8), torch.arange(3)
    assert_right(engine.run([x, n]), x, n)


class Pooled(torch.nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        pool = torch.nn.functional
        y = x.relu()
        return (
            pool.adaptive_avg_pool2d(y, (2, 3)),
            pool.max_pool2d(y, 2, 2, ceil_mode=True),
            y.diagonal(0, 2, 3),
            pool.max_pool2d(y, 3, 2, 1).exp(),
        )


def test_images_of_any_size_give_what_pytorch_gives() -> None:
    images = torch_tensorrt.Input(min_shape=(1, 2, 4, 4), opt_shape=(2, 2, 6, 8), max_shape=(4, 2, 13, 13))
    compiled = torch_tensorrt.compile(Pooled().eval(), inputs=[images], engine="inductor", min_block_size=1)
    for sizes in ((2, 6, 8), (1, 4, 4), (4, 13, 13), (3, 12, 5), (2, 5, 11)):
        x = torch.randn(sizes[0], 2, *sizes[1:])
        torch.testing.assert_close(compiled(x), Pooled()(x))


def test_code_for_some_of_the_sizes_only_is_a_build_error_that_names_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever operator it is: what Inductor has assumed is looked at after it compiled."""
    monkeypatch.setattr(torch_tensorrt.engines.inductor.backend, "_refusal_of_sizes", lambda node: "")
    pooled = functools.partial(torch.nn.functional.adaptive_avg_pool2d, output_size=(2, 3))
    partition = make_partition(pooled, [torch.randn(2, 2, 6, 8)], BACKEND, {0: [0, 2]}, SETTINGS)
    with pytest.raises(BuildError, match=r"right only where s\d+ == 6, and the sizes vary"):
        BACKEND.build(partition, SETTINGS)
