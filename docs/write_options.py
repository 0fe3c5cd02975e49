"""Writes docs/options.md from the declarations in torch_tensorrt/spec/settings.py. `make docs` runs this."""

from __future__ import annotations

import os
from pathlib import Path

from torch_tensorrt.spec.settings import option_table

HERE = Path(__file__).parent / "options.md"
START = """# Compile options

Made by `make docs` from `torch_tensorrt/spec/settings.py`; don't edit. Each is a keyword argument of `torch_tensorrt.compile` and
`torch_tensorrt.dynamo.compile`. A name that isn't listed is an `InputError` with the closest one that is. An option that the chosen engine
can't honour gives one warning. The options in force are in `compiled.settings`.

| option | default | what it does |
| --- | --- | --- |
"""
END = """
Other names for the same: `truncate_long_and_double` for `truncate_double`, `capability` for `engine_capability`, and
`make_refittable=True` for `immutable_weights=False`.
"""


def options_page() -> str:
    """The text of docs/options.md."""
    rows = [f"| `{name}` | `{default}` | {doc} |\n" for name, default, doc in option_table()]
    return START + "".join(rows) + END


if __name__ == "__main__":
    new = HERE.with_suffix(".new")
    new.write_text(options_page())
    os.replace(new, HERE)
