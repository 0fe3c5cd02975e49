"""Every row of the operator suite through every engine."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from types import ModuleType

import pytest
import torch
from torch._ops import OpOverload
from torch.utils._pytree import tree_leaves

from suite import elementwise, forms, imaging, normalising, placing, products, reducing, shaping
from suite.agreement import disagreement
from suite.case import Case
from suite.flows import eager, openvino
from suite.programs import make_partition
from torch_tensorrt import engines
from torch_tensorrt.contracts.partition import Partition
from torch_tensorrt.spec.settings import CompilationSettings

FLOWS: tuple[ModuleType, ...] = (eager, openvino)
if importlib.util.find_spec("tensorrt_rtx") is not None:
    from suite.flows import tensorrt

    FLOWS = (*FLOWS, tensorrt)
CASES = (*elementwise.rows(), *shaping.rows(), *placing.rows(), *reducing.rows(), *forms.rows())
PRODUCTS = (*products.rows(), *normalising.rows(), *imaging.rows())  # of the TensorRT flow only, so far
SETTINGS = CompilationSettings.from_options()
# One row of so many runs in CI, which has 25 minutes; `make slow` runs the rest. With eager, nothing depends on the operator.
CI_HAS = {"eager": 8, "openvino": 1, "tensorrt_rtx": 6}


def _rows() -> Iterator[object]:
    for flow in FLOWS:
        for place, case in enumerate((*CASES, *PRODUCTS) if flow.BACKEND == "tensorrt_rtx" else CASES):
            marks = [pytest.mark.xfail(strict=True, reason=flow.WRONG[case.name])] if case.name in flow.WRONG else []
            if place % CI_HAS[flow.BACKEND]:
                marks.append(pytest.mark.slow)
            yield pytest.param(flow, case, id=f"{flow.BACKEND}-{case.name}", marks=marks)


def _refusals(partition: Partition) -> list[str]:
    backend = engines.backend(partition.backend)
    nodes = [node for node in partition.module.graph.nodes if isinstance(node.target, OpOverload)]
    asked = [node for node in nodes if node.target is not torch.ops.aten.sym_size.int]
    return [support.reason for node in asked if not (support := backend.supports(node, SETTINGS))]


@pytest.mark.parametrize(("flow", "case"), _rows())
def test_a_row_agrees_with_pytorch_or_is_refused_with_a_reason(flow: ModuleType, case: Case) -> None:
    backend = engines.backend(flow.BACKEND)
    partition = make_partition(case.function, case.inputs, backend, case.dynamic, SETTINGS)
    refusals = _refusals(partition)
    unfinished = getattr(flow, "UNFINISHED", None)
    if unfinished and refusals and any(unfinished in reason for reason in refusals):
        pytest.skip(refusals[0])
    assert bool(refusals) == (case.name in flow.REFUSED), refusals
    if refusals:
        assert all(len(reason) > 20 for reason in refusals)
        return
    engine = flow.build(partition, SETTINGS) if hasattr(flow, "build") else backend.build(partition, SETTINGS)
    for inputs in (case.inputs,) if case.again is None else (case.inputs, case.again):
        with torch.no_grad():
            wanted = [value for value in tree_leaves(case.function(*inputs)) if isinstance(value, torch.Tensor)]
        given = engine.run(inputs)
        assert len(given) == len(wanted)
        told = [disagreement(a, b, case.tolerance) for a, b in zip(given, wanted, strict=True)]
        assert not any(told), told


def test_names_of_rows_are_unique() -> None:
    names = [case.name for case in (*CASES, *PRODUCTS)]
    assert sorted(set(names)) == sorted(names)


@pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: flow.BACKEND)
def test_a_flow_lists_no_row_that_does_not_exist(flow: ModuleType) -> None:
    assert set(flow.REFUSED) | set(flow.WRONG) <= {case.name for case in (*CASES, *PRODUCTS)}
