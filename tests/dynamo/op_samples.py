"""PyTorch's own sample inputs (OpInfo) through torch.compile with our backend: passed, in PyTorch with a reason, or failed.

`python tests/dynamo/op_samples.py` runs every third operator of PyTorch's list in float32, two samples of each; `make opinfo-compile`
does that. A sample passes when some of it ran in an engine and the results are PyTorch's.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from torch_tensorrt.contracts.partition import Plan
from torch_tensorrt.dynamo.backend import entry, torch_tensorrt_backend

NEAR = 1e-4  # relative, and of the largest value
# Their values are not defined, or random: only dtype and shape are compared.
UNDEFINED = (
    "empty",
    "rand",
    "bernoulli",
    "multinomial",
    "normal",
    "dropout",
    "uniform",
    "cauchy",
    "exponential",
    "geometric",
)
# Signs or phases of vectors are free, or which of several equal values is taken.
FREE = ("svd", "eig", "lobpcg", "pca_lowrank", "lu", "qr", "ormqr", "geqrf", "ldl")


@dataclass
class Report:
    """What became of the samples of one operator."""

    name: str
    passed: int = 0
    in_pytorch: Counter[str] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)

    def line(self) -> str:
        """One line, for people."""
        told = "; ".join([*self.in_pytorch, *self.failed])[:200]
        return f"{self.name}: {self.passed} passed, {self.in_pytorch.total()} in PyTorch, {len(self.failed)} failed. {told}"


class _Notes(logging.Handler):
    """Why graphs ran in PyTorch altogether."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.told: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if "runs in PyTorch" in record.getMessage():
            self.told.append(record.getMessage().partition("runs in PyTorch: ")[2])


def run_operator(info: Any, samples: int) -> Report:
    """The first samples of an operator; what PyTorch itself can't compute is left out."""
    report = Report(f"{info.name}.{info.variant_test_name}".rstrip("."))
    torch.manual_seed(0)
    for given, _ in zip(info.sample_inputs("cpu", torch.float32), range(samples), strict=False):
        args = (given.input, *given.args)
        try:
            with torch.no_grad():
                wanted = info.op(*_copied(args), **_copied(given.kwargs))
        except (RuntimeError, AssertionError):
            continue  # an operator of GPUs
        _run_sample(report, info, args, given.kwargs, wanted)
    return report


def _copied(value: Any) -> Any:
    return tree_map(lambda leaf: leaf.detach().clone() if isinstance(leaf, Tensor) else leaf, value)


def _run_sample(report: Report, info: Any, args: Sequence[Any], kwargs: Any, wanted: object) -> None:
    torch._dynamo.reset()
    plans: list[Plan] = []
    notes = _Notes()
    logger = logging.getLogger("torch_tensorrt")
    logger.addHandler(notes)
    compile_graph = entry.compile_graph

    def compile_and_note(*parts: Any) -> Any:
        made = compile_graph(*parts)
        plans.append(made[1])
        return made

    try:
        with mock.patch.object(entry, "compile_graph", compile_and_note), torch.no_grad():
            compiled = torch.compile(info.op, backend=torch_tensorrt_backend, options={"min_block_size": 1})
            given = compiled(*_copied(args), **_copied(kwargs))
        told = _difference(info.name, given, wanted)
    except Exception as error:  # whatever it is, it is a failure of ours: PyTorch computed the sample
        told = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    finally:
        logger.removeHandler(notes)
    internal = [note for note in notes.told if note.startswith("InternalError")]
    if told or internal:
        report.failed.append(told or internal[0])
    elif any(plan.in_engines for plan in plans):
        report.passed += 1
    else:
        why = [*notes.told, *(reason for plan in plans for reason in plan.refusals.values())]
        told = "; ".join(dict.fromkeys(why)) or "torch.compile made no graph with an operation"
        report.in_pytorch[" ".join(told.split())] += 1


def _difference(name: str, given: object, wanted: object) -> str:
    ours, theirs = tree_leaves(given), tree_leaves(wanted)
    if len(ours) != len(theirs):
        return f"{len(ours)} results instead of {len(theirs)}"
    for one, two in zip(ours, theirs, strict=True):
        if not isinstance(two, Tensor):
            if one != two and not (one != one and two != two):
                return f"{one!r} instead of {two!r}"
        elif one.shape != two.shape or one.dtype != two.dtype:
            return f"{one.dtype} {tuple(one.shape)} instead of {two.dtype} {tuple(two.shape)}"
        elif not any(word in name for word in (*UNDEFINED, *FREE)) and (told := _apart(one, two)):
            return told
    return ""


def _apart(ours: Tensor, theirs: Tensor) -> str:
    if theirs.layout is not torch.strided:
        ours, theirs = ours.to_dense(), theirs.to_dense()
    finite = theirs.abs() if theirs.is_complex() else theirs.double().abs().nan_to_num(0, 0, 0)
    largest = float(finite.max()) if theirs.numel() else 0.0
    try:
        torch.testing.assert_close(ours, theirs, rtol=NEAR, atol=NEAR * min(1.0, largest + 1e-6), equal_nan=True)
    except AssertionError as error:
        return " ".join(str(error).split())[:300]
    return ""


def run(samples: int = 2, part: tuple[int, int] = (0, 3), only: str = "") -> Iterator[Report]:
    """The operators of PyTorch's list with float32, each n-th from the i-th on: part is (i, n)."""
    from torch.testing._internal.common_methods_invocations import op_db

    infos = [info for info in op_db if torch.float32 in info.supported_dtypes("cpu") and only in info.name]
    for info in infos[part[0] :: part[1]]:
        yield run_operator(info, samples)


def main() -> int:
    """Prints a line for each operator, then the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=2, help="the most of one operator")
    parser.add_argument("--every", type=int, default=3, help="each how manieth operator of PyTorch's list")
    parser.add_argument("--first", type=int, default=0, help="the operator to start with")
    parser.add_argument("--only", default="", help="operators whose name contains this")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.getLogger("torch_tensorrt").addHandler(logging.NullHandler())
    logging.getLogger("torch_tensorrt").propagate = False
    began, reports = time.monotonic(), []
    for report in run(options.samples, (options.first, options.every), options.only):
        print(report.line(), flush=True)
        reports.append(report)
    print(f"{time.monotonic() - began:.0f} s; {total(reports)}")
    return int(any(report.failed for report in reports))


def total(reports: Sequence[Report]) -> dict[str, int]:
    """All counts together."""
    return {
        "operators": len(reports),
        "operators that ran in engines": sum(report.passed > 0 for report in reports),
        "passed": sum(report.passed for report in reports),
        "in PyTorch": sum(report.in_pytorch.total() for report in reports),
        "failed": sum(len(report.failed) for report in reports),
    }


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
