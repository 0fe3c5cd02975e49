"""Every way to call `save`, tried out: `python tests/package/matrix.py` writes the results into docs/saving.md."""

from __future__ import annotations

import io
import itertools
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim

import torch_tensorrt
from torch_tensorrt import Input

PAGE = Path(__file__).parents[2] / "docs" / "saving.md"
START, END = "<!-- results of tests/package/matrix.py -->", "<!-- end of results -->"
KINDS = ("compiled", "fx.GraphModule", "ExportedProgram", "ScriptModule", "nn.Module")
FORMATS = ("exported_program", "torchscript", "aot_inductor")
SIZES = ("4", "1..16")
PROBES = (1, 2, 4, 8, 16)


class Pair(nn.Module):
    """Two tensors whose first sizes need not agree."""

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return torch.relu(x) + 1, torch.tanh(y) * 2


def ranged() -> Input:
    return Input(min_shape=(1, 3), opt_shape=(4, 3), max_shape=(16, 3))


def tensor() -> Tensor:
    return torch.randn(4, 3)


def _own_dims() -> Mapping[str, object]:
    return {"x": {0: Dim("rows", min=2, max=8)}, "y": {0: Dim("more", min=2, max=8)}}


def _shared_dim() -> Mapping[str, object]:
    rows = Dim("rows", min=2, max=8)
    return {"x": {0: rows}, "y": {0: rows}}


# What is given beside the module -> the arguments of save.
GIVEN: Mapping[str, Callable[[], dict[str, object]]] = {
    "nothing": dict,
    "tensors": lambda: {"inputs": [tensor(), tensor()]},
    "Inputs 1..16": lambda: {"inputs": [ranged(), ranged()]},
    "tensor and Input": lambda: {"inputs": [tensor(), ranged()]},
    "tensors, Dims 2..8": lambda: {"inputs": [tensor(), tensor()], "dynamic_shapes": _own_dims()},
    "tensors, one Dim 2..8": lambda: {"inputs": [tensor(), tensor()], "dynamic_shapes": _shared_dim()},
    "Inputs, Dims 2..8": lambda: {"inputs": [ranged(), ranged()], "dynamic_shapes": _own_dims()},
}


@dataclass(frozen=True)
class Case:
    """One call of `save`."""

    kind: str
    format: str
    sizes: str
    given: str
    retrace: bool

    def __str__(self) -> str:
        return f"{self.kind}-{self.format}-{self.sizes}-{self.given}-{'retrace' if self.retrace else 'as it is'}"


CASES = [Case(*values) for values in itertools.product(KINDS, FORMATS, SIZES, GIVEN, (True, False))]


@lru_cache
def _compiled(sizes: str) -> torch_tensorrt.CompiledModule:
    inputs = [Input((4, 3)), Input((4, 3))] if sizes == "4" else [ranged(), ranged()]
    return torch_tensorrt.compile(Pair().eval(), inputs=inputs, engine="eager", min_block_size=1)


def _module(kind: str, sizes: str) -> object:
    if kind == "nn.Module":
        return Pair()
    if kind == "ScriptModule":
        return torch.jit.script(Pair())
    if kind == "compiled":
        return _compiled(sizes)
    file = io.BytesIO()
    torch_tensorrt.save(_compiled(sizes), file)
    file.seek(0)
    program = torch_tensorrt.load(file)
    return program if kind == "ExportedProgram" else program.module()


class _Warnings(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.count = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.count += 1


def outcome(case: Case) -> str:
    """The sizes that the loaded file accepts and gives the right results for, or the class of the error."""
    file, heard, log = io.BytesIO(), _Warnings(), logging.getLogger("torch_tensorrt")
    module = _module(case.kind, case.sizes)
    log.addHandler(heard)
    try:
        options = GIVEN[case.given]()
        torch_tensorrt.save(module, file, output_format=case.format, retrace=case.retrace, **options)
    except torch_tensorrt.TorchTensorRTError as error:
        return type(error).__name__
    finally:
        log.removeHandler(heard)
    file.seek(0)
    loaded = torch_tensorrt.load(file, format=case.format)
    accepted = _accepted(loaded.module() if case.format == "exported_program" else loaded)
    return accepted + (", warns" if heard.count else "")


def _accepted(run: Callable[[Tensor, Tensor], Sequence[Tensor]]) -> str:
    taken = [size for size in PROBES if _takes(run, size, size)]
    text = str(taken[0]) if len(taken) == 1 else f"{taken[0]}..{taken[-1]}"
    if taken != [size for size in PROBES if taken[0] <= size <= taken[-1]]:
        raise AssertionError(f"sizes with gaps: {taken}")
    return f"{text} (equal)" if len(taken) > 1 and not _takes(run, taken[0], taken[-1]) else text


def _takes(run: Callable[[Tensor, Tensor], Sequence[Tensor]], first: int, second: int) -> bool:
    x, y = torch.randn(first, 3), torch.randn(second, 3)
    try:
        results = run(x, y)
    except (RuntimeError, AssertionError, torch.jit.Error, torch_tensorrt.InputError):
        return False
    for ours, eager in zip(results, Pair()(x, y), strict=True):
        torch.testing.assert_close(ours, eager)
    return True


def rows(results: Mapping[Case, str]) -> list[str]:
    """The table; cases with one result whatever is given share a row."""
    lines = [
        "| module | output_format | compiled for | given | retrace=True | retrace=False |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for kind, output in itertools.product(KINDS, FORMATS):
        found = {case: result for case, result in results.items() if (case.kind, case.format) == (kind, output)}
        if len(set(found.values())) == 1:
            result = next(iter(found.values()))
            lines.append(f"| {kind} | {output} | any | anything | {result} | {result} |")
            continue
        for sizes, given in itertools.product(SIZES, GIVEN):
            pair = [found[Case(kind, output, sizes, given, retrace)] for retrace in (True, False)]
            lines.append(f"| {kind} | {output} | {sizes} | {given} | {pair[0]} | {pair[1]} |")
    return lines


def read_table() -> dict[Case, str]:
    """The results that stand in the page."""
    text = PAGE.read_text().split(START)[1].split(END)[0]
    found: dict[Case, str] = {}
    for line in text.strip().splitlines()[2:]:
        kind, output, sizes, given, *pair = (cell.strip() for cell in line.strip("|").split("|"))
        for one, other in itertools.product(
            SIZES if sizes == "any" else [sizes], GIVEN if given == "anything" else [given]
        ):
            for retrace, result in zip((True, False), pair, strict=True):
                found[Case(kind, output, one, other, retrace)] = result
    return found


def main() -> None:
    """Tries every case and rewrites the table."""
    results: dict[Case, str] = {}
    for number, case in enumerate(CASES, 1):
        results[case] = outcome(case)
        sys.stderr.write(f"{number}/{len(CASES)} {case}: {results[case]}\n")
    before, _, rest = PAGE.read_text().partition(START)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{START}\n\n" + "\n".join(rows(results)) + f"\n\n{END}{after}")


if __name__ == "__main__":
    main()
