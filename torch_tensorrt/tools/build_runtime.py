"""`python -m torch_tensorrt build-runtime`: builds the C++ runtime for the PyTorch and OpenVINO that are installed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sysconfig
import tempfile
from importlib.util import find_spec
from pathlib import Path

import click
import torch

import torch_tensorrt

_NEEDED = {
    "cmake": "pip install cmake, or your system's package",
    "c++": "your system's package of g++ (11 or newer) or clang",
}
_BUILT = ("libtorchtrt_runtime.so", "torchtrt_python")


@click.command("build-runtime")
@click.option("--output", metavar="DIR", help="Folder for the library; the default is where Python looks for it.")
@click.option(
    "--tensorrt", metavar="DIR", help="Folder with include/NvInfer.h: TensorRT engines too (CUDA toolkit needed)."
)
@click.option("--jobs", type=click.IntRange(1), default=None, help="Compilers at once; the default is one per core.")
@click.option("--verbose", is_flag=True, help="Show what CMake and the compiler say.")
def build_runtime(output: str | None, tensorrt: str | None, jobs: int | None, verbose: bool) -> None:
    """Builds the C++ runtime: for programs without Python, and for Python itself, which then runs engines through it."""
    native = torch_tensorrt.runtime.native
    folder = Path(output).resolve() if output else native.cache_folder()
    for tool, remedy in _NEEDED.items():
        if not _found(tool):
            raise click.ClickException(f"The C++ runtime needs {tool!r}, which isn't here; install {remedy}.")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="torch_tensorrt_") as temporary:
        build = Path(temporary)
        _run(["cmake", "-S", str(native.SOURCES), "-B", str(build), *_definitions(tensorrt)], verbose)
        _run(["cmake", "--build", str(build), "--parallel", str(jobs or os.cpu_count() or 1)], verbose)
        built = [path for path in build.iterdir() if path.suffix == ".so" and path.name.startswith(_BUILT)]
        for path in built:
            _replace(folder / path.name, path.read_bytes(), 0o755)
    manifest = json.dumps({"key": native.build_key()}) + "\n"
    _replace(folder / native.MANIFEST, manifest.encode(), 0o644)  # last: from now on the build counts
    click.echo(str(folder / native.LIBRARY))


def _found(tool: str) -> bool:
    named = os.environ.get("CXX") if tool == "c++" else None
    return any(shutil.which(name) for name in (named or tool, *(("g++", "clang++") if tool == "c++" else ())))


def _definitions(tensorrt: str | None) -> list[str]:
    definitions = {
        "CMAKE_BUILD_TYPE": "Release",
        "TORCH_PATH": str(Path(torch.__file__).parent),
        "TORCH_CXX11_ABI": str(int(torch.compiled_with_cxx11_abi())),
        "PYTHON_INCLUDE": sysconfig.get_paths()["include"],
        "PYTHON_SUFFIX": str(sysconfig.get_config_var("EXT_SUFFIX")),
    }
    openvino = find_spec("openvino")
    if openvino is not None and openvino.origin is not None:
        definitions["OPENVINO_PATH"] = str(Path(openvino.origin).parent)
    if tensorrt is not None:
        definitions["TENSORRT_PATH"] = str(Path(tensorrt).resolve())
    if not (Path(definitions["PYTHON_INCLUDE"]) / "Python.h").is_file():
        raise click.ClickException(
            f"Python's headers are missing ({definitions['PYTHON_INCLUDE']}/Python.h); install your system's python3-dev."
        )
    generator = ["-G", "Ninja"] if shutil.which("ninja") else []
    return [*generator, *(f"-D{name}={value}" for name, value in definitions.items())]


def _run(command: list[str], verbose: bool) -> None:
    done = subprocess.run(command, capture_output=not verbose, text=True, check=False)
    if done.returncode != 0:
        told = "" if verbose else f"\n{(done.stdout + done.stderr)[-4000:]}"
        raise click.ClickException(f"{' '.join(command[:4])} ... failed with exit code {done.returncode}.{told}")


def _replace(path: Path, data: bytes, mode: int) -> None:
    """Whole or not at all; a process that has the old library loaded keeps it."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(temporary, mode)
        os.replace(temporary, path)
    except OSError as error:
        os.unlink(temporary)
        raise click.ClickException(f"{str(path)!r} can't be written: {error}.") from error
