"""Every documented name, argument, field and method works as documented, or is known not to, with the reason.

The list is tests/data/public_api.json. `status` of an entry: "works", "differs" (`note` and `members` say how), "absent" (it can be
imported, and raises UnsupportedError when it is used) or "internal" (a part of the documented system that needs no counterpart).
"""

from __future__ import annotations

import importlib.util
import inspect
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from public_api import ENTRIES, differences, find, label

import torch_tensorrt
from torch_tensorrt import UnsupportedError
from torch_tensorrt.spec.absent import Absent

REPOSITORY = Path(__file__).parent.parent
HERE = [entry for entry in ENTRIES if entry["status"] in ("works", "differs")]
ABSENT = [entry for entry in ENTRIES if entry["status"] == "absent"]


def rows(entries: list[dict[str, Any]]) -> Any:
    return pytest.mark.parametrize("entry", entries, ids=[label(entry) for entry in entries])


@rows(HERE)
def test_a_name_is_at_its_documented_places_with_its_arguments_fields_and_methods(entry: dict[str, Any]) -> None:
    found = find(entry["place"], entry["name"])
    assert not isinstance(found, Absent), "it is not here: its status is 'absent'"
    if "also" in entry:
        assert find(entry["also"], entry["name"]) is found
    told, real = entry.get("members", {}), differences(entry)
    assert told.keys() == real.keys(), f"the list tells {told}; the code says {real}"
    assert entry["status"] == "works" or told or entry["note"]
    assert entry["status"] == "differs" or not (told or entry.get("note"))


@rows(ABSENT)
def test_a_name_that_is_not_here_says_what_to_use_instead_when_it_is_used(entry: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedError, match=rf"{entry['name']} is not here: .{{20,}}\.$"):
        for place in (entry["place"], entry.get("also", entry["place"])):
            found = find(place, entry["name"])
            assert isinstance(found, Absent), f"{label(entry)} is here: change its status in tests/data/public_api.json"
        found(1, two=2)


def test_every_function_and_class_that_works_is_used_in_a_test() -> None:
    own = {"public_api.py", "test_public_names.py"}
    files = [path for path in (REPOSITORY / "tests").rglob("*.py") if path.name not in own]
    words = set(re.findall(r"\w+", "\n".join(path.read_text() for path in files)))
    assert [label(entry) for entry in HERE if entry["kind"] != "constant" and entry["name"] not in words] == []


def test_every_public_name_of_ours_that_is_documented_elsewhere_is_in_the_list() -> None:
    """What the list doesn't have is ours; it is told in docs/api-status.md."""
    listed = {entry["name"] for entry in ENTRIES}
    ours = {
        *("BuildError", "EngineNotRunnable", "FileFormatError", "InputError", "InternalError", "UnsupportedError"),
        *(
            "TorchTensorRTError",
            "CompiledModule",
            "EngineReport",
            "FileReport",
            "inspect_file",
            "ENABLED_FEATURES",
            "quantize",
        ),
        "quantize",
    }
    modules = {"__version__", "dynamo", "fx", "logging", "runtime", "ts"}
    assert set(torch_tensorrt.__all__) - listed == ours | modules


def test_the_list_is_whole() -> None:
    """Names by place, as the documentation has them: an entry can't get lost unseen."""
    places = Counter(entry["place"].removeprefix("torch_tensorrt").lstrip(".").partition(".")[0] for entry in ENTRIES)
    assert places == {
        "": 8, "_Input": 1, "_Device": 1, "_enums": 5, "logging": 7, "dynamo": 120, "runtime": 18, "ts": 5, "fx": 10
    }  # fmt: skip
    assert len({label(entry) for entry in ENTRIES}) == len(ENTRIES)


# The checks above can fail

COMPILER = "torch_tensorrt.dynamo._compiler"


def entry_of(name: str, **changes: Any) -> dict[str, Any]:
    return {**next(entry for entry in ENTRIES if entry["name"] == name), **changes}


@pytest.mark.parametrize(
    ("entry", "wrong"),
    [
        (entry_of("load", signature="(file_path='', extra_files=None, *, device=None)"), {"device": "is missing"}),
        (entry_of("load", signature="(file_path='x')"), {"file_path": "is '' by default, documented: 'x'"}),
        (entry_of("compile", place=COMPILER, signature="(inputs, min_block_size=5)"), {}),
        (
            entry_of("compile", place=COMPILER, signature="(min_block_size=6)"),
            {"min_block_size": "is 5 by default, documented: 6"},
        ),
        (
            entry_of("compile", place=COMPILER, signature="(exported_program=3, min_blok_size=5)"),
            {"exported_program": f"is {inspect.Parameter.empty!r} by default, documented: 3", "min_blok_size": ""},
        ),
        (entry_of("Device", fields=["gpu_id=-2"]), {"gpu_id": "is -1 by default, documented: -2"}),
        (entry_of("Device", fields=["dla=1"], methods=["to(t, u)", "fro()"]), {"dla": "", "to.u": "", "fro": ""}),
        (entry_of("MIN_BLOCK_SIZE", default="6"), {"MIN_BLOCK_SIZE": "is 5 by default, documented: 6"}),
    ],
)
def test_a_difference_is_found(entry: dict[str, Any], wrong: dict[str, str]) -> None:
    assert differences(entry) == {name: told or "is missing" for name, told in wrong.items()}


def test_nothing_is_an_instance_of_a_name_that_is_not_here_and_no_class_derives_from_it() -> None:
    absent = Absent("x.Y", "use Z")
    assert not isinstance(3, absent)  # type: ignore[arg-type]
    assert repr(absent) == "<torch_tensorrt.x.Y: not here>"
    with pytest.raises(UnsupportedError, match=r"^torch_tensorrt\.x\.Y is not here: use Z\.$"):
        absent.STANDARD  # noqa: B018
    with pytest.raises(UnsupportedError, match="use Z"):

        class Derived(absent):  # type: ignore[misc, valid-type]
            pass


def test_the_page_of_names_is_up_to_date() -> None:
    path = REPOSITORY / "docs" / "write_api_status.py"
    spec = importlib.util.spec_from_file_location("write_api_status", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (REPOSITORY / "docs" / "api-status.md").read_text() == module.status_page(), "run `make docs`"
