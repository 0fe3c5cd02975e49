"""Twenty architectures, and two with real weights: each compiles, for one batch size and a range, and agrees."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch import nn

import torch_tensorrt
from tests.zoo.models import ROWS, Row
from torch_tensorrt.tools.command import main
from torch_tensorrt.tools.coverage import dynamic_inputs, relative_error

RANDOM = [row for row in ROWS if not row.trained]
# Engines per model; every model that is not listed is one single engine.
SEVERAL_ENGINES: dict[str, int] = {}
BF16_BOUND = 2e-2
ONE_PER_FAMILY = [
    next(row for row in ROWS if row.family == family) for family in dict.fromkeys(row.family for row in ROWS)
]


def named(rows: list[Row]) -> list[object]:
    """The rows as pytest parameters; those with real, bigger networks are marked slow."""
    return [pytest.param(row, id=row.name, marks=[pytest.mark.slow] if row.trained else []) for row in rows]


def worst_error(row: Row, compiled: nn.Module, model: nn.Module, batches: list[int]) -> float:
    """The greatest relative error over fresh random inputs of these batch sizes."""
    errors = []
    for seed, batch in enumerate(batches):
        torch.manual_seed(100 + seed)
        args, kwargs = row.sample(batch)
        with torch.no_grad():
            errors.append(relative_error(compiled(*args, **kwargs), model(*args, **kwargs)))
    return max(errors)


def engines_of(compiled: nn.Module) -> int:
    """How many engine calls the compiled graph holds."""
    op = torch.ops.tensorrt.execute_engine.default
    return sum(node.target is op for node in compiled.graph.nodes)


def test_the_zoo_holds_the_twenty_promised_architectures() -> None:
    assert len(RANDOM) == 20
    assert len({row.name for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize("row", named(RANDOM))
def test_outputs_follow_the_inputs(row: Row) -> None:
    """A model whose output hardly depends on its input would agree with anything."""
    torch.manual_seed(0)
    model = row.build()
    (args, kwargs), (others, other_kwargs) = row.sample(2), row.sample(2)
    with torch.no_grad():
        assert relative_error(model(*args, **kwargs), model(*others, **other_kwargs)) > 0.02


@pytest.mark.parametrize("row", named(list(ROWS)))
def test_compiled_for_one_batch_size_agrees_with_eager(row: Row) -> None:
    model = row.build()
    args, kwargs = row.sample(2)
    compiled = torch_tensorrt.compile(model, arg_inputs=list(args), kwarg_inputs=kwargs or None, engine="openvino")
    assert worst_error(row, compiled, model, [2, 2]) <= row.tolerance
    assert engines_of(compiled) == SEVERAL_ENGINES.get(row.name, 1)


@pytest.mark.parametrize("row", named(list(ROWS)))
def test_compiled_for_a_range_of_batch_sizes_agrees_with_eager(row: Row) -> None:
    model = row.build()
    described = dynamic_inputs(row.sample)
    assert described is not None
    inputs, kwargs = described
    compiled = torch_tensorrt.compile(model, arg_inputs=list(inputs), kwarg_inputs=kwargs or None, engine="openvino")
    assert worst_error(row, compiled, model, [1, 3, 4, 8]) <= row.tolerance
    assert engines_of(compiled) == SEVERAL_ENGINES.get(row.name, 1)


def test_fifteen_of_the_twenty_are_one_single_engine() -> None:
    assert len(RANDOM) - len(SEVERAL_ENGINES) >= 15


@pytest.mark.parametrize("row", named(ONE_PER_FAMILY))
def test_bf16_stays_near_float32(row: Row) -> None:
    model = row.build()
    args, kwargs = row.sample(4)
    compiled = torch_tensorrt.compile(
        model,
        arg_inputs=list(args),
        kwarg_inputs=kwargs or None,
        engine="openvino",
        enabled_precisions={torch.bfloat16},
    )
    assert worst_error(row, compiled, model, [4]) <= BF16_BOUND


SMALL_ZOO = """
import torch
from tests.zoo.models import ROWS
ROWS = [row for row in ROWS if row.name == "mlp"]
"""


def test_the_coverage_command_shows_and_writes_a_table_that_says_how_it_was_made(tmp_path: Path) -> None:
    zoo, page = tmp_path / "zoo.py", tmp_path / "coverage.md"
    zoo.write_text(SMALL_ZOO)
    done = CliRunner().invoke(main, ["coverage", "--zoo", str(zoo), "--engine", "eager", "--write", str(page)])
    assert done.exit_code == 0, done.output
    assert "1 of 1 models are in one single engine" in done.output
    text = page.read_text()
    assert f"python -m torch_tensorrt coverage --zoo {zoo} --engine eager" in text
    assert re.search(r"\| mlp \| 5 / 5 \| 1 \| \d\.\de-\d\d \| 5 / 5 \| 1 \| \d\.\de-\d\d \|", text), text


def test_the_coverage_page_has_tensorrt_engines_and_the_operators_that_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    zoo, page, names = tmp_path / "zoo.py", tmp_path / "coverage.md", tmp_path / "names.txt"
    zoo.write_text(SMALL_ZOO)
    names.write_text("# two of them\naten.relu.default\naten.matmul\noperator.add\naten.rand.default\n")
    options = ["--engine", "eager", "--tensorrt", "sm_89", "--operators", str(names), "--write", str(page)]
    done = CliRunner().invoke(main, ["coverage", "--zoo", str(zoo), *options])
    assert done.exit_code == 0, done.output
    text = page.read_text()
    assert re.search(r"\| mlp \|.*\| 5 / 5 \| 5 / 5 \|  \|", text), text
    assert "TensorRT-RTX, static | dynamic" in text
    assert "\n3 of the 4 operators" in text
    assert re.findall(r"^\| `(.+?)` \| (.+) \|$", text, re.MULTILINE)[0][0] == "aten.rand.default"
    assert f"--tensorrt sm_89 --operators {names}" in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "--zoo FILE"),
        (["--model", "a:b", "--zoo", "c.py", "--operators", "d"], "one of"),
        (["--zoo", str(Path(__file__).with_name("models.py")), "--operators", "nowhere.txt"], "nowhere.txt"),
        (["--zoo", "nowhere.py"], "nowhere.py"),
        (["--zoo", str(Path(__file__).with_name("networks.py"))], "no ROWS"),
        (["--model", "torch"], "module:function"),
        (["--model", "torch:nothing"], "nothing"),
        (["--zoo", "a.py", "--model", "b:c"], "one of"),
    ],
)
def test_the_coverage_command_says_what_is_wrong_with_its_arguments(arguments: list[str], words: str) -> None:
    done = CliRunner().invoke(main, ["coverage", *arguments])
    assert done.exit_code == 1
    assert words in done.output


@pytest.mark.parametrize(
    ("answer", "reference", "error"),
    [
        (torch.ones(4), torch.ones(4), 0.0),
        ({"a": torch.full((4,), 1.5)}, {"a": torch.ones(4)}, 0.5),
        (torch.ones(4), torch.ones(4, 1), float("inf")),
        (torch.ones(4).double(), torch.ones(4), float("inf")),
        ((torch.ones(4), torch.ones(1)), torch.ones(4), float("inf")),
    ],
)
def test_relative_error_measures_all_tensors_and_never_overlooks_a_shape_or_dtype(
    answer: object, reference: object, error: float
) -> None:
    assert relative_error(answer, reference) == error
