"""How the code of an AOTInductor package finds its inputs in memory: it reads them so, without looking at their strides."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx
from torch._export.verifier import SpecViolationError
from torch._ops import OpOverload
from torch.export import ExportedProgram
from torch.export.graph_signature import OutputKind

from torch_tensorrt.spec.errors import BuildError, FileFormatError, InputError, UnsupportedError
from torch_tensorrt.spec.tensor_spec import Json, specs_from_json
from torch_tensorrt.trace.symbols import tensor_inputs


@dataclass(frozen=True)
class Layout:
    """How one input lies there.

    order: its dimensions, the one with the largest stride first; (0, 2, 3, 1) is channels-last. written: the code writes to it.
    """

    order: tuple[int, ...]
    written: bool

    def dense(self, tensor: Tensor) -> Tensor:
        """The tensor, or a copy of it, with the dimensions dense in this order.

        Raises InputError for an input that is written to and whose elements share memory.
        """
        there = tensor.permute(self.order)
        if there.is_contiguous():
            return tensor
        if self.written and any(
            stride == 0 and size > 1 for size, stride in zip(tensor.shape, tensor.stride(), strict=True)
        ):
            raise InputError(
                f"The packaged model writes to an input of shape {tuple(tensor.shape)} whose elements share memory (strides "
                f"{tensor.stride()}); pass a copy: x.clone(memory_format=torch.contiguous_format)."
            )
        back = sorted(range(len(self.order)), key=self.order.__getitem__)
        return there.contiguous().permute(back)


def describe_layouts(program: ExportedProgram) -> list[Json]:
    """The layouts of the tensors that the program takes, for its record.

    Raises UnsupportedError for an input that was traced with gaps or overlaps in its memory, BuildError with PyTorch's own words.
    """
    written = _written(program)
    return [{"order": [*_order(node)], "written": node.name in written} for node in tensor_inputs(program)]


def writes(program: ExportedProgram) -> bool:
    """Whether anything in the program's graphs is written to in place, or handed back to a buffer or an input."""
    kept = {OutputKind.BUFFER_MUTATION, OutputKind.USER_INPUT_MUTATION}
    specs = program.graph_signature.output_specs
    return any(spec.kind in kept for spec in specs) or _in_place(program)


def _in_place(program: ExportedProgram) -> bool:
    return any(target._schema.is_mutable for target in operators(program))


def operators(program: ExportedProgram) -> Iterator[OpOverload]:
    """Of the graph and of those inside it: branches, loops, and what `torch.no_grad()` encloses."""
    for module in program.graph_module.modules():
        if isinstance(module, fx.GraphModule):
            yield from (node.target for node in module.graph.nodes if isinstance(node.target, OpOverload))


def _written(program: ExportedProgram) -> set[str]:
    """The inputs that the code writes to; all of them where PyTorch can't tell (it knows the programs that it exported itself)."""
    try:
        # What is written in place becomes a result that is handed back.
        plain = program.run_decompositions({}) if _in_place(program) else program
    except SpecViolationError:
        return {node.name for node in tensor_inputs(program)}
    except Exception as error:  # PyTorch raises many classes
        raise BuildError(f"PyTorch can't tell what the program writes to: {type(error).__name__}: {error}") from error
    specs = plain.graph_signature.output_specs
    return {str(spec.target) for spec in specs if spec.kind == OutputKind.USER_INPUT_MUTATION}


def _order(node: fx.Node) -> list[int]:
    value = node.meta["val"]
    sizes, strides = [_hint(size) for size in value.shape], [_hint(stride) for stride in value.stride()]
    order = sorted(range(len(sizes)), key=lambda dim: (-strides[dim], dim))
    if not _is_dense([sizes[dim] for dim in order], [strides[dim] for dim in order]):
        raise UnsupportedError(
            f"Input {node.name!r} was traced with gaps or overlaps in its memory (shape {tuple(value.shape)}, strides "
            f"{tuple(value.stride())}), and AOTInductor's code would read every input so. Export the model with x.contiguous()."
        )
    return order


def _hint(size: int | torch.SymInt) -> int:
    return int(size.node.hint) if isinstance(size, torch.SymInt) else size


def _is_dense(sizes: Sequence[int], strides: Sequence[int]) -> bool:
    expected = 1
    for size, stride in zip(reversed(sizes), reversed(strides), strict=True):
        if size != 1 and stride != expected:
            return False
        expected *= max(size, 1)
    return True


def read_layouts(record: Mapping[str, Json], name: str) -> tuple[Layout, ...]:
    """The layouts in a package's record; none where it tells none. Raises FileFormatError for what `describe_layouts` doesn't write."""
    if "layouts" not in record:
        return ()
    told, inputs = record["layouts"], record.get("inputs")
    layouts = tuple(_read(each, name) for each in told) if isinstance(told, list) else None
    ranks = [len(spec.shape) for spec in specs_from_json(inputs)]
    if layouts is None or [len(layout.order) for layout in layouts] != ranks:
        raise FileFormatError(f"{name}: its record has layouts that don't fit its inputs.")
    return layouts


def _read(told: Json, name: str) -> Layout:
    order, written = (told.get("order"), told.get("written")) if isinstance(told, dict) else (None, None)
    whole = isinstance(order, list) and all(type(dim) is int for dim in order)
    if not whole or sorted(order) != list(range(len(order))) or not isinstance(written, bool):  # type: ignore[arg-type,type-var]
        raise FileFormatError(f"{name}: its record has {told!r:.80} for the layout of an input.")
    return Layout(tuple(order), written)  # type: ignore[arg-type]
