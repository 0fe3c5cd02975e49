"""What benchmarks/gpu.py compares: ways to run one network on a GPU, each built from the same module and the same inputs."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor, nn

import torch_tensorrt
from torch_tensorrt.engines.inductor.cxx import compiler

Inputs: TypeAlias = "tuple[Tensor, ...]"
Call: TypeAlias = "Callable[[], object]"


@dataclass
class Built:
    """A contender that is ready to be called.

    load_seconds: from its file to the first answer, in this process, for those that have files. held: what must live as long.
    """

    call: Call
    load_seconds: float | None = None
    held: object = None


class Captured:
    """`run` of `inputs` in a CUDA graph. Inputs stay where they are; results are the graph's own memory."""

    def __init__(self, run: Callable[..., object], inputs: Inputs) -> None:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                run(*inputs)
        torch.cuda.current_stream().wait_stream(side)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.result = run(*inputs)

    def __call__(self) -> object:
        self.graph.replay()
        return self.result


def eager(model: nn.Module, inputs: Inputs) -> Built:
    """PyTorch as it is."""
    return Built(lambda: model(*inputs))


def eager_graph(model: nn.Module, inputs: Inputs) -> Built:
    """PyTorch captured in a CUDA graph, without copying inputs or results."""
    return Built(Captured(model, inputs))


def compiled(model: nn.Module, inputs: Inputs) -> Built:
    """torch.compile(model)."""
    run = torch.compile(model)
    return Built(lambda: run(*inputs))


def max_autotune(model: nn.Module, inputs: Inputs) -> Built:
    """torch.compile(model, mode="max-autotune"): measured kernels, and CUDA graphs."""
    run = torch.compile(model, mode="max-autotune")

    def call() -> object:
        torch.compiler.cudagraph_mark_step_begin()
        return run(*inputs)

    for _ in range(4):  # compiles, warms up, records, replays
        call()
    return Built(call)


def aotinductor(model: nn.Module, inputs: Inputs) -> Built:
    """torch._inductor.aoti_compile_and_package and aoti_load_package.

    Not in a CUDA graph: its runtime makes calls that a capture forbids, and the failed capture spoils the process.
    """
    program = torch.export.export(model, inputs, strict=False)
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "model.pt2")
        # Where the machine's compiler has no shared C++ library, PyTorch's loader crashes on what it makes: the peer gets ours.
        options = {"cpp.cxx": (compiler(),)}
        torch._inductor.aoti_compile_and_package(program, package_path=path, inductor_configs=options)
        start = time.perf_counter()
        run = torch._inductor.aoti_load_package(path)
        run(*inputs)
        _synchronize()
        return Built(lambda: run(*inputs), time.perf_counter() - start, run)


def ours(model: nn.Module | torch.export.ExportedProgram, inputs: Inputs, **options: object) -> Built:
    """torch_tensorrt.compile, run in a CUDA graph by torch_tensorrt.runtime.enable_cudagraphs."""
    module = torch_tensorrt.compile(model, arg_inputs=list(inputs), min_block_size=1, **options)
    print(
        f"    {module.plan.in_engines} of {module.plan.total} operations in {len(module.plan.groups)} engine(s)",
        flush=True,
    )
    loaded = _load_seconds(module, inputs)
    if not inputs[0].is_cuda:
        return Built(lambda: module(*inputs), loaded)
    context: AbstractContextManager[Callable[..., object]] = torch_tensorrt.runtime.enable_cudagraphs(module)
    run = context.__enter__()
    for _ in range(3):
        run(*inputs)
    return Built(lambda: run(*inputs), loaded, (context, module))


def ours_calibrated(model: nn.Module, inputs: Inputs, data: Sequence[Inputs], **options: object) -> Built:
    """The same in float8, with scales that torch_tensorrt.quantize finds with `data`."""
    program = torch_tensorrt.quantize(model, data, precision="float8", inputs=list(inputs))
    return ours(program, inputs, **options)


def _load_seconds(module: torch_tensorrt.CompiledModule, inputs: Inputs) -> float:
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "model.ep")
        torch_tensorrt.save(module, path, arg_inputs=list(inputs))
        start = time.perf_counter()
        loaded = torch_tensorrt.load(path).module()
        loaded(*inputs)
        _synchronize()
        return time.perf_counter() - start


def _synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


PEERS: Mapping[str, Callable[[nn.Module, Inputs], Built]] = {
    "eager": eager,
    "eager + graph": eager_graph,
    "torch.compile": compiled,
    "AOTInductor": aotinductor,
}
SLOW: Mapping[str, Callable[[nn.Module, Inputs], Built]] = {"max-autotune": max_autotune}  # minutes
ON_CPU: Sequence[str] = ("eager", "torch.compile", "AOTInductor")
