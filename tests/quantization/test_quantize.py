"""`torch_tensorrt.quantize`: int8 kernels in the engines, the accuracy that is left, weights that stay small, and clear refusals."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from quantization.models import Net, Unusual, digits, images, ranged, relative
from torch import Tensor, nn
from torch.export import ExportedProgram

import torch_tensorrt
from torch_tensorrt import EngineNotRunnable, InputError, UnsupportedError, engines
from torch_tensorrt.engines.tensorrt import backend
from torch_tensorrt.graphs.agreement import allowed_error
from torch_tensorrt.quantization import quantizing, tools
from torch_tensorrt.spec.settings import CompilationSettings

CPU = torch.device("cpu")
METHODS = [
    pytest.param(name, marks=pytest.mark.skipif(not tools.installed(name), reason=f"{name} is not installed"))
    for name in ("nncf", "torchao")
]
ENGINES = ["openvino", "onnxruntime", pytest.param("inductor", marks=pytest.mark.slow)]


def needs(engine: str) -> None:
    support = engines.backend(engine).available(CPU)
    if not support:
        pytest.skip(support.reason)


@pytest.fixture(scope="module")
def model() -> Net:
    torch.manual_seed(0)
    return Net().eval()


@pytest.fixture(scope="module")
def programs(model: Net) -> dict[str, ExportedProgram]:
    torch.manual_seed(0)
    data = [images() for _ in range(4)]
    known = [name for name in ("nncf", "torchao") if tools.installed(name)]
    return {name: torch_tensorrt.quantize(model, data, inputs=ranged(3, 16, 16), method=name) for name in known}


def layers(compiled: nn.Module) -> list[Mapping[str, str]]:
    """What OpenVINO executes."""
    (told,) = torch_tensorrt.runtime.get_layer_info(compiled).values()
    return list(json.loads(told)["Layers"])


def precisions(compiled: nn.Module, *kinds: str) -> list[str]:
    return [f"{layer['LayerType']} {layer['Precision']}" for layer in layers(compiled) if layer["LayerType"] in kinds]


@pytest.mark.parametrize("method", METHODS)
def test_openvino_computes_convolutions_and_linear_layers_in_int8(
    method: str, model: Net, programs: dict[str, ExportedProgram]
) -> None:
    compiled = torch_tensorrt.compile(programs[method], engine="openvino", require_full_compilation=True)
    ran = precisions(compiled, "Convolution", "FullyConnected")
    assert len(ran) == 4
    assert all(each.endswith(("i8", "u8")) for each in ran), ran
    plain = torch_tensorrt.compile(model, inputs=ranged(3, 16, 16), engine="openvino", require_full_compilation=True)
    assert all(each.endswith("f32") for each in precisions(plain, "Convolution", "FullyConnected"))


@pytest.mark.parametrize("method", METHODS)
def test_layers_are_quantized_whatever_their_class_and_padding_is_theirs(method: str) -> None:
    torch.manual_seed(0)
    model = Unusual().eval()
    program = torch_tensorrt.quantize(model, [images() for _ in range(4)], inputs=ranged(3, 16, 16), method=method)
    compiled = torch_tensorrt.compile(program, engine="openvino", require_full_compilation=True)
    ran = precisions(compiled, "Convolution", "FullyConnected", "Pad")
    assert len(ran) == 4
    assert all(each.endswith(("i8", "u8")) for each in ran), ran
    x = images(3)
    with torch.no_grad():
        wanted, plain, got = program.module()(x), model(x), compiled(x)
    assert relative(got, wanted) < 5e-3
    assert relative(got, plain) < 0.1


def test_a_layer_whose_weights_are_computed_stays_as_it_is() -> None:
    if not tools.installed("torchao"):
        pytest.skip("torchao is not installed")

    class Computed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rows = nn.Parameter(torch.randn(10, 16))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.linear(x, self.rows.softmax(-1))

    model, data = Computed().eval(), [torch.randn(2, 16) for _ in range(4)]
    program = torch_tensorrt.quantize(model, data, method="torchao")
    assert "quantize" not in str(program.graph)
    torch.testing.assert_close(program.module()(data[0]), model(data[0]))


class Products(nn.Module):
    """Layers written out as products, as GPT-2 has them; one product is of two values."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.bias = nn.Parameter(torch.randn(16, 16) / 4), nn.Parameter(torch.randn(16))
        self.two, self.three = nn.Parameter(torch.randn(16, 16) / 4), nn.Parameter(torch.randn(16, 8) / 4)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.addmm(self.bias, torch.relu(torch.addmm(self.bias, x, self.one)), self.two)
        return (y @ y.t()) @ torch.mm(y, self.three)


@pytest.mark.parametrize("method", METHODS)
def test_products_with_weights_are_linear_layers(method: str) -> None:
    torch.manual_seed(0)
    model, data = Products().eval(), [torch.randn(32, 16) for _ in range(4)]
    program = torch_tensorrt.quantize(model, data, method=method)
    compiled = torch_tensorrt.compile(program, engine="openvino", require_full_compilation=True)
    assert sum(each.endswith(("i8", "u8")) for each in precisions(compiled, "FullyConnected")) == 3
    with torch.no_grad():
        wanted, plain, got = program.module()(data[0]), model(data[0]), compiled(data[0])
    assert relative(got, wanted) < 5e-3
    assert relative(got, plain) < 0.1


class Rows(nn.Module):
    """A block of GPT-2's: what is normalized becomes rows, a product is made of them, its rows become tokens, and GELU is written out."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(16)
        self.one, self.bias = nn.Parameter(torch.randn(16, 64) / 4), nn.Parameter(torch.randn(64))
        self.two, self.last = nn.Parameter(torch.randn(64, 16) / 8), nn.Parameter(torch.randn(16))

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        wide = torch.addmm(self.bias, self.norm(x).view(-1, width), self.one).view(batch, tokens, 64)
        wide = 0.5 * wide * (1 + torch.tanh(0.8 * (wide + 0.045 * wide**3)))
        return x + torch.addmm(self.last, wide.view(-1, 64), self.two).view(batch, tokens, width)


@pytest.mark.parametrize(
    "method", [each for each in METHODS if each.values == ("torchao",)]
)  # NNCF can't take sizes of rows
def test_rounding_is_part_of_what_computes_the_values_also_behind_views_of_sizes_that_vary(method: str) -> None:
    torch.manual_seed(0)
    model, data = Rows().eval(), [torch.randn(2, 8, 16) for _ in range(4)]
    given = torch_tensorrt.Input(min_shape=(1, 4, 16), opt_shape=(2, 8, 16), max_shape=(4, 32, 16))
    program = torch_tensorrt.quantize(model, data, inputs=[given], method=method)
    compiled = torch_tensorrt.compile(program, engine="openvino", require_full_compilation=True)
    assert not precisions(compiled, "FakeQuantize")
    assert sum(each.endswith(("i8", "u8")) for each in precisions(compiled, "FullyConnected")) == 2
    for sizes in ((1, 4), (2, 8), (3, 17)):
        x = torch.randn(*sizes, 16)
        with torch.no_grad():
            assert relative(compiled(x), program.module()(x)) < 5e-3
            assert relative(compiled(x), model(x)) < 0.1


class Wide(nn.Module):
    """Two linear layers that read one input, one that reads what they give, and one whose weights are computed."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.last = nn.Linear(16, 32), nn.Linear(16, 32, bias=False), nn.Linear(32, 8)
        self.rows = nn.Parameter(torch.randn(8, 8))

    def forward(self, x: Tensor) -> Tensor:
        y = self.last(torch.relu(self.one(x)) * self.two(x))
        return nn.functional.linear(y, self.rows.softmax(-1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_scales_for_float8_are_those_of_the_largest_values(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model, data = Wide().eval().to(dtype), [torch.randn(32, 16, dtype=dtype) for _ in range(4)]
    program = torch_tensorrt.quantize(model, data, precision="float8")
    rounded = [node for node in program.graph.nodes if "quantized_decomposed.quantize_per_tensor" in str(node.target)]
    assert len(rounded) == 2  # for three layers
    largest = max(float(x.abs().max()) for x in data)
    assert rounded[0].args[1:] == (pytest.approx(largest * 1.05 / 448), 0, -448, 448, torch.float8_e4m3fn)
    wanted = model(data[0])
    assert 1e-3 < relative(program.module()(data[0]).float(), wanted.float()) < 0.1
    compiled = torch_tensorrt.compile(program, engine="eager", min_block_size=1)
    assert relative(compiled(data[0]).float(), program.module()(data[0]).float()) < 5e-3


def test_products_with_weights_that_change_or_are_whole_numbers_stay() -> None:
    class Changing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("w", torch.randn(4, 4))
            self.register_buffer("table", torch.arange(16).view(4, 4))
            self.last = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            y = torch.mm(x, self.w) + torch.mm(x.long(), self.table)
            self.w.add_(1)
            return self.last(y)

    model, x = Changing().eval(), torch.randn(4, 4)
    run = torch_tensorrt.quantize(model, inputs=[x], weight_only=True).module()
    with torch.no_grad():
        for _ in range(3):
            assert relative(run(x), model(x)) < 0.03


def test_products_with_weights_are_compressed_too() -> None:
    torch.manual_seed(0)
    model, x = Products().eval(), torch.randn(32, 16)
    program = torch_tensorrt.quantize(model, inputs=[x], weight_only=True)
    assert sum(value.dtype is torch.int8 for value in program.state_dict.values()) == 3
    assert not any(
        value.dim() == 2 for value in program.state_dict.values() if value.dtype is torch.float32
    )  # nor kept twice
    assert 0 < relative(program.module()(x), model(x)) < 0.03


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("engine", ENGINES)
def test_results_are_those_of_the_quantized_program_at_any_batch(
    engine: str, method: str, model: Net, programs: dict[str, ExportedProgram]
) -> None:
    needs(engine)
    program = programs[method]
    compiled = torch_tensorrt.compile(program, engine=engine, require_full_compilation=True)
    for batch in (1, 3, 8):
        x = images(batch)
        with torch.no_grad():
            wanted, plain, got = program.module()(x), model(x), compiled(x)
        assert relative(got, wanted) < 5e-3  # a number half-way between two steps may be rounded to either
        assert relative(got, plain) < 0.05


@pytest.mark.slow
def test_inductor_calls_kernels_for_int8(programs: dict[str, ExportedProgram], tmp_path: Path) -> None:
    needs("inductor")
    if "torchao" not in programs:
        pytest.skip("torchao is not installed")
    compiled = torch_tensorrt.compile(programs["torchao"], engine="inductor", require_full_compilation=True)
    torch_tensorrt.save(compiled, str(tmp_path / "m.ep"))
    content = (tmp_path / "m.ep").read_bytes()
    assert b"qconv_pointwise" in content or b"qconv2d_pointwise" in content
    assert b"qlinear_pointwise" in content


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("engine", ENGINES)
def test_a_network_for_digits_keeps_its_accuracy(engine: str, method: str) -> None:
    needs(engine)
    network, trained_on, others, labels = digits()
    inputs = [torch_tensorrt.Input(min_shape=(1, 1, 8, 8), opt_shape=(128, 1, 8, 8), max_shape=(1024, 1, 8, 8))]
    program = torch_tensorrt.quantize(network, trained_on[:256].split(32), inputs=inputs, method=method)
    compiled = torch_tensorrt.compile(program, engine=engine, min_block_size=1)
    with torch.no_grad():
        before, after = (float((each(others).argmax(1) == labels).float().mean()) * 100 for each in (network, compiled))
    print(f"\n{engine}, {method}: {before:.2f} % in float32, {after:.2f} % in int8")
    assert before > 90  # it has learnt something
    assert before - after <= 0.5


def test_tensorrt_gets_numbers_around_zero_and_weights_of_eight_bits(
    model: Net, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not tools.installed("torchao"):
        pytest.skip("torchao is not installed")
    if not importlib.util.find_spec("tensorrt_rtx"):
        pytest.skip("tensorrt_rtx is not installed")
    made = []
    define = backend.define

    def define_and_keep(*given: object) -> object:
        made.append(define(*given))
        return made[-1]

    monkeypatch.setattr(backend, "define", define_and_keep)
    program = torch_tensorrt.quantize(model, [images() for _ in range(3)], symmetric=True)
    torch_tensorrt.compile(program, engine="tensorrt_rtx", device="sm_89", require_full_compilation=True)
    (definition,) = made
    network = definition.net.network
    kinds = [str(network.get_layer(place).type).rpartition(".")[2] for place in range(network.num_layers)]
    assert kinds.count("QUANTIZE") == 4  # the input of each convolution and linear layer
    assert kinds.count("DEQUANTIZE") == 9  # those, one of them twice, and four weights


def linears(width: int = 512, depth: int = 4) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(*(part for _ in range(depth) for part in (nn.Linear(width, width), nn.ReLU()))).eval()


def size_of(program: ExportedProgram, path: Path) -> int:
    compiled = torch_tensorrt.compile(program, engine="openvino", require_full_compilation=True, min_block_size=1)
    torch_tensorrt.save(compiled, str(path))
    return path.stat().st_size


@pytest.mark.parametrize(
    ("precision", "options", "error"),
    [("int8", {}, 0.02), ("int4", {}, 0.3), ("int4", {"group_size": 32}, 0.25), ("int8", {"group_size": 64}, 0.02)],
)
@pytest.mark.parametrize("engine", ENGINES)
def test_weights_alone_are_compressed(engine: str, precision: str, options: dict[str, object], error: float) -> None:
    needs(engine)
    model = linears()
    program = torch_tensorrt.quantize(model, inputs=ranged(512), precision=precision, weight_only=True, **options)
    compiled = torch_tensorrt.compile(program, engine=engine, require_full_compilation=True, min_block_size=1)
    for batch in (1, 5):
        x = torch.randn(batch, 512)
        with torch.no_grad():
            torch.testing.assert_close(compiled(x), program.module()(x), rtol=1e-4, atol=1e-5)
            assert relative(compiled(x), model(x)) < error


@pytest.mark.parametrize(("precision", "held"), [("int8", "i8"), ("int4", "i4")])
def test_openvino_unpacks_weights_inside_its_kernels(precision: str, held: str) -> None:
    program = torch_tensorrt.quantize(linears(), inputs=ranged(512), precision=precision, weight_only=True)
    compiled = torch_tensorrt.compile(program, engine="openvino", require_full_compilation=True, min_block_size=1)
    wanted = [f"FullyConnected {held}"] * 3 + ["FullyConnected i8"]  # the last layer has eight bits
    assert precisions(compiled, "FullyConnected") == wanted


def test_saved_weights_stay_as_short_as_they_are(tmp_path: Path) -> None:
    model = linears()
    weights = sum(each.numel() for each in model.parameters())
    plain = torch_tensorrt.dynamo.trace(model, arg_inputs=ranged(512))
    eight, four = (
        torch_tensorrt.quantize(plain, precision=precision, weight_only=True) for precision in ("int8", "int4")
    )
    sizes = [size_of(program, tmp_path / f"{at}.ep") for at, program in enumerate((plain, eight, four))]
    copies = round(sizes[0] / (4 * weights))  # the engine's own bytes, and those for another machine
    assert sizes[1] < 0.3 * sizes[0]
    assert sizes[2] < 0.21 * sizes[0]  # a quarter of the weights, in the last layer, has eight bits
    assert copies in {1, 2}


def test_a_quantized_module_is_saved_and_loaded(programs: dict[str, ExportedProgram], tmp_path: Path) -> None:
    x = images(3)
    for name, program in programs.items():
        path = str(tmp_path / f"{name}.ep")
        compiled = torch_tensorrt.compile(program, engine="openvino", require_full_compilation=True)
        torch_tensorrt.save(compiled, path)
        loaded = torch_tensorrt.load(path).module()
        assert torch.equal(loaded(x), compiled(x))
        assert precisions(loaded, "Convolution", "FullyConnected") == precisions(
            compiled, "Convolution", "FullyConnected"
        )


def test_operators_left_to_pytorch_are_saved_and_loaded_too(
    programs: dict[str, ExportedProgram], tmp_path: Path
) -> None:
    program = next(iter(programs.values()))
    name = "quantized_decomposed.quantize_per_tensor"
    compiled = torch_tensorrt.compile(program, engine="openvino", torch_executed_ops={name}, min_block_size=1)
    torch_tensorrt.save(compiled, str(tmp_path / "m.ep"))
    x = images()
    assert torch.equal(torch_tensorrt.load(str(tmp_path / "m.ep")).module()(x), compiled(x))
    assert relative(compiled(x), program.module()(x)) < 5e-3


@pytest.mark.parametrize("method", METHODS)
def test_the_model_and_the_program_given_are_not_changed(method: str, model: Net) -> None:
    program = torch_tensorrt.dynamo.trace(model, arg_inputs=ranged(3, 16, 16))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    graph, x = str(program.graph), images()
    wanted = program.module()(x)
    torch_tensorrt.quantize(program, [images()], method=method)
    assert str(program.graph) == graph
    assert torch.equal(program.module()(x), wanted)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


class Named(nn.Module):
    """Takes its second input by name."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(16, 16)

    def forward(self, x: Tensor, scale: Tensor) -> dict[str, Tensor]:
        return {"y": self.linear(x) * scale}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("by_name", [False, True])
def test_samples_are_what_the_model_is_called_with(by_name: bool, method: str) -> None:
    given = {"x": torch.randn(4, 16), "scale": torch.ones(16)}
    sample: object = given if by_name else tuple(given.values())
    program = torch_tensorrt.quantize(Named().eval(), [sample], method=method)
    called = program.module()(**given) if by_name else program.module()(*given.values())
    assert called["y"].shape == (4, 16)
    assert any("quantize_per_tensor" in str(node.target) for node in program.graph.nodes)


WRONG: list[tuple[dict[str, object], str]] = [
    ({"calibration_data": []}, "calibration_data is empty"),
    ({"calibration_data": None}, "calibration_data is empty"),
    ({"calibration_data": images()}, "calibration_data is a Tensor"),
    ({"calibration_data": ["text"]}, r"calibration_data\[0\] is a str"),
    (
        {"calibration_data": [torch.randn(2, 5, 16, 16)]},
        r"fails on calibration_data\[0\] \(\[2, 5, 16, 16\] torch.float32\)",
    ),
    ({"precision": "int2"}, "precision='int2'"),
    ({"precision": "int4"}, "weight_only=True too"),
    ({"precision": "float8", "weight_only": True}, "precision='float8' is for values"),
    ({"precision": "float8", "method": "nncf"}, "needs no tool"),
    ({"precision": "float8", "symmetric": True}, "needs no tool"),
    ({"precision": "float8", "calibration_data": []}, "calibration_data is empty"),
    ({"method": "magic"}, "method='magic'"),
    ({"group_size": 32}, "group_size=32 is for weight_only=True"),
    ({"weight_only": True, "group_size": 7}, "group_size=7"),
    ({"model": 3}, "A int can't be quantized"),
]


@pytest.mark.parametrize(("options", "words"), WRONG)
def test_what_is_wrong_is_said(options: dict[str, object], words: str, model: Net) -> None:
    given = {"model": model, "calibration_data": [images()], "inputs": ranged(3, 16, 16), **options}
    with pytest.raises(InputError, match=words):
        torch_tensorrt.quantize(**given)


@pytest.mark.parametrize("method", METHODS)
def test_measuring_takes_engines_that_compute_in_int8_for_right(method: str) -> None:
    """A value on the edge between two steps may become either: right engines differ by more than float32 would allow."""
    model, samples, pictures, _ = digits()
    program = torch_tensorrt.quantize(model, [samples[:64]], inputs=[pictures[:64]], method=method)
    lowered = program.module().graph
    settings = CompilationSettings.from_options()
    assert allowed_error(lowered, settings, CPU) == 0.1
    compiled = torch_tensorrt.compile(
        program,
        engine="openvino",
        min_block_size=1,
        optimization_level=4,
        max_tuning_seconds=20,
        immutable_weights=True,
    )
    tried = [trial for trial in compiled.plan.trials if trial.label.startswith("openvino")]
    assert tried
    assert not [trial for trial in tried if "wrong" in trial.note]
    plain = torch.export.export(model, (pictures[:2],))
    assert allowed_error(plain.graph, settings, CPU) == 1e-3


class WithPooler(nn.Module):
    """Computes what it doesn't return, as transformers do, and counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.line, self.pooler = nn.Linear(16, 16), nn.Linear(16, 16)
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        self.calls.add_(1)
        y = torch.relu(self.line(x))
        torch.tanh(self.pooler(y[:, 0]))
        return y


@pytest.mark.parametrize("method", ["torchao", "nncf"])
def test_what_no_result_depends_on_is_left_out(method: str) -> None:
    model = WithPooler().eval()
    samples = [(torch.randn(4, 3, 16),) for _ in range(4)]
    quantized = torch_tensorrt.quantize(model, samples, method=method)
    assert "pooler" not in str(quantized.graph)
    assert model.calls == quantized.state_dict["calls"] == 0, (
        "runs to find ranges leave no trace in what the model remembers"
    )
    module = quantized.module()
    with torch.no_grad():
        assert relative(module(*samples[0]), model(*samples[0])) < 0.05
    assert dict(module.named_buffers())["calls"] == 1


def test_a_missing_tool_is_named_with_the_way_to_get_it(model: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantizing, "installed", lambda name: False)
    with pytest.raises(EngineNotRunnable, match="pip install torchao"):
        torch_tensorrt.quantize(model, [images()])
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(EngineNotRunnable, match="pip install nncf"):
        torch_tensorrt.quantize(model, [images()], method="nncf")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_float8_has_no_scale_for_what_is_no_number(value: float) -> None:
    with pytest.raises(InputError, match=rf"calibration_data\[1\].*a linear layer reads {value}"):
        torch_tensorrt.quantize(
            nn.Linear(4, 4).eval(), [torch.ones(2, 4), torch.full((2, 4), value)], precision="float8"
        )


def test_float8_needs_a_linear_layer() -> None:
    with pytest.raises(UnsupportedError, match="this model has none"):
        torch_tensorrt.quantize(nn.Conv2d(3, 4, 3).eval(), [images()], precision="float8")


def test_weights_alone_need_a_linear_layer() -> None:
    with pytest.raises(UnsupportedError, match="this model has none"):
        torch_tensorrt.quantize(nn.Conv2d(3, 4, 3), inputs=ranged(3, 8, 8), weight_only=True)


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 4)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.layer(x) - y.mean()


def test_samples_by_name_are_put_in_order() -> None:
    torch.manual_seed(0)
    samples = [{"y": torch.randn(count, 3), "x": torch.randn(count, 8)} for count in (1, 2, 4)]
    given = [torch_tensorrt.Input(min_shape=(1, n), opt_shape=(2, n), max_shape=(4, n)) for n in (8, 3)]
    model = Pair().eval()
    program = torch_tensorrt.quantize(model, samples, inputs=given, method="torchao")
    for sample in samples:
        with torch.no_grad():
            assert relative(program.module()(sample["x"], sample["y"]), model(**sample)) < 0.05
    with pytest.raises(
        InputError, match=r"calibration_data\[1\].*doesn't fit forward\(x: .*missing a required argument: 'x'"
    ):
        torch_tensorrt.quantize(model, [samples[0], {"z": samples[0]["x"]}], inputs=given, method="torchao")


def test_samples_of_several_sizes_are_told_of_where_the_program_has_one(caplog: pytest.LogCaptureFixture) -> None:
    network, data = nn.Linear(8, 4).eval(), [torch.randn(2, 8), torch.randn(2, 8), torch.randn(1, 8)]
    torch_tensorrt.quantize(network, data[:2], method="torchao")
    assert "differ in form" not in caplog.text
    torch_tensorrt.quantize(network, data, method="torchao")
    assert "([2, 8] torch.float32; [1, 8] torch.float32), and the program is for the first" in caplog.text


def test_a_compiled_model_is_not_quantized_in_silence() -> None:
    network, x = nn.Sequential(nn.Linear(8, 8), nn.ReLU()).eval(), torch.randn(2, 8)
    compiled = torch_tensorrt.compile(network, inputs=[x], engine="eager", min_block_size=1)
    with pytest.raises(InputError, match=r"compiled already .* quantize the model itself"):
        torch_tensorrt.quantize(compiled, [x])


def test_a_model_with_nothing_to_quantize_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    torch_tensorrt.quantize(nn.Sequential(nn.Linear(8, 8), nn.ReLU()).eval(), [torch.randn(2, 8)], method="torchao")
    assert "Nothing was quantized" not in caplog.text
    torch_tensorrt.quantize(nn.Sequential(nn.ReLU(), nn.Softmax(-1)), [torch.randn(2, 8)], method="torchao")
    assert "Nothing was quantized" in caplog.text


@pytest.mark.parametrize("options", [{"symmetric": True}, {"method": "nncf"}])
def test_weights_alone_take_no_tool(options: dict[str, object]) -> None:
    with pytest.raises(InputError, match="leave `method` and `symmetric` out"):
        torch_tensorrt.quantize(nn.Linear(8, 8), inputs=[(2, 8)], weight_only=True, **options)
