"""`python -m torch_tensorrt`: the commands, their options and what they print."""

from __future__ import annotations

import os

import click
from rich.console import Console
from rich.table import Table

import torch_tensorrt
from torch_tensorrt.tools.build_runtime import build_runtime
from torch_tensorrt.tools.coverage import (
    ModelCoverage,
    cells,
    converted_cells,
    count_whole,
    markdown,
    measure_row,
    reasons,
    row_from_function,
    rows_from_file,
    write_text,
)
from torch_tensorrt.tools.inspect import inspect
from torch_tensorrt.tools.operators import names_from_file, operators_page


@click.group()
def main() -> None:
    """Tools around compiled PyTorch models."""


main.add_command(inspect)
main.add_command(build_runtime)


@main.command()
@click.option("--zoo", metavar="FILE", help="A Python file whose ROWS have name, build() and sample(batch).")
@click.option(
    "--model", metavar="MODULE:FUNCTION", help="A function that returns (model, args) or (model, args, kwargs)."
)
@click.option(
    "--only", multiple=True, metavar="NAME", help="Only the rows of the zoo whose name begins so; may be repeated."
)
@click.option("--engine", default="auto", show_default=True, help="Which engine to compile with.")
@click.option(
    "--tensorrt", metavar="TARGET", help="Also build TensorRT-RTX engines, for this GPU (sm_89); none is needed here."
)
@click.option(
    "--operators",
    metavar="FILE",
    help="Names of operators: the page lists those without a converter to TensorRT, and why.",
)
@click.option("--write", metavar="FILE", help="Also write the table to this Markdown file.")
@click.option("--keep-going/--fail", default=False, help="Exit code 0 even when a model doesn't compile.")
def coverage(
    zoo: str | None,
    model: str | None,
    only: tuple[str, ...],
    engine: str,
    tensorrt: str | None,
    operators: str | None,
    write: str | None,
    keep_going: bool,
) -> None:
    """Shows how many operations of each model go into engines, why others don't, and how exact the result is."""
    try:
        if (zoo is None) == (model is None):
            raise torch_tensorrt.InputError("Give one of --zoo FILE and --model MODULE:FUNCTION.")
        rows = rows_from_file(zoo) if zoo is not None else [row_from_function(str(model))]
        section = operators_page(names_from_file(operators), operators, write or "") if operators is not None else ""
    except torch_tensorrt.InputError as error:
        raise click.ClickException(str(error)) from error
    console = Console(stderr=False)
    results = []
    for row in rows:
        if only and not any(row.name.startswith(name) for name in only):
            continue
        if console.is_terminal:
            console.print(f"{row.name} ...", end="\r")
        results.append(measure_row(row, engine, tensorrt))
    console.print(_table(results))
    console.print(count_whole(results))
    if write is not None:
        parts = [
            f"--zoo {zoo}" if zoo is not None else f"--model {model}",
            *(f"--only {name}" for name in only),
            *([] if engine == "auto" else [f"--engine {engine}"]),
            *([] if tensorrt is None else [f"--tensorrt {tensorrt}"]),
            *([] if operators is None else [f"--operators {operators}"]),
            f"--write {os.path.relpath(write)}",
        ]
        command = f"python -m torch_tensorrt coverage {' '.join(parts)}"
        write_text(write, markdown(results, command, tensorrt) + section)
    runs = [run for result in results for run in (result.static, result.dynamic, *(result.converted or ()))]
    if not keep_going and any(run and run.failure for run in runs):
        raise SystemExit(1)


def _table(results: list[ModelCoverage]) -> Table:
    table = Table(title="Coverage: operations in engines / all, engines, relative error")
    titles = ["model", "static", "engines", "error", "dynamic", "engines", "error"]
    converted = any(result.converted for result in results)
    for title in (*titles, *(("TensorRT-RTX, static", "dynamic") if converted else ()), "left in PyTorch, and why"):
        table.add_column(title, justify="left" if title in ("model", "left in PyTorch, and why") else "right")
    for result in results:
        more = converted_cells(result) if converted else ()
        table.add_row(result.name, *cells(result.static), *cells(result.dynamic), *more, "\n".join(reasons(result)))
    return table
