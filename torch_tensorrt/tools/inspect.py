"""`python -m torch_tensorrt inspect FILE`: what a saved file says about itself, as a table or as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable

import click
from rich.console import Console
from rich.markup import escape as without_markup
from rich.table import Table

import torch_tensorrt
from torch_tensorrt import EngineReport, FileReport


@click.command()
@click.argument("file")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
def inspect(file: str, as_json: bool) -> None:
    """Shows what FILE is, what wrote it, its inputs and its engines. Nothing in it is run, unpickled or built."""
    try:
        report = torch_tensorrt.inspect_file(file)
    except torch_tensorrt.TorchTensorRTError as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        click.echo(json.dumps(report.to_json(), indent=2))
        return
    console = Console()
    console.print(_summary(report))
    if report.inputs:
        console.print(_inputs(report))
    for engine in report.engines:
        console.print(_engine(engine))
    if report.plan.get("in_pytorch"):
        console.print(_in_pytorch(report))
    for note in report.notes:
        console.print(f"Note: {escape(note)}")


def escape(text: str) -> str:
    """`text` as it is, without markup, and with what would move or colour a terminal written out: files are anybody's."""
    shown = (one if one.isprintable() or one == "\n" else repr(one)[1:-1] for one in text)
    return without_markup("".join(shown))


def _summary(report: FileReport) -> Table:
    table = Table(title=escape(report.path), show_header=False)
    seals = {"right": "right: unchanged since it was saved", "wrong": "wrong", "none": "none"}
    rows = {
        "what": report.about,
        "size": f"{report.size:,} bytes",
        "seal": "" if report.kind == "foreign" else seals[report.seal],
        "torch_tensorrt": report.package,
        "torch": report.torch,
        "runs on": report.platform,
        "settings": _pairs(report.settings),
        "in engines": "{in_engines} of {operations} operations".format(**report.plan) if report.plan else "",
        "signature": _pairs(report.signature),
        "extra files": ", ".join(report.extra_files),
    }
    for name, value in rows.items():
        if value:
            table.add_row(name, escape(value))
    return table


def _inputs(report: FileReport) -> Table:
    table = Table("input", "type", "sizes", "device", title="Inputs")
    for spec in report.inputs:
        cells = (spec.name, str(spec.dtype).removeprefix("torch."), _sizes(spec.shape), spec.device)
        table.add_row(*map(escape, cells))
    return table


def _in_pytorch(report: FileReport) -> Table:
    table = Table("operation", "operator", "why", title="What runs in PyTorch")
    stay = report.plan["in_pytorch"]
    assert isinstance(stay, dict)
    for name, told in stay.items():
        assert isinstance(told, dict)
        table.add_row(*(escape(str(text)) for text in (name, told["operator"], told["why"])))
    return table


def _engine(engine: EngineReport) -> Table:
    spec = engine.spec
    table = Table(title=f"Engine {escape(spec.name)}", show_header=False)
    rows = {
        "backend": f"{spec.backend}, format {spec.format_version}",
        "built for": spec.target,
        "with": "\n".join(f"{name} {version}" for name, version in sorted(spec.versions.items())),
        "inputs": "\n".join(f"{tensor.name} {_sizes(tensor.shape)}" for tensor in spec.inputs),
        "outputs": "\n".join(f"{tensor.name} {_sizes(tensor.shape)}" for tensor in spec.outputs),
        "payload": f"{engine.payload_bytes:,} bytes",
        "SHA-256": engine.sha256,
    }
    if engine.program is not None:
        rows["program"] = f"{engine.program['bytes']:,} bytes: another machine can build an engine of its own from it"
        rows["program's options"] = _pairs(engine.program["options"]) or "all at their defaults"
        rows["program's SHA-256"] = str(engine.program["sha256"])
    for name, value in rows.items():
        table.add_row(name, escape(value))
    return table


def _sizes(shape: Iterable[object]) -> str:
    return " x ".join(map(str, shape)) or "()"


def _pairs(values: object) -> str:
    if not isinstance(values, dict):
        return ""
    return "\n".join(f"{key} = {json.dumps(value)}" for key, value in values.items())
