"""The values that planning passes on: groups of nodes, reasons for refusals, and what one backend is asked to build."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
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
class Trial:
    """What came of one way of building something, where the fastest of several was looked for.

    place: the partition, or "whole model". label: the engine and what was changed. milliseconds: what a run takes, the median;
    None where it was not measured, and `note` says why not. error: of its results, relative to PyTorch's. note: "chosen" for the
    one that is used.
    """

    place: str
    label: str
    build_seconds: float | None = None
    milliseconds: float | None = None
    error: float | None = None
    note: str = ""


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
    trials: tuple[Trial, ...] = ()  # what was measured, from optimization_level 4 on

    @property
    def in_engines(self) -> int:
        """How many operations are in engines."""
        return sum(group.operations for group in self.groups)

    @property
    def engines(self) -> str:
        """The names of the engines that its groups are for, as text."""
        return " and ".join(dict.fromkeys(repr(group.backend) for group in self.groups)) or repr(self.backend)

    def __str__(self) -> str:
        """The report that `dryrun=True` prints: coverage, each engine's operators, each refusal with its line of code."""
        lines = [
            f"Plan: {self.in_engines} of {self.total} operations in {len(self.groups)} {self.engines} engine(s)"
            + (f" ({self.backend_reason})" if self.backend_reason else "")
        ]
        for group in self.groups:
            counts = Counter(group.operators).most_common()
            listed = ", ".join(f"{target} x{count}" if count > 1 else target for target, count in counts)
            other = f" ({group.backend})" if group.backend != self.backend else ""
            lines.append(f"  {group.name}{other}: {_operations(group.operations)}: {listed}")
        if self.refusals:
            lines.append(f"  in PyTorch: {_operations(len(self.refusals))}")
            lines += [f"    {name}: {why} ({self.operators[name]})" for name, why in self.refusals.items()]
        lines += [f"  {note}" for note in self.notes]
        lines += [f"  {line}" for line in trial_table(self.trials)]
        return "\n".join(lines)


def _operations(count: int) -> str:
    return f"{count} operation" + "s" * (count != 1)


def trial_table(trials: Sequence[Trial]) -> list[str]:
    """The lines of a table of `trials`; none when there are none."""
    if not trials:
        return []
    head = ("tried for", "candidate", "build s", "ms", "error", "")
    rows = [head, *((trial.place, trial.label, *_figures(trial), trial.note) for trial in trials)]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    return [
        "  ".join(
            [*(row[at].ljust(widths[at]) for at in (0, 1)), *(row[at].rjust(widths[at]) for at in (2, 3, 4)), row[5]]
        ).rstrip()
        for row in rows
    ]


def _figures(trial: Trial) -> tuple[str, str, str]:
    known = zip((trial.build_seconds, trial.milliseconds, trial.error), (".2f", ".4f", ".1e"), strict=True)
    first, second, third = ("-" if value is None else format(value, form) for value, form in known)
    return first, second, third
