"""The operator: which engine a constant stands for, and what survives tracing, copying and modes of PyTorch."""

from __future__ import annotations

import copy
import gc
import threading

import pytest
import torch
from torch import Tensor, nn

import torch_tensorrt
from torch_tensorrt.runtime.op import live_engine, verified
from torch_tensorrt.spec.errors import FileFormatError, InputError

EXECUTE = torch.ops.tensorrt.execute_engine.default


class Net(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x.sin() * 2).exp()


@pytest.fixture(params=["openvino", "eager"])
def compiled(request: pytest.FixtureRequest) -> nn.Module:
    return torch_tensorrt.compile(Net(), inputs=[torch.randn(3, 4)], engine=request.param, min_block_size=1)


def constant_of(compiled: nn.Module) -> Tensor:
    (node,) = [node for node in compiled.graph.nodes if node.target is EXECUTE]
    return getattr(compiled, node.args[1].target)


def spec_of(compiled: nn.Module) -> str:
    (node,) = [node for node in compiled.graph.nodes if node.target is EXECUTE]
    return node.args[2]


def test_an_alias_of_a_constant_is_the_same_engine_and_a_copy_another(compiled: nn.Module) -> None:
    constant = constant_of(compiled)
    assert live_engine(constant) is live_engine(constant.view(-1))
    assert live_engine(constant.clone()) is not live_engine(constant)


def test_an_engine_is_let_go_with_its_constant(compiled: nn.Module) -> None:
    first = constant_of(compiled).clone()
    address, engine = first.data_ptr(), live_engine(first)
    del first
    gc.collect()
    again = constant_of(compiled).clone()  # often at the same address
    assert live_engine(again) is not engine, address


def test_sixteen_threads_that_come_first_read_one_engine(compiled: nn.Module) -> None:
    constant, found, start = constant_of(compiled).clone(), [], threading.Barrier(16)

    def read() -> None:
        start.wait()
        found.append(live_engine(constant))

    threads = [threading.Thread(target=read) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 16
    assert len({id(engine) for engine in found}) == 1


def test_changed_bytes_are_refused_unless_they_were_verified(compiled: nn.Module) -> None:
    constant = constant_of(compiled)
    for known, place in ((False, -1), (True, 40)):  # a header is checked however often it was verified
        changed = constant.clone()
        changed[place] ^= 0xFF
        if known:
            verified(changed)
        with pytest.raises(FileFormatError):
            EXECUTE([torch.randn(3, 4)], changed, spec_of(compiled))


def test_a_description_that_is_another_engines_is_refused(compiled: nn.Module) -> None:
    with pytest.raises(FileFormatError, match="header"):
        EXECUTE([torch.randn(3, 4)], constant_of(compiled).clone(), spec_of(compiled).replace("part_0", "part_1"))


def test_the_operator_checks_its_inputs(compiled: nn.Module) -> None:
    for wrong in (torch.randn(3, 5), torch.randn(3, 4, dtype=torch.float64), torch.randn(12)):
        with pytest.raises(InputError):
            EXECUTE([wrong], constant_of(compiled), spec_of(compiled))


def test_calls_in_and_out_of_inference_mode_may_follow_each_other(compiled: nn.Module) -> None:
    inputs = [torch.randn(3, 4) for _ in range(4)]
    with torch.inference_mode():
        first = compiled(inputs[0])
        kept = first.clone()
    second = compiled(inputs[1].requires_grad_())
    with torch.no_grad():
        third = compiled(inputs[2].t().contiguous().t())  # another layout
    assert not second.requires_grad
    second.add_(1).sub_(1)  # an ordinary tensor, though its engine began in inference mode
    for given, result in zip(inputs, (first, second, third), strict=False):
        torch.testing.assert_close(result, Net()(given.detach()), rtol=1e-4, atol=1e-5)
    assert torch.equal(first, kept)


def test_results_of_later_calls_leave_earlier_ones_alone(compiled: nn.Module) -> None:
    inputs = [torch.randn(3, 4) for _ in range(8)]
    results = [compiled(given) for given in inputs]
    for given, result in zip(inputs, results, strict=True):
        torch.testing.assert_close(result, Net()(given), rtol=1e-4, atol=1e-5)


def test_it_survives_export_trace_and_deepcopy(compiled: nn.Module) -> None:
    x = torch.randn(3, 4)
    expected = compiled(x)
    exported = torch.export.export(compiled, (x,), strict=False).module()
    traced = torch.jit.trace(compiled, (x,), check_trace=False)
    for form in (exported, traced, copy.deepcopy(compiled)):
        assert torch.equal(form(x), expected)


def test_a_fake_tensor_gives_the_results_shape_without_an_engine(compiled: nn.Module) -> None:
    with torch._subclasses.FakeTensorMode(allow_non_fake_inputs=True) as mode:
        (result,) = EXECUTE([mode.from_tensor(torch.empty(3, 4))], torch.empty(0, dtype=torch.uint8), spec_of(compiled))
    assert tuple(result.shape) == (3, 4)
    assert result.dtype is torch.float32
