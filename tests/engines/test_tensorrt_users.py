"""Converters of users from end to end: they take part in partitioning, beat ours by priority, and their mistakes are named."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pytest
import torch
from suite.programs import make_partition
from torch import Tensor, nn

trt = pytest.importorskip("tensorrt_rtx")

from interpret.interpreter import Interpreter  # noqa: E402

import torch_tensorrt  # noqa: E402
from torch_tensorrt import InputError, engines  # noqa: E402
from torch_tensorrt.dynamo.conversion import (  # noqa: E402
    ConversionContext,
    ConverterPriority,
    converts,
    dynamo_tensorrt_converter,
)
from torch_tensorrt.engines.tensorrt import sdk  # noqa: E402
from torch_tensorrt.engines.tensorrt.build import define  # noqa: E402
from torch_tensorrt.engines.tensorrt.net import Net  # noqa: E402
from torch_tensorrt.engines.tensorrt.sdk import ITensor  # noqa: E402
from torch_tensorrt.spec.settings import CompilationSettings  # noqa: E402

RTX = sdk.load("tensorrt_rtx")
BACKEND = engines.backend("tensorrt_rtx")
aten = torch.ops.aten
Arguments = tuple[ITensor, ...]
ROWS = torch_tensorrt.Input(min_shape=(1, 8), opt_shape=(4, 8), max_shape=(16, 8))


@torch.library.custom_op("shop::swish", mutates_args=())
def swish(x: Tensor, beta: float = 1.0) -> Tensor:
    return x * torch.sigmoid(beta * x)


@swish.register_fake
def _(x: Tensor, beta: float = 1.0) -> Tensor:
    return torch.empty_like(x)


class Shop(nn.Module):
    """An operator that only a user's converter knows, between two of ours."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(8, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.ops.shop.swish(self.first(x), 1.5))


@pytest.fixture(autouse=True)
def _registry_as_it_was() -> Iterator[None]:
    before = {key: list(rows) for key, rows in converts._rows.items()}
    own, whole = set(converts._own), set(converts._whole)
    yield
    converts._rows.clear()
    converts._rows.update(before)
    converts._own, converts._whole = own, whole


def convert_swish(
    ctx: ConversionContext, target: object, args: Arguments, kwargs: dict[str, object], name: str
) -> ITensor:
    """With the SDK's own calls, as the public documentation shows it."""
    x, beta = args
    assert isinstance(beta, float)
    scale = ctx.net.add_constant((1, 1), trt.Weights(trt.float32, *_pinned(beta))).get_output(0)
    scaled = ctx.net.add_elementwise(x, scale, trt.ElementWiseOperation.PROD).get_output(0)
    gate = ctx.net.add_activation(scaled, trt.ActivationType.SIGMOID).get_output(0)
    layer = ctx.net.add_elementwise(x, gate, trt.ElementWiseOperation.PROD)
    layer.name = f"[{target}]-{name}"
    return layer.get_output(0)  # type: ignore[no-any-return]


PINNED: list[Tensor] = []


def _pinned(value: float) -> tuple[int, int]:
    PINNED.append(torch.tensor([value]))  # the SDK copies no weights
    return PINNED[-1].data_ptr(), 1


def compiled(model: nn.Module, inputs: Sequence[object], **options: object) -> torch_tensorrt.CompiledModule:
    options = {"engine": "tensorrt_rtx", "min_block_size": 1, **options}
    return torch_tensorrt.compile(model.eval(), inputs=inputs, **options)  # type: ignore[no-any-return]


def interpreted(module: torch_tensorrt.CompiledModule, *inputs: Tensor) -> list[Tensor]:
    """What the network of the module's only engine gives."""
    (partition,) = module.partitions.values()
    definition = define(RTX, partition, module.settings)  # owns the weights
    return Interpreter(definition.net.network).run_all(*inputs)


def test_an_operator_without_a_converter_stays_in_pytorch_and_goes_into_the_engine_with_one() -> None:
    model = Shop()
    without = compiled(model, [ROWS]).plan
    assert without is not None
    assert list(without.refusals) == ["swish"]
    assert "no converter for shop.swish.default" in without.refusals["swish"]
    assert len(without.groups) == 2

    dynamo_tensorrt_converter(torch.ops.shop.swish.default, supports_dynamic_shapes=True)(convert_swish)
    module = compiled(model, [ROWS], require_full_compilation=True)
    assert module.plan is not None
    assert [dict(group.operators)["shop.swish.default"] for group in module.plan.groups] == [1]
    for batch in (1, 5, 16):
        given = torch.randn(batch, 8)
        torch.testing.assert_close(interpreted(module, given), [model(given)])


def test_our_short_form_does_the_same() -> None:
    @converts(torch.ops.shop.swish.default)
    def convert(net: Net, x: ITensor, beta: float) -> ITensor:
        gate = net.activation(net.elementwise(x, beta, "PROD", net.result), "SIGMOID")
        return net.elementwise(x, gate, "PROD", net.result)

    model = Shop()
    module = compiled(model, [ROWS], require_full_compilation=True)
    x = torch.randn(3, 8)
    torch.testing.assert_close(interpreted(module, x), [model(x)])


def negated(ctx: ConversionContext, target: object, args: Arguments, kwargs: dict[str, object], name: str) -> ITensor:
    return ctx.net.add_unary(args[0], trt.UnaryOperation.NEG).get_output(0)  # type: ignore[no-any-return]


@pytest.mark.parametrize("priority", ConverterPriority)
def test_a_converter_beats_ours_by_priority_in_a_compiled_model(priority: ConverterPriority) -> None:
    dynamo_tensorrt_converter(aten.relu.default, priority=priority, supports_dynamic_shapes=True)(negated)
    module = compiled(nn.ReLU(), [ROWS])
    x = torch.randn(2, 8)
    (result,) = interpreted(module, x)
    assert torch.equal(result, -x if priority is ConverterPriority.HIGH else x.relu())


def test_an_operator_that_would_be_taken_apart_reaches_its_converter_whole() -> None:
    module = compiled(nn.Threshold(0.5, 1.0), [ROWS])
    assert module.plan is not None
    assert "aten.threshold.default" not in str(module.plan)
    dynamo_tensorrt_converter(aten.threshold.default, supports_dynamic_shapes=True)(negated)
    module = compiled(nn.Threshold(0.5, 1.0), [ROWS])
    assert module.plan is not None
    assert dict(module.plan.groups[0].operators) == {"aten.threshold.default": 1}


def test_a_packet_stands_for_all_of_its_overloads() -> None:
    dynamo_tensorrt_converter(aten.lgamma, supports_dynamic_shapes=True)(negated)
    assert {aten.lgamma.default, aten.lgamma.out} <= set(converts.operators())
    x = torch.randn(2, 8)

    class Model(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.lgamma()

    assert torch.equal(interpreted(compiled(Model(), [ROWS]), x)[0], -x)


@pytest.mark.parametrize(
    ("options", "inputs", "why"),
    [
        ({"capability_validator": lambda node, settings: False}, [torch.ones(4, 8)], "capability_validator .* said no"),
        ({}, [ROWS], "fixed sizes only"),
        ({"requires_output_allocator": True}, [torch.ones(4, 8)], "needs an output allocator"),
        ({"requires_native_multidevice": True}, [torch.ones(4, 8)], "needs several GPUs"),
        ({"enabled": False}, [torch.ones(4, 8)], "no converter for"),
    ],
    ids=["validator", "dynamic", "allocator", "multidevice", "disabled"],
)
def test_a_converter_that_can_t_take_a_node_leaves_it_to_pytorch_with_the_reason(
    options: dict[str, object], inputs: list[object], why: str
) -> None:
    dynamo_tensorrt_converter(torch.ops.shop.swish.default, **options)(convert_swish)  # type: ignore[arg-type]
    plan = compiled(Shop(), inputs, dryrun=True).plan
    assert plan is not None
    assert list(plan.refusals) == ["swish"]
    with pytest.raises(AssertionError, match=why):
        raise AssertionError(plan.refusals["swish"])


def test_the_validator_sees_the_node_and_the_settings() -> None:
    seen: list[tuple[object, ...]] = []

    def small(node: torch.fx.Node, settings: CompilationSettings) -> bool:
        seen.append((node.target, settings.min_block_size))
        return bool(node.args[1] < 1)  # type: ignore[operator]

    dynamo_tensorrt_converter(torch.ops.shop.swish.default, capability_validator=small)(convert_swish)
    plan = compiled(Shop(), [torch.ones(4, 8)], min_block_size=2, dryrun=True).plan
    assert plan is not None
    assert "'convert_swish' said no" in plan.refusals["swish"]
    assert set(seen) == {(torch.ops.shop.swish.default, 2)}


def test_assume_dynamic_shape_support_vouches_for_converters_of_users() -> None:
    dynamo_tensorrt_converter(torch.ops.shop.swish.default)(convert_swish)
    compiled(Shop(), [ROWS], require_full_compilation=True, assume_dynamic_shape_support=True)


def _none(ctx: ConversionContext, *_: object) -> None:
    return None


def _fails(ctx: ConversionContext, *_: object) -> ITensor:
    raise KeyError("beta")


def _clashes(ctx: ConversionContext, target: object, args: Arguments, kwargs: dict[str, object], name: str) -> ITensor:
    other = ctx.layers.constant(torch.ones(3, 3))
    return ctx.net.add_elementwise(args[0], other, trt.ElementWiseOperation.SUM).get_output(0)  # type: ignore[no-any-return]


def _changes_the_shape(
    ctx: ConversionContext, target: object, args: Arguments, kwargs: dict[str, object], name: str
) -> ITensor:
    return ctx.layers.reshape(args[0], [32])


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (
            _none,
            r"'_none', registered for aten.relu.default, failed at 'relu'.*returned None; an ITensor.*torch_executed",
        ),
        (_fails, r"'_fails', .*KeyError: 'beta'"),
        (_clashes, r"'_clashes', .*TensorRT-RTX said: .*conformable"),
        (_changes_the_shape, r"gives torch.float32 \[32\] and PyTorch torch.float32 \[4, 8\].*Correct it"),
    ],
)
def test_a_mistake_in_a_converter_is_the_user_s_move_and_says_where(
    function: Callable[..., ITensor], words: str
) -> None:
    dynamo_tensorrt_converter(aten.relu.default, priority=ConverterPriority.HIGH)(function)
    with pytest.raises(InputError, match=f"(?s){words}"):
        compiled(nn.ReLU(), [torch.ones(4, 8)])


def test_a_key_that_is_no_operator_is_an_input_error() -> None:
    with pytest.raises(InputError, match=r"not for 'aten\.relu'"):
        dynamo_tensorrt_converter("aten.relu")


def test_arguments_are_what_the_node_has() -> None:
    seen: dict[str, object] = {}

    @dynamo_tensorrt_converter(aten.gelu.default, priority=ConverterPriority.HIGH)
    def gelu(
        ctx: ConversionContext, target: object, args: Arguments, kwargs: dict[str, object], name: str
    ) -> Sequence[ITensor]:
        seen.update(target=target, kwargs=kwargs, name=name, network=type(ctx.net), rank=len(args[0].shape))
        return [ctx.layers.activation(args[0], "GELU_TANH")][0]  # type: ignore[return-value]

    partition = make_partition(lambda x: torch.nn.functional.gelu(x, approximate="tanh"), [torch.ones(2, 3)], BACKEND)
    definition = define(RTX, partition, CompilationSettings.from_options())
    assert seen == {
        "target": aten.gelu.default,
        "kwargs": {"approximate": "tanh"},
        "name": "gelu",
        "network": trt.INetworkDefinition,
        "rank": 2,
    }
    x = torch.randn(2, 3)
    expected = torch.nn.functional.gelu(x, approximate="tanh")
    torch.testing.assert_close(Interpreter(definition.net.network).run_all(x), [expected])


@pytest.mark.parametrize("short", [False, True], ids=["documented form", "short form"])
def test_engines_are_not_taken_from_the_cache_while_there_are_users_converters(short: bool) -> None:
    partition = make_partition(torch.relu, [torch.ones(2, 3)], BACKEND)
    assert BACKEND.fingerprint(partition, CompilationSettings.from_options()) is not None
    if short:
        converts(aten.lgamma.default)(lambda net, self: self)
    else:
        dynamo_tensorrt_converter(aten.lgamma.default)(negated)
    assert BACKEND.fingerprint(partition, CompilationSettings.from_options()) is None
