"""The documents tell the truth: their code runs, their commands exist, their links lead somewhere, generated pages are fresh."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from torch_tensorrt.tools.command import main as tools

REPOSITORY = Path(__file__).parent.parent
PAGES = sorted([REPOSITORY / "README.md", REPOSITORY / "CHANGELOG.md", *(REPOSITORY / "docs").rglob("*.md")])
ALL_PAGES = [*PAGES, *sorted((REPOSITORY / "torch_tensorrt").rglob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# Besides `make` and `python`, what a document may tell someone to type.
COMMANDS = {"git", "cd", "pip"}


def _label(page: Path) -> str:
    return str(page.relative_to(REPOSITORY))


def blocks(page: Path, language: str) -> Iterator[tuple[int, str]]:
    """(line of the first character, code) of every fenced block in `language`."""
    text = page.read_text()
    for found in FENCE.finditer(text):
        if found[1] == language:
            yield text.count("\n", 0, found.start(2)) + 1, found[2]


def run_code(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs `code` as a script of its own in `folder`."""
    script = folder / "page.py"
    script.write_text(code)
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONWARNINGS": "error::SyntaxWarning"}
    command = [sys.executable, str(script)]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


@pytest.mark.parametrize("page", [page for page in PAGES if list(blocks(page, "python"))], ids=_label)
def test_the_python_code_of_a_page_runs_from_top_to_bottom(page: Path, tmp_path: Path) -> None:
    code = ""
    for line, block in blocks(page, "python"):
        code += "\n" * (line - 1 - code.count("\n")) + block  # so that a traceback names the page's own lines
    done = run_code(code, tmp_path)
    assert done.returncode == 0, f"{_label(page)}: {done.stderr}"


def _targets() -> set[str]:
    return set(re.findall(r"^([a-z]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))


def _command_problem(words: list[str]) -> str:
    while re.fullmatch(r"[A-Z_]+=.*", words[0]):  # a variable of the environment, for this command only
        words = words[1:]
    if words[0] == "make":
        unknown = [word for word in words[1:] if "=" not in word and word not in _targets()]
        return f"the Makefile has no {unknown}" if unknown else ""
    if words[:3] == ["python", "-m", "torch_tensorrt"]:
        known = tools.commands.get(words[3]) if len(words) > 3 else None
        if known is None:
            return f"there is no command {words[3:4]}; known: {sorted(tools.commands)}"
        known.make_context(words[3], words[4:])  # raises for an option that doesn't exist
        return ""
    if words[0] == "python":
        return "" if (REPOSITORY / words[1]).is_file() else f"there is no file {words[1]!r}"
    return "" if words[0] in COMMANDS else f"{words[0]!r} is not among the commands that documents use"


@pytest.mark.parametrize("page", [page for page in PAGES if list(blocks(page, "bash"))], ids=_label)
def test_the_commands_of_a_page_exist(page: Path) -> None:
    lines = [line for _, block in blocks(page, "bash") for line in block.splitlines()]
    commands = [words for line in lines if (words := shlex.split(line, comments=True))]
    assert [problem for words in commands if (problem := _command_problem(words))] == []


@pytest.mark.parametrize("command", ["make dmeo", "python -m torch_tensorrt covrage", "python nothing.py", "curl x"])
def test_a_command_that_does_not_exist_is_found(command: str) -> None:
    assert _command_problem(shlex.split(command))


def broken_links(page: Path) -> list[str]:
    """Links to files of the repository that aren't there, and `#sections` of the same page that it doesn't have."""
    text = FENCE.sub("", page.read_text())
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    sections = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, section = target.partition("#")
        if not path and section not in sections:
            broken.append(target)
        if path and "://" not in path and not (page.parent / path).exists():
            broken.append(target)
    return broken


@pytest.mark.parametrize("page", ALL_PAGES, ids=_label)
def test_the_links_of_a_page_lead_to_files_that_exist(page: Path) -> None:
    assert broken_links(page) == []


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Here\n[one](missing.md), [two](#there), [three](#here), [four](https://example.org/x)\n")
    assert broken_links(page) == ["missing.md", "#there"]


@pytest.mark.parametrize("page", ALL_PAGES, ids=_label)
def test_a_page_names_no_folder_of_the_machine_it_was_made_on(page: Path) -> None:
    assert re.findall(r"(?<![\w.])/(?:work|home|root|usr|opt|tmp)/\S*", page.read_text()) == []


def test_the_page_of_options_is_up_to_date() -> None:
    path = REPOSITORY / "docs" / "write_options.py"
    spec = importlib.util.spec_from_file_location("write_options", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (REPOSITORY / "docs" / "options.md").read_text() == module.options_page(), "run `make docs`"


def _benchmark(script: str, *options: str) -> str:
    command = [sys.executable, str(REPOSITORY / "benchmarks" / script), "--dry", *options]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def test_the_benchmark_of_overhead_measures_both_models() -> None:
    answer = _benchmark("overhead.py", "--rounds", "20")
    assert answer.count("'wrapper adds'") == 2


def test_the_benchmark_against_openvino_measures_latency_load_and_error() -> None:
    (row,) = json.loads(_benchmark("against_openvino.py", "--tiny", "--only", "mlp", "--seconds", "0.1"))
    assert row["relative error"] < 1e-5
    assert min(row["ours ms"], row["openvino ms"], row["load s"], row["compile s"]) > 0
