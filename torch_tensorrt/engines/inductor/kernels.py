"""What a package of native code consists of, read from the C++ source in it, and what its kernels take when they run."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable, Mapping
from typing import TypeVar

import torch
from torch.profiler import ProfilerActivity, profile

from torch_tensorrt.contracts.abilities import LayerTime
from torch_tensorrt.spec.tensor_spec import Json

Result = TypeVar("Result")

_SOURCE = re.compile(r"Source Nodes: \[(.*?)\], Original ATen: \[(.*?)\]")
# A kernel that Inductor made, for a CPU or (called through a function, or launched) for a GPU; or a call of PyTorch's own.
_OWN = re.compile(r"\b(?:call_|kernels_?\.)?((?:cpp|triton)_[a-z]+_\w+)\b\s*[(,]")
_EXTERN = re.compile(r"\b(aoti_torch_(?:cpu|cuda)_\w+|aoti_torch_proxy_executor_call_function)\(")
_NUMBER = re.compile(r"^graph_\d+_")  # what a kernel's mark adds to its name


def read_kernels(package: bytes | memoryview) -> list[Mapping[str, Json]]:
    """The kernels in the order in which the code calls them; empty where the package has no source."""
    with zipfile.ZipFile(io.BytesIO(package)) as archive:
        sources = [name for name in archive.namelist() if name.endswith(".cpp")]
        texts = [archive.read(name).decode(errors="replace") for name in sources]
    found: list[Mapping[str, Json]] = []
    for text in texts:
        _, _, body = text.partition("::run_impl(")
        nodes, operators = "", ""
        for line in body.partition("// AOTInductorModel::run_impl")[0].splitlines():
            told = _SOURCE.search(line)
            if told:
                nodes, operators = told.groups()
                continue
            called = _EXTERN.search(line) or _OWN.search(line)
            if called:
                found.append(_layer(called[1], nodes, operators))
                nodes, operators = "", ""
    return found


def _layer(name: str, nodes: str, operators: str) -> Mapping[str, Json]:
    kind = name.partition("_")[0]  # "cpp", "triton" or "aoti"
    return {
        "Name": name,
        "LayerType": "extern" if kind == "aoti" else kind,
        "OriginalNames": [*filter(None, nodes.split(", "))],
        "OriginalOperators": [*filter(None, operators.split(", "))],
    }


def time_kernels(run: Callable[[], Result], *, on_gpu: bool) -> tuple[Result, list[LayerTime]]:
    """What `run` gives, and its kernels: on a GPU as CUDA counts them, on a CPU as marks in the code do."""
    with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]) as profiled:
        result = run()
        if on_gpu:
            torch.cuda.synchronize()
    wanted = "CUDA" if on_gpu else "CPU"
    events = [event for event in profiled.events() or [] if event.device_type.name == wanted]
    if not on_gpu:  # what a marked call calls itself
        events = [event for event in events if event.cpu_parent is None]
    events.sort(key=lambda event: event.time_range.start)
    names = [_NUMBER.sub("", event.name) for event in events]
    return result, [
        LayerTime(name, _kind(name), event.time_range.elapsed_us() / 1000)
        for name, event in zip(names, events, strict=True)
    ]


def _kind(name: str) -> str:
    return name.partition("_")[0] if name.startswith(("cpp_", "triton_")) else "extern"
