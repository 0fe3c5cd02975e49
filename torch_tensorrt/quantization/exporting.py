"""A module made of a program becomes a program again, with the same sizes varying in the same ranges."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import fx, nn
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from torch_tensorrt.graphs.predictions import PREDICTING
from torch_tensorrt.spec.errors import InputError, UnsupportedError


def module_of(program: ExportedProgram) -> fx.GraphModule:
    """The program's graph, to be changed: weights are its own attributes, shared with the program, buffers copies.

    What no result depends on is left out: torchao's quantizer fails for it.
    """
    module = program.module(check_guards=False)
    assert isinstance(module, fx.GraphModule)
    for name, buffer in list(module.named_buffers(remove_duplicate=False)):
        owner, _, attribute = name.rpartition(".")
        module.get_submodule(owner)._buffers[attribute] = buffer.clone()
    module.graph.eliminate_dead_code()
    module.recompile()
    return module


def drop_unread(module: nn.Module) -> None:
    """Leaves out the weights that nothing reads any more: exporting would keep them, beside what replaced them."""
    if not isinstance(module, fx.GraphModule) or any(isinstance(part, fx.GraphModule) for part in module.children()):
        return
    read = {str(node.target) for node in module.graph.find_nodes(op="get_attr")}
    called = tuple(f"{node.target}." for node in module.graph.find_nodes(op="call_module"))
    for name in [
        *dict(module.named_parameters(remove_duplicate=False)),
        *dict(module.named_buffers(remove_duplicate=False)),
    ]:
        if name not in read and not name.startswith(called):
            owner, _, attribute = name.rpartition(".")
            delattr(module.get_submodule(owner), attribute)


def restore_buffers(made: nn.Module, program: ExportedProgram) -> None:
    """What the program's buffers hold, in those of the same name: runs to find ranges are not part of what a model remembers."""
    with torch.no_grad():
        for name, buffer in made.named_buffers():
            value = program.state_dict.get(name, program.constants.get(name))
            if isinstance(value, torch.Tensor) and value.shape == buffer.shape and not torch.equal(buffer, value):
                buffer.copy_(value)


def export_again(module: nn.Module, program: ExportedProgram) -> ExportedProgram:
    """The program of `module`, which takes what `program` takes. Raises InputError when that has no example inputs."""
    if program.example_inputs is None:
        raise InputError(
            "The ExportedProgram has no example inputs, which are needed to export it again; export it with torch.export.export here."
        )
    args, kwargs = program.example_inputs
    values = [node.meta.get("val") for node in _inputs(program)]
    leaves, form = pytree.tree_flatten((args, kwargs))
    given = iter(values)
    varying = [_varying(next(given)) if isinstance(leaf, torch.Tensor) else None for leaf in leaves]
    sizes, by_name = pytree.tree_unflatten(varying, form)
    try:
        with PREDICTING, torch.no_grad():
            again = torch.export.export(
                module, args, dict(kwargs), dynamic_shapes=(*sizes, *_in_order(by_name)), strict=False
            )
    except Exception as error:
        raise UnsupportedError(
            f"torch.export can't trace the quantized model: {type(error).__name__}: {error}\nTry the other `method`, or sizes that "
            "don't vary."
        ) from error
    _restore_ranges(again, program)
    return again


def _in_order(by_name: Mapping[str, object]) -> tuple[object, ...]:
    return tuple(by_name.values())


def _inputs(program: ExportedProgram) -> Iterator[fx.Node]:
    """The placeholders of what the caller gives as tensors."""
    names = set(program.graph_signature.user_inputs)
    for node in program.graph.find_nodes(op="placeholder"):
        if node.name in names and isinstance(node.meta.get("val"), torch.Tensor):
            yield node


def _varying(value: object) -> dict[int, object]:
    assert isinstance(value, torch.Tensor)
    dynamic = torch.export.Dim.DYNAMIC
    return {dim: dynamic for dim, size in enumerate(value.shape) if isinstance(size, torch.SymInt)}


def _restore_ranges(again: ExportedProgram, program: ExportedProgram) -> None:
    """The caller's bounds: an export without them finds its own."""
    for new, old in zip(_inputs(again), _inputs(program), strict=True):
        for one, two in zip(new.meta["val"].shape, old.meta["val"].shape, strict=True):
            if isinstance(one, torch.SymInt) and isinstance(two, torch.SymInt) and one.node.expr.is_symbol:
                bounds = program.range_constraints.get(two.node.expr)
                if bounds is not None:
                    again.range_constraints[one.node.expr] = bounds
