"""The C++ compiler that Inductor's code is compiled with."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from torch_tensorrt.observe.log import logger, warn_once
from torch_tensorrt.spec.errors import EngineNotRunnable

_log = logger("engines.inductor")
_OTHERS = ("g++", "/usr/bin/g++", "clang++")


def compiler() -> str:
    """The compiler, as a command: Inductor's own choice (the environment variable CXX), unless its libraries can't be loaded.

    A compiler that has no shared C++ library puts a copy of it into each library that it makes. Beside PyTorch's own, code of such
    a copy ends the process (seen: std::regex in AOTInductor packages, at load). Another compiler is then taken, with a warning.

    Raises EngineNotRunnable naming the compilers that were looked for.
    """
    wanted = _inductors_choice()
    present = [command for command in wanted if _answers(command)]
    sharing = [command for command in present if _shares_its_library(command)]
    if sharing:
        return sharing[0]
    instead = next(
        (command for command in _OTHERS if present and _answers(command) and _shares_its_library(command)), None
    )
    if instead is not None:
        warn_once(
            f"cxx {present[0]}",
            f"The C++ compiler {present[0]!r} links the C++ library into everything it makes (it has no libstdc++.so), which crashes "
            f"beside PyTorch; {instead!r} is used instead.",
        )
        return instead
    if present:
        return present[0]
    raise EngineNotRunnable(
        f"The 'inductor' engine is compiled by a C++ compiler, and there is none here: looked for {', '.join(map(repr, wanted))}. "
        "Install g++ (or name another one in the environment variable CXX before Python starts), or use another engine."
    )


def _inductors_choice() -> Sequence[str]:
    if sys.platform == "win32":
        return [os.environ.get("CXX", "cl")]
    wanted = importlib.import_module("torch._inductor.config").cpp.cxx
    several = wanted if isinstance(wanted, (tuple, list)) else (wanted,)
    return [name for name in several if name]


@cache
def _answers(command: str) -> bool:
    try:
        return subprocess.run([command, "--version"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


@cache
def _shares_its_library(command: str) -> bool:
    """Whether code that it links finds the C++ library as a shared one. True where that can't be asked."""
    if not sys.platform.startswith("linux") or shutil.which(command) is None:
        return True
    asked = subprocess.run([command, "-print-file-name=libstdc++.so"], capture_output=True, text=True, check=False)
    found = asked.stdout.strip()
    # GCC and Clang give the path of what they link, or the bare name when there is none.
    return asked.returncode != 0 or found != "libstdc++.so" or Path(found).exists()
