"""What AOTInductor made is run once and compared with the graph it was made of.

On GPUs, since it gets some convolutions in channels-last memory wrong there and says nothing: ResNet-50's results were off by a
quarter of their size (PyTorch 2.11, H200), with `layout_optimization` switched off they were right.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.export.graph_signature import OutputKind
from torch.utils import _pytree as pytree

from torch_tensorrt.graphs.agreement import loosest, relative_error

DEVICES = {"cuda"}  # tests add "cpu"
_SLACK = 10  # times what engines are allowed: inputs are random, and what was found wrong was so by 0.2 to 4


def on_gpu(program: ExportedProgram) -> bool:
    """Whether tensors of the program are on a GPU."""
    return _device(program).type in DEVICES


def is_confirmed(program: ExportedProgram) -> bool:
    """Whether packages of `program` are compared: it is for a GPU, has example inputs, and gives the same when it is run again."""
    targets = [node.target for node in program.graph.nodes if isinstance(node.target, torch._ops.OpOverload)]
    random = any(torch.Tag.nondeterministic_seeded in target.tags for target in targets)
    return on_gpu(program) and not random and program.example_inputs is not None


def disagreement(program: ExportedProgram, path: str) -> float:
    """How far the package's results are from the graph's for random inputs, as ||y - ref|| / ||ref||; 0.0 where that is rounding.

    Inputs have the sizes and strides of the program's example; whole numbers are those of the example. What PyTorch raises passes
    through.
    """
    args, kwargs = program.example_inputs or ((), {})
    given = [_random(leaf) for leaf in pytree.tree_leaves((args, kwargs))]
    args, kwargs = pytree.tree_unflatten(given, pytree.tree_structure((args, kwargs)))
    device = _device(program)
    with torch.no_grad(), _unchanged(program):
        wanted = program.module(check_guards=False)(*args, **kwargs)
        made = torch._inductor.aoti_load_package(path, device_index=-1 if device.type == "cpu" else device.index or 0)
        got = made(*args, **kwargs)
    error = relative_error(pytree.tree_leaves(got), pytree.tree_leaves(wanted))
    dtypes = {leaf.dtype for leaf in pytree.tree_leaves(wanted) if isinstance(leaf, Tensor)}
    floats = [dtype for dtype in dtypes if dtype.is_floating_point]
    return error if error > _SLACK * loosest(floats, on_gpu=device.type == "cuda") else 0.0


def _device(program: ExportedProgram) -> torch.device:
    values = (node.meta.get("val") for node in program.graph.nodes)
    return next((value.device for value in values if isinstance(value, Tensor) and value.is_cuda), torch.device("cpu"))


def _random(leaf: object) -> object:
    if not isinstance(leaf, Tensor) or not leaf.dtype.is_floating_point:
        return leaf
    made = torch.empty_like(leaf)  # keeps strides
    return made.copy_(torch.randn(leaf.shape, generator=torch.Generator().manual_seed(0)))


@contextmanager
def _unchanged(program: ExportedProgram) -> Iterator[None]:
    """What the program's buffers hold is what they held before."""
    written = [
        program.state_dict[str(spec.target)]
        for spec in program.graph_signature.output_specs
        if spec.kind == OutputKind.BUFFER_MUTATION and str(spec.target) in program.state_dict
    ]
    before = [buffer.clone() for buffer in written]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in zip(written, before, strict=True):
                buffer.copy_(value)
