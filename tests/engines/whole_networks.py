"""Models as one TensorRT-RTX engine each: defined, built for sm_89, and run by the reference interpreter in its place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from unittest.mock import patch

import torch
from interpret.interpreter import Interpreter
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_leaves
from zoo.models import Row

import torch_tensorrt
from torch_tensorrt.contracts.partition import Partition
from torch_tensorrt.engines.tensorrt import backend
from torch_tensorrt.engines.tensorrt.build import Definition, define
from torch_tensorrt.engines.tensorrt.sdk import Sdk
from torch_tensorrt.spec.settings import CompilationSettings
from torch_tensorrt.tools.coverage import dynamic_inputs


class WholeNetwork(fx.Interpreter):
    """The compiled graph, in which the reference interpreter stands for its one engine."""

    def __init__(self, module: fx.GraphModule, definition: Definition) -> None:
        super().__init__(module)
        self.definition = definition  # whose weights the SDK's network points to
        self.engine = Interpreter(definition.net.network)

    def call_function(self, target: object, args: tuple[object, ...], kwargs: dict[str, object]) -> object:
        """An engine's call is the interpreter's."""
        if target is torch.ops.tensorrt.execute_engine.default:
            return self.engine.run_all(*args[0])  # type: ignore[misc]
        return super().call_function(target, args, kwargs)  # type: ignore[arg-type]

    def answer(self, *arguments: object) -> list[Tensor]:
        """The outputs, for arguments of any structure."""
        return tensors_of(self.run(*tensors_of(arguments), enable_io_processing=False))


def tensors_of(value: object) -> list[Tensor]:
    """All tensors in a structure."""
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]


def compile_whole(
    model: nn.Module, args: Sequence[object], kwargs: Mapping[str, object], dtype: torch.dtype
) -> WholeNetwork:
    """`model` as one network, which the SDK builds on the way."""
    made: list[Definition] = []

    def define_and_keep(sdk: Sdk, partition: Partition, settings: CompilationSettings) -> Definition:
        made.append(define(sdk, partition, settings))
        return made[-1]

    with patch.object(backend, "define", define_and_keep):
        compiled = torch_tensorrt.compile(
            model,
            arg_inputs=args,
            kwarg_inputs=kwargs,
            engine="tensorrt_rtx",
            device="sm_89",
            require_full_compilation=True,
            enabled_precisions={dtype},
        )
    (definition,) = made
    return WholeNetwork(compiled, definition)


def errors(row: Row, dynamic: bool, dtype: torch.dtype) -> list[float]:
    """||interpreted - eager|| / ||eager|| of each output, at one batch size or at two."""
    torch.manual_seed(0)
    model, found = row.build(), []
    args, kwargs = (dynamic_inputs(row.sample) if dynamic else None) or row.sample(2)
    network = compile_whole(model, args, kwargs, dtype)
    for batch in (2, 3) if dynamic else (2,):
        args, kwargs = row.sample(batch)
        with torch.no_grad():
            wanted = tensors_of(model(*args, **kwargs))
        given = network.answer(args, kwargs)
        assert [tensor.dtype for tensor in given] == [tensor.dtype for tensor in wanted]
        found += [float((a - b).norm() / b.norm()) for a, b in zip(given, wanted, strict=True)]
    return found
