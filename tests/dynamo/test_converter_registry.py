"""The documented view of the converters: what there is, what takes a node, and what is said of an operator."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import fx, nn

from torch_tensorrt import InputError
from torch_tensorrt.dynamo import CompilationSettings
from torch_tensorrt.dynamo.conversion import DYNAMO_CONVERTERS, ConverterPriority, dynamo_tensorrt_converter
from torch_tensorrt.dynamo.conversion._ConverterRegistry import (
    CallingConvention,
    ConverterRegistry,
    ConverterSupport,
)
from torch_tensorrt.engines.tensorrt.converters import converts

aten = torch.ops.aten


def implementation(*arguments: Any) -> Any:
    """A converter that is never called."""


def node_of(operator: Any, *shapes: tuple[int, ...], dtype: torch.dtype = torch.float32) -> fx.Node:
    """A node that calls `operator` on tensors of these shapes, as torch.export makes it."""

    class Calls(nn.Module):
        def forward(self, *inputs: Any) -> Any:
            return operator(*inputs)

    program = torch.export.export(Calls(), tuple(torch.ones(shape, dtype=dtype) for shape in shapes))
    return next(node for node in program.graph.nodes if node.op == "call_function")


RELU, COS = aten.relu.default, aten.cos.default


@pytest.fixture
def registry() -> ConverterRegistry:
    large = ConverterSupport(implementation, lambda node, _: node.meta["val"].numel() > 10)
    any_size = ConverterSupport(implementation, supports_dynamic_shapes=True)
    return ConverterRegistry([{RELU: (large, any_size)}, {RELU: implementation, COS: [large]}], ["first", "second"])


def test_the_first_converter_that_takes_a_node_is_given(registry: ConverterRegistry) -> None:
    small, large = node_of(RELU, (2, 3)), node_of(RELU, (4, 5))
    assert registry[small].supports_dynamic_shapes
    assert not registry[large].supports_dynamic_shapes
    assert small in registry
    assert node_of(COS, (4, 5)) in registry
    assert node_of(COS, (2, 3)) not in registry
    with pytest.raises(KeyError, match="cos"):
        registry[node_of(COS, (2, 3))]
    other = ConverterSupport(implementation)
    assert registry.get(node_of(COS, (2, 3)), other) is other


def test_of_an_operator_all_converters_are_told_whatever_they_take(registry: ConverterRegistry) -> None:
    assert COS in registry
    assert aten.cos in registry
    assert aten.sin.default not in registry
    found, counts = registry.get_all_converters_with_target(RELU, return_registry_info=True)
    assert len(found) == 3
    assert counts == {"first": 2, "second": 1}
    first = registry.get_unvalidated(aten.relu)
    assert first is not None
    assert first is found[0]
    assert registry.get_unvalidated(aten.sin.default) is None
    assert registry.unique_targets() == {RELU, COS}
    assert registry.keys() == ["torch.ops.aten.cos.default", "torch.ops.aten.relu.default"]
    assert registry.get_converter_support_info()["torch.ops.aten.cos.default"] == {"second": 1}
    assert "torch.ops.aten.relu.default: 2 in first, 1 in second" in registry.display_all_available_converters()


@pytest.mark.parametrize("name", [RELU, "torch.ops.aten.relu.default", "aten.relu"])
def test_operators_that_are_to_stay_in_pytorch_have_none(registry: ConverterRegistry, name: object) -> None:
    node = node_of(RELU, (2, 3))
    registry.set_disallowed_targets({name})
    assert registry.get(node) is None
    assert RELU in registry  # it is there
    registry.set_compilation_settings(CompilationSettings())
    assert registry.get(node) is not None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (([{}, {}], ["one"]), "2 registries came with 1 names"),
        (([{RELU: 3}],), "Registry 1 has 3"),
        (([{RELU: ()}],), "a converter or ConverterSupports"),
        (([{}], None, [CallingConvention.LEGACY]), "CallingConvention.CTX"),
    ],
)
def test_what_does_not_go_together_is_named(arguments: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        ConverterRegistry(*arguments)


def test_questions_of_the_wrong_kind_are_named(registry: ConverterRegistry) -> None:
    with pytest.raises(InputError, match="get_unvalidated"):
        registry.get(RELU)
    with pytest.raises(InputError, match="CompilationSettings"):
        registry.set_compilation_settings({})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("target", "name"),
    [(RELU, "torch.ops.aten.relu.default"), (aten.relu, "torch.ops.aten.relu"), ("a.b", "a.b"), (len, "builtins.len")],
)
def test_names_say_where_a_target_is_found(target: object, name: str) -> None:
    assert ConverterRegistry.qualified_name_or_str(target) == name


def test_the_converters_of_this_package_are_in_dynamo_converters() -> None:
    assert len(DYNAMO_CONVERTERS.keys()) == len(converts.operators()) > 240
    assert RELU in DYNAMO_CONVERTERS
    assert node_of(RELU, (2, 3)) in DYNAMO_CONVERTERS
    assert node_of(RELU, (2, 3), dtype=torch.complex64) not in DYNAMO_CONVERTERS, (
        "no engine computes with complex numbers"
    )
    assert aten.rand.default not in DYNAMO_CONVERTERS


@pytest.fixture
def _own_rows_restored() -> Iterator[None]:
    before = {key: [*rows] for key, rows in converts._rows.items()}
    yield
    converts._rows.clear()
    converts._rows.update(before)


@pytest.mark.usefixtures("_own_rows_restored")
def test_a_users_converter_is_seen_at_once_and_before_the_others() -> None:
    before = DYNAMO_CONVERTERS.get_unvalidated(RELU)
    dynamo_tensorrt_converter(RELU, priority=ConverterPriority.HIGH, supports_dynamic_shapes=False)(implementation)
    found = DYNAMO_CONVERTERS.get_unvalidated(RELU)
    assert before is not None
    assert found is not None
    assert (before.supports_dynamic_shapes, found.supports_dynamic_shapes) == (True, False)
