"""One-property mutations of correct networks: who notices each of them?

A network that our converters made is right. One property of one layer is changed, and four checks look at it in the order in
which the project has them: the SDK's setter, its inference of shapes and types, its builder, and the numbers of the reference
interpreter beside PyTorch's. A mutant that passes them all is silent, and must be equivalent: numbering.py proves
it, or equivalent.py says why, with a condition that is looked at. `make mutation` runs them all and prints the table.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from suite.programs import make_partition
from torch import Tensor
from torch.utils._pytree import tree_leaves

from interpret.changes import Mutation, change, describe, find_mutations
from interpret.equivalent import Mutant, reason_to_be_silent
from interpret.interpreter import Interpreter
from interpret.networks import TOLERANCE, Subject, random_subjects, subjects
from interpret.numbering import Facts, number_results
from interpret.probing import find_least, probes
from interpret.ranges import find_ranges
from interpret.reading import Layer, read_layers
from torch_tensorrt.engines import backend
from torch_tensorrt.engines.tensorrt import sdk
from torch_tensorrt.engines.tensorrt.build import Definition, define, serialize
from torch_tensorrt.spec.errors import TorchTensorRTError
from torch_tensorrt.spec.settings import CompilationSettings

SETTINGS = CompilationSettings.from_options(device="sm_89")
VERDICTS = ("setter", "shape inference", "builder", "numbers only", "silent")
SAME_PLAN = "the SDK builds the same plan, byte for byte"
SAME_NUMBERS = "each element of the results is computed of the same elements by the same operations"


@dataclass(frozen=True)
class Finding:
    """Who noticed a mutation first (one of VERDICTS); `reason`: why a silent one is equivalent, or ""."""

    subject: str
    mutation: Mutation
    verdict: str
    reason: str = ""


@dataclass(frozen=True)
class Probe:
    """Other inputs, what PyTorch makes of them, and how much a value may differ, relatively and else."""

    inputs: Sequence[Tensor]
    wanted: Sequence[Tensor]
    near: float
    least: float


class Mutants:
    """All mutants of one subject."""

    def __init__(self, subject: Subject) -> None:
        self.name = subject.name
        self.inputs = subject.inputs
        self.partition = make_partition(subject.function, subject.inputs, backend("tensorrt_rtx"), None, SETTINGS)
        self.function = subject.function
        self.wanted = self._expect(subject.inputs)
        self.original = self.define()
        if told := self.apart(self.original):
            raise AssertionError(f"{self.name} is wrong before it is mutated: {told}")
        self.layers = read_layers(self.original.net.network)
        self.mutations = list(find_mutations(self.layers))
        given = _distinct(probes(subject.inputs, self.layers))
        self.others = [probe for inputs in given if (probe := self._probe(inputs)) is not None]
        self.least = find_least(subject.function, subject.inputs)

    def _expect(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        with torch.no_grad():
            return [leaf for leaf in tree_leaves(self.function(*inputs)) if isinstance(leaf, Tensor)]

    def _probe(self, inputs: Sequence[Tensor]) -> Probe | None:
        """Other inputs, if the network, as it was, agrees with PyTorch for them: they may be outside of what it is for."""
        try:
            wanted = self._expect(inputs)
            for near, least in ((TOLERANCE / 10, 1e-30), (TOLERANCE, 1e-30), (TOLERANCE, TOLERANCE / 10)):
                # A tenth of what a mutant may differ by, where that is little: the order of a sum is no difference.
                if not self.apart(self.original, Probe(inputs, wanted, near / 10 if near < TOLERANCE else near, least)):
                    return Probe(inputs, wanted, near, least)
        except (AssertionError, RuntimeError, IndexError, ValueError):
            return None
        return None

    def define(self) -> Definition:
        """The network, made anew."""
        return define(sdk.load("tensorrt_rtx"), self.partition, SETTINGS)

    def apart(self, definition: Definition, probe: Probe | None = None) -> str:
        """What differs from PyTorch, or ""."""
        given = Interpreter(definition.net.network).run_all(*(probe.inputs if probe else self.inputs))
        for ours, theirs in zip(given, probe.wanted if probe else self.wanted, strict=True):
            # Other inputs may hold values of very different sizes: each of them counts.
            if told := _apart(ours, theirs) or (_apart_in_one(ours, theirs, probe) if probe else ""):
                return told
        return ""

    def outside_their_ranges(self) -> list[str]:
        """Tensors with a value that isn't where `find_ranges` says that all of its values are: never one."""
        names = [tensor.name for tensor in Interpreter(self.original.net.network).inputs]
        least = dict(zip(names, self.least, strict=True))
        used = [layer for layer in self.layers if layer.outputs[0] in self.values[0]]
        ranges = find_ranges(used, self.values[0], least)
        return [
            name
            for values in self.values
            for name, told in ranges.items()
            if not bool(((told.low <= values[name]) & (values[name] <= told.high) | told.nan).all())
        ]

    def judge(self, mutation: Mutation) -> Finding:
        """Who notices."""
        definition = self.define()
        verdict = self._verdict(definition, read_layers(definition.net.network)[mutation.place], mutation)
        if verdict == "silent":
            return Finding(self.name, mutation, verdict, self._reason(mutation, definition))
        if verdict == "numbers only" and self._is_numbered_alike(definition):
            raise AssertionError(f"{self.name}: {mutation} gives other values, and value numbering says that it can't")
        return Finding(self.name, mutation, verdict)

    def _is_numbered_alike(self, mutant: Definition) -> bool:
        """Whether both networks compute the same, as value numbering says."""
        try:
            numbers = self._numbers(mutant)
        except (AssertionError, RuntimeError, IndexError, ValueError, NotImplementedError, TypeError, KeyError):
            return False  # the interpreter has no values for it
        if numbers is None or self.numbers is None:
            return False
        return all(_is_equal(a, b) for a, b in zip(numbers, self.numbers, strict=True))

    def _reason(self, mutation: Mutation, mutant: Definition) -> str:
        """Why it is equivalent."""
        if self._is_numbered_alike(mutant):
            return SAME_NUMBERS
        runs = list(zip(self.values, self._values_of(mutant), strict=True))
        used = [layer for layer in self.layers if layer.outputs[0] in self.values[0]]
        told = Mutant(self.layers[mutation.place], mutation.property, mutation.new, runs[0], runs, used)
        return reason_to_be_silent(told) or (SAME_PLAN if self._is_built_alike(mutant) else "")

    def _is_built_alike(self, mutant: Definition) -> bool:
        """Whether the SDK makes the same of both; it does so each time of one network."""
        plans = [bytes(serialize(definition, SETTINGS)) for definition in (self.define(), self.define(), mutant)]
        return plans[0] == plans[1] == plans[2]

    @cached_property
    def numbers(self) -> list[Tensor] | None:
        """How each element of the results is computed."""
        return self._numbers(self.original)

    def _numbers(self, definition: Definition) -> list[Tensor] | None:
        network = definition.net.network
        interpreter = Interpreter(network)
        feeds = dict(zip([tensor.name for tensor in interpreter.inputs], self.inputs, strict=True))
        values = feeds | interpreter.run(feeds, _needed(interpreter))
        results = [network.get_output(place).name for place in range(network.num_outputs)]
        least = dict(zip([tensor.name for tensor in interpreter.inputs], self.least, strict=True))
        return number_results(interpreter.layers, values, results, Facts(describe, least))

    @cached_property
    def values(self) -> list[dict[str, Tensor]]:
        """Every tensor of the network by name, for each of the inputs."""
        return self._values_of(self.original)

    def _values_of(self, definition: Definition) -> list[dict[str, Tensor]]:
        interpreter = Interpreter(definition.net.network)
        names = [tensor.name for tensor in interpreter.inputs]
        every = (self.inputs, *(probe.inputs for probe in self.others))
        feeds = [dict(zip(names, given, strict=True)) for given in every]
        wanted = _needed(interpreter)
        return [given | interpreter.run(given, wanted) for given in feeds]

    def _verdict(self, definition: Definition, layer: Layer, mutation: Mutation) -> str:
        network = definition.net.network
        if not change(layer, mutation):
            return "setter"
        if not self._shapes_agree(network):
            return "shape inference"
        try:
            serialize(definition, SETTINGS)
        except TorchTensorRTError:
            return "builder"
        try:
            told = self.apart(definition) or any(self.apart(definition, probe) for probe in self.others)
            return "numbers only" if told else "silent"
        except (AssertionError, RuntimeError, IndexError, ValueError, NotImplementedError, TypeError, KeyError):
            return "numbers only"  # the interpreter has no values for it

    def _shapes_agree(self, network: Any) -> bool:
        try:
            for place in range(network.num_layers):
                layer = network.get_layer(place)
                for output in range(layer.num_outputs):
                    tuple(layer.get_output(output).shape)
            given = [network.get_output(place) for place in range(network.num_outputs)]
            shapes = [tuple(tensor.shape) for tensor in given]
            types = [definition_type(tensor.dtype) for tensor in given]
        except (RuntimeError, ValueError):  # an object says "no" by having no shape
            return False
        same = all(_fits(a, b.shape) for a, b in zip(shapes, self.wanted, strict=True))
        return same and types == [tensor.dtype for tensor in self.wanted]


def _distinct(every: Iterator[list[Tensor]]) -> Iterator[list[Tensor]]:
    met: set[bytes] = set()
    for given in every:
        held = b"".join(tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes() for tensor in given)
        if held not in met:
            met.add(held)
            yield given


def _is_equal(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and bool((a == b).all())


def _needed(interpreter: Interpreter) -> list[str]:
    """The tensors that the results depend on."""
    met, waiting = set[str](), [tensor.name for tensor in interpreter.outputs]
    while waiting:
        name = waiting.pop()
        if name not in met and name in interpreter.producer:
            met.add(name)
            waiting += [given for given in interpreter.producer[name].inputs if given]
            waiting += interpreter.producer[name].outputs
    return [name for name in interpreter.tensors if name in met]


def definition_type(dtype: object) -> torch.dtype:
    """The SDK's type as PyTorch's."""
    return sdk.load("tensorrt_rtx").torch_dtype(dtype)


def _fits(known: Sequence[int], shape: Sequence[int]) -> bool:
    return len(known) == len(shape) and all(a in (-1, b) for a, b in zip(known, shape, strict=True))


def _apart(ours: Tensor, theirs: Tensor) -> str:
    if ours.shape != theirs.shape or ours.dtype != theirs.dtype:
        return f"{ours.dtype} {tuple(ours.shape)}"
    if not theirs.is_floating_point():
        return "" if torch.equal(ours, theirs) else "other values"
    finite = torch.isfinite(theirs)
    if not torch.equal(torch.isfinite(ours), finite) or not torch.equal(ours.isnan(), theirs.isnan()):
        return "other places that are not finite"
    a, b = ours[finite].double(), theirs[finite].double()
    error = float((a - b).norm() / b.norm().clamp_min(1e-30))
    return "" if error <= TOLERANCE else f"relative error {error:.1e}"


def _apart_in_one(ours: Tensor, theirs: Tensor, probe: Probe) -> str:
    same = torch.isclose(ours.double(), theirs.double(), rtol=probe.near, atol=probe.least, equal_nan=True)
    return "" if bool(same.all()) else "a value is another"


def run(given: Iterable[Subject], every: int = 1) -> Iterator[Finding]:
    """Each `every`-th mutant."""
    for subject in given:
        mutants = Mutants(subject)
        if outside := mutants.outside_their_ranges():
            raise AssertionError(f"{subject.name}: {outside[:3]} have values outside of their ranges")
        for mutation in mutants.mutations[::every]:
            yield mutants.judge(mutation)


def table(findings: Sequence[Finding]) -> str:
    """Counts for each subject; the rows of the suite together."""
    lines = [f"| network | mutants | {' | '.join(VERDICTS)} |", f"|{' --- |' * (len(VERDICTS) + 2)}"]
    groups: dict[str, Counter[str]] = {}
    for finding in findings:
        name = "rows of the suite" if finding.subject.startswith("row: ") else finding.subject
        for group in (name, "all"):
            groups.setdefault(group, Counter())[finding.verdict] += 1
    for name in [*(group for group in groups if group != "all"), "all"]:
        counts = groups.get(name, Counter())
        shown = " | ".join(str(counts[verdict]) for verdict in VERDICTS)
        lines.append(f"| {name} | {counts.total()} | {shown} |")
    return "\n".join(lines)


def silent_table(findings: Sequence[Finding]) -> str:
    """The silent ones by kind of layer, property and reason."""
    silent = Counter(
        (f"{finding.mutation.kind}.{finding.mutation.property}", finding.reason or "NO REASON KNOWN")
        for finding in findings
        if finding.verdict == "silent"
    )
    lines = ["| silent | mutants | the reason |", "| --- | --- | --- |"]
    return "\n".join([*lines, *(f"| {what} | {count} | {why} |" for (what, why), count in sorted(silent.items()))])


def main() -> int:
    """Prints the tables; 1 when a silent mutant has no reason."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=1, help="each how many-th mutant")
    parser.add_argument("--rows", type=int, default=12, help="one of how many rows of the operator suite")
    parser.add_argument("--only", default="", help="subjects whose name contains this")
    parser.add_argument("--seed", type=int, help="instead of all that: rows at random")
    parser.add_argument("--count", type=int, default=60, help="how many, with --seed")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.ERROR)
    began, findings = time.monotonic(), []
    every = subjects(options.rows) if options.seed is None else random_subjects(options.seed, options.count)
    for finding in run((subject for subject in every if options.only in subject.name), options.every):
        findings.append(finding)
        if finding.verdict == "silent" and not finding.reason:
            print(f"NOT CAUGHT {finding.subject}: {finding.mutation}", flush=True)
    print(table(findings), silent_table(findings), f"{time.monotonic() - began:.0f} s", sep="\n\n")
    return int(any(finding.verdict == "silent" and not finding.reason for finding in findings))


if __name__ == "__main__":
    sys.exit(main())
