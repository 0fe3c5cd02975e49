"""One-property mutations of correct networks: who notices each of them?

A network that our converters made is right. One property of one layer is changed, and four checks look at it in the order in
which the project has them: the SDK's setter, its inference of shapes and types, its builder, and the numbers of the reference
interpreter beside PyTorch's. A mutant that passes them all is silent, and must be equivalent: EQUIVALENT says why, with a
condition that is looked at. `make mutation` runs them all and prints the table.
"""

from __future__ import annotations

import argparse
import logging
import math
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorrt_rtx as trt
import torch
from suite.programs import make_partition
from torch import Tensor
from torch.utils._pytree import tree_leaves

from interpret.equivalent import Mutant, reason_to_be_silent
from interpret.interpreter import Interpreter
from interpret.networks import TOLERANCE, Subject, subjects
from interpret.reading import Layer, read_layers
from torch_tensorrt.engines import backend
from torch_tensorrt.engines.tensorrt import sdk
from torch_tensorrt.engines.tensorrt.build import Definition, define, serialize
from torch_tensorrt.spec.errors import TorchTensorRTError
from torch_tensorrt.spec.settings import CompilationSettings

SETTINGS = CompilationSettings.from_options(device="sm_89")
VERDICTS = ("setter", "shape inference", "builder", "numbers only", "silent")
# What a layer is called, and what no network depends on.
_NO_MEANING = frozenset(["name", "metadata", "num_ranks", "precision", "decomposable", "message"])
_MOST_OTHERS = 4  # members of an enum that are tried beside the right one


@dataclass(frozen=True)
class Mutation:
    """`property` of layer `place` becomes `new`. property "inputs": the first two change places."""

    place: int
    kind: str
    property: str
    new: object

    def __str__(self) -> str:
        new = f"weights {np.shape(self.new)}" if isinstance(self.new, np.ndarray) else str(self.new)
        return f"layer {self.place} {self.kind}.{self.property} = {new}"


@dataclass(frozen=True)
class Finding:
    """Who noticed a mutation first (one of VERDICTS); `reason`: why a silent one is equivalent, or ""."""

    subject: str
    mutation: Mutation
    verdict: str
    reason: str = ""


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
        network = self.original.net.network
        self.results = frozenset(network.get_output(place).name for place in range(network.num_outputs))
        self.values = self._values()
        self.mutations = list(_mutations(self.layers))
        self.others = [given for given in other_inputs(subject.inputs) if self._is_right(given)]

    def _expect(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        with torch.no_grad():
            return [leaf for leaf in tree_leaves(self.function(*inputs)) if isinstance(leaf, Tensor)]

    def _is_right(self, inputs: Sequence[Tensor]) -> bool:
        """Whether the network, as it was, agrees with PyTorch for other inputs, which may be outside of what it is for."""
        try:
            return not self.apart(self.original, inputs)
        except (AssertionError, RuntimeError, IndexError, ValueError):
            return False

    def define(self) -> Definition:
        """The network, made anew."""
        return define(sdk.load("tensorrt_rtx"), self.partition, SETTINGS)

    def apart(self, definition: Definition, inputs: Sequence[Tensor] | None = None) -> str:
        """What differs from PyTorch, or ""."""
        given = Interpreter(definition.net.network).run_all(*(inputs or self.inputs))
        for ours, theirs in zip(given, self._expect(inputs) if inputs else self.wanted, strict=True):
            # Other inputs may hold values of very different sizes: each of them counts.
            if told := _apart(ours, theirs) or (_apart_in_one(ours, theirs) if inputs else ""):
                return told
        return ""

    def judge(self, mutation: Mutation) -> Finding:
        """Who notices."""
        definition = self.define()
        verdict = self._verdict(definition, read_layers(definition.net.network)[mutation.place], mutation)
        if verdict != "silent":
            return Finding(self.name, mutation, verdict)
        as_it_was = self.layers[mutation.place]
        mutant = Mutant(as_it_was, mutation.property, mutation.new, self.values, self.layers, self.results)
        return Finding(self.name, mutation, verdict, reason_to_be_silent(mutant))

    def _values(self) -> dict[str, Tensor]:
        """Every tensor of the network by name."""
        interpreter = Interpreter(self.original.net.network)
        feeds = dict(zip([tensor.name for tensor in interpreter.inputs], self.inputs, strict=True))
        return feeds | interpreter.run(feeds, list(interpreter.tensors))

    def _verdict(self, definition: Definition, layer: Layer, mutation: Mutation) -> str:
        network = definition.net.network
        if not _set(layer, mutation):
            return "setter"
        if not self._shapes_agree(network):
            return "shape inference"
        try:
            serialize(definition, SETTINGS)
        except TorchTensorRTError:
            return "builder"
        try:
            told = self.apart(definition) or any(self.apart(definition, inputs) for inputs in self.others)
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


def other_inputs(inputs: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """The same values elsewhere, special ones, small ones, whole ones: what one sample doesn't tell, another may."""
    random = torch.Generator().manual_seed(7)
    for change in (_as_it_is, _with_special_values, _small, _rounded, _other_numbers):
        yield [change(_shuffled(tensor, random)) for tensor in inputs]


def _shuffled(tensor: Tensor, random: torch.Generator) -> Tensor:
    if tensor.dtype == torch.bool:
        return torch.rand(tensor.shape, generator=random) < 0.7
    return tensor.flatten()[torch.randperm(tensor.numel(), generator=random)].reshape(tensor.shape)


def _as_it_is(values: Tensor) -> Tensor:
    return values


def _with_special_values(values: Tensor) -> Tensor:
    if not values.is_floating_point():
        return values
    special = torch.tensor([0.0, -0.0, -1.5, 3.0, 25.0, -25.0, math.inf, -math.inf, math.nan, 1e-30, -1e-30])
    return torch.cat([special.to(values.dtype), values.flatten()])[: values.numel()].reshape(values.shape)


def _small(values: Tensor) -> Tensor:
    return values.nan_to_num() * 1e-3 if values.is_floating_point() else values


def _rounded(values: Tensor) -> Tensor:
    return (values.nan_to_num(0, 9, -9) * 2).round() if values.is_floating_point() else values


def _other_numbers(values: Tensor) -> Tensor:
    """Whole numbers in places of no index: a network that takes them for one fails, and is not asked."""
    return values * 3 - 5 if values.dtype in (torch.uint8, torch.int8, torch.int32, torch.int64) else values


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


def _apart_in_one(ours: Tensor, theirs: Tensor) -> str:
    same = torch.isclose(ours.double(), theirs.double(), rtol=TOLERANCE, atol=TOLERANCE / 10, equal_nan=True)
    return "" if bool(same.all()) else "a value is another"


def _set(layer: Layer, mutation: Mutation) -> bool:
    """Whether the setter took the new value; a refusal is often only logged, and the old value stays."""
    native = layer.native
    try:
        if mutation.property == "inputs":
            first, second = native.get_input(0), native.get_input(1)
            native.set_input(0, second)
            native.set_input(1, first)
            return True
        target = layer.attention if mutation.kind == "ATTENTION_INPUT" else native
        setattr(target, mutation.property, mutation.new)
        return _same(getattr(target, mutation.property), mutation.new)
    except (RuntimeError, TypeError, ValueError):
        return False


def _same(a: object, b: object) -> bool:
    if isinstance(b, np.ndarray):
        return isinstance(a, np.ndarray) and np.array_equal(a, b.flatten())
    if isinstance(b, float):
        return isinstance(a, float) and abs(a - b) <= 1e-6 * max(1.0, abs(b))
    if isinstance(b, tuple):
        return tuple(a)[: len(b)] == b if isinstance(a, (tuple, list, trt.Dims, trt.Permutation)) else False
    return a == b


def _mutations(layers: Sequence[Layer]) -> Iterator[Mutation]:
    for place, layer in enumerate(layers):
        target = layer.attention if layer.kind == "ATTENTION_INPUT" else layer.native
        for name in _properties(target):
            try:
                old = getattr(target, name)
            except RuntimeError:  # unset, and there is no value for that
                continue
            for new in _others(name, old, layer):
                yield Mutation(place, layer.kind, name, new)
        if len(layer.inputs) >= 2 and None not in layer.inputs[:2] and layer.inputs[0] != layer.inputs[1]:
            yield Mutation(place, layer.kind, "inputs", "(1, 0)")


def _properties(native: Any) -> list[str]:
    kind = type(native)
    found = [name for name in dir(kind) if isinstance(getattr(kind, name), property) and getattr(kind, name).fset]
    return [name for name in found if name not in _NO_MEANING]


def _others(name: str, old: Any, layer: Layer) -> Iterator[object]:
    """Other values of one property."""
    if isinstance(old, bool):
        yield not old
    elif isinstance(old, int):
        yield from (old + 1, old - 1)
        if name == "axes":
            yield old << 1
    elif isinstance(old, float):
        yield old + 0.5
    elif hasattr(type(old), "__members__"):
        members = [member for member in type(old).__members__.values() if member != old]
        yield from members[:_MOST_OTHERS]
    elif isinstance(old, trt.Permutation):
        rank = len(layer.native.get_output(0).shape)
        yield from _swapped(tuple(old)[:rank])
    elif isinstance(old, (tuple, trt.Dims)):
        yield from _nudged(tuple(old))
    elif isinstance(old, np.ndarray) and old.size:
        yield _perturbed(old)
    elif isinstance(old, str):
        yield from ()


def _swapped(order: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    for place in range(len(order) - 1):
        yield (*order[:place], order[place + 1], order[place], *order[place + 2 :])


def _nudged(sizes: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    for place, size in enumerate(sizes):
        yield (*sizes[:place], size + 1, *sizes[place + 1 :])
    if len(sizes) > 1 and len(set(sizes)) > 1:
        yield (*sizes[1:], sizes[0])


def _perturbed(weights: Any) -> Any:
    """The values one place on; where that changes nothing, other values."""
    moved = np.roll(weights, 1)
    if not np.array_equal(moved, weights):
        return moved
    if weights.dtype == bool:
        return ~weights
    more = weights + np.ones((), weights.dtype)
    return more if not np.array_equal(more, weights) else np.zeros_like(weights)  # infinities stay what they are


def run(every: int = 1, only: str = "", rows: int = 12) -> Iterator[Finding]:
    """Each `every`-th mutant. rows: one of how many rows of the operator suite is a subject, beside the networks."""
    for subject in subjects(rows):
        if only not in subject.name:
            continue
        mutants = Mutants(subject)
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
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.ERROR)
    began, findings = time.monotonic(), []
    for finding in run(options.every, options.only, options.rows):
        findings.append(finding)
        if finding.verdict == "silent" and not finding.reason:
            print(f"NOT CAUGHT {finding.subject}: {finding.mutation}", flush=True)
    print(table(findings), silent_table(findings), f"{time.monotonic() - began:.0f} s", sep="\n\n")
    return int(any(finding.verdict == "silent" and not finding.reason for finding in findings))


if __name__ == "__main__":
    sys.exit(main())
