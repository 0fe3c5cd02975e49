"""`torch_tensorrt.dynamo.export`, defaults, and the documented questions about a node's sizes."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import fx, nn
from torch.export import Dim, ExportedProgram

import torch_tensorrt
from torch_tensorrt import Input, InputError
from torch_tensorrt.dynamo import _defaults, conversion
from torch_tensorrt.dynamo.runtime._MutableTorchTensorRTModule import RefitFlag, RefitState

X = torch.randn(3, 4)


def model() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)).eval()


@pytest.mark.parametrize(
    "options", [{}, {"arg_inputs": [X]}, {"use_legacy_exporter": True}], ids=["own sizes", "inputs", "legacy"]
)
def test_export_gives_the_program_with_its_engines(options: dict[str, Any]) -> None:
    network = model()
    compiled = torch_tensorrt.dynamo.compile(torch.export.export(network, (X,)), engine="eager", min_block_size=1)
    program = torch_tensorrt.dynamo.export(compiled, **options)
    assert isinstance(program, ExportedProgram)
    op = torch.ops.tensorrt.execute_engine.default
    assert sum(node.target is op for node in program.graph.nodes) == 1
    torch.testing.assert_close(program.module()(X), network(X))


def test_export_keeps_sizes_that_vary() -> None:
    network = model()
    batch = Input(min_shape=(1, 4), opt_shape=(3, 4), max_shape=(6, 4))
    compiled = torch_tensorrt.compile(network, inputs=[batch], engine="eager", min_block_size=1)
    run = torch_tensorrt.dynamo.export(compiled).module()
    for size in (1, 6):
        torch.testing.assert_close(run(X[:1].expand(size, 4)), network(X[:1].expand(size, 4)))


def test_export_refuses_what_was_not_compiled_and_the_wrong_platform() -> None:
    with pytest.raises(InputError, match="compile"):
        torch_tensorrt.dynamo.export(model())  # type: ignore[arg-type]
    compiled = torch_tensorrt.compile(model(), inputs=[X], engine="eager", min_block_size=1)
    with pytest.raises(InputError, match="cross_compile_module=True, but this CompiledModule was not compiled"):
        torch_tensorrt.dynamo.export(compiled, cross_compile_module=True)


def test_a_misspelt_default_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="MIN_BLOK_SIZE"):
        _defaults.MIN_BLOK_SIZE  # noqa: B018


PLACES = (
    *("dynamo.conversion.dynamo_tensorrt_converter", "dynamo._defaults.MIN_BLOCK_SIZE", "dynamo._tracer.trace"),
    *("dynamo._settings.CompilationSettings", "dynamo._engine_cache.BaseEngineCache", "dynamo.runtime", "_Input.Input"),
    *("_Device.Device", "_enums.dtype", "fx.InputTensorSpec", "ts.compile", "logging.debug", "runtime.native"),
)


def test_the_documented_places_are_there_after_importing_the_package_alone() -> None:
    code = "import torch_tensorrt\n" + "\n".join(f"torch_tensorrt.{place}" for place in PLACES)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr


def test_a_misspelt_place_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'convertion'"):
        torch_tensorrt.dynamo.convertion  # noqa: B018


def additions() -> tuple[fx.Node, fx.Node]:
    """One of fixed sizes; one with a first argument of varying and a second one of fixed size."""

    class Two(nn.Module):
        def forward(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return y + 1, x + y

    program = torch.export.export(Two(), (torch.ones(3, 4), torch.ones(4)), dynamic_shapes=({0: Dim("b")}, None))
    fixed, varying = program.graph.find_nodes(op="call_function", target=torch.ops.aten.add.Tensor)
    return fixed, varying


def test_whether_a_nodes_sizes_vary_can_be_asked() -> None:
    fixed, varying = additions()
    settings = torch_tensorrt.dynamo.CompilationSettings()
    assert conversion.has_static_shapes(fixed)
    assert not conversion.has_static_shapes(varying)
    assert conversion.node_has_dynamic_shapes(varying)
    for places, varies in ((None, True), ([0], True), ([1], False), ([7], False)):
        assert conversion.has_dynamic_shapes_in_args(places)(varying, settings) is varies
        assert conversion.has_static_shapes_in_args(places)(varying, settings) is not varies
    assert not conversion.has_dynamic_shapes_in_args()(fixed, settings)


def test_the_state_of_refitting_is_a_documented_flag() -> None:
    state = RefitState()
    assert state.get_state() is RefitFlag.NEEDS_RECOMPILE
    state.set_state(RefitFlag.LIVE)
    assert state.get_state() is RefitFlag.LIVE
