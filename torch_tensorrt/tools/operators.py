"""Which operators of a list have a converter to TensorRT, and why the others have none."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch_tensorrt


def names_from_file(path: str) -> Sequence[str]:
    """The operators that a file names, one a line; lines that begin with # are comments.

    Raises torch_tensorrt.InputError when the file is missing or names none.
    """
    if not Path(path).is_file():
        raise torch_tensorrt.InputError(
            f"There is no file {path!r}; --operators needs one with an operator's name a line."
        )
    lines = [line.strip() for line in Path(path).read_text(encoding="utf-8").splitlines()]
    names = [line for line in lines if line and not line.startswith("#")]
    if not names:
        raise torch_tensorrt.InputError(f"{path!r} names no operator; write one a line, such as aten.relu.default.")
    return names


def refused_operators(names: Sequence[str]) -> Mapping[str, str]:
    """Those of `names` that have no converter, with the reason."""
    # A documented module of its own, which torch_tensorrt doesn't load: it registers all converters.
    converts = importlib.import_module("torch_tensorrt.dynamo.conversion").converts
    found = {name: converts.why_not(name) for name in names}
    return {name: reason for name, reason in found.items() if reason}


def operators_page(names: Sequence[str], path: str, page: str) -> str:
    """A section of the Markdown file `page`: how many of the operators that the file `path` names are converted, and which not."""
    refused, link = refused_operators(names), os.path.relpath(path, os.path.dirname(page) or ".")
    lines = [
        "",
        "## Operators",
        "",
        f"{len(names) - len(refused)} of the {len(names)} operators in [{path}]({link}), those that the documented system",
        f"converts, have a converter to TensorRT; each of the other {len(refused)} is refused when a graph is planned:",
        "",
        "| operator | why it is not converted |",
        "| --- | --- |",
        *(f"| `{name}` | {reason} |" for name, reason in refused.items()),
    ]
    return "\n".join(lines) + "\n"
