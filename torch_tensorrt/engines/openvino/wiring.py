"""How an engine's inputs and outputs meet those of the compiled model, which may have fewer of both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch_tensorrt.spec.errors import FileFormatError


@dataclass(frozen=True)
class Plan:
    """What a run does, by position: `feeds` (model input, engine input), `writes` (model output, engine output), and
    `copies` (engine output, whether from an engine input, position of what is copied).
    """

    feeds: tuple[tuple[int, int], ...]
    writes: tuple[tuple[int, int], ...]
    copies: tuple[tuple[int, bool, int], ...]


@dataclass(frozen=True)
class Wiring:
    """For each model input the engine's, for each engine output the model's (several may share one)."""

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    def check(self, inputs: int, outputs: int) -> None:
        """Raises FileFormatError unless this fits a model with so many inputs and outputs."""
        if len(self.inputs) != inputs or any(port >= outputs for port in self.outputs):
            raise FileFormatError(f"The wiring {self} does not fit a model with {inputs} inputs and {outputs} outputs.")

    def plan(self, passed_through: Mapping[int, int]) -> Plan:
        """`passed_through` maps model outputs that are model inputs: OpenVINO does not write these to given memory."""
        writes: dict[int, int] = {}
        copies: list[tuple[int, bool, int]] = []
        for place, port in enumerate(self.outputs):
            if port in passed_through:
                copies.append((place, True, self.inputs[passed_through[port]]))
            elif port in writes:
                copies.append((place, False, writes[port]))
            else:
                writes[port] = place
        return Plan(tuple(enumerate(self.inputs)), tuple(writes.items()), tuple(copies))
