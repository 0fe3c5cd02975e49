"""TensorRT-RTX without a GPU: networks, plans, their targets, options and errors; converters of users; the door."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import torch
from suite.programs import make_partition
from torch import Tensor, fx, nn

trt = pytest.importorskip("tensorrt_rtx")

from interpret.interpreter import Interpreter  # noqa: E402
from suite.flows.tensorrt import build  # noqa: E402

import torch_tensorrt  # noqa: E402
from torch_tensorrt import engines  # noqa: E402
from torch_tensorrt.dynamo.conversion import (  # noqa: E402
    ConversionContext,
    ConverterPriority,
    converts,
    dynamo_tensorrt_converter,
)
from torch_tensorrt.engines.tensorrt import sdk  # noqa: E402
from torch_tensorrt.engines.tensorrt.build import Definition, define, serialize  # noqa: E402
from torch_tensorrt.engines.tensorrt.converters.registry import ConverterRegistry  # noqa: E402
from torch_tensorrt.engines.tensorrt.monitoring import BuildProgress  # noqa: E402
from torch_tensorrt.engines.tensorrt.net import Net  # noqa: E402
from torch_tensorrt.engines.tensorrt.sdk import ITensor  # noqa: E402
from torch_tensorrt.spec.errors import (  # noqa: E402
    BuildError,
    EngineNotRunnable,
    InputError,
    InternalError,
    UnsupportedError,
)
from torch_tensorrt.spec.settings import CompilationSettings  # noqa: E402

BACKEND = engines.backend("tensorrt_rtx")
RTX = sdk.load("tensorrt_rtx")
SETTINGS = CompilationSettings.from_options(device="sm_89")
WEIGHT = torch.eye(8)
aten = torch.ops.aten


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4)).eval()


def cnn() -> nn.Module:
    layers = [nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=4, bias=False)]
    return nn.Sequential(*layers, nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)).eval()


def defined(function: Callable[..., object], inputs: Sequence[Tensor], **options: object) -> Definition:
    settings = CompilationSettings.from_options(device="sm_89", **options)
    return define(RTX, make_partition(function, inputs, BACKEND, settings=settings), settings)


def compiled(model: nn.Module, *shape: int, **options: object) -> torch_tensorrt.dynamo.CompiledModule:
    images = torch_tensorrt.Input(min_shape=(1, *shape), opt_shape=(4, *shape), max_shape=(8, *shape))
    return torch_tensorrt.compile(  # type: ignore[no-any-return]
        model, inputs=[images], engine="tensorrt_rtx", require_full_compilation=True, **options
    )


@pytest.mark.parametrize(("model", "shape"), [(mlp, (8,)), (cnn, (3, 17, 16))], ids=["mlp", "cnn"])
@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_model_s_network_agrees_with_pytorch_and_builds(
    model: Callable[[], nn.Module], shape: tuple[int, ...], dynamic: bool, dtype: torch.dtype
) -> None:
    reference = model()
    net = copy.deepcopy(reference).to(dtype)
    x = torch.randn(4, *shape).to(dtype)
    made = build(make_partition(net, [x], BACKEND, {0: [0]} if dynamic else None, SETTINGS), SETTINGS)
    for batch in (1, 4, 9) if dynamic else (4,):
        given = torch.randn(batch, *shape).to(dtype)
        (result,) = made.run([given])
        wanted = reference(given.float()).detach()
        error = (result.float() - wanted).norm() / wanted.norm()
        assert error < {torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 3e-2}[dtype]
    assert len(made.plan) > 1000


@pytest.mark.parametrize(("model", "shape"), [(mlp, (8,)), (cnn, (3, 16, 16))], ids=["mlp", "cnn"])
def test_compiling_on_a_cpu_reaches_the_engine_which_says_what_it_needs(
    model: Callable[[], nn.Module], shape: tuple[int, ...], tmp_path: Path
) -> None:
    module = compiled(model(), *shape, device=torch_tensorrt.Device("sm_89"))
    assert module.plan is not None
    assert module.plan.in_engines == module.plan.total
    torch_tensorrt.save(module, str(tmp_path / "model.ep"), inputs=[torch.randn(4, *shape)])
    loaded = torch_tensorrt.load(str(tmp_path / "model.ep")).module()
    for run in (module, loaded):
        with pytest.raises(
            EngineNotRunnable, match=rf"{RTX.version} for sm_89; it needs an NVIDIA GPU.*engine='openvino'"
        ):
            run(torch.randn(4, *shape))


def test_a_capability_as_the_device_chooses_the_engine_that_builds_for_it() -> None:
    module = torch_tensorrt.compile(mlp(), inputs=[torch.randn(4, 8)], device="sm_86,sm_89", min_block_size=1)
    assert module.plan.backend == "tensorrt_rtx"


def test_the_bytes_of_an_engine_are_the_plan_of_the_sdk_and_are_the_same_each_time() -> None:
    first, second = (serialize(defined(mlp_fixed, [torch.ones(4, 8)]), SETTINGS) for _ in range(2))
    assert first == second
    assert first[:4] == b"vtrt"  # the magic of RTX's plans
    partition = make_partition(mlp_fixed, [torch.ones(4, 8)], BACKEND, settings=SETTINGS)
    engine = BACKEND.build(partition, SETTINGS)
    assert engine.to_bytes() == first
    assert engine.spec.target == "sm_89"
    assert BACKEND.from_bytes(memoryview(first), engine.spec).to_bytes() == first


def mlp_fixed(x: Tensor) -> Tensor:
    return (x @ WEIGHT).relu() * 2 + 1


def test_layers_are_named_after_their_nodes_and_say_which_operator_they_are_of() -> None:
    definition = defined(mlp(), [torch.randn(4, 8)])
    network = definition.net.network
    layers = [network.get_layer(place) for place in range(network.num_layers)]
    names = {layer.name.split(".")[0]: layer.metadata for layer in layers}
    assert names["linear"] == "aten.linear.default"
    assert names["relu"] == "aten.relu.default"
    assert set(definition.net.weights) >= {"function.0.weight", "function.2.bias"}


def test_a_layer_that_the_sdk_refuses_is_an_error_with_its_words_and_the_node() -> None:
    definition = defined(mlp_fixed, [torch.ones(4, 8)])
    net = definition.net
    net.node = next(node for node in definition.partition.module.graph.nodes if node.target is aten.relu.default)
    a, b = net.constant(torch.ones(2)), net.constant(torch.ones(3))
    with pytest.raises(BuildError, match=r"(?s)refused 'relu' \(aten.relu.default\).*conformable.*torch_executed_ops"):
        net.elementwise(a, b, "SUM", torch.float32)
    with pytest.raises(BuildError, match=r"refused 'relu'.*add_elementwise"):
        net.layer("elementwise", a, 5, 5)


def test_a_plan_that_the_sdk_refuses_names_the_node() -> None:
    settings = CompilationSettings.from_options(device="sm_75")
    partition = make_partition(lambda x: (x @ x).relu(), [torch.randn(8, 8)], BACKEND)
    with pytest.raises(
        BuildError,
        match=r"(?s)'matmul' \(aten.matmul.default\): .*Turing.*torch_executed_ops=\{\"aten.matmul.default\"\}",
    ):
        BACKEND.build(partition, settings)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"device": "sm_90"}, "no ComputeCapability.SM90; what it knows is .*SM89"),
        ({"hardware_compatible": True}, "unsupported in TensorRT-RTX"),
        ({"dla_sram_size": 1 << 19}, "DLA"),
    ],
)
def test_an_option_that_the_sdk_can_t_honour_is_an_error_with_its_words(options: dict[str, object], says: str) -> None:
    with pytest.raises(UnsupportedError, match=says):
        compiled(mlp(), 8, **options)


@pytest.mark.parametrize(
    "options",
    [
        {"immutable_weights": False},
        {"immutable_weights": False, "strip_engine_weights": True},
        {"version_compatible": True},
    ],
    ids=str,
)
def test_what_needs_a_gpu_to_be_built_is_a_build_error(options: dict[str, object]) -> None:
    with pytest.raises(BuildError, match=r"Myelin|libnvinfer_lean"):
        compiled(mlp(), 8, **options)


@pytest.mark.parametrize(
    "options",
    [
        {"optimization_level": 5},
        {"max_aux_streams": 2},
        {"num_avg_timing_iters": 3},
        {"tiling_optimization_level": "full", "l2_limit_for_tiling": 1 << 20},
        {"sparse_weights": True},
        {"disable_tf32": True},
        {"enable_weight_streaming": True},
        {"workspace_size": 1 << 30},
    ],
    ids=str,
)
def test_an_option_is_accepted(options: dict[str, object]) -> None:
    assert compiled(mlp(), 8, **options).plan is not None


def test_a_size_without_an_upper_bound_is_an_input_error() -> None:
    partition = make_partition(mlp(), [torch.randn(4, 8)], BACKEND, {0: [0]})
    with pytest.raises(InputError, match=r"upper bound.*dimension 0.*max_shape"):
        BACKEND.build(partition, SETTINGS)


@pytest.mark.parametrize(
    ("function", "inputs", "reason"),
    [
        (lambda x: x + 1.5, [torch.ones(3).double()], "truncate_double"),
        (lambda x: x + x, [torch.ones(3, dtype=torch.int16)], "int16"),
        (lambda x: x & 3, [torch.arange(3)], "of integers"),
        (lambda x: torch.lgamma(x), [torch.ones(3)], "no converter for aten.lgamma"),
        (lambda x: x.reshape((1,) * 9) + 1, [torch.ones(1)], "8 dimensions"),
    ],
)
def test_what_can_t_be_converted_is_refused_with_a_reason(
    function: Callable[[Tensor], Tensor], inputs: list[Tensor], reason: str
) -> None:
    partition = make_partition(function, inputs, BACKEND)
    nodes = [node for node in partition.module.graph.nodes if isinstance(node.target, torch._ops.OpOverload)]
    reasons = [support.reason for node in nodes if not (support := BACKEND.supports(node, SETTINGS))]
    assert any(reason in given for given in reasons), reasons


def _sizes(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    n, m = x.shape
    return x.reshape(m, n) * (n - 1), x.expand(2, n, m) + (n * m) // 2, torch.cat([x, y]), x[1 : n - 1, ::2], y[-2:]


def test_sizes_that_vary_are_computed_in_the_network() -> None:
    x, y = torch.randn(5, 6), torch.randn(3, 6)
    made = build(make_partition(_sizes, [x, y], BACKEND, {0: [0, 1], 1: [0, 1]}), SETTINGS)
    for n, m, k in ((5, 6, 3), (7, 4, 2), (9, 9, 9)):
        given = [torch.randn(n, m), torch.randn(k, m)]
        for ours, theirs in zip(made.run(given), _sizes(*given), strict=True):
            torch.testing.assert_close(ours, theirs)


def test_an_input_may_be_an_output_and_an_output_may_stand_twice() -> None:
    x = torch.randn(3)
    partition = make_partition(lambda a: (a, a + 1, a, (a + 1).clone()), [x], BACKEND)
    made = build(partition, SETTINGS)
    for ours, theirs in zip(made.run([x]), (x, x + 1, x, x + 1), strict=True):
        assert torch.equal(ours, theirs)


def test_tensorrt_itself_says_what_it_lacks_here() -> None:
    with pytest.raises(InputError, match="tensorrt"):
        torch_tensorrt.compile(mlp(), inputs=[torch.randn(4, 8)], engine="tensorrt")


def test_messages_of_the_sdk_reach_our_logger_and_who_listens(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, logger="torch_tensorrt"), sdk.listen() as words:
        sdk.hear("ERROR", "a mistake")
        sdk.hear("ERROR", "[checkMacros.cpp::catchCudaError::250] Error Code 1: Cuda Runtime")
        sdk.hear("WARNING", "beware")
    assert str(words) == "a mistake"
    assert [record.getMessage() for record in caplog.records] == ["a mistake", "beware"]


def test_an_interrupt_during_a_build_cancels_it_and_is_raised_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(self: object, what: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("torch_tensorrt.observe.progress.Steps.advance", interrupt)
    with pytest.raises(KeyboardInterrupt):
        serialize(defined(mlp(), [torch.randn(4, 8)]), SETTINGS)


def test_the_builder_s_outermost_phase_is_what_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[str] = []
    monkeypatch.setattr("torch_tensorrt.observe.progress.Steps.advance", lambda self, what: counted.append(what))
    with BuildProgress("Building") as listener:
        listener.phase_start("outer", None, 2)
        listener.phase_start("inner", "outer", 5)
        assert listener.step_complete("inner", 0)
        assert listener.step_complete("outer", 0)
        listener.phase_finish("outer")
    assert counted == ["outer"]


@pytest.fixture
def registry() -> Iterator[ConverterRegistry]:
    """The registry, as it was again afterwards."""
    before = {key: list(rows) for key, rows in converts._rows.items()}
    yield converts
    converts._rows.clear()
    converts._rows.update(before)


def test_a_user_s_converter_in_the_documented_form_is_used(registry: ConverterRegistry) -> None:
    @dynamo_tensorrt_converter(aten.lgamma.default, supports_dynamic_shapes=True)
    def lgamma_as_exp(
        ctx: ConversionContext, target: object, args: tuple[ITensor, ...], kwargs: dict[str, object], name: str
    ) -> ITensor:
        layer = ctx.net.add_unary(args[0], trt.UnaryOperation.EXP)
        layer.name = name
        return layer.get_output(0)  # type: ignore[no-any-return]

    x = torch.randn(3)
    definition = defined(torch.lgamma, [x])
    (result,) = Interpreter(definition.net.network).run_all(x)
    torch.testing.assert_close(result, x.exp())


@pytest.mark.parametrize("priority", ConverterPriority)
def test_priority_decides_whether_a_user_s_converter_stands_before_ours(
    registry: ConverterRegistry, priority: ConverterPriority
) -> None:
    @dynamo_tensorrt_converter(aten.relu.default, priority=priority, supports_dynamic_shapes=True)
    def negated(
        ctx: ConversionContext, target: object, args: tuple[ITensor, ...], kwargs: dict[str, object], name: str
    ) -> ITensor:
        return ctx.layers.unary(args[0], "NEG")

    x = torch.randn(3)
    (result,) = Interpreter(defined(torch.relu, [x]).net.network).run_all(x)
    assert torch.equal(result, -x if priority is ConverterPriority.HIGH else x.relu())


def test_a_validator_and_fixed_sizes_turn_nodes_away(registry: ConverterRegistry) -> None:
    @dynamo_tensorrt_converter(aten.lgamma.default, capability_validator=lambda node, settings: False)
    def first(*_: object) -> ITensor:
        raise AssertionError

    @dynamo_tensorrt_converter(aten.lgamma.default)
    def second(*_: object) -> ITensor:
        raise AssertionError

    node = _node(make_partition(torch.lgamma, [torch.randn(3)], BACKEND, {0: [0]}).module)
    reason = BACKEND.supports(node, SETTINGS).reason
    assert "fixed sizes only" in reason
    converter, _ = registry.find(_node(make_partition(torch.lgamma, [torch.randn(3)], BACKEND).module), SETTINGS)
    assert converter is registry._rows[aten.lgamma.default][1]


def test_our_short_form_is_open_to_users_and_checked_when_it_is_registered(registry: ConverterRegistry) -> None:
    with pytest.raises(InternalError, match="two converters"):
        registry(aten.relu.default)(lambda net, self: self)
    with pytest.raises(InternalError, match=r"ignores the arguments \['other'\]"):
        ConverterRegistry()(aten.atan2.default)(lambda net, self: self)

    def misnamed(net: Net, value: ITensor) -> ITensor:
        return value

    with pytest.raises(InternalError, match="value"):
        ConverterRegistry()(aten.relu.default)(misnamed)


def test_a_converter_that_is_wrong_about_a_shape_is_told_so(registry: ConverterRegistry) -> None:
    @dynamo_tensorrt_converter(aten.relu.default, priority=ConverterPriority.HIGH, supports_dynamic_shapes=True)
    def flattened(
        ctx: ConversionContext, target: object, args: tuple[ITensor, ...], kwargs: dict[str, object], name: str
    ) -> ITensor:
        return ctx.layers.reshape(args[0], [6])

    with pytest.raises(
        InputError, match=r"'relu' .* gives torch.float32 \[6\] and PyTorch torch.float32 \[2, 3\].*Correct it"
    ):
        defined(torch.relu, [torch.randn(2, 3)])


def _node(module: fx.GraphModule) -> fx.Node:
    return next(node for node in module.graph.nodes if node.target is aten.lgamma.default)
