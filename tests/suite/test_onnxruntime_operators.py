"""Rows of the operator suite through ONNX Runtime: PyTorch's results, or a refusal before anything runs; never wrong in silence."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch._ops import OpOverload
from torch.utils._pytree import tree_leaves

from suite.agreement import disagreement
from suite.case import Case
from suite.programs import make_partition
from suite.test_operators import CASES, SETTINGS
from torch_tensorrt import engines
from torch_tensorrt.spec.errors import BuildError

BACKEND = engines.backend("onnxruntime")
pytestmark = pytest.mark.skipif(not BACKEND.available(torch.device("cpu")), reason="no onnxruntime or onnxscript here")


WRONG = dict.fromkeys(
    ("sign of special values", "gelu of special values"), "ONNX's definition differs for NaN or infinity"
)


def _rows() -> Iterator[object]:
    for place, case in enumerate(CASES):
        marks = [pytest.mark.slow] if place % 49 else []  # exporting takes a second
        if case.name in WRONG:
            marks.append(pytest.mark.xfail(strict=True, reason=WRONG[case.name]))
        yield pytest.param(case, id=case.name, marks=marks)


@pytest.mark.parametrize("case", _rows())
def test_a_row_agrees_with_pytorch_or_is_refused(case: Case) -> None:
    partition = make_partition(case.function, case.inputs, BACKEND, case.dynamic, SETTINGS)
    nodes = [node for node in partition.module.graph.nodes if isinstance(node.target, OpOverload)]
    asked = [node for node in nodes if node.target is not torch.ops.aten.sym_size.int]
    refusals = [support.reason for node in asked if not (support := BACKEND.supports(node, SETTINGS))]
    if refusals:
        assert all(len(reason) > 20 for reason in refusals)
        return
    try:
        engine = BACKEND.build(partition, SETTINGS)
    except BuildError as error:
        assert "To run operators in PyTorch" in str(error)
        return
    for inputs in (case.inputs,) if case.again is None else (case.inputs, case.again):
        with torch.no_grad():
            wanted = [value for value in tree_leaves(case.function(*inputs)) if isinstance(value, torch.Tensor)]
        told = [disagreement(a, b, case.tolerance) for a, b in zip(engine.run(inputs), wanted, strict=True)]
        assert not any(told), told
