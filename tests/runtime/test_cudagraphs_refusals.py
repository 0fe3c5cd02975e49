"""What of a model can't be captured in a CUDA graph: found in its graph before anything runs, and named."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, fx
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from torch_tensorrt.contracts.engine import EngineSpec
from torch_tensorrt.runtime.cudagraphs.contents import contents_of_engine
from torch_tensorrt.runtime.cudagraphs.refusals import contents_of_graph
from torch_tensorrt.spec.tensor_spec import Dim, TensorSpec

aten = torch.ops.aten


def traced(model: Callable[..., object], *devices: str, shape: tuple[int, ...] = (4, 4)) -> fx.GraphModule:
    """The graph of `model` for tensors on `devices`, which needn't be here."""
    mode = FakeTensorMode(shape_env=ShapeEnv(), allow_non_fake_inputs=True)
    with mode:
        inputs = [torch.empty(shape, device=device) for device in devices]
        return make_fx(model)(*inputs)


def test_a_model_on_the_gpu_can_be_captured() -> None:
    found = contents_of_graph(traced(lambda x, y: torch.relu(x) @ y, "cuda", "cuda"))
    assert (found.refusal, found.on_gpu, found.random, found.state()) == ("", True, False, [])


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (
            lambda x: aten._to_copy.default(aten._to_copy.default(x, device="cpu"), device="cuda"),
            r"'_to_copy' \(aten\._to_copy\.default\) is computed on the CPU",
        ),
        (lambda x: aten.nonzero.default(x), r"the size of 'nonzero' .* depends on the data"),
        (lambda x: aten._local_scalar_dense.default(x.sum()), r"'_local_scalar_dense' .* waits for data from the GPU"),
        (lambda x: (x + 1, aten.arange.default(4, device="cpu")), r"'arange' .* is computed on the CPU"),
    ],
    ids=["through the CPU", "sizes", "a number from the GPU", "made on the CPU"],
)
def test_the_operation_against_it_is_named(model: Callable[..., Any], says: str) -> None:
    assert re.search(says, contents_of_graph(traced(model, "cuda")).refusal)


def test_a_large_input_on_the_cpu_is_named_and_a_number_there_is_not() -> None:
    graph = traced(lambda x, y: x + 1, "cuda", "cpu")
    assert "is on the CPU; move it to the GPU" in contents_of_graph(graph).refusal
    graph = traced(lambda x, y: x * y, "cuda", "cpu", shape=())
    assert contents_of_graph(graph).refusal == ""


def test_a_model_on_the_cpu_says_that() -> None:
    found = contents_of_graph(traced(torch.relu, "cpu"))
    assert (found.refusal, found.on_gpu) == ("all of it runs on the CPU", False)


def test_random_numbers_and_written_buffers_are_known() -> None:
    root, graph = torch.nn.Module(), fx.Graph()
    root.register_buffer("count", torch.zeros(4))
    x, count = graph.placeholder("x"), graph.get_attr("count")
    noise = graph.call_function(torch.ops.aten.rand_like.default, (x,))
    graph.call_function(torch.ops.aten.copy_.default, (count, noise))
    graph.output((noise,))
    found = contents_of_graph(fx.GraphModule(root, graph))
    assert found.random
    assert [tensor is root.count for tensor in found.state()] == [True]


def spec(device: str = "cuda", size: str = "2*s0") -> EngineSpec:
    return EngineSpec(
        name="part_0", backend="tensorrt", format_version=1, target="sm_90", settings_key="0",
        inputs=(TensorSpec("x", torch.float32, (Dim("s0", 1, 4, 8), 3), device=device),),
        outputs=(TensorSpec("y", torch.float32, (Dim(size, 2, 8, 16), 3), device=device),),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (spec(), ""),
        (spec("cpu"), "its inputs and outputs are on the CPU"),
        (spec(size="u0"), "the size of its output 'y' depends on the data"),
    ],
)
def test_an_engine_says_by_its_spec_whether_it_can_be_captured(given: EngineSpec, says: str) -> None:
    assert contents_of_engine(given).refusal == says


def test_an_engine_in_a_model_is_named() -> None:
    graph = fx.Graph()
    x, constant = graph.placeholder("x"), graph.get_attr("engine_part_0")
    call = graph.call_function(
        torch.ops.tensorrt.execute_engine.default, ([x], constant, spec(size="u0").to_json()), name="part_0"
    )
    graph.output((graph.call_function(operator.getitem, (call, 0)),))
    root = torch.nn.Module()
    root.register_buffer("engine_part_0", torch.zeros(1, dtype=torch.uint8))
    found = contents_of_graph(fx.GraphModule(root, graph))
    assert found.refusal == "engine 'part_0' is in it, and the size of its output 'y' depends on the data"
    assert isinstance(root.engine_part_0, Tensor)
