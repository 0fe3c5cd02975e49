"""Writes docs/api-status.md from the list of documented names in tests/data/public_api.json. `make docs` runs this."""

from __future__ import annotations

import ast
import importlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

from torch_tensorrt import UnsupportedError

HERE = Path(__file__).parent / "api-status.md"
LIST = Path(__file__).parent.parent / "tests" / "data" / "public_api.json"
START = """# The documented names, one by one

Made by `make docs` from `tests/data/public_api.json`, the public names of Torch-TensorRT's documentation with their arguments, fields
and methods; don't edit. `tests/test_public_names.py` compares each with the code, and this page with both.

- **works**: at its documented place, with every documented argument, field and method, and the same defaults.
- **differs**: the same, except for what is said beside it.
- **not here**: it can be imported, and raises `UnsupportedError` with what is said beside it when it is used.
- **internal**: a part of the documented system with no use outside it; there is no such name here.

Options of compilation are described in [options.md](options.md), with those that can only be at their defaults.

"""
STATUS = {"works": "works", "differs": "differs", "absent": "not here", "internal": "internal"}


def members(entry: Mapping[str, Any]) -> list[str]:
    """The documented arguments of a function, or the fields, methods and arguments of methods of a class."""
    found = [field.partition("=")[0] for field in entry.get("fields", ())]
    found += list(_arguments(entry["signature"])) if "signature" in entry else []
    for method in entry.get("methods", ()):
        name, paren, rest = method.partition("(")
        found += [name, *(f"{name}.{argument}" for argument in (_arguments(paren + rest) if paren else ()))]
    return found


def _arguments(signature: str) -> Iterator[str]:
    arguments = ast.parse(f"def f{signature}: ...").body[0].args  # type: ignore[attr-defined]
    listed = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    yield from (argument.arg for argument in listed if argument.arg not in ("self", "cls"))


def reason(entry: Mapping[str, Any]) -> str:
    """What is said beside a name."""
    if entry["status"] == "absent":
        try:
            found = getattr(importlib.import_module(entry["place"]), entry["name"])
            return str(found.__doc__).removeprefix("Not here: ")
        except UnsupportedError as error:
            return str(error).partition(" is not here: ")[2]
    told = [entry["note"]] if entry.get("note") else []
    told += [f"`{name}`: {why}" for name, why in entry.get("members", {}).items()]
    return "; ".join(told) + ("." if told else "")


def status_page() -> str:
    """The text of docs/api-status.md."""
    entries = json.loads(LIST.read_text())
    lines = [START, "| | works | differs | not here | internal |\n| --- | --- | --- | --- | --- |\n"]
    names: Counter[str] = Counter(entry["status"] for entry in entries)
    parts: Counter[str] = Counter()
    for entry in entries:
        other = len(entry.get("members", {}))
        parts[entry["status"] if entry["status"] in ("absent", "internal") else "works"] += len(members(entry)) - other
        parts["differs"] += other
    for what, counts in (("names", names), ("arguments, fields and methods", parts)):
        lines.append(f"| {what} | {' | '.join(str(counts[status]) for status in STATUS)} |\n")
    for place, group in groupby(entries, key=lambda entry: entry["place"]):
        lines.append(f"\n## `{place}`\n\n| name | status | |\n| --- | --- | --- |\n")
        for entry in group:
            at = f" (also in `{entry['also']}`)" if "also" in entry else ""
            lines.append(f"| `{entry['name']}`{at} | {STATUS[entry['status']]} | {reason(entry)} |\n")
    return "".join(lines)


if __name__ == "__main__":
    new = HERE.with_suffix(".new")
    new.write_text(status_page())
    os.replace(new, HERE)
