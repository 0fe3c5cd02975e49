"""Every row of the operator suite through Inductor, many rows to an engine: compiling takes seconds whatever is compiled."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pytest
import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._pytree import tree_leaves

from suite.agreement import disagreement
from suite.case import Case
from suite.flows import inductor
from suite.programs import make_partition
from suite.test_operators import CASES, SETTINGS
from torch_tensorrt import engines

BACKEND = engines.backend(inductor.BACKEND)
AT_ONCE = 40
pytestmark = [
    pytest.mark.usefixtures("own_folder_for_compiled_code"),
    pytest.mark.skipif(not BACKEND.available(torch.device("cpu")), reason="no C++ compiler here"),
]


def _results(case: Case, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    return tuple(value for value in tree_leaves(case.function(*inputs)) if isinstance(value, torch.Tensor))


def _joined(cases: Sequence[Case]) -> Callable[..., object]:
    def function(*inputs: Tensor) -> object:
        rest = iter(inputs)
        return tuple(_results(case, [next(rest) for _ in case.inputs]) for case in cases)

    return function


def _dynamic(cases: Sequence[Case]) -> dict[int, list[int]]:
    found, start = {}, 0
    for case in cases:
        found.update({start + place: dims for place, dims in (case.dynamic or {}).items() if dims})
        start += len(case.inputs)
    return found


def _refused(cases: Sequence[Case]) -> list[str]:
    partition = make_partition(_joined(cases), _inputs(cases), BACKEND, _dynamic(cases) or None, SETTINGS)
    nodes = [node for node in partition.module.graph.nodes if isinstance(node.target, OpOverload)]
    return [support.reason for node in nodes if not (support := BACKEND.supports(node, SETTINGS))]


def _inputs(cases: Sequence[Case], again: bool = False) -> list[Tensor]:
    """Copies: torch.export takes a tensor that several rows share for one input."""
    return [
        tensor.detach().clone() if tensor.is_contiguous() else tensor
        for case in cases
        for tensor in (case.again if again and case.again is not None else case.inputs)
    ]


def _batches() -> Iterator[object]:
    taken = [case for case in CASES if case.name not in inductor.REFUSED]
    fast = [case for case in taken if case.name in inductor.FAST and case.again is None]
    yield pytest.param(fast, id="fast")
    for kind, cases in (
        ("static", [case for case in taken if case.again is None and case not in fast]),
        ("dynamic", [case for case in taken if case.again is not None]),
    ):
        for start in range(0, len(cases), AT_ONCE):
            yield pytest.param(cases[start : start + AT_ONCE], id=f"{kind}-{start}", marks=pytest.mark.slow)


@pytest.mark.parametrize("cases", _batches())
def test_rows_agree_with_pytorch_but_for_those_listed(cases: Sequence[Case]) -> None:
    assert _refused(cases) == []
    partition = make_partition(_joined(cases), _inputs(cases), BACKEND, _dynamic(cases) or None, SETTINGS)
    engine = BACKEND.build(partition, SETTINGS)
    wrong: dict[str, list[str]] = {}
    for again in (
        (False, True) if partition.inputs and not all(spec.is_static for spec in partition.inputs) else (False,)
    ):
        given = iter(engine.run(_inputs(cases, again)))
        for case in cases:
            with torch.no_grad():
                wanted = _results(case, _inputs([case], again))
            told = [disagreement(next(given), value, case.tolerance) for value in wanted]
            wrong.setdefault(case.name, []).extend(filter(None, told))
    found = {name: told for name, told in wrong.items() if told}
    assert set(found) == {case.name for case in cases} & set(inductor.WRONG), found


@pytest.mark.parametrize("case", [case for case in CASES if case.name in inductor.REFUSED], ids=lambda case: case.name)
def test_a_listed_row_is_refused_with_a_reason(case: Case) -> None:
    reasons = _refused([case])
    assert reasons
    assert all(len(reason) > 20 for reason in reasons)


def test_the_flow_lists_no_row_that_does_not_exist() -> None:
    assert {*inductor.REFUSED, *inductor.WRONG, *inductor.FAST} <= {case.name for case in CASES}
