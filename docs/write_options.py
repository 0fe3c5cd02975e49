"""Writes docs/options.md from the declarations in torch_tensorrt/spec/settings.py. `make docs` runs this."""

from __future__ import annotations

import os
from pathlib import Path

from torch_tensorrt.dynamo import CompilationSettings

HERE = Path(__file__).parent / "options.md"
START = """# Compile options

Made by `make docs` from `torch_tensorrt/spec/settings.py`; don't edit. Each is a keyword argument of `torch_tensorrt.compile` and
`torch_tensorrt.dynamo.compile`. A name that isn't listed is an `InputError` with the closest one that is. An option that the chosen engine
can't honour gives one warning. `compiled.settings` holds those in force. `torch_tensorrt.dynamo.CompilationSettings.explain()` gives
this table.

| option | default | what it does |
| --- | --- | --- |
"""


def options_page() -> str:
    """The text of docs/options.md: the table that `CompilationSettings.explain()` gives, as Markdown."""
    heading, *lines = CompilationSettings.explain().splitlines()
    second, third = heading.index("default"), heading.index("what it does")
    cells = [(line[:second].strip(), line[second:third].strip(), line[third:].strip()) for line in lines]
    rows = [f"| `{name}` | {f'`{default}`' if default else ''} | {doc} |\n" for name, default, doc in cells]
    return START + "".join(rows)


if __name__ == "__main__":
    new = HERE.with_suffix(".new")
    new.write_text(options_page())
    os.replace(new, HERE)
