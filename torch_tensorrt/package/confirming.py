"""What AOTInductor made for a GPU is run once and compared with the graph it was made of: a net under `graphs/predictions.py`.

It got convolutions in channels-last memory wrong, by a quarter for ResNet-50 (PyTorch 2.11, H200), and said nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from torch_tensorrt.graphs.agreement import loosest, relative_error
from torch_tensorrt.graphs.predictions import fresh_predictions
from torch_tensorrt.observe.log import logger
from torch_tensorrt.package.layouts import operators, writes

DEVICES = {"cuda"}  # tests add "cpu"
_SLACK, _MOST = 10, 0.15  # times what engines are allowed; what was found wrong was so by 0.2 to 4
_log = logger("package")


def _on_gpu(program: ExportedProgram) -> bool:
    """Whether tensors of the program are on a GPU."""
    return _device(program).type in DEVICES


def is_confirmed(program: ExportedProgram) -> bool:
    """Whether packages of `program` are compared: it is for a GPU, has example inputs, and gives the same when it is run again."""
    random = any(torch.Tag.nondeterministic_seeded in target.tags for target in operators(program))
    return _on_gpu(program) and not random and program.example_inputs is not None


def disagreement(program: ExportedProgram, path: str) -> float:
    """How far the package's results are from the graph's, as ||y - ref|| / ||ref||; 0.0 where that is rounding.

    For the program's example inputs; those of equal floats become random numbers from 0 to 1. Results and inputs of floats are
    compared. What can't be run is not compared, with a warning.
    """
    device = _device(program)
    index = -1 if device.type == "cpu" else device.index or 0
    try:
        with torch.no_grad(), _unchanged(program):
            with fresh_predictions(program):  # views that only the predicted layouts have
                module = program.module(check_guards=False)
            wanted = _outcome(program, module)
            got = _outcome(program, torch._inductor.aoti_load_package(path, device_index=index))
    except (RuntimeError, ValueError, IndexError) as error:  # not enough memory for both, values that the model refuses
        _log.warning("The package was not compared with the model: %s: %s", type(error).__name__, error)
        return 0.0
    error_ = relative_error(got, wanted)
    return error_ if error_ > _limit(program) else 0.0


def _outcome(program: ExportedProgram, run: Callable[..., object]) -> Sequence[Tensor]:
    """The floating-point results for the example, and then the floating-point inputs, which may have been written to."""
    leaves, form = pytree.tree_flatten(program.example_inputs)
    given = [_varied(leaf) if isinstance(leaf, Tensor) else leaf for leaf in leaves]
    args, kwargs = pytree.tree_unflatten(given, form)
    results = pytree.tree_leaves(run(*args, **kwargs))
    return [leaf for leaf in (*results, *given) if isinstance(leaf, Tensor) and leaf.dtype.is_floating_point]


def _varied(leaf: Tensor) -> Tensor:
    made = torch.empty_like(leaf)  # keeps strides
    if not leaf.dtype.is_floating_point or (leaf.numel() and not bool((leaf == leaf.flatten()[0]).all())):
        return made.copy_(leaf)
    return made.copy_(torch.rand(leaf.shape, generator=torch.Generator().manual_seed(0)))


def _limit(program: ExportedProgram) -> float:
    values = (node.meta.get("val") for node in program.graph.nodes)
    used = {value.dtype for value in values if isinstance(value, Tensor) and value.dtype.is_floating_point}
    return min(_MOST, _SLACK * loosest(used, on_gpu=_device(program).type == "cuda"))


def _device(program: ExportedProgram) -> torch.device:
    values = (node.meta.get("val") for node in program.graph.nodes)
    return next((value.device for value in values if isinstance(value, Tensor) and value.is_cuda), torch.device("cpu"))


@contextmanager
def _unchanged(program: ExportedProgram) -> Iterator[None]:
    """What the program's buffers hold is what they held before: they are those of the model that it was exported from."""
    held = list(program.buffers()) if writes(program) else []
    before = [buffer.clone() for buffer in held]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in zip(held, before, strict=True):
                buffer.copy_(value)
