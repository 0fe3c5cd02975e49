"""PyTorch's own sample inputs (OpInfo) through the TensorRT converters: passed, refused with a reason, or failed.

`python tests/suite/opinfo.py` (with `tests` on PYTHONPATH) runs them all and writes docs/data/opinfo.json; `make opinfo` does
that. Each sample is exported and decomposed as compilation does. Where every operator is taken, the network's types and
shapes are checked while it is defined, its values by the interpreter, and the SDK builds a plan of it.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import os
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from interpret.interpreter import Interpreter
from torch import Tensor, fx
from torch._ops import OpOverload
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

from suite.programs import make_partition
from torch_tensorrt import engines
from torch_tensorrt.contracts.partition import Partition
from torch_tensorrt.engines.tensorrt import sdk
from torch_tensorrt.engines.tensorrt.build import define, serialize
from torch_tensorrt.spec.errors import TorchTensorRTError
from torch_tensorrt.spec.settings import CompilationSettings

SETTINGS = CompilationSettings.from_options(device="sm_89")
TOLERANCE = {
    torch.float16: 1e-2,
    torch.bfloat16: 2e-2,
}  # and 1e-4 for all other floats: relative, and of the largest value
DTYPES = {"float32": torch.float32, "float16": torch.float16, "int64": torch.int64, "bool": torch.bool}
TOGETHER = 6  # operators in one export, which takes most of the time
# Their values are not defined, or random: only dtype and shape are compared.
UNDEFINED = frozenset(["empty", "empty_like", "empty_permuted", "empty_strided", "new_empty", "new_empty_strided"])
# Which of several equal values they take is not said: of whole numbers and bools, the indices are not compared.
CHOOSE = frozenset(["kthvalue", "topk", "sort", "argsort", "msort", "median", "mode"])


@dataclass(frozen=True)
class Sample:
    """A call: what PyTorch computes of `inputs`, as a function of tensors alone."""

    operator: str
    call: Callable[..., object]
    inputs: tuple[Tensor, ...]

    def compares(self, place: int, wanted: Tensor) -> bool:
        """Whether PyTorch says what the values of output `place` are."""
        if self.operator in CHOOSE and not self.inputs[0].is_floating_point():
            return place == 0 and wanted.dtype == self.inputs[0].dtype and self.operator != "argsort"
        return self.operator not in UNDEFINED


@dataclass
class Report:
    """What became of the samples of one operator in one dtype. The reasons are counted; failures say what went wrong."""

    name: str
    dtype: str
    passed: int = 0
    refused: Counter[str] = dataclasses.field(default_factory=Counter)
    not_exported: Counter[str] = dataclasses.field(default_factory=Counter)
    failed: list[str] = dataclasses.field(default_factory=list)

    def line(self) -> str:
        """One line, for people."""
        counts = f"{self.passed} passed, {sum(self.refused.values())} refused, {len(self.failed)} failed"
        reasons = "; ".join([*self.refused, *self.not_exported])[:160]
        return f"{self.name} {self.dtype}: {counts}, {sum(self.not_exported.values())} not exported. {reasons}"


def samples_of(info: Any, dtype: torch.dtype, most: int) -> list[Sample]:
    """At most `most` of an OpInfo's samples, from the first to the last."""
    torch.manual_seed(0)
    every = list(info.sample_inputs("cpu", dtype))
    chosen = every if len(every) <= most else [every[place * (len(every) - 1) // (most - 1)] for place in range(most)]
    return [_sample(info, given) for given in chosen]


def _sample(info: Any, given: Any) -> Sample:
    leaves, tree = tree_flatten(((given.input, *given.args), given.kwargs))
    places = [place for place, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]

    def call(*inputs: Tensor) -> object:
        filled = list(leaves)
        for place, value in zip(places, inputs, strict=True):
            filled[place] = value
        args, kwargs = tree_unflatten(filled, tree)
        return info.op(*args, **kwargs)

    return Sample(info.name, call, tuple(leaves[place].detach().clone() for place in places))


def run_operators(infos: Sequence[Any], dtype: str, most: int) -> Iterator[Report]:
    """All chosen samples of some operators, which are exported together if they can be."""
    every = [samples_of(info, DTYPES[dtype], most) for info in infos]
    shared = _together([sample for samples in every for sample in samples])
    for info, samples in zip(infos, every, strict=True):
        if shared is not None:
            partitions, shared = shared[: len(samples)], shared[len(samples) :]
        else:
            partitions = _together(samples) or [None] * len(samples)
        report = Report(f"{info.name}.{info.variant_test_name}".rstrip("."), dtype)
        for sample, partition in zip(samples, partitions, strict=True):
            _run_sample(report, sample, partition)
        yield report


def _together(samples: Sequence[Sample]) -> list[Partition | None] | None:
    """A partition of each sample, out of one export of all of them (which takes the time); None where one can't be exported."""
    starts = [0]
    for sample in samples:
        starts.append(starts[-1] + len(sample.inputs))
    counts: list[int] = []

    def every(*inputs: Tensor) -> list[Tensor]:
        counts.clear()
        results: list[Tensor] = []
        for sample, start in zip(samples, starts, strict=False):
            made = _tensors(sample.call(*inputs[start : start + len(sample.inputs)]))
            counts.append(len(made))
            results += made
        return results

    inputs = [tensor for sample in samples for tensor in sample.inputs]
    try:
        whole = make_partition(every, inputs, engines.backend("tensorrt_rtx"), settings=SETTINGS)
    except Exception:
        return None
    if len(whole.inputs) != len(inputs):
        return None
    results, partitions = list(whole.module.graph.output_node().args[0]), list[Partition | None]()
    for place, count in enumerate(counts):
        mine, results = results[:count], results[count:]
        partitions.append(_cut(whole, mine, range(starts[place], starts[place + 1])))
    return partitions


def _tensors(value: object) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]


def _cut(whole: Partition, results: Sequence[fx.Node], inputs: range) -> Partition:
    """The part of a program that computes `results`, with the inputs at those places."""
    needed = set(results)
    for node in reversed(whole.module.graph.nodes):
        if node in needed:
            needed.update(node.all_input_nodes)
    graph, copies = fx.Graph(), dict[fx.Node, fx.Node]()
    placeholders = [node for node in whole.module.graph.nodes if node.op == "placeholder"]
    for place in inputs:
        copies[placeholders[place]] = graph.node_copy(placeholders[place])
    for node in whole.module.graph.nodes:
        if node in needed and node not in copies:
            copies[node] = graph.node_copy(node, copies.__getitem__)
    graph.output(tuple(copies[node] for node in results))
    module = fx.GraphModule(whole.module, graph)
    specs = {spec.name: spec for spec in whole.outputs}
    outputs = [specs[node.name] for node in results]
    return dataclasses.replace(
        whole, module=module, inputs=tuple(whole.inputs[place] for place in inputs), outputs=tuple(outputs)
    )


def _run_sample(report: Report, sample: Sample, partition: Partition | None) -> None:
    if partition is None:
        try:
            flat = lambda *inputs: _tensors(sample.call(*inputs))  # noqa: E731
            partition = make_partition(flat, sample.inputs, engines.backend("tensorrt_rtx"), settings=SETTINGS)
        except Exception as error:
            report.not_exported[f"{type(error).__name__}: {_first_line(error)}"] += 1
            return
    refusals = _refusals(partition)
    if refusals:
        report.refused["; ".join(dict.fromkeys(refusals))] += 1
        return
    try:
        told = _disagreement(partition, sample)
    except (TorchTensorRTError, AssertionError, RuntimeError, NotImplementedError, KeyError, IndexError) as error:
        told = f"{type(error).__name__}: {_first_line(error)}"
    if told:
        shapes = [f"{str(tensor.dtype)[6:]}{list(tensor.shape)}" for tensor in sample.inputs]
        nodes = [node.format_node() for node in partition.module.graph.nodes if isinstance(node.target, OpOverload)]
        report.failed.append(f"{told} | inputs {shapes} | {nodes[:6]}")
    else:
        report.passed += 1


def _first_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]


def _refusals(partition: Partition) -> list[str]:
    """Why TensorRT doesn't take the sample: operators without a converter, or what a converter says."""
    backend = engines.backend("tensorrt_rtx")
    nodes = [node for node in partition.module.graph.nodes if isinstance(node.target, OpOverload)]
    told = [s.reason for node in nodes if not (s := backend.supports(node, SETTINGS))]
    if not told and not nodes:
        return ["PyTorch computes nothing: the result is an input or a constant"]
    return told


def _disagreement(partition: Partition, sample: Sample) -> str:
    """What differs from PyTorch, or ""."""
    definition = define(sdk.load("tensorrt_rtx"), partition, SETTINGS)
    given = Interpreter(definition.net.network).run_all(*[_held(tensor) for tensor in sample.inputs])
    wanted, exact = _results(sample), _exact_results(sample)
    assert len(given) == len(wanted), f"{len(given)} outputs instead of {len(wanted)}"
    for place, (ours, theirs) in enumerate(zip(given, wanted, strict=True)):
        assert ours.shape == theirs.shape and ours.dtype == theirs.dtype, f"{ours.shape} {ours.dtype}"
        told = _apart(ours, theirs) if sample.compares(place, theirs) else ""
        if told and not (exact is not None and _is_near(ours, *(results[place] for results in exact))):
            return told
    serialize(definition, SETTINGS)
    return ""


def _results(sample: Sample, wide: Callable[[Tensor], Tensor] | None = None) -> list[Tensor]:
    inputs = [wide(tensor) if wide and tensor.dtype in TOLERANCE else tensor.clone() for tensor in sample.inputs]
    with torch.no_grad():
        return _tensors(sample.call(*inputs))


def _exact_results(sample: Sample) -> tuple[list[Tensor], list[Tensor]] | None:
    """PyTorch in float32 for float16 (on a CPU it adds float16 up in float16, which an engine does not), and the same with
    each input moved by half a unit of float16, the least that rounding can do.
    """
    if not any(tensor.dtype in TOLERANCE for tensor in sample.inputs):
        return None
    torch.manual_seed(1)
    try:
        return _results(sample, torch.Tensor.float), _results(sample, _moved)
    except (RuntimeError, TypeError):  # an argument says float16 too
        return None


def _moved(tensor: Tensor) -> Tensor:
    return tensor.float() * (1 + (torch.randint(0, 2, tensor.shape) * 2 - 1) * 2.0**-11)


def _is_near(ours: Tensor, exact: Tensor, moved: Tensor) -> bool:
    """Near to float32's result, or as near as the rounding of inputs lets it be."""
    if not _apart(ours, exact.to(ours.dtype)):
        return True
    error, allowed = (ours.double() - exact.double()).norm(), (moved.double() - exact.double()).norm()
    return bool(error <= 2 * allowed)


def _held(tensor: Tensor) -> Tensor:
    return tensor.resolve_conj().resolve_neg()


def _apart(ours: Tensor, theirs: Tensor) -> str:
    near = TOLERANCE.get(theirs.dtype, 1e-4 if theirs.is_floating_point() else 0.0)
    largest = theirs.double().nan_to_num(0, 0, 0).abs().max() if theirs.numel() else torch.zeros(())
    try:
        torch.testing.assert_close(ours, theirs, rtol=near, atol=near * min(1.0, float(largest) + 1e-6), equal_nan=True)
    except AssertionError as error:
        return _first_line(error)
    return ""


def run(dtypes: Sequence[str], most: int, only: str = "", part: tuple[int, int] = (0, 1)) -> Iterator[Report]:
    """Every operator of PyTorch's own list, dtype by dtype. part: (i, n) runs the i-th of n shares."""
    from torch.testing._internal.common_methods_invocations import op_db

    for dtype in dtypes:
        infos = [info for info in op_db if DTYPES[dtype] in info.supported_dtypes("cpu") and only in info.name]
        mine = infos[part[0] :: part[1]]
        for start in range(0, len(mine), TOGETHER):
            group = mine[start : start + TOGETHER]
            yield from run_operators(group, dtype, most if dtype == "float32" else max(most // 2, 2))


def main() -> int:
    """Prints a line for each operator, then the failures; writes the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--samples", type=int, default=8, help="the most of one operator in float32; half of it in others"
    )
    parser.add_argument("--dtypes", default="float32,float16,int64,bool")
    parser.add_argument("--only", default="", help="operators whose name contains this")
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.ERROR)
    began, reports = time.monotonic(), []
    for report in run(options.dtypes.split(","), options.samples, options.only):
        print(report.line(), flush=True)
        for failure in report.failed:
            print(f"  FAILED {report.name} {report.dtype}: {failure}", flush=True)
        reports.append(report)
    print(f"{time.monotonic() - began:.0f} s; {total(reports)}")
    if options.write:
        write(reports, options.write)
    return int(any(report.failed for report in reports))


def total(reports: Sequence[Report]) -> dict[str, int]:
    """All counts together."""
    return {
        "operators": len({report.name for report in reports}),
        "passed": sum(report.passed for report in reports),
        "refused": sum(sum(report.refused.values()) for report in reports),
        "failed": sum(len(report.failed) for report in reports),
        "not exported": sum(sum(report.not_exported.values()) for report in reports),
    }


def write(reports: Sequence[Report], path: Path) -> None:
    """The counts as JSON, an operator on each line, and how often each reason was given."""
    operators: dict[str, dict[str, list[int]]] = {}
    refused: Counter[str] = Counter()
    for report in reports:
        counts = [report.passed, report.refused.total(), len(report.failed), report.not_exported.total()]
        operators.setdefault(report.name, {})[report.dtype] = counts
        for reason, count in report.refused.items():
            refused[reason.split("; ")[0]] += count
    dtypes = {dtype: total([report for report in reports if report.dtype == dtype]) for dtype in DTYPES}
    lines = [f"    {json.dumps(name)}: {json.dumps(counts)}" for name, counts in sorted(operators.items())]
    reasons = [f"    {json.dumps(reason)}: {count}" for reason, count in refused.most_common()]
    text = (
        f'{{\n  "torch": {json.dumps(torch.__version__)},\n  "total": {json.dumps(total(reports))},\n'
        f'  "of each dtype": {json.dumps(dtypes)},\n'
        f'  "passed, refused, failed, not exported": {{\n{_joined(lines)}\n  }},\n  "refused": {{\n{_joined(reasons)}\n  }}\n}}\n'
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(text)
    os.replace(part, path)


def _joined(lines: Sequence[str]) -> str:
    return ",\n".join(lines)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
