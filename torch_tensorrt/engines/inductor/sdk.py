"""The only file that calls Inductor: compiling a program to a package of native code, loading one, and what this machine is.

Inductor is part of PyTorch; it is imported on first use, because that takes seconds. Where its interface differs between versions
of PyTorch, the interface is looked at, not the version.
"""

from __future__ import annotations

import importlib
import importlib.util
import io
import platform
import re
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Protocol, cast

import torch
from torch import Tensor
from torch._guards import TracingContext, tracing
from torch.export import ExportedProgram
from torch.utils._python_dispatch import _disable_current_modes

from torch_tensorrt.engines.inductor.cxx import compiler
from torch_tensorrt.engines.inductor.fakes import register_fakes
from torch_tensorrt.graphs.predictions import PREDICTING, fake_modes, fresh_predictions
from torch_tensorrt.observe.quiet import quiet_torch
from torch_tensorrt.spec.assumptions import Assumptions
from torch_tensorrt.spec.errors import BuildError

RUNNERS = (
    8  # calls of one engine that may be on their way at once: matters on a GPU, where a call returns before its end
)
# Instruction sets that a compiler uses by itself when it is told to compile for the machine it runs on.
_INSTRUCTIONS = re.compile(r"avx|amx|sse|pni|fma|f16c|bmi|abm|popcnt|movbe|gfni|vaes|vpclmul|pclmul|adx|sha_ni|aes")


@dataclass(frozen=True)
class Choices:
    """How a program is compiled.

    frozen: weights become part of the code, in the layout that the CPU's library is fastest with. apart: the package holds no
    weights, and has to be given them with `load_weights`. refittable: every weight can be replaced. tf32: float32 may be
    multiplied as TF32. max_autotune, coordinate_descent_tuning: Inductor's own measurements while compiling. measured: cuDNN
    measures its kernels for convolutions when the code first runs.
    """

    frozen: bool
    apart: bool
    refittable: bool
    tf32: bool
    max_autotune: bool = False
    coordinate_descent_tuning: bool = False
    measured: bool = False


class Loader(Protocol):
    """A package in memory."""

    def boxed_run(self, inputs: list[Tensor]) -> list[Tensor]:
        """Runs it, on the current stream where it is for a GPU; empties `inputs`."""

    def load_constants(
        self, constants: Mapping[str, Tensor], use_inactive: bool, check_full_update: bool, user_managed: bool
    ) -> None:
        """Sets constants by name; `user_managed`: by reference."""

    def get_constant_fqns(self) -> list[str]:
        """The names of the constants that the code reads."""


@cache
def _config() -> ModuleType:
    return importlib.import_module("torch._inductor.config")


def has_triton() -> bool:
    """Whether Triton, which compiles kernels for GPUs, is installed."""
    return importlib.util.find_spec("triton") is not None


@cache
def _instructions() -> frozenset[str]:
    path = Path("/proc/cpuinfo")
    text = path.read_text() if path.exists() else ""
    found = re.search(r"^(flags|Features)\s*:\s*(.*)$", text, re.MULTILINE)
    words = found[2].split() if found else []
    return frozenset(word for word in words if found and (found[1] == "Features" or _INSTRUCTIONS.match(word)))


def target(device: torch.device) -> str:
    """What is compiled for `device` here: "cpu" or "sm_90"; system and processor; vector width; instruction sets."""
    kind = "cpu" if device.type == "cpu" else "sm_{}{}".format(*torch.cuda.get_device_capability(device))
    vectors = torch.backends.cpu.get_cpu_capability().lower()
    width = next((f" {bits} bit" for name, bits in (("512", 512), ("avx2", 256)) if name in vectors), "")
    return f"{kind};{_system()};{vectors}{width};{' '.join(sorted(_instructions()))}"


def _system() -> str:
    return f"{platform.system().lower()}-{platform.machine().lower()}"


def runs_on(made: str, device: torch.device) -> bool:
    """Whether code for target `made` runs on `device` here: the same kind, and no instruction that this machine lacks."""
    kind, system, _, instructions = (*made.split(";"), "", "", "")[:4]
    here = target(device).split(";")[0]
    return (kind, system) == (here, _system()) and set(instructions.split()) <= _instructions()


def compile_package(
    program: ExportedProgram, choices: Choices, device: torch.device, *, marked: bool = False
) -> tuple[bytes, Choices]:
    """A `.pt2` package of native code, and how it was compiled in the end. What Inductor raises passes through.

    Inductor may add constants of its own, which it drops where weights are apart: then they can't be. Raises BuildError when it
    made code for some of the program's sizes only. `marked`: torch.profiler sees each kernel, at some cost.
    """
    assumptions = Assumptions(program.graph)
    package = _compile(program, choices, marked=marked)
    wrong = assumptions.wrong()
    if wrong:
        raise BuildError(
            f"Inductor made code that is right only where {' and '.join(wrong)}, and the sizes vary. Compile for fixed sizes, or with "
            "another engine."
        )
    if choices.apart:
        own = set(load_package(package, device).get_constant_fqns()) - set(program.state_dict)
        if own:
            choices = replace(choices, apart=False)
            package = _compile(program, choices, marked=marked)
    return package, choices


def _compile(program: ExportedProgram, choices: Choices, *, marked: bool) -> bytes:
    wanted = {
        "freezing": choices.frozen,
        "always_keep_tensor_constants": not choices.frozen,  # else small ones become code under names that nobody knows
        "aot_inductor.package_constants_in_so": not choices.apart,
        "aot_inductor.enable_line_tables": False,  # they are half of a small engine's bytes
        "aot_inductor.enable_frame_pointer": False,
        "cpp.cxx": (compiler(),),
        "cpp.enable_kernel_profile": marked,
        "cpp.enable_unsafe_math_opt_flag": False,
        "use_fast_math": False,
        "max_autotune": choices.max_autotune,
        "coordinate_descent_tuning": choices.coordinate_descent_tuning,
    }
    register_fakes()
    options = {name: value for name, value in wanted.items() if _has_option(name)}
    buffer = io.BytesIO()
    with (
        PREDICTING, quiet_torch(), torch.no_grad(), nullcontext() if choices.tf32 else exact_float32(), _own_folder(),
        _own_trace(program), fresh_predictions(program),
    ):  # fmt: skip
        torch._inductor.aoti_compile_and_package(program, package_path=buffer, inductor_configs=options)
    return buffer.getvalue()


@contextmanager
def _own_folder() -> Iterator[None]:
    """Inductor writes its files into a folder of this compilation.

    Else their names depend on the code only, and a process that compiles the same network with other weights at the same time
    replaces them before they are packed: results are those of its weights.
    """
    with (
        tempfile.TemporaryDirectory(prefix="torch_tensorrt_") as folder,
        _config().patch({"aot_inductor.output_path": folder}),
    ):
        yield


@contextmanager
def _own_trace(program: ExportedProgram) -> Iterator[None]:
    """Within torch.compile: Inductor finds neither Dynamo's context, which it would take for its own, nor Dynamo's rule that a graph has
    no tensors in it, which constants are. It forgets what is being timed when it is done: Dynamo, which isn't, would warn of that.
    """
    modes = fake_modes(program)
    timed = [(names, list(names)) for names in (_timed() if TracingContext.try_get() is not None else ())]
    before = [mode.allow_non_fake_inputs for mode in modes]
    for mode in modes:
        mode.allow_non_fake_inputs = True
    try:
        with tracing(None), _disable_current_modes():
            yield
    finally:
        for mode, allowed in zip(modes, before, strict=True):
            mode.allow_non_fake_inputs = allowed
        for names, old in timed:
            names[:] = old


def _timed() -> list[list[str]]:
    """What Dynamo is timing at the moment, in the two lists that it keeps."""
    log = importlib.import_module("torch._dynamo.utils").get_chromium_event_logger()
    return [log.get_stack(), log.get_pt2_compile_substack()]


def _has_option(name: str) -> bool:
    *groups, last = name.split(".")
    found: object = _config()
    for group in groups:
        found = getattr(found, group, None)
    return hasattr(found, last)


def load_package(package: bytes | memoryview, device: torch.device) -> Loader:
    """The package in memory. Runs native code from it. What PyTorch raises passes through.

    It is written to a temporary folder for that: the system loads libraries from files only.
    """
    with tempfile.TemporaryDirectory(prefix="torch_tensorrt_") as folder:
        path = Path(folder) / "engine.pt2"
        path.write_bytes(package)
        index = -1 if device.type == "cpu" else (device.index or 0)
        # Native code makes its GPU the current one, and leaves it so.
        with nullcontext() if device.type == "cpu" else torch.cuda.device(index):
            return cast("Loader", torch._C._aoti.AOTIModelPackageLoader(str(path), "model", False, RUNNERS, index))


def load_weights(loader: Loader, weights: Mapping[str, Tensor], *, apart: bool) -> None:
    """Gives the loader the weights that its code reads, by reference: the caller keeps them alive.

    `apart`: the package has none, and must get all.
    """
    read = set(loader.get_constant_fqns())
    loader.load_constants({name: value for name, value in weights.items() if name in read}, False, apart, True)


class _Group(Protocol):
    fp32_precision: object


def _groups() -> tuple[_Group, _Group]:
    """Products and convolutions, whose `fp32_precision` newer versions have instead of `allow_tf32`."""
    return cast("_Group", torch.backends.cuda.matmul), cast("_Group", torch.backends.cudnn.conv)  # type: ignore[attr-defined]


class _Switches:
    """TF32 switched off for as long as anyone asks: they are the process's, so the last to leave restores them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._before: Sequence[object] = ()

    def enter(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._before = self._read()
                self._write([type(value)(False) if isinstance(value, bool) else "ieee" for value in self._before])
            self._inside += 1

    def leave(self) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._write(self._before)

    @staticmethod
    def _read() -> Sequence[object]:
        try:
            return torch._C._get_cublas_allow_tf32(), torch._C._get_cudnn_allow_tf32()
        except RuntimeError:  # the program has used the newer switches, which the older ones refuse to be mixed with
            return tuple(group.fp32_precision for group in _groups())

    @staticmethod
    def _write(values: Sequence[object]) -> None:
        products, convolutions = values
        if isinstance(products, bool) and isinstance(convolutions, bool):
            torch._C._set_cublas_allow_tf32(products)
            torch._C._set_cudnn_allow_tf32(convolutions)
        else:
            for group, value in zip(_groups(), values, strict=True):
                group.fp32_precision = value


_switches = _Switches()


@contextmanager
def exact_float32() -> Iterator[None]:
    """float32 is multiplied as float32, whatever PyTorch's own switches for TF32 say outside."""
    _switches.enter()
    try:
        yield
    finally:
        _switches.leave()


def tf32_allowed() -> bool:
    """Whether the program has allowed TF32 for products of matrices (PyTorch's default: it hasn't)."""
    try:
        return bool(torch._C._get_cublas_allow_tf32())
    except RuntimeError:
        return bool(_groups()[0].fp32_precision == "tf32")
