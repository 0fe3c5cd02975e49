"""The values that planning passes on: groups of nodes, reasons for refusals, and what one backend is asked to build."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from torch import fx

from torch_tensorrt.spec.tensor_spec import TensorSpec


@dataclass(frozen=True)
class Partition:
    """What one backend is asked to build.

    `module` takes the tensors of `inputs` in order and returns a tuple of the tensors of `outputs`; weights are its
    get_attr constants, every node has meta["val"], and sizes are computed inside from the inputs' own sizes.
    """

    name: str
    backend: str
    module: fx.GraphModule
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


@dataclass(frozen=True)
class Group:
    """Nodes that go into one engine."""

    name: str
    backend: str
    nodes: tuple[str, ...]  # names, so that a plan keeps no graph alive
    operators: Mapping[str, int]  # how often each occurs

    @property
    def operations(self) -> int:
        """Nodes that compute something: getitem and size arithmetic don't count."""
        return sum(self.operators.values())


@dataclass(frozen=True)
class Plan:
    """Which nodes go to which engine, and why the others stay in PyTorch. `str(plan)` is the dry run's text."""

    groups: tuple[Group, ...]
    refusals: Mapping[str, str]  # node name -> why it stays in PyTorch
    operators: Mapping[str, str]  # node name -> its operator and the user's line of code, for the report
    total: int  # operations in the whole graph
    backend: str
    backend_reason: str
    notes: tuple[str, ...] = ()  # e.g. write-backs of buffers

    @property
    def in_engines(self) -> int:
        """How many operations are in engines."""
        return sum(group.operations for group in self.groups)

    def __str__(self) -> str:
        """The report that `dryrun=True` prints: coverage, each engine's operators, each refusal with its line of code."""
        lines = [
            f"Plan: {self.in_engines} of {self.total} operations in {len(self.groups)} {self.backend!r} engine(s)"
            + (f" ({self.backend_reason})" if self.backend_reason else "")
        ]
        for group in self.groups:
            counts = Counter(group.operators).most_common()
            listed = ", ".join(f"{target} x{count}" if count > 1 else target for target, count in counts)
            lines.append(f"  {group.name}: {group.operations} operations: {listed}")
        if self.refusals:
            lines.append(f"  in PyTorch: {len(self.refusals)} operations")
            lines += [f"    {name}: {why} ({self.operators[name]})" for name, why in self.refusals.items()]
        lines += [f"  {note}" for note in self.notes]
        return "\n".join(lines)
